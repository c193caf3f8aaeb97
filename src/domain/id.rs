//! Typed identifiers. Those of practices and patients are chosen by the caller, the others are UUIDs (version 7) made
//! by this server. An id is never patient data by itself and may be logged.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// The id is not 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':' or '-'")]
pub struct InvalidId;

macro_rules! caller_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The id as the caller wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
                if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidId)
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! server_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::try_parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

caller_id!(
    /// A practice, as its own system names it.
    PracticeId
);
caller_id!(
    /// A patient, as the practice's system names it; unique in the practice.
    PatientId
);
server_id!(
    /// A notification.
    NotificationId
);
server_id!(
    /// One message over one channel.
    DeliveryId
);
server_id!(
    /// A device that was registered for push.
    DeviceId
);
server_id!(
    /// A conversation.
    ConversationId
);
server_id!(
    /// A message of a conversation.
    MessageId
);
server_id!(
    /// A broadcast.
    BroadcastId
);
server_id!(
    /// A file that belongs to a message.
    AttachmentId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_callers_have_a_narrow_alphabet() {
        for good in ["p", "practice-1", "a.b_c:d", &"x".repeat(128)] {
            assert!(good.parse::<PracticeId>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a/b", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(bad.parse::<PatientId>(), Err(InvalidId), "{bad}");
        }
    }
}
