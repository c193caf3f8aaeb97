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
    /// It was sent again, flagged, before: not a second time.
    pub resent: bool,
}

impl Inquiry {
    /// What follows from what this look found. `random` is uniform in 0..1 and delays the next look by up to a fifth.
    #[must_use]
    pub fn after(self, look: &Look, random: f64) -> AfterLook {
        let done = usize::try_from(self.looks).unwrap_or_default() + 1;
        let last = done >= 2;
        match look {
            Look::Found { .. } => AfterLook::Bind,
            Look::Absent if last => AfterLook::SendAgain,
            Look::Several if last => AfterLook::Close,
            Look::NoList if !last => self.again(done, random),
            Look::NoList if self.resent || self.channel == Channel::Sms => AfterLook::Close,
            Look::NoList => AfterLook::ResendFlagged,
            Look::Absent | Look::Several | Look::Unreadable => self.again(done, random),
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
        Inquiry { channel, looks, since: DateTime::UNIX_EPOCH, resent: false }
    }

    #[test]
    fn a_text_is_sent_again_only_after_two_looks_in_vain() {
        let first = inquiry(Channel::Sms, 0).after(&Look::Absent, 0.0);
        assert_eq!(first, AfterLook::LookAt(DateTime::UNIX_EPOCH + Duration::from_secs(120)));
        assert_eq!(inquiry(Channel::Sms, 1).after(&Look::Absent, 0.0), AfterLook::SendAgain);
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
