//! The mail itself: headers, and the same message as plain text and as HTML.
//!
//! Guarantee: whatever the inputs say, they stay what they are. No text can start a header, end the mail or become an
//! address, and the bytes are ASCII in lines that end in CRLF, fit for any relay.

use std::time::SystemTime;

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use super::{OutgoingEmail, SendError};
use crate::domain::{EmailAddress, FailureReason, SmtpAccount};

/// A header's text is not folded within a word, and a line must stay below 998 octets (RFC 5322 section 2.1.1).
const HEADER_LIMIT: usize = 900;

/// What the header beside the list's address says, exactly (RFC 8058 section 3.1).
pub(super) const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const LIST_UNSUBSCRIBE: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe");
const LIST_UNSUBSCRIBE_POST: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe-Post");

/// A mail, ready for a relay.
pub(super) struct Mail {
    /// Who sends and who receives.
    pub(super) envelope: Envelope,
    /// Headers and body.
    pub(super) bytes: Vec<u8>,
}

/// Makes the mail, dated `now`.
pub(super) fn build(account: &SmtpAccount, email: &OutgoingEmail, now: DateTime<Utc>) -> Result<Mail, SendError> {
    let from = sender(&account.from_address, &account.from_name)?;
    let to = recipient(email)?;
    let mut builder = Message::builder()
        .date(SystemTime::from(now))
        .from(from)
        .to(to)
        .subject(header(email.subject.expose())?)
        .message_id(Some(format!("<{}>", identifier(&email.message_id)?)))
        .raw_header(raw(AUTO_SUBMITTED, "auto-generated"));
    if let Some(reply_to) = &account.reply_to {
        builder = builder.reply_to(answers_to(reply_to)?);
    }
    if let Some(url) = &email.list_unsubscribe {
        builder = builder
            .raw_header(raw(LIST_UNSUBSCRIBE, &list_unsubscribe(url)?))
            .raw_header(raw(LIST_UNSUBSCRIBE_POST, ONE_CLICK));
    }
    // The last part is the one that is preferred (RFC 2046 section 5.1.4).
    let parts = MultiPart::alternative()
        .singlepart(part(ContentType::TEXT_PLAIN, email.text.expose()))
        .singlepart(part(ContentType::TEXT_HTML, email.html.expose()));
    let message = builder.multipart(parts).map_err(|_| SendError::internal("mail"))?;
    Ok(Mail { envelope: message.envelope().clone(), bytes: message.formatted() })
}

/// Who sends.
pub(super) fn sender(address: &EmailAddress, name: &str) -> Result<Mailbox, SendError> {
    mailbox(address, name, || SendError::misconfigured("from"))
}

/// To whom answers go.
pub(super) fn answers_to(address: &EmailAddress) -> Result<Mailbox, SendError> {
    mailbox(address, "", || SendError::misconfigured("reply_to"))
}

/// The patient.
pub(super) fn recipient(email: &OutgoingEmail) -> Result<Mailbox, SendError> {
    mailbox(&email.to, email.to_name.expose(), || SendError::Refused {
        reason: FailureReason::InvalidAddress,
        code: "address".into(),
    })
}

/// The header of one click: exactly one https URI (RFC 8058 section 3.1).
pub(super) fn list_unsubscribe(url: &str) -> Result<String, SendError> {
    let url = Some(identifier(url)?).filter(|url| url.starts_with("https://"));
    url.map(|url| format!("<{url}>")).ok_or_else(|| SendError::internal("list_unsubscribe"))
}

/// The address with the name beside it, or `unusable` when no relay could take it.
fn mailbox(address: &EmailAddress, name: &str, unusable: impl Fn() -> SendError) -> Result<Mailbox, SendError> {
    let address: Address = address.as_str().parse().map_err(|_| unusable())?;
    // Beyond ASCII a relay would have to offer SMTPUTF8, and so would every one after it.
    if !address.to_string().is_ascii() {
        return Err(unusable());
    }
    let name = header(name)?.trim();
    Ok(Mailbox::new((!name.is_empty()).then(|| name.into()), address))
}

/// Text of a header. Control characters are refused rather than encoded: they have no business there, and on some of them
/// lettre panics.
pub(super) fn header(text: &str) -> Result<&str, SendError> {
    if text.len() > HEADER_LIMIT || text.chars().any(char::is_control) {
        return Err(SendError::internal("header"));
    }
    Ok(text)
}

/// Text that stands between angle brackets.
pub(super) fn identifier(text: &str) -> Result<&str, SendError> {
    let fits = (1..=HEADER_LIMIT).contains(&text.len());
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>')) {
        Ok(text)
    } else {
        Err(SendError::internal("header"))
    }
}

fn raw(name: HeaderName, value: &str) -> HeaderValue {
    HeaderValue::dangerous_new_pre_encoded(name, value.into(), value.into())
}

/// A part whose lines end in one way only: a bare CR or LF is what smuggles a second mail past a relay. lettre would do it
/// too, by moving the rest of the text at each line, which takes seconds where there are many.
fn part(content_type: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(content_type).body(lines(text).replace('\n', "\r\n"))
}

/// The text with its lines ended by a line feed alone, and without NUL.
pub(super) fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\0', "")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::domain::SmtpSecurity;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::from_trusted(text.into())
    }

    fn account() -> SmtpAccount {
        SmtpAccount {
            host: "relay.example.test".into(),
            port: 587,
            security: SmtpSecurity::StartTls,
            credentials: None,
            from_address: address("no-reply@mail.acme.test"),
            from_name: "Acme Primary Care".into(),
            reply_to: Some(address("desk@acme.test")),
        }
    }

    fn email() -> OutgoingEmail {
        OutgoingEmail {
            to: address("pat@example.test"),
            to_name: "Pat Doe".to_owned().into(),
            subject: "New message from Acme Primary Care".to_owned().into(),
            text: "Hello Pat\n\n.\nA line\r\nAnother\rThe last".to_owned().into(),
            html: "<p>Hello Pat</p>".to_owned().into(),
            message_id: "0191-a@mail.acme.test".into(),
            list_unsubscribe: Some("https://u.acme.test/u/TOKEN".into()),
            attempt_token: "attempt-token".into(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000, 0).unwrap()
    }

    fn text(account: &SmtpAccount, email: &OutgoingEmail) -> String {
        String::from_utf8(build(account, email, now()).unwrap().bytes).unwrap()
    }

    fn headers(mail: &str) -> Vec<(&str, String)> {
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        let mut headers: Vec<(&str, String)> = Vec::new();
        for line in head.split("\r\n") {
            match (line.strip_prefix(' '), headers.last_mut()) {
                (Some(folded), Some((_, value))) => *value = format!("{value} {folded}"),
                _ => {
                    let (name, value) = line.split_once(": ").unwrap();
                    headers.push((name, value.into()));
                }
            }
        }
        headers
    }

    #[test]
    fn the_headers_are_those_of_a_notification() {
        let mail = text(&account(), &email());
        let headers = headers(&mail);
        let value = |wanted: &str| {
            let mut values = headers.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
            let first = values.next();
            assert_eq!(values.next(), None, "{wanted} must stand once");
            first
        };
        assert_eq!(value("From"), Some("\"Acme Primary Care\" <no-reply@mail.acme.test>"));
        assert_eq!(value("To"), Some("\"Pat Doe\" <pat@example.test>"));
        assert_eq!(value("Reply-To"), Some("desk@acme.test"));
        assert_eq!(value("Subject"), Some("New message from Acme Primary Care"));
        assert_eq!(value("Message-ID"), Some("<0191-a@mail.acme.test>"));
        assert_eq!(value("Date"), Some("Wed, 18 Nov 2026 11:06:40 +0000"));
        assert_eq!(value("Auto-Submitted"), Some("auto-generated"));
        assert_eq!(value("List-Unsubscribe"), Some("<https://u.acme.test/u/TOKEN>"));
        assert_eq!(value("List-Unsubscribe-Post"), Some("List-Unsubscribe=One-Click"));
        assert_eq!(value("MIME-Version"), Some("1.0"));
        assert!(value("Content-Type").unwrap().starts_with("multipart/alternative;"));
        assert_eq!(value("Bcc"), None);
        // A relay reports nothing that it could be repeated in.
        assert!(!mail.contains("attempt-token"));

        let plain = OutgoingEmail { list_unsubscribe: None, ..email() };
        assert!(!text(&account(), &plain).contains("List-"));
    }

    #[test]
    fn the_plain_part_comes_first_and_every_line_ends_in_crlf() {
        let mail = text(&account(), &email());
        let (plain, html) = (mail.find("text/plain").unwrap(), mail.find("text/html").unwrap());
        assert!(plain < html);
        assert!(mail.contains("\r\n\r\nHello Pat\r\n\r\n.\r\nA line\r\nAnother\r\nThe last\r\n"));
        assert!(mail.contains("<p>Hello Pat</p>"));
    }

    #[test]
    fn the_envelope_names_the_sender_and_the_patient() {
        let mail = build(&account(), &email(), now()).unwrap();
        assert_eq!(mail.envelope.from().unwrap().to_string(), "no-reply@mail.acme.test");
        let to: Vec<_> = mail.envelope.to().iter().map(ToString::to_string).collect();
        assert_eq!(to, ["pat@example.test"]);
    }

    #[test]
    fn control_characters_never_reach_a_header() {
        for character in ['\r', '\n', '\0', '\u{1b}', '\u{7f}', '\u{85}'] {
            let evil = format!("a{character}Bcc: eve@example.test");
            for email in [
                OutgoingEmail { subject: evil.clone().into(), ..email() },
                OutgoingEmail { to_name: evil.clone().into(), ..email() },
                OutgoingEmail { message_id: evil.clone(), ..email() },
                OutgoingEmail { list_unsubscribe: Some(format!("https://{evil}")), ..email() },
            ] {
                assert_eq!(build(&account(), &email, now()).err(), Some(SendError::internal("header")));
            }
            let sender = SmtpAccount { from_name: evil, ..account() };
            assert_eq!(build(&sender, &email(), now()).err(), Some(SendError::internal("header")));
        }
    }

    #[test]
    fn an_address_that_no_relay_could_use_is_refused() {
        for to in ["pat", "pat@example.test\r\nRCPT TO:<eve@example.test>", "pät@example.test", "a b@example.test"] {
            let error = build(&account(), &OutgoingEmail { to: address(to), ..email() }, now()).err().unwrap();
            assert_eq!(error.reason(), Some(FailureReason::InvalidAddress), "{to}");
        }
        let sender = SmtpAccount { from_address: address("acme"), ..account() };
        assert_eq!(build(&sender, &email(), now()).err(), Some(SendError::misconfigured("from")));
    }

    #[test]
    fn only_an_https_url_unsubscribes() {
        for url in ["http://u.acme.test/u", "mailto:unsub@acme.test", "https://u.acme.test/>,<mailto:x@y.test", ""] {
            let list = OutgoingEmail { list_unsubscribe: Some(url.into()), ..email() };
            assert!(build(&account(), &list, now()).is_err(), "{url}");
        }
    }

    /// Text out of whatever has ever upset a relay.
    fn odd_lines() -> impl Strategy<Value = String> {
        let long = "x".repeat(400);
        let piece = prop_oneof![
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("\r\n".to_owned()),
            Just("\n.".to_owned()),
            Just("\0".to_owned()),
            Just("word ".to_owned()),
            Just(long),
            "\\PC{0,8}",
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_mail_is_ascii_in_short_lines_without_a_bare_cr_or_lf(
            subject in "\\PC{0,200}",
            name in "\\PC{0,60}",
            plain in odd_lines(),
            html in odd_lines(),
        ) {
            let email = OutgoingEmail {
                subject: subject.into(),
                to_name: name.clone().into(),
                text: plain.into(),
                html: html.into(),
                ..email()
            };
            let account = SmtpAccount { from_name: name, ..account() };
            let mail = text(&account, &email);
            prop_assert!(mail.is_ascii());
            for line in mail.split("\r\n") {
                prop_assert!(line.len() <= 998, "{} octets", line.len());
                prop_assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
            }
            prop_assert_eq!(headers(&mail).len(), 11);
        }
    }
}
