//! What Twilio tells us by itself: whether it really was Twilio, and what it says about a message. Pure.
//!
//! Guarantee: nothing is believed of a body that the signature does not cover.

pub mod inbound;

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use crate::{
    domain::{Facts, FailureReason},
    providers::error::twilio_reason,
};

/// A request that claims to come from Twilio.
#[derive(Clone, Copy)]
pub struct Callback<'a> {
    /// The URL as it was given to Twilio: made from configuration and the received path and query, never from `Host`.
    pub url: &'a str,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body, byte for byte; empty for GET.
    pub body: &'a [u8],
    /// `X-Twilio-Signature`.
    pub signature: Option<&'a str>,
    /// Whether `X-Twilio-Webhooks-Signature-Settings` is present: signed with a SharedKey, which is not HIPAA-eligible
    /// and therefore refused.
    pub shared_key: bool,
}

impl std::fmt::Debug for Callback<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Callback([hidden])")
    }
}

impl Callback<'_> {
    /// Whether one of `secrets`, the account's Auth Tokens, signed this request
    /// (twilio.com/docs/usage/webhooks/webhooks-security). It says nothing about when: a captured request verifies for
    /// ever, so what it says may only be applied in a way that can be repeated.
    #[must_use]
    pub fn verify(&self, secrets: &[SecretString]) -> bool {
        let Some(tag) = self.signature.and_then(|signature| STANDARD.decode(signature).ok()) else { return false };
        // Connection overrides ride in the fragment; Twilio leaves them out.
        let url = self.url.split_once('#').map_or(self.url, |(url, _)| url);
        let Some(parameters) = self.signed_parameters(url) else { return false };
        let texts: Vec<String> = spellings(url).into_iter().map(|url| url + &parameters).collect();
        !self.shared_key
            && secrets.iter().filter(|secret| !secret.expose_secret().is_empty()).any(|secret| {
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose_secret().as_bytes());
                texts.iter().any(|text| hmac::verify(&key, text.as_bytes(), &tag).is_ok())
            })
    }

    /// What is signed after the URL: of a form its distinct pairs in order. Any other body is signed through its hash in
    /// the URL; unset when it is not, because then anybody could have written it.
    fn signed_parameters(&self, url: &str) -> Option<String> {
        let media_type = self.content_type.and_then(|content_type| content_type.split(';').next()).unwrap_or_default();
        if media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let pairs: BTreeSet<_> = form_urlencoded::parse(self.body).collect();
            return Some(pairs.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]).collect());
        }
        if self.body.is_empty() {
            return Some(String::new());
        }
        let (_, query) = url.split_once('?')?;
        let (_, hash) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256")?;
        (hash == sha256_hex(self.body)).then(String::new)
    }
}

fn sha256_hex(body: &[u8]) -> String {
    digest::digest(&digest::SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spellings under which Twilio may have signed `url`. It is not consistent about ports: it may leave out one that is
/// there, or add the standard one.
fn spellings(url: &str) -> Vec<String> {
    let mut spellings = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return spellings };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host_start = authority.rfind('@').map_or(0, |at| at + 1);
    let (userinfo, host) = authority.split_at(host_start);
    match host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((name, _)) => spellings.push(format!("{scheme}://{userinfo}{name}{path}")),
        None => {
            let port = if scheme == "https" { 443 } else { 80 };
            spellings.push(format!("{scheme}://{authority}:{port}{path}"));
        }
    }
    spellings
}

/// What Twilio says became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReportedStatus {
    /// Taken, or parked until its time.
    Accepted,
    /// Waiting for its turn.
    Queued,
    /// On its way to the carrier.
    Sending,
    /// The nearest carrier took it. Many carriers never say more.
    Sent,
    /// The handset confirmed it, or the carrier says so.
    Delivered,
    /// The patient opened it (RCS, WhatsApp).
    Read,
    /// It never left Twilio.
    Failed,
    /// Carrier or handset refused it.
    Undelivered,
    /// Withdrawn while it was parked.
    Canceled,
}

impl ReportedStatus {
    /// The status behind Twilio's word; unset for a word that says nothing to us, which is to be counted and ignored.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "accepted" | "scheduled" => Self::Accepted,
            "queued" => Self::Queued,
            "sending" => Self::Sending,
            // Undocumented, and no last word.
            "sent" | "partially_delivered" => Self::Sent,
            "delivered" => Self::Delivered,
            "read" => Self::Read,
            "failed" => Self::Failed,
            "undelivered" => Self::Undelivered,
            "canceled" => Self::Canceled,
            _ => return None,
        })
    }

    /// What it adds to what is known of the delivery.
    #[must_use]
    pub const fn facts(self) -> Facts {
        match self {
            Self::Accepted => Facts::ACCEPTED,
            Self::Queued => Facts::QUEUED,
            Self::Sending | Self::Sent => Facts::SENT_TO_CARRIER,
            Self::Delivered => Facts::DELIVERED,
            Self::Read => Facts::READ.and(Facts::DELIVERED),
            Self::Failed | Self::Undelivered | Self::Canceled => Facts::UNDELIVERED,
        }
    }

    /// Why the message failed; unset unless this says that it did.
    #[must_use]
    pub fn failure(self, code: Option<&str>) -> Option<FailureReason> {
        let failed = matches!(self, Self::Failed | Self::Undelivered | Self::Canceled);
        let code = code.and_then(|code| code.parse().ok());
        failed.then(|| code.map_or(FailureReason::Other, twilio_reason))
    }

    /// Twilio's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
            Self::Undelivered => "undelivered",
            Self::Canceled => "canceled",
        }
    }
}

/// A status callback. Reports are unordered, repeated and incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The account that sent the message.
    pub account_sid: String,
    /// The message.
    pub sid: String,
    /// What became of it; unset: a word that is not known.
    pub status: Option<ReportedStatus>,
    /// Why it failed.
    pub error_code: Option<String>,
    /// The carrier's time as Twilio passes it on, `YYMMDDhhmm` in an unknown zone: of use only to tell reports apart.
    pub raw_dlr_done_date: Option<String>,
}

impl StatusReport {
    /// Why the message failed; unset unless the status says that it did.
    #[must_use]
    pub fn reason(&self) -> Option<FailureReason> {
        self.status.and_then(|status| status.failure(self.error_code.as_deref()))
    }
}

/// The body is no callback of that sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a callback of Twilio")]
pub struct Malformed;

/// Reads a verified status callback. Twilio adds parameters without notice, so unknown ones are passed over.
///
/// # Errors
/// When the message, the account or the status is missing.
pub fn parse_status(body: &[u8]) -> Result<StatusReport, Malformed> {
    let value = |wanted: &str| {
        form_urlencoded::parse(body).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let digits = |name, longest| {
        value(name)
            .filter(|value| (1..=longest).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let status = value("MessageStatus").ok_or(Malformed)?;
    Ok(StatusReport {
        account_sid: value("AccountSid").filter(|sid| is_sid(sid, &["AC"])).ok_or(Malformed)?,
        sid: value("MessageSid").filter(|sid| is_message_sid(sid)).ok_or(Malformed)?,
        status: ReportedStatus::from_word(&status),
        error_code: digits("ErrorCode", 6).filter(|code| code != "0"),
        raw_dlr_done_date: digits("RawDlrDoneDate", 16),
    })
}

/// Whether `sid` names a message: `SM` or `MM`, and 32 hexadecimal digits.
pub(in crate::providers) fn is_message_sid(sid: &str) -> bool {
    is_sid(sid, &["SM", "MM"])
}

/// Whether `sid` is one of these prefixes and 32 hexadecimal digits.
pub(in crate::providers) fn is_sid(sid: &str, prefixes: &[&str]) -> bool {
    let digits = prefixes.iter().find_map(|prefix| sid.strip_prefix(prefix));
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../../../tests/vectors/twilio_signatures.json");

    /// Whether this server accepts the request that a vector describes.
    fn accepts(vector: &Value) -> bool {
        let body = match vector.get("body") {
            Some(body) => body.as_str().unwrap().to_owned(),
            None => form(&vector["params"]),
        };
        let shared_key = vector["headers"].as_array().into_iter().flatten().any(|header| {
            header[0].as_str().unwrap() == "X-Twilio-Webhooks-Signature-Settings"
                && vector["algorithm"] == "HMAC_SHA256"
        });
        let callback = Callback {
            url: vector["url"].as_str().unwrap(),
            content_type: vector["content_type"].as_str(),
            body: body.as_bytes(),
            signature: vector["signature"].as_str(),
            shared_key,
        };
        callback.verify(&[vector["token"].as_str().unwrap().into()])
    }

    fn form(parameters: &Value) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        for pair in parameters.as_array().unwrap() {
            form.append_pair(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
        }
        form.finish()
    }

    fn variant(vector: &Value, variant: &Value) -> Value {
        let mut varied = vector.clone();
        for (field, value) in variant["set"].as_object().unwrap() {
            varied[field] = value.clone();
        }
        varied
    }

    #[test]
    fn every_vector_and_variant_is_judged_as_it_says() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let (mut valid, mut invalid) = (0, 0);
        for vector in vectors["vectors"].as_array().unwrap() {
            let id = vector["id"].as_str().unwrap();
            // A SharedKey is refused on principle, valid or not.
            assert_eq!(accepts(vector), id != "V6", "{id}");
            for (list, expected, count) in [("also_valid", true, &mut valid), ("invalid", false, &mut invalid)] {
                for change in vector[list].as_array().unwrap() {
                    assert_eq!(accepts(&variant(vector, change)), expected, "{id}: {}", change["why"]);
                    *count += 1;
                }
            }
            if let Some(form_body) = vector["form_body"].as_str() {
                assert_eq!(form(&vector["params"]), form_body, "{id}");
            }
        }
        assert_eq!((valid, invalid), (9, 35));
    }

    const TEXTS: &str = include_str!("../../../tests/vectors/twilio_texts.json");
    const SEED: u64 = 20_261_129;

    /// What Twilio's library signed: where it was posted, what it said, and the signature.
    fn signed(text: &Value) -> [Vec<u8>; 3] {
        ["url", "body", "signature"].map(|part| text[part].as_str().unwrap().as_bytes().to_vec())
    }

    /// Whether it is let in; what is no text in a line of HTTP never comes this far.
    fn is_let_in([url, body, signature]: &[Vec<u8>; 3], token: &SecretString) -> bool {
        let (Ok(url), Ok(signature)) = (std::str::from_utf8(url), std::str::from_utf8(signature)) else { return false };
        let content_type = Some("application/x-www-form-urlencoded; charset=UTF-8");
        Callback { url, content_type, body, signature: Some(signature), shared_key: false }
            .verify(std::slice::from_ref(token))
    }

    /// What a form says, in whichever order: `%2b` is `%2B`, to Twilio as well.
    fn says(body: &[u8]) -> BTreeSet<(std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)> {
        form_urlencoded::parse(body).collect()
    }

    #[test]
    fn what_twilios_library_signed_is_let_in_and_nothing_that_differs_in_one_bit() {
        let vectors: Value = serde_json::from_str(TEXTS).unwrap();
        let token: SecretString = vectors["token"].as_str().unwrap().into();
        let texts: Vec<_> = vectors["texts"].as_array().unwrap().iter().map(signed).collect();
        assert!(texts.len() == 60 && texts.iter().all(|text| is_let_in(text, &token)));
        // Knuth's generator (TAOCP 3.3.4): the same bits each time.
        let mut state = SEED;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % limit
        };
        let (mut forged, mut same) = (0, 0);
        while forged < 100_000 {
            let mut text = texts[below(texts.len())].clone();
            let original = text.clone();
            let part = below(3);
            let place = below(8 * text[part].len());
            text[part][place / 8] ^= 1 << (place % 8);
            if part == 1 && says(&text[1]) == says(&original[1]) {
                same += 1;
                assert!(is_let_in(&text, &token), "seed {SEED}");
                continue;
            }
            forged += 1;
            assert!(!is_let_in(&text, &token), "seed {SEED}: bit {place} of part {part} of {original:?}");
        }
        assert!(same < forged / 50, "{same}");
    }

    #[test]
    fn either_token_verifies_while_one_is_being_rotated() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let vector = &vectors["vectors"][0];
        let callback = Callback {
            url: vector["url"].as_str().unwrap(),
            content_type: Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"),
            body: vector["form_body"].as_str().unwrap().as_bytes(),
            signature: vector["signature"].as_str(),
            shared_key: false,
        };
        let (right, wrong): (SecretString, SecretString) = (vector["token"].as_str().unwrap().into(), "wrong".into());
        assert!(callback.verify(&[wrong.clone(), right.clone()]));
        assert!(callback.verify(&[right.clone(), wrong.clone()]));
        assert!(!callback.verify(&[wrong]));
        assert!(!callback.verify(&[]));
        assert!(!Callback { shared_key: true, ..callback }.verify(&[right]));
    }

    #[test]
    fn an_empty_secret_signs_nothing() {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"");
        let url = "https://notify.example.test/x";
        let signature = STANDARD.encode(hmac::sign(&key, url.as_bytes()));
        let callback = Callback { url, content_type: None, body: b"", signature: Some(&signature), shared_key: false };
        assert!(!callback.verify(&["".into()]));
    }

    #[test]
    fn a_port_is_left_out_or_added_without_touching_the_rest() {
        for (url, other) in [
            ("https://a.test", "https://a.test:443"),
            ("https://a.test?x=1:2", "https://a.test:443?x=1:2"),
            ("http://a.test/p:1", "http://a.test:80/p:1"),
            ("https://u:1@a.test/", "https://u:1@a.test:443/"),
            ("https://u:1@a.test:8443/", "https://u:1@a.test/"),
            ("https://[2001:db8::1]/", "https://[2001:db8::1]:443/"),
            ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]/"),
        ] {
            assert_eq!(spellings(url), [url, other]);
        }
        assert_eq!(spellings("nonsense"), ["nonsense"]);
    }

    #[test]
    fn a_status_callback_is_read() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let body = vectors["vectors"][0]["form_body"].as_str().unwrap();
        let report = parse_status(body.as_bytes()).unwrap();
        assert_eq!(
            report,
            StatusReport {
                account_sid: "AC00000000000000000000000000000001".into(),
                sid: "SM00000000000000000000000000000001".into(),
                status: Some(ReportedStatus::Delivered),
                error_code: None,
                raw_dlr_done_date: Some("2611230703".into()),
            }
        );
        assert_eq!(report.reason(), None);

        let failed = body.replace("MessageStatus=delivered", "MessageStatus=undelivered&ErrorCode=30005&New=1");
        let report = parse_status(failed.as_bytes()).unwrap();
        assert_eq!(report.error_code.as_deref(), Some("30005"));
        assert_eq!(report.reason(), Some(FailureReason::InvalidAddress));

        let novel = body.replace("MessageStatus=delivered", "MessageStatus=teleported&ErrorCode=<b>");
        let report = parse_status(novel.as_bytes()).unwrap();
        assert_eq!((report.status, report.error_code.as_deref(), report.reason()), (None, None, None));
    }

    #[test]
    fn a_body_without_message_account_or_status_is_malformed() {
        let sid = "00000000000000000000000000000001";
        assert!(parse_status(format!("AccountSid=AC{sid}&MessageSid=MM{sid}&MessageStatus=sent").as_bytes()).is_ok());
        for body in [
            String::new(),
            "\u{0}\u{ff}%%%".into(),
            format!("MessageSid=SM{sid}&MessageStatus=sent"),
            format!("AccountSid=AC{sid}&MessageStatus=sent"),
            format!("AccountSid=AC{sid}&MessageSid=SM{sid}"),
            format!("AccountSid=AC{sid}&MessageSid=SM{sid}0&MessageStatus=sent"),
            format!("AccountSid=AC{sid}&MessageSid=XX{sid}&MessageStatus=sent"),
            format!("AccountSid=AC{sid}&MessageSid=SM{}z&MessageStatus=sent", &sid[1..]),
        ] {
            assert_eq!(parse_status(body.as_bytes()), Err(Malformed), "{body}");
        }
    }

    #[test]
    fn every_word_of_twilio_has_its_status() {
        for (word, status) in [
            ("accepted", Some(ReportedStatus::Accepted)),
            ("scheduled", Some(ReportedStatus::Accepted)),
            ("queued", Some(ReportedStatus::Queued)),
            ("sending", Some(ReportedStatus::Sending)),
            ("sent", Some(ReportedStatus::Sent)),
            ("partially_delivered", Some(ReportedStatus::Sent)),
            ("delivered", Some(ReportedStatus::Delivered)),
            ("read", Some(ReportedStatus::Read)),
            ("failed", Some(ReportedStatus::Failed)),
            ("undelivered", Some(ReportedStatus::Undelivered)),
            ("canceled", Some(ReportedStatus::Canceled)),
            ("receiving", None),
            ("received", None),
            ("Delivered", None),
            ("", None),
        ] {
            assert_eq!(ReportedStatus::from_word(word), status, "{word}");
            if let Some(status) = status {
                assert_eq!(ReportedStatus::from_word(status.word()), Some(status));
            }
        }
    }
}
