//! What is known of an attempt, and what follows it: retry, look at the provider, or be done. The random share is a
//! parameter, so that the answer can be tested.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::{Facts, Failure, FailureReason};

/// What is known of an attempt that has ended; the numbers are stored. While it is under way nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Known {
    /// The provider said that it took it.
    Accepted = 1,
    /// The provider said no, or was not reached: certainly not taken.
    No = 2,
    /// Bytes left and no verdict came back.
    Unknown = 3,
    /// In doubt at first; then a report or a look showed that the provider took it.
    Reconciled = 4,
    /// In doubt at first; then the provider's own list showed that it is not there.
    Absent = 5,
}

impl Known {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Accepted, Self::No, Self::Unknown, Self::Reconciled, Self::Absent];

    /// The one with that stored number.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.number() == number)
    }

    /// The stored number.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// What is known after `news`: a verdict is written once, then only refined. `proved` says that a report came while
    /// the call was under way, which is stronger than an answer that knows less.
    #[must_use]
    pub const fn after(before: Option<Self>, news: Self, proved: bool) -> Option<Self> {
        match (before, news) {
            (None, Self::Unknown) if proved => Some(Self::Reconciled),
            // A report during the call: the call's own end is still to come.
            (None, Self::Reconciled) => None,
            (None, first) => Some(first),
            (Some(Self::Unknown), Self::Absent) => Some(Self::Absent),
            (Some(Self::Unknown | Self::Absent), Self::Accepted | Self::Reconciled) => Some(Self::Reconciled),
            (known, _) => known,
        }
    }
}

/// How an attempt to hand over ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The provider took it.
    Accepted {
        /// The provider's id for it, if it gave one.
        provider_ref: Option<String>,
        /// The provider's word for where it stands.
        status: String,
        /// Segments billed, if it said so.
        sms_segments: Option<i32>,
    },
    /// A final no; another try would end the same.
    Refused {
        /// In terms that staff can act on.
        reason: FailureReason,
        /// The provider's code.
        code: String,
    },
    /// Certainly not taken; another try may succeed.
    NotTaken {
        /// At least this long from now.
        retry_after: Option<Duration>,
        /// What stood in the way.
        code: String,
    },
    /// Certainly not taken, since the mailbox is full: it may be emptied.
    Unreachable {
        /// The provider's code.
        code: String,
    },
    /// Certainly not taken, and not until somebody mends something.
    Misconfigured {
        /// The provider's code.
        code: String,
        /// Whether it is the account that is wrong, and not just this recipient for it.
        account: bool,
    },
    /// The call was never begun: the claim had grown old, or the server is stopping.
    NotStarted,
    /// Bytes left and no verdict came back.
    Unknown {
        /// What was seen instead.
        code: String,
    },
}

/// What is done with a delivery after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing more by itself.
    Close {
        /// What became known.
        facts: Facts,
        /// Why it failed, if it did.
        failure: Option<Failure>,
    },
    /// Another try, not before then.
    TryAt(DateTime<Utc>),
    /// Put back as if it had not been claimed.
    GiveBack,
    /// Look at the provider, not before then.
    LookAt(DateTime<Utc>),
}

/// The limits of one delivery, and what its earlier attempts left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How often handing over was tried, this time included.
    pub attempts: i32,
    /// No attempt after this.
    pub expires_at: DateTime<Utc>,
    /// Retries end here.
    pub give_up_at: DateTime<Utc>,
    /// An earlier attempt may have arrived: its outcome is unknown and was not proved absent.
    pub undecided: bool,
}

/// What the tries of a delivery came to that ends without proof that a provider took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tries {
    /// How many there were.
    pub count: i32,
    /// One of them may have arrived.
    pub unknown: bool,
    /// One of them was in doubt until it was presumed absent.
    pub absent: bool,
}

/// Why a delivery ends for which no provider is known to have taken it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Decided against.
    Skipped,
    /// Stopped.
    Cancelled,
    /// The provider's final no.
    Refused,
    /// Too late.
    Expired,
    /// Retries ran out, or it killed its workers too often.
    GaveUp,
}

impl Ending {
    /// The fact that may be written. After an unknown outcome it is only that: any other would claim that nothing left. An
    /// absence is presumed from the provider's list; it is enough to call a message failed, not to deny that one left.
    #[must_use]
    pub const fn fact(self, tries: Tries) -> Facts {
        match self {
            _ if tries.unknown => Facts::UNKNOWN_CLOSED,
            Self::Skipped | Self::Cancelled if tries.absent => Facts::UNKNOWN_CLOSED,
            Self::Expired if tries.count == 0 => Facts::SKIPPED,
            Self::Skipped => Facts::SKIPPED,
            Self::Cancelled => Facts::CANCELLED,
            Self::Refused => Facts::REFUSED,
            Self::Expired => Facts::EXPIRED,
            Self::GaveUp => Facts::GAVE_UP,
        }
    }
}

/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// The first look at the provider after an unknown outcome.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(15);

impl Verdict {
    /// The provider's id for the message, if it gave one.
    #[must_use]
    pub fn provider_ref(&self) -> Option<&str> {
        match self {
            Self::Accepted { provider_ref, .. } => provider_ref.as_deref(),
            _ => None,
        }
    }

    /// Segments billed, where the provider counted any.
    #[must_use]
    pub fn sms_segments(&self) -> Option<i32> {
        match self {
            Self::Accepted { sms_segments, .. } => sms_segments.filter(|segments| *segments > 0),
            _ => None,
        }
    }

    /// What follows. `random` is uniform in 0..1.
    #[must_use]
    pub fn next(&self, standing: Standing, now: DateTime<Utc>, random: f64) -> Next {
        match self {
            Self::Accepted { .. } => Next::Close { facts: Facts::ACCEPTED, failure: None },
            Self::Refused { reason, code } => standing.close(Ending::Refused, *reason, code, now),
            Self::NotTaken { retry_after, code } => {
                standing.again(*retry_after, FailureReason::ProviderUnavailable, code, now, random)
            }
            Self::Unreachable { code } => {
                standing.again(Some(LONGEST_WAIT), FailureReason::Unreachable, code, now, random)
            }
            Self::Misconfigured { code, .. } => standing.again(None, FailureReason::ProviderConfig, code, now, random),
            Self::NotStarted => Next::GiveBack,
            Self::Unknown { .. } => Next::LookAt(first_look(now, random)),
        }
    }
}

/// When the provider is first asked about an attempt that ended in doubt at `now`: up to a fifth late, never early.
#[must_use]
pub fn first_look(now: DateTime<Utc>, random: f64) -> DateTime<Utc> {
    later(now, FIRST_LOOK.mul_f64(1.0 + 0.2 * random))
}

/// `wait` after `from`, in microseconds, since the databases keep no more: a state that was stored must read as it was shown.
pub(super) fn later(from: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    (from + wait).trunc_subsecs(6)
}

impl Standing {
    /// The end of a delivery whose last attempt was a definite no. After an earlier unknown outcome it stays
    /// unconfirmed: "failed" would claim that nothing arrived.
    fn close(self, ending: Ending, reason: FailureReason, code: &str, now: DateTime<Utc>) -> Next {
        let facts = ending.fact(Tries { count: self.attempts, unknown: self.undecided, absent: false });
        let failure = Failure { reason, provider_code: code.to_owned(), fail_time: now };
        Next::Close { facts, failure: (!self.undecided).then_some(failure) }
    }

    /// Full-jitter back-off between the provider's own wish and a quarter of an hour; at expiry the claim closes it.
    fn again(
        self,
        retry_after: Option<Duration>,
        reason: FailureReason,
        code: &str,
        now: DateTime<Utc>,
        random: f64,
    ) -> Next {
        if now >= self.give_up_at {
            return self.close(Ending::GaveUp, reason, code, now);
        }
        let doublings = self.attempts.clamp(0, 10).unsigned_abs();
        let window = Duration::from_secs(1 << doublings).min(LONGEST_WAIT);
        let wait = window.mul_f64(random).max(retry_after.unwrap_or_default().min(LONGEST_WAIT));
        Next::TryAt(later(now, wait).min(self.expires_at.max(now)))
    }
}

#[cfg(test)]
mod tests;
