//! A text that a patient sent, as Twilio posts it (twilio.com/docs/messaging/guides/webhook-request). Pure.

use std::fmt;

use url::form_urlencoded;

use super::{Malformed, is_message_sid, is_sid};

/// Most attachments of a message (Twilio).
const MOST_MEDIA: usize = 10;

/// A text that came in.
#[derive(Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The message.
    pub sid: String,
    /// The account that it came to.
    pub account_sid: String,
    /// The Messaging Service that it came to; empty: none.
    pub service_sid: String,
    /// Who wrote.
    pub from: String,
    /// To which number.
    pub to: String,
    /// What was written; may be empty.
    pub body: String,
    /// What Twilio itself takes it for, where Advanced Opt-Out matched: `STOP`, `START` or `HELP`.
    pub opt_out_type: Option<String>,
    /// Address and media type of each attachment.
    pub media: Vec<(String, String)>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither from whom nor what.
        f.debug_struct("Inbound").field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// Whether a body of this type may be an incoming text: Twilio posts forms, and nothing else is read as one.
#[must_use]
pub fn is_form(content_type: Option<&str>) -> bool {
    let media_type = content_type.and_then(|content_type| content_type.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Reads a verified text. Twilio adds parameters without notice, so unknown ones are passed over.
///
/// # Errors
/// When the message, the account, the sender or the recipient is missing.
pub fn parse(body: &[u8]) -> Result<Inbound, Malformed> {
    let value = |wanted: &str| {
        form_urlencoded::parse(body).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let text = |wanted: &str| value(wanted).unwrap_or_default();
    let filled = |wanted: &str| value(wanted).filter(|value| !value.is_empty()).ok_or(Malformed);
    let count = text("NumMedia").parse::<usize>().unwrap_or(0).min(MOST_MEDIA);
    let media = (0..count).filter_map(|n| {
        Some((value(&format!("MediaUrl{n}"))?, value(&format!("MediaContentType{n}")).unwrap_or_default()))
    });
    Ok(Inbound {
        sid: value("MessageSid").filter(|sid| is_message_sid(sid)).ok_or(Malformed)?,
        account_sid: value("AccountSid").filter(|sid| is_sid(sid, &["AC"])).ok_or(Malformed)?,
        service_sid: text("MessagingServiceSid"),
        from: filled("From")?,
        to: filled("To")?,
        body: text("Body"),
        opt_out_type: value("OptOutType").filter(|word| !word.is_empty()),
        media: media.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const SID: &str = "SM00000000000000000000000000000001";
    const ACCOUNT: &str = "AC00000000000000000000000000000001";

    fn form(fields: &[(&str, &str)]) -> Vec<u8> {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish().into_bytes()
    }

    fn fields<'a>() -> Vec<(&'a str, &'a str)> {
        vec![("MessageSid", SID), ("AccountSid", ACCOUNT), ("From", "+12025550142"), ("To", "+12025550199")]
    }

    #[test]
    fn a_text_is_read_with_all_that_may_be_in_it() {
        let more = [
            ("Body", "Sí, mañana 👍 & más = ok"),
            ("MessagingServiceSid", "MG1"),
            ("OptOutType", "STOP"),
            ("NumMedia", "2"),
            ("MediaUrl0", "https://api.twilio.example/1"),
            ("MediaContentType0", "image/jpeg"),
            ("MediaUrl1", "https://api.twilio.example/2"),
            ("MediaUrl2", "https://api.twilio.example/not-counted"),
            ("FromCity", ""),
        ];
        let read = parse(&form(&[fields(), more.to_vec()].concat())).unwrap();
        assert_eq!(read.body, "Sí, mañana 👍 & más = ok");
        assert_eq!((read.service_sid.as_str(), read.opt_out_type.as_deref()), ("MG1", Some("STOP")));
        let media = [("https://api.twilio.example/1", "image/jpeg"), ("https://api.twilio.example/2", "")];
        assert_eq!(read.media, media.map(|(url, kind)| (url.to_owned(), kind.to_owned())));
        let plain = parse(&form(&fields())).unwrap();
        assert_eq!((plain.body.as_str(), plain.opt_out_type, plain.media.len()), ("", None, 0));
    }

    #[test]
    fn what_lacks_message_account_sender_or_recipient_is_none() {
        for missing in ["MessageSid", "AccountSid", "From", "To"] {
            let left: Vec<_> = fields().into_iter().filter(|(name, _)| *name != missing).collect();
            assert_eq!(parse(&form(&left)), Err(Malformed), "{missing}");
            let empty: Vec<_> =
                fields().into_iter().map(|(name, value)| (name, if name == missing { "" } else { value })).collect();
            assert_eq!(parse(&form(&empty)), Err(Malformed), "{missing}");
        }
        assert_eq!(parse(&form(&[("MessageSid", "SM1")])), Err(Malformed));
        assert_eq!(parse(b"\xff%zz=&&"), Err(Malformed));
    }

    #[test]
    fn only_a_form_is_a_form() {
        assert!(is_form(Some("application/x-www-form-urlencoded; charset=UTF-8")));
        assert!(is_form(Some("Application/X-WWW-Form-Urlencoded")));
        for other in [None, Some(""), Some("application/json"), Some("multipart/form-data; boundary=x")] {
            assert!(!is_form(other), "{other:?}");
        }
    }
}
