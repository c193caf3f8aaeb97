//! One conformance suite for the store: every public method, on both databases.

mod accepts;
mod at_rest;
mod cancels;
mod claims;
mod doubts;
mod feeds;
pub(crate) mod given;
mod links;
mod lists;
mod opening;
mod patients;
mod practices;
mod races;
mod receipts;
mod retries;
mod settlements;
mod voids;
mod walk;

use crate::support::{TestStore, on_both};
