//! What follows an attempt: retry, look at the provider, or be done. The random share is a parameter, so that the
//! answer can be tested.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};

use super::{Facts, Failure, FailureReason};

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
    /// Certainly not taken, and no message of this account will be until somebody mends it.
    Misconfigured {
        /// The provider's code.
        code: String,
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

/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);
/// The first look at the provider after an unknown outcome.
pub const FIRST_LOOK: Duration = Duration::from_secs(15);

impl Verdict {
    /// What follows. `random` is uniform in 0..1.
    #[must_use]
    pub fn next(&self, standing: Standing, now: DateTime<Utc>, random: f64) -> Next {
        match self {
            Self::Accepted { .. } => Next::Close { facts: Facts::ACCEPTED, failure: None },
            Self::Refused { reason, code } => standing.close(Facts::REFUSED, *reason, code, now),
            Self::NotTaken { retry_after, code } => {
                standing.again(*retry_after, FailureReason::ProviderUnavailable, code, now, random)
            }
            Self::Misconfigured { code } => standing.again(None, FailureReason::ProviderConfig, code, now, random),
            Self::NotStarted => Next::GiveBack,
            Self::Unknown { .. } => Next::LookAt(later(now, FIRST_LOOK.mul_f64(1.0 + 0.2 * random))),
        }
    }
}

/// `wait` after `from`, in microseconds, since the databases keep no more: a state that was stored must read as it was shown.
pub(super) fn later(from: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    (from + wait).trunc_subsecs(6)
}

impl Standing {
    /// The end of a delivery whose last attempt was a definite no. After an earlier unknown outcome it stays
    /// unconfirmed: "failed" would claim that nothing arrived.
    fn close(self, facts: Facts, reason: FailureReason, code: &str, now: DateTime<Utc>) -> Next {
        if self.undecided {
            return Next::Close { facts: Facts::UNKNOWN_CLOSED, failure: None };
        }
        Next::Close { facts, failure: Some(Failure { reason, provider_code: code.to_owned(), fail_time: now }) }
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
            return self.close(Facts::GAVE_UP, reason, code, now);
        }
        let doublings = self.attempts.clamp(0, 10).unsigned_abs();
        let window = Duration::from_secs(1 << doublings).min(LONGEST_WAIT);
        let wait = window.mul_f64(random).max(retry_after.unwrap_or_default().min(LONGEST_WAIT));
        Next::TryAt(later(now, wait).min(self.expires_at.max(now)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn standing() -> (Standing, DateTime<Utc>) {
        let now = DateTime::UNIX_EPOCH;
        let limit = now + TimeDelta::hours(12);
        (Standing { attempts: 1, expires_at: limit, give_up_at: limit, undecided: false }, now)
    }

    #[test]
    fn a_refusal_after_an_unknown_outcome_is_no_failure() {
        let (standing, now) = standing();
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
        let undecided = Standing { undecided: true, ..standing };
        assert_eq!(refused.next(undecided, now, 0.0), Next::Close { facts: Facts::UNKNOWN_CLOSED, failure: None });
        assert!(matches!(refused.next(standing, now, 0.0), Next::Close { facts: Facts::REFUSED, failure: Some(_) }));
    }

    #[test]
    fn waits_grow_respect_the_provider_and_end_at_expiry() {
        let (standing, now) = standing();
        let busy = |after| Verdict::NotTaken { retry_after: after, code: "20429".into() };
        let wait = |verdict: &Verdict, standing, random| match verdict.next(standing, now, random) {
            Next::TryAt(at) => (at - now).num_seconds(),
            other => panic!("{other:?}"),
        };
        assert_eq!(wait(&busy(None), standing, 1.0), 2);
        assert_eq!(wait(&busy(None), Standing { attempts: 40, ..standing }, 1.0), 900);
        assert_eq!(wait(&busy(Some(Duration::from_secs(7))), standing, 0.0), 7);
        assert_eq!(wait(&busy(Some(Duration::from_secs(86_400))), standing, 0.0), 900);
        let soon = Standing { expires_at: now + TimeDelta::seconds(1), ..standing };
        assert_eq!(wait(&busy(Some(Duration::from_secs(7))), soon, 0.0), 1);
    }

    #[test]
    fn retries_end_at_the_limit_with_the_last_reason() {
        let (standing, now) = standing();
        let over = Standing { give_up_at: now, ..standing };
        let verdict = Verdict::Misconfigured { code: "20003".into() };
        let Next::Close { facts, failure: Some(failure) } = verdict.next(over, now, 0.5) else { panic!("closes") };
        assert_eq!((facts, failure.reason), (Facts::GAVE_UP, FailureReason::ProviderConfig));
    }
}
