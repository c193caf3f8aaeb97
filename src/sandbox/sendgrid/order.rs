//! The body of a send and what SendGrid checks in it. Guarantee: pure; an [`Order`] exists only if SendGrid would take it.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use serde_json::Value;

use super::Refusal;

/// Together, in bytes.
const LARGEST_ARGS: usize = 10_000;
/// What SendGrid writes by itself.
const RESERVED: [&str; 12] = [
    "x-sg-id",
    "x-sg-eid",
    "received",
    "dkim-signature",
    "content-type",
    "content-transfer-encoding",
    "to",
    "from",
    "subject",
    "reply-to",
    "cc",
    "bcc",
];

/// A valid send, to one recipient.
pub(super) struct Order {
    pub(super) to: String,
    pub(super) custom_args: BTreeMap<String, String>,
    /// All of it.
    pub(super) mail: Value,
}

const fn bad(message: &'static str, field: &'static str) -> Refusal {
    Refusal::new(400, message, Some(field))
}

impl Order {
    /// Checks the body. Fields that are not known are passed over.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if content_type.split(';').next() != Some("application/json") {
            return Err(Refusal::new(415, "unsupported media type", None));
        }
        let mail: Value = serde_json::from_slice(body).map_err(|_| Refusal::new(400, "Bad Request", None))?;
        let person = match mail["personalizations"].as_array().map(Vec::as_slice) {
            Some([person]) => person,
            // One mail that shows several patients each other's address is a mistake here, whatever SendGrid thinks.
            _ => return Err(bad("one personalization is expected", "personalizations")),
        };
        let to = match person["to"].as_array().map(Vec::as_slice) {
            Some([to]) => recipient(to).ok_or(Refusal::ADDRESS)?,
            _ => return Err(bad("one recipient is expected", "personalizations.0.to")),
        };
        mailbox(&mail["from"]).ok_or(bad("The from email does not contain a valid address.", "from.email"))?;
        if !mail["reply_to"].is_null() {
            mailbox(&mail["reply_to"]).ok_or(bad("Does not contain a valid address.", "reply_to"))?;
        }
        if mail["subject"].as_str().is_none_or(str::is_empty) {
            return Err(bad("The subject is required.", "subject"));
        }
        content(&mail["content"])?;
        checked_headers(&mail["headers"])?;
        let custom_args = custom_args(&person["custom_args"])?;
        Ok(Self { to, custom_args, mail })
    }
}

/// The address of a party.
fn mailbox(party: &Value) -> Option<String> {
    let email = party["email"].as_str()?;
    let (local, domain) = email.split_once('@')?;
    let good = !local.is_empty() && domain.contains('.') && email.bytes().all(|byte| byte.is_ascii_graphic());
    (good && !email.contains([',', ';', '<', '>'])).then(|| email.to_owned())
}

/// The address of a recipient. A name with a comma or a semicolon has been taken for a list of addresses
/// (<https://github.com/sendgrid/sendgrid-python/issues/291>).
fn recipient(party: &Value) -> Option<String> {
    let clear = !party["name"].as_str().unwrap_or_default().contains([',', ';']);
    mailbox(party).filter(|_| clear)
}

fn content(parts: &Value) -> Result<(), Refusal> {
    let parts = parts.as_array().filter(|parts| !parts.is_empty()).ok_or(bad("Content is required.", "content"))?;
    let filled = parts.iter().all(|part| part["value"].as_str().is_some_and(|value| !value.is_empty()));
    let types: Vec<_> = parts.iter().map(|part| part["type"].as_str().unwrap_or_default()).collect();
    let ordered = matches!(types.as_slice(), ["text/plain" | "text/html"] | ["text/plain", "text/html"]);
    if filled && ordered {
        Ok(())
    } else {
        Err(bad("Content must be text/plain, followed by text/html, and not empty.", "content"))
    }
}

fn checked_headers(headers: &Value) -> Result<(), Refusal> {
    let Some(headers) = headers.as_object() else { return Ok(()) };
    let good = headers.iter().all(|(name, value)| {
        let line = value.as_str().is_some_and(|value| !value.contains(['\r', '\n']));
        line && !name.contains(['\r', '\n', ':']) && !RESERVED.contains(&name.to_lowercase().as_str())
    });
    if good { Ok(()) } else { Err(bad("A header may not be set.", "headers")) }
}

fn custom_args(args: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    const WRONG: Refusal = bad("Custom args must be strings of 10000 bytes in all.", "personalizations.0.custom_args");
    let Some(args) = args.as_object() else { return Ok(BTreeMap::new()) };
    let args: Option<BTreeMap<_, _>> =
        args.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    let size =
        |args: &BTreeMap<String, String>| args.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    args.filter(|args| size(args) <= LARGEST_ARGS).ok_or(WRONG)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({
            "personalizations": [{
                "to": [{ "email": "pat@example.test", "name": "Pat Doe" }],
                "custom_args": { "n": "token" },
            }],
            "from": { "email": "no-reply@mail.acme.test", "name": "Acme" },
            "subject": "New message",
            "content": [{ "type": "text/plain", "value": "Hi" }, { "type": "text/html", "value": "<p>Hi</p>" }],
            "headers": { "List-Unsubscribe": "<https://u.acme.test/u>" },
            "new": 1,
        })
    }

    /// Parses the good mail with one value replaced, and tells what is found fault with.
    fn check(pointer: &str, value: Value, expect: Option<&str>) {
        let mut mail = good();
        *mail.pointer_mut(pointer).unwrap() = value;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let refusal = Order::parse(&headers, mail.to_string().as_bytes()).err();
        assert_eq!(refusal.map(|refusal| (refusal.http_status, refusal.field)), expect.map(|field| (400, Some(field))));
    }

    #[test]
    fn a_send_is_checked_as_sendgrid_checks_it() {
        check("/new", json!("ignored"), None);
        check("/personalizations", json!([]), Some("personalizations"));
        check("/personalizations/0/to", json!([]), Some("personalizations.0.to"));
        let address = "/personalizations/0/to/0/email";
        for bad in ["", "pat", "pat@", "@example.test", "pat@example", "a b@example.test", "pat@example.test,x@y.test"]
        {
            check(address, json!(bad), Some("personalizations.0.to.0.email"));
        }
        check("/personalizations/0/to/0/name", json!("Doe, Pat"), Some("personalizations.0.to.0.email"));
        check("/from/name", json!("Acme Primary Care, PLLC"), None);
        check("/from/email", json!("acme"), Some("from.email"));
        check("/subject", json!(""), Some("subject"));
        check("/content", json!([]), Some("content"));
        check("/content/0/value", json!(""), Some("content"));
        check("/content", json!([good()["content"][1], good()["content"][0]]), Some("content"));
        check("/content", json!([good()["content"][1]]), None);
        check("/headers", json!({ "Reply-To": "x" }), Some("headers"));
        check("/headers", json!({ "X-A": "a\r\nBcc: b" }), Some("headers"));
        check("/personalizations/0/custom_args", json!({ "n": 1 }), Some("personalizations.0.custom_args"));
        let long = json!({ "n": "x".repeat(10_000) });
        check("/personalizations/0/custom_args", long, Some("personalizations.0.custom_args"));
    }

    #[test]
    fn a_form_is_not_a_send() {
        let status = |headers: &HeaderMap, body: &[u8]| Order::parse(headers, body).err().unwrap().http_status;
        assert_eq!(status(&HeaderMap::new(), good().to_string().as_bytes()), 415);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        assert_eq!(status(&headers, b"{"), 400);
    }
}
