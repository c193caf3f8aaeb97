//! What the consent ledger and the audit trail have in common: entries that are numbered without gaps, each with a MAC that
//! covers the one before, and a head that says which is the newest.

use chrono::{DateTime, Utc};

use super::StoreError;
use crate::crypto::{ChainKey, GENESIS};

/// The MAC in a column of `table`; before the first entry there is none.
pub(super) fn mac_of(table: &'static str, bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    if bytes.is_empty() { Ok(GENESIS) } else { bytes.try_into().map_err(|_| StoreError::Corrupt(table)) }
}

/// What the head has beside the newest entry's position and MAC, so that none but us can say that an earlier entry is the
/// newest.
pub(super) fn seal(chain: &ChainKey, seq: i64, mac: &[u8; 32]) -> Vec<u8> {
    // No entry begins like this: see `framed`.
    const HEAD: u8 = 0;
    let mut bytes = vec![HEAD];
    bytes.extend(seq.to_be_bytes());
    chain.link(mac, &bytes).to_vec()
}

/// What of an entry its MAC covers: each part with its length, after a byte that says which columns are null.
pub(super) fn framed(nulls: u8, parts: &[&[u8]]) -> Vec<u8> {
    const VERSION: u8 = 1;
    let mut bytes = vec![VERSION, nulls];
    for part in parts {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(*part);
    }
    bytes
}

pub(super) fn micros(time: DateTime<Utc>) -> [u8; 8] {
    time.timestamp_micros().to_be_bytes()
}
