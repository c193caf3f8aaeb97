#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::sandbox::{Sandbox, Settings};

const LIMIT: Duration = Duration::from_secs(20);

/// A webhook for events: keeps the headers and the body of each batch.
type Batches = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn batch(State(batches): State<Batches>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut batches = batches.lock().unwrap();
    batches.push((headers, body));
    // The first try of all is not taken.
    if batches.len() == 1 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
}

/// Whether the holder of the key that SendGrid shows signed the batch.
fn is_signed(key: &str, (headers, body): &(HeaderMap, Bytes)) -> bool {
    let header = |name: &str| headers[name].to_str().unwrap();
    let key = BASE64_STANDARD.decode(key).unwrap();
    let signature = BASE64_STANDARD.decode(header("x-twilio-email-event-webhook-signature")).unwrap();
    let signed = [header("x-twilio-email-event-webhook-timestamp").as_bytes(), body].concat();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1;
    ring::signature::UnparsedPublicKey::new(algorithm, &key[26..]).verify(&signed, &signature).is_ok()
}

fn mail_to(to: &str) -> Value {
    json!({
        "personalizations": [{ "to": [{ "email": to }], "custom_args": { "n": "t1" } }],
        "from": { "email": "no-reply@mail.acme.test" },
        "subject": "Hello",
        "content": [{ "type": "text/plain", "value": "Hello" }],
    })
}

#[tokio::test]
async fn a_mail_at_sendgrid_is_taken_and_its_events_are_signed_and_posted_until_they_are_taken() {
    let sandbox =
        Sandbox::start(Settings { carrier_delay: Duration::from_millis(1), ..Settings::default() }).await.unwrap();
    let http = reqwest::Client::builder().retry(reqwest::retry::never()).no_proxy().build().unwrap();
    let batches = Batches::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = format!("http://{}/events", listener.local_addr().unwrap());
    let router = Router::new().route("/events", post(batch)).with_state(Arc::clone(&batches));
    let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    let webhook_of = json!({ "api_key": "SG.a", "webhook_url": webhook });
    let set = http.post(format!("{}/sendgrid", sandbox.control_url())).json(&webhook_of).send().await.unwrap();
    let key = set.json::<Value>().await.unwrap()["public_key"].as_str().unwrap().to_owned();
    assert_eq!(key, sandbox.sendgrid_webhook("SG.a", &webhook), "one account, one key");
    assert_ne!(key, sandbox.sendgrid_webhook("SG.b", &webhook));

    let url = format!("{}/v3/mail/send", sandbox.sendgrid_url());
    let send = async |key: &str, to: &str| http.post(&url).bearer_auth(key).json(&mail_to(to)).send().await;
    let answer = send("SG.a", "complains@example.test").await.unwrap();
    assert_eq!(answer.status(), 202);
    let id = answer.headers()["x-message-id"].to_str().unwrap().to_owned();
    let told =
        |entries: &[Entry]| entries.iter().filter(|entry| matches!(entry, Entry::EventsSent { .. })).count() >= 4;
    let entries = sandbox.journal().wait_for(LIMIT, told).await.unwrap();
    assert!(matches!(&entries[0], Entry::SendGridMail { to, message_id, token_uses: 1, .. }
        if to == "complains@example.test" && *message_id == id));
    let seen = batches.lock().unwrap().clone();
    assert!(seen.iter().all(|batch| is_signed(&key, batch)));
    assert!(!is_signed(&sandbox.sendgrid_webhook("SG.b", &webhook), &seen[0]));
    let events: Vec<Value> =
        seen.iter().map(|(_, body)| serde_json::from_slice::<Value>(body).unwrap()[0].clone()).collect();
    let words: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(words, ["processed", "processed", "delivered", "spamreport"]);
    assert_ne!(events[0]["sg_event_id"], events[1]["sg_event_id"], "a repeat has another id");
    for event in &events {
        assert_eq!((&event["n"], &event["email"]), (&json!("t1"), &json!("complains@example.test")));
        assert!(event["sg_message_id"].as_str().unwrap().starts_with(&format!("{id}.")));
    }

    let status = async |key: &str, to: &str| send(key, to).await.map(|answer| answer.status().as_u16());
    assert_eq!(status("nobody", "pat@example.test").await.unwrap(), 401);
    assert_eq!(status("SG.a", "pat").await.unwrap(), 400);
    assert_eq!(status("SG.a", "refused@example.test").await.unwrap(), 400);
    assert_eq!(status("SG.a", "failed@example.test").await.unwrap(), 500);
    assert!(status("SG.a", "drop-silently@example.test").await.is_err());
    assert_eq!(status("SG.a", "limited@example.test").await.unwrap(), 429);
    assert_eq!(status("SG.a", "limited@example.test").await.unwrap(), 202);
    sandbox.rules().set("Pat@example.test", "sendgrid_failed").unwrap();
    assert_eq!(status("SG.a", "pat@example.test").await.unwrap(), 500);
    assert!(sandbox.rules().set("pat@example.test", "delivered").is_err());
    server.abort();
}
