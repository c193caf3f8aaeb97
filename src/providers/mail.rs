//! The mail itself: headers, and the same message as plain text and as HTML.
//!
//! Guarantee: whatever the inputs say, they stay what they are. No text can start a header, end the mail or become an
//! address, and the bytes are ASCII in lines that end in CRLF, fit for any relay.

use std::{sync::Arc, time::SystemTime};

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    address::Envelope,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use super::{OutgoingEmail, SendError, smtp::callback::return_path};
use crate::domain::{EmailAddress, FailureReason, SmtpAccount, legible};

mod dkim;

pub(super) use dkim::Signer;

/// A header's text is not folded within a word, and a line must stay below 998 octets (RFC 5322 section 2.1.1).
const HEADER_LIMIT: usize = 900;

/// What the header beside the list's address says, exactly (RFC 8058 section 3.1).
pub(super) const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// The sender's mark in a Feedback-ID, 5 to 15 characters (Gmail's feedback loop, support.google.com/mail/answer/6254652).
const SENDER_ID: &str = "heedwell";
/// The longest name of a list (RFC 2919, section 3).
const LIST_ID_LIMIT: usize = 255;

const FROM: HeaderName = HeaderName::new_from_ascii_str("From");
const TO: HeaderName = HeaderName::new_from_ascii_str("To");
const AUTO_SUBMITTED: HeaderName = HeaderName::new_from_ascii_str("Auto-Submitted");
const AUTO_RESPONSE_SUPPRESS: HeaderName = HeaderName::new_from_ascii_str("X-Auto-Response-Suppress");
const FEEDBACK_ID: HeaderName = HeaderName::new_from_ascii_str("Feedback-ID");
const LIST_ID: HeaderName = HeaderName::new_from_ascii_str("List-Id");
const LIST_UNSUBSCRIBE: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe");
const LIST_UNSUBSCRIBE_POST: HeaderName = HeaderName::new_from_ascii_str("List-Unsubscribe-Post");

/// A mail, ready for a relay.
pub(super) struct Mail {
    /// Who sends and who receives.
    pub(super) envelope: Envelope,
    /// What reports about the mail name it by; unset: none are wanted.
    pub(super) envelope_id: Option<String>,
    /// Headers and body.
    pub(super) bytes: Vec<u8>,
}

/// Makes the mail, dated `now`, and signs it where the practice has a key.
pub(super) async fn signed(
    signer: &Arc<Signer>,
    account: &SmtpAccount,
    email: &OutgoingEmail,
    now: DateTime<Utc>,
) -> Result<Mail, SendError> {
    let mail = build(account, email, now)?;
    let Some(dkim) = &account.dkim else { return Ok(mail) };
    // The last thing: whatever changes after it breaks it.
    Ok(Mail { bytes: signer.sign(dkim, mail.bytes, now).await?, ..mail })
}

/// Makes the mail, without a signature.
pub(super) fn build(account: &SmtpAccount, email: &OutgoingEmail, now: DateTime<Utc>) -> Result<Mail, SendError> {
    let from = sender(&account.from_address, &account.from_name)?;
    let to = recipient(email)?;
    let mut builder = Message::builder()
        .date(SystemTime::from(now))
        .from(from.clone())
        .to(to.clone())
        .subject(header(email.subject.expose())?)
        .message_id(Some(format!("<{}>", identifier(&email.message_id)?)))
        // No machine shall answer a machine (RFC 3834; the other is what Exchange heeds).
        .raw_header(raw(AUTO_SUBMITTED, "auto-generated"))
        .raw_header(raw(AUTO_RESPONSE_SUPPRESS, "All"))
        .raw_header(raw(FEEDBACK_ID, &feedback_id(&email.stream, account.from_address.domain())?));
    for (name, mailbox) in [(FROM, from), (TO, to)] {
        if let Some(header) = quoted(name, &mailbox) {
            builder = builder.raw_header(header);
        }
    }
    if let Some(list) = list_id(account.from_address.domain()) {
        builder = builder.raw_header(raw(LIST_ID, &list));
    }
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
    if let Some(bounces) = &account.bounces_to {
        builder = builder.envelope(envelope(bounces, email)?);
    }
    let message = builder.multipart(parts).map_err(|_| SendError::internal("mail"))?;
    Ok(Mail {
        envelope: message.envelope().clone(),
        envelope_id: account.bounces_to.as_ref().map(|_| email.bounce_token.clone()),
        bytes: message.formatted(),
    })
}

/// Who the relay is told that sends: an address of this attempt's own, so that what comes back to it is about nothing else.
fn envelope(bounces: &EmailAddress, email: &OutgoingEmail) -> Result<Envelope, SendError> {
    let from = return_path(bounces, &email.bounce_token).parse().map_err(|_| SendError::misconfigured("bounces"))?;
    let to = recipient(email)?.email;
    Envelope::new(Some(from), vec![to]).map_err(|_| SendError::internal("envelope"))
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

/// Which list it is (RFC 2919): all mail of a sender is one, since whoever unsubscribes gets none of it any more.
pub(super) fn list_id(domain: &str) -> Option<String> {
    let list = format!("<notifications.{domain}>");
    (list.len() <= LIST_ID_LIMIT).then_some(list)
}

/// By what the large mailbox hosts tell senders how their mail is received: the sort of mail, whose it is, and who sent it.
/// Nothing in it is about a patient.
pub(super) fn feedback_id(stream: &str, domain: &str) -> Result<String, SendError> {
    let fits = stream.len() <= 64 && stream.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let purpose = if stream == "announcement" { "bulk" } else { "transactional" };
    fits.then(|| format!("{stream}:{domain}:{purpose}:{SENDER_ID}")).ok_or_else(|| SendError::internal("header"))
}

/// The address with the name beside it, or `unusable` when no relay could take it.
fn mailbox(address: &EmailAddress, name: &str, unusable: impl Fn() -> SendError) -> Result<Mailbox, SendError> {
    let address: Address = address.as_str().parse().map_err(|_| unusable())?;
    // Beyond ASCII a relay would have to offer SMTPUTF8, and so would every one after it.
    if !address.to_string().is_ascii() {
        return Err(unusable());
    }
    let name = header(name)?.trim().to_owned();
    Ok(Mailbox::new(Some(name).filter(|name| !name.is_empty()), address))
}

/// Text of a header. Control characters are refused rather than encoded: they have no business there, and on some of them
/// lettre panics. What is not seen is left out. What looks like an encoded word (RFC 2047) is kept from being read as one.
pub(super) fn header(text: &str) -> Result<String, SendError> {
    if text.len() > HEADER_LIMIT || text.chars().any(char::is_control) {
        return Err(SendError::internal("header"));
    }
    Ok(legible(text).replace("=?", "= ?"))
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

/// A mailbox whose name is one word with a dot in it: lettre writes that as an atom, and an atom holds no dot (RFC 5322, section
/// 3.2.3). Unset: lettre does right by it.
fn quoted(header: HeaderName, mailbox: &Mailbox) -> Option<HeaderValue> {
    let name = mailbox.name.as_deref().filter(|name| name.contains('.'))?;
    let word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    // Folded before the address: the two together may be longer than a line.
    let (line, folded) = (format!("\"{name}\" <{}>", mailbox.email), format!("\"{name}\"\r\n <{}>", mailbox.email));
    let written = if line.len() > 70 { folded } else { line.clone() };
    word.then(|| HeaderValue::dangerous_new_pre_encoded(header, line, written))
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
mod tests;
