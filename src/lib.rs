//! Heedwell carries messages between medical practices and their patients.

pub mod clock;
pub mod crypto;
pub mod domain;
pub mod store;
pub mod wake;
