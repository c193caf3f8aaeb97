//! What a patient reads, per channel.

use super::{Phi, sms};

/// Text as the patient gets it. Which parts are filled depends on the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Email, in-app and push.
    pub subject: Phi<String>,
    /// Plain text; for email the alternative part; for SMS the whole message, prefix included.
    pub text: Phi<String>,
    /// In-app only: where it leads; empty: nowhere.
    pub link: Phi<String>,
    /// Email only.
    pub html: Phi<String>,
    /// SMS only: the number of segments billed.
    pub sms_segments: i32,
    /// SMS only: false when a character forced UCS-2.
    pub sms_gsm7: bool,
    /// The template it came from: `builtin/appointment_reminder`, a practice's `own/appointment_reminder/es` in its place, or
    /// `custom/flu-season/es` of its own.
    pub template_key: String,
    /// Its version; 0 for built-in wording.
    pub template_version: i32,
}

impl Content {
    /// A text message of no template.
    #[must_use]
    pub fn of_text(text: String) -> Self {
        let counted = sms::segments(&text);
        Self {
            text: Phi::new(text),
            sms_segments: i32::try_from(counted.count).unwrap_or(i32::MAX),
            sms_gsm7: counted.gsm7,
            ..Self::default()
        }
    }
}
