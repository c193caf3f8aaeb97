#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::Uri, response::IntoResponse};
use tokio::net::TcpListener;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{Account, EmailAddress, FailureReason},
    providers::{Outgoing, Providers, Reach, Settings, Urls, real_urls},
};

/// The stand-in's clock: 30 s ahead of ours.
const DATE: &str = "Wed, 25 Nov 2026 12:00:30 +0000";

fn our_time() -> DateTime<Utc> {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::from_trusted(text.into())
}

fn account() -> SendGridAccount {
    SendGridAccount {
        api_key: "SG.secret".to_owned().into(),
        from_address: address("no-reply@mail.acme.test"),
        from_name: "Acme Primary Care, PLLC".into(),
        reply_to: Some(address("desk@acme.test")),
    }
}

fn email() -> OutgoingEmail {
    OutgoingEmail {
        to: address("pat@example.test"),
        to_name: "Pat \"P\" Doe".to_owned().into(),
        subject: "New message".to_owned().into(),
        text: "Hello Pat\r\n\rBye\0".to_owned().into(),
        html: "<p>Hello Pat</p>".to_owned().into(),
        message_id: "0191-a@mail.acme.test".into(),
        list_unsubscribe: Some("https://u.acme.test/u/TOKEN".into()),
        stream: "appointment_reminder".into(),
        attempt_token: "attempt-token".into(),
        bounce_token: "bounce-token".into(),
    }
}

fn json_type() -> header::HeaderValue {
    header::HeaderValue::from_static("application/json")
}

type Asked = (Uri, HeaderMap, Value);

/// A stand-in that always gives the same answer, or none, and writes down what it was asked.
struct Api {
    answer: Option<(u16, HeaderMap, &'static str)>,
    asked: Mutex<Vec<Asked>>,
}

async fn handle(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    api.asked.lock().unwrap().push((uri, headers, serde_json::from_slice(&body).unwrap()));
    match api.answer.clone() {
        Some((status, headers, body)) => (StatusCode::from_u16(status).unwrap(), headers, body),
        None => std::future::pending().await,
    }
}

/// Status, headers and body.
type Answer<'a> = (u16, &'a [(&'static str, &'a str)], &'static str);

async fn api(answer: Option<Answer<'_>>) -> (Arc<Api>, Providers) {
    let answer = answer.map(|(status, headers, body)| {
        let mut map = HeaderMap::new();
        map.insert("date", DATE.parse().unwrap());
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        (status, map, body)
    });
    let api = Arc::new(Api { answer, asked: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let router = Router::new().fallback(handle).with_state(api.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (api, client(&url))
}

fn client(url: &str) -> Providers {
    let settings = Settings {
        allow_private: true,
        call_timeout: Duration::from_millis(500),
        ..Settings::new(Urls { sendgrid: url.parse().unwrap(), ..real_urls() })
    };
    Providers::new(settings, Arc::new(ManualClock::new(our_time()))).unwrap()
}

async fn send(providers: &Providers, account: SendGridAccount, email: OutgoingEmail) -> Result<Accepted, SendError> {
    providers.send(&Account::SendGrid(account), &Outgoing::Email(email)).await.outcome
}

/// What one answer comes to.
async fn outcome(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> Result<Accepted, SendError> {
    let (api, providers) = api(Some((status, headers, body))).await;
    let outcome = send(&providers, account(), email()).await;
    assert_eq!(api.asked.lock().unwrap().len(), 1, "one call, whatever the answer");
    outcome
}

#[tokio::test]
async fn a_send_says_what_sendgrid_needs_and_nothing_else() {
    let (api, providers) = api(Some((202, &[("x-message-id", "abc.recvd-1")], ""))).await;
    let accepted = send(&providers, account(), email()).await.unwrap();
    assert_eq!((accepted.provider_ref.as_deref(), accepted.sms_segments), (Some("abc"), None));
    assert_eq!(accepted.clock_offset, Some(chrono::TimeDelta::seconds(30)));

    let (uri, headers, mail) = api.asked.lock().unwrap().remove(0);
    assert_eq!(uri.path(), "/base/v3/mail/send");
    assert_eq!(headers["authorization"], "Bearer SG.secret");
    assert_eq!((&headers["content-type"], &headers["accept"]), (&json_type(), &json_type()));
    assert_eq!(
        mail,
        json!({
            "personalizations": [{
                "to": [{ "email": "pat@example.test", "name": "Pat \"P\" Doe" }],
                "custom_args": { "n": "attempt-token" },
            }],
            "from": { "email": "no-reply@mail.acme.test", "name": "Acme Primary Care, PLLC" },
            "reply_to": { "email": "desk@acme.test" },
            "subject": "New message",
            "content": [
                { "type": "text/plain", "value": "Hello Pat\n\nBye" },
                { "type": "text/html", "value": "<p>Hello Pat</p>" },
            ],
            "headers": {
                "Message-ID": "<0191-a@mail.acme.test>",
                "Auto-Submitted": "auto-generated",
                "X-Auto-Response-Suppress": "All",
                "Feedback-ID": ":mail.acme.test:transactional:heedwell",
                "List-Id": "<notifications.mail.acme.test>",
                "List-Unsubscribe": "<https://u.acme.test/u/TOKEN>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            },
            "tracking_settings": {
                "click_tracking": { "enable": false, "enable_text": false },
                "open_tracking": { "enable": false },
                "subscription_tracking": { "enable": false },
                "ganalytics": { "enable": false },
            },
        })
    );
    let bare = OutgoingEmail { list_unsubscribe: None, to_name: String::new().into(), ..email() };
    send(&providers, SendGridAccount { reply_to: None, from_name: "Acme".into(), ..account() }, bare).await.unwrap();
    let (_, _, mail) = api.asked.lock().unwrap().remove(0);
    assert_eq!(mail["personalizations"][0]["to"], json!([{ "email": "pat@example.test" }]));
    assert_eq!(mail["from"]["name"], "Acme");
    assert!(mail.get("reply_to").is_none() && mail["headers"].get("List-Unsubscribe").is_none());
    // What may be taken for a list of addresses.
    for name in ["Doe, Pat", "Pat; Doe"] {
        send(&providers, account(), OutgoingEmail { to_name: name.to_owned().into(), ..email() }).await.unwrap();
        let (_, _, mail) = api.asked.lock().unwrap().remove(0);
        assert_eq!(mail["personalizations"][0]["to"], json!([{ "email": "pat@example.test" }]), "{name}");
    }
}

#[tokio::test]
async fn only_a_202_is_an_acceptance_with_its_id_or_without() {
    assert_eq!(outcome(202, &[], "").await.unwrap().provider_ref, None);
    assert_eq!(outcome(202, &[("x-message-id", "a b")], "").await.unwrap().provider_ref, None);
    for status in [200, 201, 204] {
        assert_eq!(outcome(status, &[], "").await, Err(SendError::unknown(&format!("http {status}"))));
    }
}

#[tokio::test]
async fn a_refusal_is_told_by_its_status_and_its_field() {
    let errors = r#"{"errors":[{"message":"for pat@example.test","field":null},{"message":"x","field":"personalizations.0.to.0.email","help":null}]}"#;
    let error = outcome(400, &[], errors).await.unwrap_err();
    assert_eq!(error, SendError::Refused { reason: FailureReason::InvalidAddress, code: "http 400".into() });
    let nginx = "<html><head><title>413 Request Entity Too Large</title></head></html>";
    let error = outcome(413, &[], nginx).await.unwrap_err();
    assert_eq!(error, SendError::Refused { reason: FailureReason::Internal, code: "http 413".into() });
    assert_eq!(outcome(401, &[], "{}").await, Err(SendError::misconfigured("http 401")));
    // Not followed: the mail would go wherever somebody on the way likes.
    let error = outcome(307, &[("location", "/elsewhere")], "").await.unwrap_err();
    assert_eq!(error.reason(), Some(FailureReason::ProviderConfig));
    assert_eq!(outcome(503, &[], "").await, Err(SendError::unknown("http 503")));
}

#[test]
fn an_answer_of_sendgrid_is_sorted_by_what_may_follow() {
    let refused = |reason, status| SendError::Refused { reason, code: format!("http {status}") };
    let (ours, unknown) = (
        |status| SendError::misconfigured(&format!("http {status}")),
        |status| SendError::unknown(&format!("http {status}")),
    );
    for (status, field, expected) in [
        (400, Some("personalizations.0.to.0.email"), refused(FailureReason::InvalidAddress, 400)),
        // Of the list, not of an address in it: nobody is suppressed.
        (400, Some("personalizations.0.to"), refused(FailureReason::Other, 400)),
        (400, Some("personalizations.0.cc.0.email"), refused(FailureReason::Other, 400)),
        (400, Some("from.email"), ours(400)),
        (400, Some("reply_to"), ours(400)),
        (400, Some("content.0.value"), refused(FailureReason::Other, 400)),
        (400, Some(""), refused(FailureReason::Other, 400)),
        (400, None, refused(FailureReason::Other, 400)),
        (401, Some("personalizations.0.to.0.email"), ours(401)),
        (401, None, ours(401)),
        (403, Some("from"), ours(403)),
        (403, None, ours(403)),
        (407, None, ours(407)),
        (451, None, ours(451)),
        (404, None, refused(FailureReason::ProviderConfig, 404)),
        (405, None, refused(FailureReason::ProviderConfig, 405)),
        (406, None, refused(FailureReason::ProviderConfig, 406)),
        (301, None, refused(FailureReason::ProviderConfig, 301)),
        (307, None, refused(FailureReason::ProviderConfig, 307)),
        (413, None, refused(FailureReason::Internal, 413)),
        (415, None, refused(FailureReason::Other, 415)),
        (422, None, refused(FailureReason::Other, 422)),
        (429, None, SendError::not_taken("http 429")),
        (408, None, unknown(408)),
        (500, Some("personalizations.0.to.0.email"), unknown(500)),
        (502, None, unknown(502)),
        (503, None, unknown(503)),
        (504, None, unknown(504)),
        // Its sandbox mode, or somebody on the way: not the 202 that says that mail will leave.
        (200, None, unknown(200)),
        (201, None, unknown(201)),
        (204, None, unknown(204)),
        (101, None, unknown(101)),
    ] {
        assert_eq!(SendError::from_sendgrid(status, field, None), expected, "{status} {field:?}");
    }
    let minute = Some(Duration::from_secs(60));
    let limited = SendError::from_sendgrid(429, None, minute);
    assert!(matches!(limited, SendError::NotTaken { retry_after, .. } if retry_after == minute));
}

#[test]
fn only_what_would_meet_any_mail_is_held_against_the_account() {
    for (status, field, reach) in [
        (429, None, Reach::Account),
        (500, None, Reach::Account),
        (401, None, Reach::Account),
        (404, None, Reach::Account),
        (400, Some("from"), Reach::Account),
        (400, Some("personalizations.0.to.0.email"), Reach::Message),
        (413, None, Reach::Message),
    ] {
        assert_eq!(SendError::from_sendgrid(status, field, None).reach(), reach, "{status} {field:?}");
    }
}

#[tokio::test]
async fn a_limit_says_when_it_ends_by_the_clock_of_whoever_set_it() {
    let limited = |seconds: Option<u64>| {
        let retry_after = seconds.map(Duration::from_secs);
        Err(SendError::NotTaken { retry_after, code: "http 429".into(), reach: Reach::Account })
    };
    // 12:01:00 by the clock that dated the answer 12:00:30.
    let reset = DateTime::parse_from_rfc3339("2026-11-25T12:01:00Z").unwrap().timestamp().to_string();
    assert_eq!(outcome(429, &[("x-ratelimit-reset", &reset)], "").await, limited(Some(30)));
    assert_eq!(outcome(429, &[("x-ratelimit-reset", &reset), ("date", "soon")], "").await, limited(Some(60)));
    assert_eq!(outcome(429, &[("x-ratelimit-reset", &reset), ("retry-after", "7")], "").await, limited(Some(7)));
    assert_eq!(outcome(429, &[("x-ratelimit-reset", "1000")], "").await, limited(Some(0)));
    for odd in ["", "soon", "-1e9", "99999999999999999999"] {
        assert_eq!(outcome(429, &[("x-ratelimit-reset", odd)], "").await, limited(None), "{odd}");
    }
}

#[tokio::test]
async fn silence_is_in_doubt_and_no_connection_is_not() {
    let (_, providers) = api(None).await;
    assert_eq!(send(&providers, account(), email()).await, Err(SendError::unknown("timeout")));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    assert_eq!(send(&client(&url), account(), email()).await, Err(SendError::not_taken("connect")));
    assert_eq!(send(&client("http://sendgrid.invalid"), account(), email()).await, Err(SendError::not_taken("dns")));
}

#[tokio::test]
async fn what_could_not_be_a_mail_is_not_sent() {
    let (api, providers) = api(Some((202, &[], ""))).await;
    let evil = "a\r\nBcc: eve@example.test";
    for email in [
        OutgoingEmail { subject: evil.to_owned().into(), ..email() },
        OutgoingEmail { to_name: evil.to_owned().into(), ..email() },
        OutgoingEmail { message_id: evil.into(), ..email() },
        OutgoingEmail { list_unsubscribe: Some("http://u.acme.test/u".into()), ..email() },
        OutgoingEmail { to: address("pat@example.test, eve@example.test"), ..email() },
        OutgoingEmail { to: address("pät@example.test"), ..email() },
    ] {
        assert!(send(&providers, account(), email).await.unwrap_err().reason().is_some());
    }
    let sender = SendGridAccount { from_address: address("acme"), ..account() };
    assert_eq!(send(&providers, sender, email()).await, Err(SendError::misconfigured("from")));
    let sms = Outgoing::Sms(crate::providers::OutgoingSms {
        to: crate::domain::PhoneNumber::from_trusted("+12025550142".into()),
        body: String::new().into(),
        media: Vec::new(),
        status_callback: None,
        validity_seconds: 1,
    });
    let sms = providers.send(&Account::SendGrid(account()), &sms).await.outcome;
    assert_eq!(sms, Err(SendError::internal("wrong account")));
    assert!(api.asked.lock().unwrap().is_empty());
}
