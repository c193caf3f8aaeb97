//! One conformance suite for the store: every public method, on both databases.

mod accepts;
mod claims;
mod given;
mod patients;
mod practices;
mod settlements;

use crate::support::{TestStore, on_both};
