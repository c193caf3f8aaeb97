//! What is tested from outside the crate, in one binary, so that one PostgreSQL serves all of it. `support` holds what
//! tests stand on; every other module is named after what it tests.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod architecture;
mod e2e;
mod migrations;
mod model;
mod store;
mod support;
