//! What a look at the provider means for a delivery whose outcome is unknown, and when the provider is asked about one that
//! it took. A message is sent again only when the provider's own list twice showed it absent; mail, which has no list, once
//! and flagged.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Channel, FailureReason, attempt::later};

/// What a look at the provider found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Exactly one message that can only be this one.
    Found {
        /// The provider's id.
        provider_ref: String,
        /// The provider's word for where it stands.
        status: String,
        /// The provider's error code; may be empty.
        code: String,
        /// Why it did not arrive, if it did not.
        failure: Option<FailureReason>,
    },
    /// Certainly none.
    Absent,
    /// More than one that could be it.
    Several,
    /// Fewer messages than attempts of ours that may have made them, so that whose they are is open.
    Contested,
    /// The list could not be read.
    Unreadable,
    /// The provider has no list.
    NoList,
}

impl Look {
    /// What it came to, in a word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Found { .. } => "found",
            Self::Absent => "absent",
            Self::Several => "several",
            Self::Contested => "contested",
            Self::Unreadable => "unreadable",
            Self::NoList => "no_list",
        }
    }
}

/// What is done after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AfterLook {
    /// It is known now.
    Bind,
    /// Look again, not before then.
    LookAt(DateTime<Utc>),
    /// It never arrived: send it.
    SendAgain,
    /// It may have arrived: send it once more, flagged.
    ResendFlagged,
    /// Nobody knows, and nothing more is done by itself.
    Close,
}

/// When the looks come, after the attempt ended.
const LOOKS: [Duration; 5] = [
    super::attempt::FIRST_LOOK,
    Duration::from_secs(120),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(6 * 60 * 60),
];
/// After this long nothing is looked for any more.
const LONGEST_DOUBT: TimeDelta = TimeDelta::hours(24);

/// The state of an inquiry before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The channel.
    pub channel: Channel,
    /// How many looks were taken before this one.
    pub looks: i16,
    /// When the attempt ended in doubt.
    pub since: DateTime<Utc>,
    /// When this look was taken.
    pub now: DateTime<Utc>,
    /// How often the list was read and did not have it.
    pub absences: i16,
    /// The outcome of another attempt is unknown as well: it was sent again, flagged, and is not a second time.
    pub resent: bool,
}

/// How often the provider's own list must lack a message before it counts as never arrived.
const ABSENCES: i16 = 2;
/// Where the count of absences starts anew when several messages could be this one: so low that the looks left do not reach
/// the number wanted, since one of the several may be it whatever later looks show.
const RULED_OUT: i16 = -100;

impl Inquiry {
    /// What follows from what this look found. `random` is uniform in 0..1 and delays the next look by up to a fifth.
    #[must_use]
    pub fn after(self, look: &Look, random: f64) -> AfterLook {
        let done = usize::try_from(self.looks).unwrap_or_default() + 1;
        let last = done >= 2;
        match look {
            Look::Found { .. } => AfterLook::Bind,
            Look::Absent if self.absences + 1 >= ABSENCES => AfterLook::SendAgain,
            Look::Several | Look::Contested if last => AfterLook::Close,
            Look::NoList if !last => self.again(done, random),
            Look::NoList if self.resent || self.channel == Channel::Sms => AfterLook::Close,
            Look::NoList => AfterLook::ResendFlagged,
            Look::Absent | Look::Several | Look::Contested | Look::Unreadable => self.again(done, random),
        }
    }

    /// The absences counted after this look.
    #[must_use]
    pub const fn absences_after(self, look: &Look) -> i16 {
        match look {
            Look::Absent => self.absences.saturating_add(1),
            Look::Several => RULED_OUT,
            Look::Found { .. } | Look::Contested | Look::Unreadable | Look::NoList => self.absences,
        }
    }

    fn again(self, done: usize, random: f64) -> AfterLook {
        match LOOKS.get(done) {
            Some(after) if self.now - self.since < LONGEST_DOUBT => {
                AfterLook::LookAt(later(self.since, after.mul_f64(1.0 + 0.2 * random)))
            }
            _ => AfterLook::Close,
        }
    }
}

/// When the provider is asked what became of a message that it took, if its reports stay away. Many carriers never report, so
/// that there must be an end to it.
const POLLS: [TimeDelta; 5] =
    [TimeDelta::minutes(30), TimeDelta::hours(1), TimeDelta::hours(4), TimeDelta::hours(24), TimeDelta::hours(72)];

/// When to ask next about a message that was sent at `sent`; unset when it has been asked for long enough.
#[must_use]
pub fn next_poll(sent: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    POLLS.into_iter().map(|after| sent + after).find(|at| *at > now)
}

#[cfg(test)]
mod tests;
