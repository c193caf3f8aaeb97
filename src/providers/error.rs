//! What can become of a send that was not accepted, and the tables that say which provider code means what. Codes that
//! the tables do not know get the answer that does least harm: nobody is suppressed and nothing is repeated.
//!
//! Guarantee: [`SendError::NotTaken`] is only said when the provider cannot have taken the message.

mod fcm;

use std::time::Duration;

pub(super) use self::fcm::{DeviceError, FcmFault};
use super::smtp::Stage;
use crate::domain::{FailureReason, NO_SUCH_USER};

/// A send that was not accepted. Each variant is a different next step; `code` is short, closed in form and fit to store:
/// `21610`, `550 5.1.1`, `http 503`, `timeout`. It never holds a provider's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// A final no to this message.
    #[error("the provider refused the message: {code}")]
    Refused {
        /// Why.
        reason: FailureReason,
        /// What the provider said.
        code: String,
    },
    /// The provider has not taken the message, so it is safe to send it again.
    #[error("the provider did not take the message: {code}")]
    NotTaken {
        /// Not before this time has passed.
        retry_after: Option<Duration>,
        /// What happened.
        code: String,
        /// Whom it concerns.
        reach: Reach,
    },
    /// The provider has not taken the message, since the mailbox is full: it may be emptied.
    #[error("the mailbox is full: {code}")]
    Unreachable {
        /// What the provider said.
        code: String,
    },
    /// The provider may have taken the message.
    #[error("it is unknown whether the provider took the message: {code}")]
    Unknown {
        /// What happened.
        code: String,
    },
    /// The provider has not taken the message, and does not until somebody puts something right.
    #[error("the provider does not accept the account or the sender: {code}")]
    Misconfigured {
        /// What the provider said.
        code: String,
        /// Whom it concerns.
        reach: Reach,
    },
}

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This message or its recipient: another one may fare better.
    Message,
    /// All messages of one sort, such as those to Apple's devices: something is wrong with the account, and yet others fare well.
    Sort,
    /// The account, or the way to its provider: another message would have fared no better.
    Account,
}

/// The list of messages could not be read to its end, so nothing may be concluded from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's list could not be read: {code}")]
pub struct LookError {
    /// What happened, in the form of [`SendError`]'s codes.
    pub code: String,
}

/// What a code asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// No, and the same message would get the same answer.
    Final(FailureReason),
    /// No for now.
    Later(Reach),
    /// No until somebody empties the mailbox.
    Full,
    /// No until the account or the sender is put right.
    Ours(Reach),
}

impl SendError {
    /// The reason to show when nothing more will be tried; unset: the outcome is unknown, so it has not failed.
    #[must_use]
    pub const fn reason(&self) -> Option<FailureReason> {
        match self {
            Self::Refused { reason, .. } => Some(*reason),
            Self::NotTaken { .. } => Some(FailureReason::ProviderUnavailable),
            Self::Unreachable { .. } => Some(FailureReason::Unreachable),
            Self::Misconfigured { .. } => Some(FailureReason::ProviderConfig),
            Self::Unknown { .. } => None,
        }
    }

    /// The code, whatever the variant.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused { code, .. }
            | Self::NotTaken { code, .. }
            | Self::Unreachable { code }
            | Self::Unknown { code }
            | Self::Misconfigured { code, .. } => code,
        }
    }

    /// Whether it tells that the account, or the way to its provider, is out of order.
    #[must_use]
    pub const fn reach(&self) -> Reach {
        match self {
            // Silence and 5xx: nobody else would have been heard either. An address of the API that leads elsewhere, or a
            // sender that is refused, ends each message for good: the more reason to try no others.
            Self::Unknown { .. } | Self::Refused { reason: FailureReason::ProviderConfig, .. } => Reach::Account,
            Self::Refused { .. } | Self::Unreachable { .. } => Reach::Message,
            Self::NotTaken { reach, .. } | Self::Misconfigured { reach, .. } => *reach,
        }
    }

    pub(super) fn internal(code: &str) -> Self {
        Self::Refused { reason: FailureReason::Internal, code: code.into() }
    }

    pub(super) fn not_taken(code: &str) -> Self {
        Self::NotTaken { retry_after: None, code: code.into(), reach: Reach::Account }
    }

    pub(super) fn unknown(code: &str) -> Self {
        Self::Unknown { code: code.into() }
    }

    pub(super) fn misconfigured(code: &str) -> Self {
        Self::Misconfigured { code: code.into(), reach: Reach::Account }
    }

    /// Twilio's answer to a create that is not a success. `code` is the one in its body, if a body could be read: it
    /// counts only beside a 4xx, since after a 5xx the message may have been taken whatever the body says.
    pub(super) fn from_twilio(status: u16, code: Option<u32>, retry_after: Option<Duration>) -> Self {
        let text = code.map_or_else(|| format!("http {status}"), |code| code.to_string());
        let class = match (status, code) {
            (429, _) => Class::Later(Reach::Account),
            // Redirects are not followed: the API lives elsewhere than configured.
            (300..400, _) => Class::Final(FailureReason::ProviderConfig),
            // A time-out on the provider's side says nothing about what was done before it.
            (408, _) => return Self::Unknown { code: text },
            (400..500, Some(code)) => twilio_class(code),
            (401 | 403 | 407, None) => Class::Ours(Reach::Account),
            (400..500, None) => Class::Final(FailureReason::Other),
            _ => return Self::Unknown { code: text },
        };
        Self::of(class, retry_after, text)
    }

    /// SendGrid's answer to a send that is not its 202. `field` is what its body finds fault with, if a body could be read: it
    /// counts only beside a 400, since nothing else tells a request from its account.
    pub(super) fn from_sendgrid(status: u16, field: Option<&str>, retry_after: Option<Duration>) -> Self {
        let class = match status {
            429 => Class::Later(Reach::Account),
            // The API lives elsewhere than configured: redirects are not followed.
            300..400 | 404..=406 => Class::Final(FailureReason::ProviderConfig),
            400 => sendgrid_class(field.unwrap_or_default()),
            // The key, its scopes, the sender's domain, credits, or an account in another region.
            401 | 403 | 407 | 451 => Class::Ours(Reach::Account),
            // A time-out on the provider's side says nothing about what was done before it.
            408 => return Self::Unknown { code: format!("http {status}") },
            413 => Class::Final(FailureReason::Internal),
            _ if (400..500).contains(&status) => Class::Final(FailureReason::Other),
            _ => return Self::Unknown { code: format!("http {status}") },
        };
        Self::of(class, retry_after, format!("http {status}"))
    }

    /// A relay's 4yz or 5yz. `enhanced` is subject and detail of the enhanced status code (RFC 3463); `said` is the reply's
    /// text, which counts only where the codes leave open what the relay means.
    pub(super) fn from_smtp(stage: Stage, reply: u16, enhanced: Option<(u16, u16)>, said: &str) -> Self {
        let nobody = reply == 550 && enhanced.is_none() && stage != Stage::Session && says(said, &NO_SUCH_MAILBOX);
        let text = match enhanced {
            Some((subject, detail)) => format!("{reply} {}.{subject}.{detail}", reply / 100),
            None if nobody => NO_SUCH_USER.to_owned(),
            None => reply.to_string(),
        };
        let greylisted = reply == 450 || matches!(enhanced, Some((7, _)));
        // The relay itself is in trouble; any other 4yz may be about the recipient alone.
        let ill = matches!(stage, Stage::Session) || reply == 421 || matches!(enhanced, Some((3, _)));
        let class = match (reply < 500, ill) {
            (true, true) => Class::Later(Reach::Account),
            (true, false) if matches!(enhanced, Some((2, 2))) => Class::Full,
            (true, false) => Class::Later(Reach::Message),
            // RFC 3207, section 4: that TLS is wanted first is said with 5.7.0, which may mean any other policy as well.
            (false, _) if matches!(enhanced, Some((7, 0))) && says(said, &["starttls"]) => Class::Ours(Reach::Account),
            (false, _) => smtp_class(stage, reply, enhanced),
        };
        Self::of(class, greylisted.then_some(GREYLIST), text)
    }

    /// The line was lost, or nothing was said in time, or what was said made no sense.
    pub(super) fn lost(stage: Stage, code: &str) -> Self {
        match stage {
            Stage::Session | Stage::Recipient => Self::not_taken(code),
            Stage::Dot => Self::unknown(code),
        }
    }

    fn of(class: Class, retry_after: Option<Duration>, code: String) -> Self {
        match class {
            Class::Final(reason) => Self::Refused { reason, code },
            Class::Later(reach) => Self::NotTaken { retry_after, code, reach },
            Class::Full => Self::Unreachable { code },
            Class::Ours(reach) => Self::Misconfigured { code, reach },
        }
    }
}

/// Servers that greylist want the same mail again, but not at once.
const GREYLIST: Duration = Duration::from_secs(5 * 60);

/// What relays without enhanced codes say of a mailbox that is not there, in lower case. "Mailbox unavailable" is not among
/// it: those are RFC 5321's own words for every 550.
const NO_SUCH_MAILBOX: [&str; 13] = [
    "user unknown",
    "unknown user",
    "no such user",
    "user not found",
    "unknown recipient",
    "recipient unknown",
    "no such recipient",
    "recipient not found",
    "unknown mailbox",
    "no such mailbox",
    "mailbox not found",
    "does not exist",
    "doesn't exist",
];

/// Whether a reply's text has one of these in it.
fn says(text: &str, words: &[&str]) -> bool {
    let text = text.to_ascii_lowercase();
    words.iter().any(|word| text.contains(word))
}

/// The reason behind a code of Twilio, from an answer or a callback.
pub(super) const fn twilio_reason(code: u32) -> FailureReason {
    match twilio_class(code) {
        Class::Final(reason) => reason,
        Class::Later(_) => FailureReason::ProviderUnavailable,
        Class::Full => FailureReason::Unreachable,
        Class::Ours(_) => FailureReason::ProviderConfig,
    }
}

/// Twilio's error and warning dictionary (twilio.com/docs/api/errors), as far as it concerns messages. 20xxx and 21xxx
/// come as answers, 30xxx mostly in callbacks.
const fn twilio_class(code: u32) -> Class {
    use FailureReason::{
        Blocked, Internal, InvalidAddress, OptedOutAtProvider, Other, ProviderUnavailable, Unreachable,
    };
    match code {
        21610 => Class::Final(OptedOutAtProvider),
        21211 | 21217 | 21265 | 21401 | 21407 | 21421 | 21604 | 21612 | 21614 | 21635 | 30005 | 30006 | 63024 => {
            Class::Final(InvalidAddress)
        }
        30003 | 30008 | 30017 | 30410 => Class::Final(Unreachable),
        30500 | 30020 | 30021 => Class::Final(ProviderUnavailable),
        30004 | 30007 | 30450 | 30610 | 30640 => Class::Final(Blocked),
        21602 | 21617 | 21619 | 21620 | 21623 | 21654 | 21656 | 30019 => Class::Final(Internal),
        20003 | 20005 | 20006 | 20008 | 20010 | 20403 | 20404 => Class::Ours(Reach::Account),
        // The account may not text this region, but perhaps others.
        21408 => Class::Ours(Reach::Message),
        21212 | 21601 | 21603 | 21606 | 21659..=21661 | 21701 | 21703..=21705 => Class::Ours(Reach::Account),
        30002 | 30024 | 30028..=30030 | 30032..=30035 => Class::Ours(Reach::Account),
        14107 | 20429 | 21611 | 30001 | 30022 | 30023 | 30027 => Class::Later(Reach::Account),
        _ => Class::Final(Other),
    }
}

/// What is wrong with a request that SendGrid calls a bad one, by the field: `personalizations.0.to.0.email`.
fn sendgrid_class(field: &str) -> Class {
    let mut names = field.split('.').filter(|name| name.parse::<u16>().is_err());
    match (names.next(), names.next(), names.next()) {
        (Some("personalizations"), Some("to"), Some("email")) => Class::Final(FailureReason::InvalidAddress),
        (Some("from" | "reply_to"), ..) => Class::Ours(Reach::Account),
        // The request was made here, whoever is at fault.
        _ => Class::Final(FailureReason::Other),
    }
}

/// 5yz replies (RFC 5321 section 4.2, RFC 3463, RFC 5248). What a relay says before it has heard of a recipient is about
/// us, whatever its code.
fn smtp_class(stage: Stage, reply: u16, enhanced: Option<(u16, u16)>) -> Class {
    use FailureReason::{Blocked, Internal, InvalidAddress, Other, ProviderConfig, Unreachable};
    if matches!(stage, Stage::Session) || matches!(reply, 530 | 534 | 535 | 538) {
        return Class::Ours(Reach::Account);
    }
    Class::Final(match (enhanced, reply) {
        (Some((7, 8 | 9 | 11)), _) => return Class::Ours(Reach::Account),
        // Permanent by its code, and yet a mailbox can be emptied.
        (Some((2, 2)), _) | (None, 552) => return Class::Full,
        (Some((1, 1 | 2 | 3 | 6 | 10) | (2, 1)), _) => InvalidAddress,
        (Some((1, 7 | 8)), _) => ProviderConfig,
        (Some((2, 3) | (3, 4)), _) => Internal,
        (Some((1..=4, _)), _) => Unreachable,
        (Some((5 | 6, _)), _) => Internal,
        (Some((7, _)), _) | (None, 571) => Blocked,
        // Without an enhanced code a 550 may be an unknown mailbox as well as a policy: not enough to suppress anybody.
        (None, 550..=553) => Unreachable,
        (None, 500..=504 | 555) => Internal,
        _ => Other,
    })
}

#[cfg(test)]
mod tests;
