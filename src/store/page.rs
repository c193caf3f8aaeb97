//! Keyset paging: a page begins after the last row of the one before, so that rows which come or go meanwhile shift
//! nothing.

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Where a page of things ordered by time and id ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyset {
    /// The time of the last row.
    pub time: DateTime<Utc>,
    /// Its id.
    pub id: Uuid,
}

impl Keyset {
    /// 24 bytes: microseconds, then the id.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let (time, id) = bytes.split_at_mut(8);
        time.copy_from_slice(&self.time.timestamp_micros().to_be_bytes());
        id.copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// What [`Self::to_bytes`] made.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (time, id) = bytes.split_first_chunk::<8>()?;
        Some(Self { time: DateTime::from_timestamp_micros(i64::from_be_bytes(*time))?, id: Uuid::from_slice(id).ok()? })
    }
}
