//! Twilio's callbacks: forms, and the signature over them. What Twilio signed is let in, and nothing else is; what is not let in
//! changes nothing.

use std::collections::BTreeSet;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use heedwell::providers::twilio::callback::{Callback, inbound, parse_status};
use http::Request;
use ring::hmac;

use crate::{
    bytes::Bytes,
    limits::reached,
    server::{ACCOUNT, AUTH_TOKEN, CALLED_BACK, PUBLIC_URL, Server, with},
};

const FORM: &str = "application/x-www-form-urlencoded";
/// Longer than anything that is kept of a text (`received`).
const LONGEST_FIELD: usize = 64 * 1024;

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    let choice = input.byte();
    match choice % 4 {
        0 => {
            let callback = Callback {
                url: &input.part(),
                content_type: Some(FORM).filter(|_| choice < 128),
                signature: Some(&input.part()),
                body: input.0,
                shared_key: choice == 4,
            };
            assert!(!callback.verify(&[AUTH_TOKEN.into()]), "made up, and let in");
        }
        1 => {
            let parsed = parse_status(input.0);
            assert!(parsed.is_err() || parsed.is_ok_and(|report| report.sid.len() == 34));
            if let Ok(text) = inbound::parse(input.0) {
                assert!(text.body.len() <= LONGEST_FIELD && text.media.len() <= 16, "more than there may be");
            }
        }
        _ => with(|server| called(server, &mut input)),
    }
}

/// A request to the sidecar.
fn called(server: &Server, input: &mut Bytes<'_>) {
    let choice = input.byte();
    let path = match choice % 3 {
        0 => format!("/webhooks/twilio/{CALLED_BACK}/inbound"),
        1 => format!("/webhooks/twilio/{CALLED_BACK}/status/AAAAAAAAAAAAAAAAAAAAAA"),
        // Of a practice that has no account.
        _ => "/webhooks/twilio/acme/inbound".to_owned(),
    };
    let body = if choice >= 128 { input.0.to_vec() } else { form(input).into_bytes() };
    let signed = choice & 64 == 0;
    let tag = if signed { signature(&path, &body) } else { BASE64_STANDARD.encode(&body[..body.len().min(20)]) };
    let request = Request::post(&path).header("content-type", FORM).header("x-twilio-signature", tag).body(body);
    let (answer, trace) = server.leaves_a_trace(|| server.request(request.unwrap()));
    let status = answer.status().as_u16();
    assert!(status < 500, "{path} was answered with {status}");
    if signed && answer.status().is_success() {
        reached();
    }
    assert!(signed || status == 403, "not signed, and answered with {status}");
    assert!(answer.status().is_success() || !trace, "refused, and changed something");
}

/// A form that is likely to mean something: what a text or a report has, as lines of the input say.
fn form(input: &mut Bytes<'_>) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("AccountSid", ACCOUNT);
    let sid = format!("SM{:032x}", input.number());
    form.append_pair("MessageSid", &sid).append_pair("SmsSid", &sid).append_pair("To", "+12025550199");
    let names =
        ["Body", "From", "OptOutType", "NumMedia", "MediaUrl0", "MediaContentType0", "MessageStatus", "ErrorCode"];
    let words =
        ["STOP", "+12025550142", "START", "1", "https://api.twilio.com/2010-04-01/", "image/png", "delivered", "30003"];
    while !input.is_empty() {
        let which = input.byte();
        let at = usize::from(which) % names.len();
        let line = input.line();
        if which >= 128 {
            form.append_pair(names[at], words[at]);
        } else {
            form.append_pair(names[at], &String::from_utf8_lossy(line));
        }
    }
    form.finish()
}

/// As Twilio signs (twilio.com/docs/usage/webhooks/webhooks-security): the address, then each pair once, in order.
fn signature(path: &str, body: &[u8]) -> String {
    let pairs: BTreeSet<_> = form_urlencoded::parse(body).collect();
    let mut text = format!("{PUBLIC_URL}{path}");
    for (name, value) in &pairs {
        text.push_str(name);
        text.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, AUTH_TOKEN.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}
