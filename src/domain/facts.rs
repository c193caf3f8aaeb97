//! What is known of a delivery, and the state that it amounts to. Facts are only ever added. [`shown`] takes the first
//! line of a table that matches, and each line asks "any of these facts", so another fact can only move the state up:
//! reports that come late, twice or out of order end in the same state, and no reader sees it go back.

use super::Channel;

/// Where a delivery stands; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryState {
    /// Queued, scheduled, held, or waiting for a retry.
    Pending = 1,
    /// Handed over with an unknown outcome.
    Unconfirmed = 2,
    /// The provider accepted it.
    Sent = 3,
    /// The provider confirmed receipt; in-app: stored.
    Delivered = 4,
    /// It did not arrive.
    Failed = 5,
    /// Decided against; nothing was handed over.
    Skipped = 6,
    /// Stopped; nothing was handed over.
    Cancelled = 7,
}

impl DeliveryState {
    /// Every state, in the order of the contract.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Unconfirmed, Self::Sent, Self::Delivered, Self::Failed, Self::Skipped, Self::Cancelled];

    /// The state with that number of the contract.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The number of the contract.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The word shown to people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Unconfirmed => "unconfirmed",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A set of facts about a delivery or an attempt; stored as a number, one bit a fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts(i32);

impl Facts {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// A claim was committed: a call may follow.
    pub const INTENT: Self = Self(1 << 0);
    /// The provider accepted the request, or listed the message.
    pub const ACCEPTED: Self = Self(1 << 1);
    /// The provider has it in its queue.
    pub const QUEUED: Self = Self(1 << 2);
    /// The provider handed it to the carrier.
    pub const SENT_TO_CARRIER: Self = Self(1 << 3);
    /// The receiving side asked to wait.
    pub const DEFERRED: Self = Self(1 << 4);
    /// A final no after acceptance.
    pub const UNDELIVERED: Self = Self(1 << 5);
    /// A final no to the request, and no further try follows.
    pub const REFUSED: Self = Self(1 << 6);
    /// Receipt is confirmed.
    pub const DELIVERED: Self = Self(1 << 7);
    /// It was read.
    pub const READ: Self = Self(1 << 8);
    /// The mail came back.
    pub const BOUNCED: Self = Self(1 << 9);
    /// The patient called it spam.
    pub const COMPLAINED: Self = Self(1 << 10);
    /// Decided against.
    pub const SKIPPED: Self = Self(1 << 11);
    /// Stopped.
    pub const CANCELLED: Self = Self(1 << 12);
    /// Its time passed after tries in vain.
    pub const EXPIRED: Self = Self(1 << 13);
    /// The outcome is unknown and being looked into.
    pub const UNKNOWN_OPEN: Self = Self(1 << 14);
    /// The outcome is unknown and nothing more is done by itself.
    pub const UNKNOWN_CLOSED: Self = Self(1 << 15);
    /// Retries ran out.
    pub const GAVE_UP: Self = Self(1 << 16);
    /// Of attempts only: the provider said so in its own answer, or in a report with the attempt's token. Without it, which
    /// message an attempt made is known from the provider's list alone.
    pub const PROVED: Self = Self(1 << 17);

    /// The stored number.
    #[must_use]
    pub const fn bits(self) -> i32 {
        self.0
    }

    /// The facts stored as that number.
    #[must_use]
    pub const fn from_bits(bits: i32) -> Self {
        Self(bits)
    }

    /// All of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it holds any of `other`.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the provider is known to have taken it: no resend may follow.
    #[must_use]
    pub const fn left_us(self) -> bool {
        self.any(
            Self::ACCEPTED
                .and(Self::QUEUED)
                .and(Self::SENT_TO_CARRIER)
                .and(Self::DEFERRED)
                .and(Self::UNDELIVERED)
                .and(Self::DELIVERED)
                .and(Self::READ)
                .and(Self::BOUNCED),
        )
    }
}

/// The state that `facts` amount to on `channel`: the first line that holds any of them.
#[must_use]
pub fn shown(channel: Channel, facts: Facts) -> DeliveryState {
    let lines = [
        (Facts::DELIVERED.and(Facts::READ), DeliveryState::Delivered),
        (Facts::UNDELIVERED, DeliveryState::Failed),
        (Facts::REFUSED.and(Facts::EXPIRED).and(Facts::GAVE_UP), DeliveryState::Failed),
        (Facts::ACCEPTED.and(Facts::QUEUED).and(Facts::SENT_TO_CARRIER).and(Facts::DEFERRED), DeliveryState::Sent),
        (Facts::UNKNOWN_CLOSED.and(Facts::UNKNOWN_OPEN), DeliveryState::Unconfirmed),
        (Facts::SKIPPED, DeliveryState::Skipped),
        (Facts::CANCELLED, DeliveryState::Cancelled),
    ];
    if channel == Channel::Email && facts.any(Facts::BOUNCED) {
        // A bounce may follow a delivery report: the receiving host took the mail and could not deliver it after all.
        return DeliveryState::Failed;
    }
    lines.into_iter().find(|(any, _)| facts.any(*any)).map_or(DeliveryState::Pending, |(_, state)| state)
}

#[cfg(test)]
mod tests;
