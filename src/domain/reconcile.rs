//! What a look at the provider means for a delivery whose outcome is unknown. A message is sent again only when the
//! provider's own list twice showed it absent; mail, which has no list, once and flagged.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Channel;

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
    },
    /// Certainly none.
    Absent,
    /// More than one that could be it.
    Several,
    /// The list could not be read.
    Unreadable,
    /// The provider has no list.
    NoList,
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

/// The state of an inquiry before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// The channel.
    pub channel: Channel,
    /// How many looks were taken before this one.
    pub looks: i16,
    /// When the attempt ended in doubt.
    pub since: DateTime<Utc>,
    /// How often the list was read and did not have it.
    pub absences: i16,
    /// It was sent again, flagged, before: not a second time.
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
            Look::Several if last => AfterLook::Close,
            Look::NoList if !last => self.again(done, random),
            Look::NoList if self.resent || self.channel == Channel::Sms => AfterLook::Close,
            Look::NoList => AfterLook::ResendFlagged,
            Look::Absent | Look::Several | Look::Unreadable => self.again(done, random),
        }
    }

    /// The absences counted after this look.
    #[must_use]
    pub const fn absences_after(self, look: &Look) -> i16 {
        match look {
            Look::Absent => self.absences.saturating_add(1),
            Look::Several => RULED_OUT,
            Look::Found { .. } | Look::Unreadable | Look::NoList => self.absences,
        }
    }

    fn again(self, done: usize, random: f64) -> AfterLook {
        match LOOKS.get(done) {
            Some(after) => AfterLook::LookAt(self.since + after.mul_f64(1.0 + 0.2 * random)),
            None => AfterLook::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry(channel: Channel, looks: i16) -> Inquiry {
        Inquiry { channel, looks, since: DateTime::UNIX_EPOCH, absences: 0, resent: false }
    }

    #[test]
    fn a_text_is_sent_again_only_after_two_looks_in_vain() {
        let first = inquiry(Channel::Sms, 0).after(&Look::Absent, 0.0);
        assert_eq!(first, AfterLook::LookAt(DateTime::UNIX_EPOCH + Duration::from_secs(120)));
        let once = Inquiry { absences: 1, ..inquiry(Channel::Sms, 1) };
        assert_eq!(once.after(&Look::Absent, 0.0), AfterLook::SendAgain);
    }

    /// Takes `looks` one after the other until nothing more is asked.
    fn course(looks: &[Look]) -> AfterLook {
        let mut inquiry = inquiry(Channel::Sms, 0);
        for look in looks {
            let after = inquiry.after(look, 0.0);
            if !matches!(after, AfterLook::LookAt(_)) {
                return after;
            }
            inquiry = Inquiry { looks: inquiry.looks + 1, absences: inquiry.absences_after(look), ..inquiry };
        }
        AfterLook::LookAt(inquiry.since)
    }

    #[test]
    fn one_absence_is_not_two_whatever_stands_between() {
        use Look::{Absent, Several, Unreadable};
        assert!(matches!(course(&[Unreadable, Absent]), AfterLook::LookAt(_)));
        assert_eq!(course(&[Unreadable, Absent, Absent]), AfterLook::SendAgain);
        assert_eq!(course(&[Absent, Unreadable, Absent]), AfterLook::SendAgain);
        assert_eq!(course(&[Several, Absent, Absent, Absent, Absent]), AfterLook::Close);
    }

    #[test]
    fn doubt_about_a_text_is_never_a_reason_to_send_it_again() {
        assert_eq!(inquiry(Channel::Sms, 1).after(&Look::Several, 0.0), AfterLook::Close);
        for looks in 0..9 {
            let after = inquiry(Channel::Sms, looks).after(&Look::Unreadable, 0.5);
            assert!(matches!(after, AfterLook::LookAt(_) | AfterLook::Close), "{looks}: {after:?}");
        }
        assert_eq!(inquiry(Channel::Sms, 4).after(&Look::Unreadable, 0.5), AfterLook::Close);
    }

    #[test]
    fn mail_is_sent_once_more_and_no_oftener() {
        assert!(matches!(inquiry(Channel::Email, 0).after(&Look::NoList, 0.0), AfterLook::LookAt(_)));
        assert_eq!(inquiry(Channel::Email, 1).after(&Look::NoList, 0.0), AfterLook::ResendFlagged);
        let resent = Inquiry { resent: true, ..inquiry(Channel::Email, 1) };
        assert_eq!(resent.after(&Look::NoList, 0.0), AfterLook::Close);
    }
}
