//! Heedwell carries messages between medical practices and their patients.

pub mod clock;
pub mod domain;
