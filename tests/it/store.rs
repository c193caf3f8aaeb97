//! One conformance suite for the store: every public method, on both databases.

mod accepts;
mod after_hours;
mod at_rest;
mod attachments;
mod cancels;
mod choices;
mod claims;
mod consent;
mod dead_addresses;
mod devices;
mod doubts;
mod evidence;
mod feeds;
pub(crate) mod given;
mod groups;
mod inboxes;
mod ledger;
mod links;
mod lists;
mod opening;
mod opt_outs;
mod parked;
mod parking;
mod patients;
mod polls;
mod practices;
mod quiet;
mod races;
mod receipts;
mod retries;
mod settlements;
mod templates;
mod test_messages;
mod turns;
mod voids;

use crate::support::{TestStore, on_both};
