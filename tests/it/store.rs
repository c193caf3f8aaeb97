//! One conformance suite for the store: every public method, on both databases.

mod accepts;
mod at_rest;
mod claims;
mod doubts;
mod evidence;
mod feeds;
mod given;
mod links;
mod lists;
mod opening;
mod parked;
mod patients;
mod polls;
mod practices;
mod races;
mod receipts;
mod settlements;
mod walk;

use crate::support::{TestStore, on_both};
