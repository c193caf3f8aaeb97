//! What SendGrid tells us by itself: whether it really was SendGrid, and what its events say of mail
//! (twilio.com/docs/sendgrid/for-developers/tracking-events). Pure.
//!
//! Guarantee: nothing is believed of a body that the signature does not cover.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde_json::Value;

use crate::domain::{Facts, FailureReason, WebhookKey};

/// The custom argument that holds the attempt's token. Events repeat it beside their own fields.
pub const TOKEN: &str = "n";

/// SendGrid repeats what was not taken for 24 hours; whether it signs a repeat anew is not documented.
const LONGEST_AGE: TimeDelta = TimeDelta::hours(26);
/// A longer id is none.
const LONGEST_ID: usize = 100;

/// A request that claims to come from SendGrid.
#[derive(Clone, Copy)]
pub struct Callback<'a> {
    /// `X-Twilio-Email-Event-Webhook-Timestamp`.
    pub timestamp: Option<&'a str>,
    /// `X-Twilio-Email-Event-Webhook-Signature`.
    pub signature: Option<&'a str>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl fmt::Debug for Callback<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback([hidden])")
    }
}

impl Callback<'_> {
    /// Whether the holder of `key` signed this request: ECDSA with SHA-256 over the timestamp as it was sent and the body as it came,
    /// in strict DER. A signature has a twin that verifies as well, and so is no name for a request.
    #[must_use]
    pub fn is_signed(&self, key: &WebhookKey) -> bool {
        let (Some(timestamp), Some(signature)) = (self.timestamp, self.signature) else { return false };
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let signed = [timestamp.as_bytes(), self.body].concat();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.point()).verify(&signed, &signature).is_ok()
    }

    /// Whether it was signed not longer ago than SendGrid repeats it. Within that time a captured request verifies again, so what it
    /// says may only be applied in a way that can be repeated.
    #[must_use]
    pub fn is_recent(&self, now: DateTime<Utc>) -> bool {
        let signed = self.timestamp.and_then(|seconds| DateTime::from_timestamp(seconds.parse().ok()?, 0));
        signed.is_some_and(|signed| (now - signed).abs() <= LONGEST_AGE)
    }
}

/// What an event says of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// SendGrid has it in its queue.
    Processed,
    /// The mail host asked to wait; SendGrid goes on trying for 72 hours.
    Deferred,
    /// The mail host took it.
    Delivered,
    /// The mail host refused it, at once or later, because of the mailbox.
    Bounced,
    /// The mail host refused it for now, or because of the sender or the content. No word against the mailbox.
    Blocked,
    /// SendGrid did not send it.
    Dropped,
    /// The patient called it spam.
    Complained,
    /// The patient unsubscribed from everything.
    Unsubscribed,
    /// The patient unsubscribed from some of it.
    GroupUnsubscribed,
}

impl Told {
    /// Of an event; unset for what means nothing here. Opens and clicks are made by scanners as well as by people, and never
    /// decide anything.
    fn of(event: &Value) -> Option<Self> {
        Some(match text(event, "event")? {
            "processed" => Self::Processed,
            "deferred" => Self::Deferred,
            "delivered" => Self::Delivered,
            // Without the type, only a code that speaks of the mailbox is held against it.
            "bounce" => match text(event, "type") {
                Some("bounce") => Self::Bounced,
                None if matches!(enhanced(event), Some((1, _))) => Self::Bounced,
                _ => Self::Blocked,
            },
            "dropped" => Self::Dropped,
            "spamreport" => Self::Complained,
            "unsubscribe" => Self::Unsubscribed,
            "group_unsubscribe" => Self::GroupUnsubscribed,
            _ => return None,
        })
    }

    /// SendGrid's word, but for a bounce that is a block.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Deferred => "deferred",
            Self::Delivered => "delivered",
            Self::Bounced => "bounce",
            Self::Blocked => "blocked",
            Self::Dropped => "dropped",
            Self::Complained => "spamreport",
            Self::Unsubscribed => "unsubscribe",
            Self::GroupUnsubscribed => "group_unsubscribe",
        }
    }

    /// What it adds to what is known of the delivery; nothing where it speaks of the patient's will alone.
    #[must_use]
    pub const fn facts(self) -> Facts {
        match self {
            Self::Processed => Facts::QUEUED,
            Self::Deferred => Facts::DEFERRED,
            Self::Delivered => Facts::DELIVERED,
            Self::Bounced | Self::Blocked => Facts::BOUNCED,
            Self::Dropped => Facts::UNDELIVERED,
            // Nobody complains of a mail that never left.
            Self::Complained => Facts::COMPLAINED.and(Facts::ACCEPTED),
            Self::Unsubscribed | Self::GroupUnsubscribed => Facts::NONE,
        }
    }

    /// Whether the patient wants no more mail.
    #[must_use]
    pub const fn opts_out(self) -> bool {
        matches!(self, Self::Complained | Self::Unsubscribed | Self::GroupUnsubscribed)
    }
}

/// An event of a mail.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// What it says.
    pub told: Told,
    /// The attempt's token; unset for mail that was not sent from here.
    pub token: Option<String>,
    /// SendGrid's id for the mail; unset where it left it out.
    pub message: Option<String>,
    /// When it happened, to the second; unset where it left it out.
    pub time: Option<DateTime<Utc>>,
    /// The mailbox that it was sent to; may be empty.
    pub mailbox: String,
    /// In short: `550 5.1.1`, `bounced address`; may be empty. Never a foreign server's text.
    pub code: String,
    /// Why it did not arrive, if it did not.
    pub failure: Option<FailureReason>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither to whom, nor the token.
        f.debug_struct("Event").field("told", &self.told).field("code", &self.code).finish_non_exhaustive()
    }
}

/// The body makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a batch of SendGrid's events")]
pub struct Malformed;

/// Reads a verified batch. SendGrid adds events and fields without notice, so unknown ones are passed over.
///
/// # Errors
/// When it is no array of objects.
pub fn parse(body: &[u8]) -> Result<Vec<Event>, Malformed> {
    let batch: Vec<Value> = serde_json::from_slice(body).map_err(|_| Malformed)?;
    if !batch.iter().all(Value::is_object) {
        return Err(Malformed);
    }
    Ok(batch.iter().filter_map(event).collect())
}

fn event(event: &Value) -> Option<Event> {
    let told = Told::of(event)?;
    let (code, failure) = match told {
        Told::Deferred => (code(event), None),
        Told::Blocked => (code(event), Some(FailureReason::Blocked)),
        Told::Bounced => (code(event), Some(bounced(enhanced(event)))),
        Told::Dropped => {
            let (code, reason) = dropped(text(event, "reason").unwrap_or_default());
            (code.to_owned(), Some(reason))
        }
        _ => (String::new(), None),
    };
    Some(Event {
        told,
        token: text(event, TOKEN).map(str::to_owned),
        message: text(event, "sg_message_id").and_then(message_id),
        time: event.get("timestamp").and_then(Value::as_i64).and_then(|seconds| DateTime::from_timestamp(seconds, 0)),
        mailbox: text(event, "email").unwrap_or_default().to_owned(),
        code,
        failure,
    })
}

fn text<'a>(event: &'a Value, field: &str) -> Option<&'a str> {
    event.get(field).and_then(Value::as_str)
}

/// The id that the answer to a send and the events of the mail share: what follows the first dot is about the server
/// that handled it.
pub(super) fn message_id(text: &str) -> Option<String> {
    let id = text.split('.').next().unwrap_or_default();
    let fits = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| id.to_owned())
}

/// The reply's code, and the enhanced one (RFC 3463) in it or beside it.
fn code(event: &Value) -> String {
    let words = [reply(event).map(|reply| reply.to_string()), enhanced_text(event).map(str::to_owned)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// What the mail host said, in its own words.
fn said(event: &Value) -> &str {
    text(event, "reason").or_else(|| text(event, "response")).unwrap_or_default().trim_start()
}

/// The code at the beginning of what the mail host said.
fn reply(event: &Value) -> Option<u16> {
    let digits = said(event).get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|reply| (400..600).contains(reply))
}

fn enhanced_text(event: &Value) -> Option<&str> {
    let in_reply = reply(event).and_then(|_| said(event)[3..].trim_start_matches([' ', '-']).split_whitespace().next());
    [in_reply, text(event, "status")].into_iter().flatten().find(|code| numbers(code).is_some())
}

/// Subject and detail of the enhanced code.
fn enhanced(event: &Value) -> Option<(u16, u16)> {
    enhanced_text(event).and_then(numbers)
}

fn numbers(code: &str) -> Option<(u16, u16)> {
    let mut parts = code.split('.').map(|part| {
        let fits = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        fits.then(|| part.parse::<u16>().ok()).flatten()
    });
    let (class, subject, detail) = (parts.next()??, parts.next()??, parts.next()??);
    (matches!(class, 4 | 5) && parts.next().is_none()).then_some((subject, detail))
}

/// Why mail to a mailbox comes back for good. A full one may be emptied, and neither a policy, nor a form or length that is not
/// taken, nor what two mail systems find fault with in each other's commands says anything against it (RFC 3463).
const fn bounced(enhanced: Option<(u16, u16)>) -> FailureReason {
    match enhanced {
        Some((2, 2) | (5, _)) => FailureReason::Unreachable,
        Some((2, 3) | (3, 4) | (6 | 7, _)) => FailureReason::Blocked,
        _ => FailureReason::InvalidAddress,
    }
}

/// Why SendGrid did not send: in short, and what that means.
fn dropped(reason: &str) -> (&'static str, FailureReason) {
    use FailureReason::{Blocked, InvalidAddress, OptedOutAtProvider};
    const REASONS: [(&str, FailureReason); 7] = [
        ("bounced address", InvalidAddress),
        ("invalid", InvalidAddress),
        ("unsubscribed address", OptedOutAtProvider),
        ("spam reporting address", OptedOutAtProvider),
        ("spam content", Blocked),
        ("invalid smtpapi header", Blocked),
        ("recipient list over package quota", Blocked),
    ];
    let known = REASONS.into_iter().find(|(known, _)| reason.trim().eq_ignore_ascii_case(known));
    known.unwrap_or(("dropped", Blocked))
}

#[cfg(test)]
mod tests;
