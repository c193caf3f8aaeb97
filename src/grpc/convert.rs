//! Between the contract's messages and the domain. What comes in is checked whole, every fault under its path; what goes
//! out is complete. Nothing here decides or looks anything up.

pub(super) mod attachments;
pub(super) mod audit;
pub(super) mod broadcasts;
pub(super) mod check;
pub(super) mod consent;
pub(super) mod conversations;
pub(super) mod delivery;
pub(super) mod directory;
pub(super) mod inbox;
pub(super) mod notification;
mod payload;
pub(super) mod preferences;
pub(super) mod settings;
pub(super) mod templates;

use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use super::proto;
use crate::domain::Author;

/// The moment in the contract's form.
fn timestamp(time: DateTime<Utc>) -> Timestamp {
    // A fraction of a second is below 10^9, also in a leap second's place.
    Timestamp { seconds: time.timestamp(), nanos: (time.timestamp_subsec_nanos() % 1_000_000_000).cast_signed() }
}

fn author(author: Author) -> proto::Actor {
    proto::Actor { r#type: author.kind as i32, id: author.id, display_name: author.display_name }
}

/// The etag of something with this revision.
fn etag(revision: i64) -> String {
    revision.to_string()
}

/// The revision that an etag demands; nothing if it is empty. An etag that was not made here demands a revision that
/// nothing has, so that it is answered like any other that is out of date.
pub(super) fn revision(etag: &str) -> Option<i64> {
    const NEVER: i64 = -1;
    let ours = |revision: &i64| *revision >= 0 && self::etag(*revision) == etag;
    if etag.is_empty() { None } else { Some(etag.parse().ok().filter(ours).unwrap_or(NEVER)) }
}

#[cfg(test)]
mod tests {
    use super::revision;

    #[test]
    fn an_etag_is_one_that_was_given_out_or_fits_nothing() {
        assert_eq!(revision(""), None);
        for known in [0, 3, i64::MAX] {
            assert_eq!(revision(&super::etag(known)), Some(known));
        }
        for foreign in ["+3", "03", " 3", "-1", "3.0", "three", "9223372036854775808"] {
            assert_eq!(revision(foreign), Some(-1), "{foreign}");
        }
    }
}
