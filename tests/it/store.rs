//! One conformance suite for the store: every public method, on both databases.

mod accepts;
mod claims;
mod doubts;
mod given;
mod patients;
mod practices;
mod receipts;
mod settlements;

use crate::support::{TestStore, on_both};
