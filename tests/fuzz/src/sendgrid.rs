//! SendGrid's events: batches of JSON, and the signature over them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use heedwell::providers::sendgrid::callback::parse;
use http::Request;
use ring::rand::SystemRandom;

use crate::{
    bytes::Bytes,
    limits::reached,
    server::{CALLED_BACK, START, with},
};

/// What an event may say beyond its own words.
const LONGEST_CODE: usize = 200;

pub(crate) fn take(input: &[u8]) {
    let mut input = Bytes(input);
    let choice = input.byte();
    if choice.is_multiple_of(3) {
        if let Ok(events) = parse(input.0) {
            assert!(events.iter().all(|event| event.code.len() <= LONGEST_CODE), "a code that is a text");
        }
        return;
    }
    with(|server| {
        let skew = i64::from(input.byte()) * 1_000;
        let timestamp = if choice == 255 { input.part().into_owned() } else { (START - skew).to_string() };
        let body = input.0;
        let signed = choice & 64 == 0;
        let text = [timestamp.as_bytes(), body].concat();
        let mut tag = server.sendgrid.sign(&SystemRandom::new(), &text).unwrap().as_ref().to_vec();
        if !signed {
            // One bit of it, or all of it.
            let at = usize::from(choice) % tag.len();
            tag[at] ^= 1;
            if choice & 32 == 0 {
                tag = body.to_vec();
            }
        }
        let request = Request::post(format!("/webhooks/sendgrid/{CALLED_BACK}"))
            .header("content-type", "application/json")
            .header("x-twilio-email-event-webhook-signature", BASE64_STANDARD.encode(tag))
            .header("x-twilio-email-event-webhook-timestamp", timestamp.escape_default().to_string())
            .body(body.to_vec());
        let (answer, trace) = server.leaves_a_trace(|| server.request(request.unwrap()));
        let status = answer.status().as_u16();
        assert!(status < 500, "answered with {status}");
        assert!(signed || status == 403, "not signed, and answered with {status}");
        assert!(answer.status().is_success() || !trace, "refused, and changed something");
        if signed && answer.status().is_success() {
            reached();
        }
    });
}
