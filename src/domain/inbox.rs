//! The in-app channel as a patient sees it.

use chrono::{DateTime, Utc};

use super::{DeliveryId, NotificationId, Phi};

/// A message in a patient's inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxItem {
    /// Its delivery.
    pub id: DeliveryId,
    /// What it belongs to.
    pub notification: NotificationId,
    /// One line; empty when the text is not kept any more.
    pub title: Phi<String>,
    /// Plain text.
    pub body: Phi<String>,
    /// Where it leads; empty: nowhere.
    pub link: Phi<String>,
    /// When it was filed.
    pub create_time: DateTime<Utc>,
    /// When it was read; unset: it is unread.
    pub read_time: Option<DateTime<Utc>>,
    /// Comes before all that is not.
    pub security: bool,
}

/// Which items are marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those with these ids; what is not there is passed over.
    Items(Vec<DeliveryId>),
    /// All that were filed up to then.
    Through(DateTime<Utc>),
}

/// What they are marked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// Read.
    Read,
    /// Unread again.
    Unread,
}

impl ReadState {
    /// The state with that number of the contract.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Read),
            2 => Some(Self::Unread),
            _ => None,
        }
    }
}
