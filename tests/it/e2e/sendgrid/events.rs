//! Events that the tests themselves sign: who may speak in SendGrid's name, and what batches add up to.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{self, Channel},
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use reqwest::{Method, StatusCode, header};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::{EVENTS, Taken, taken, timeline, use_sendgrid};
use crate::{
    e2e::{
        callbacks::browser,
        consent::all_said,
        given::{practice, practice_named, send_over, somebody_with_mailbox},
        seen::{delivery, failed, history, state, states, until_state},
    },
    support::app::{ACME, TestApp, on_a_server},
};

/// Signs as SendGrid does, with a key of the test's own.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap())
    }

    /// As SendGrid shows it: a SubjectPublicKeyInfo on P-256 (RFC 5480).
    fn shown(&self) -> String {
        let start = BASE64_STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
        BASE64_STANDARD.encode([&start[..26], self.0.public_key().as_ref()].concat())
    }

    fn sign(&self, timestamp: i64, body: &str) -> String {
        let signed = format!("{timestamp}{body}");
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap())
    }
}

async fn post(t: &TestApp, path: &str, timestamp: i64, signature: Option<&str>, body: &str) -> StatusCode {
    let mut request =
        browser().post(t.url(path)).header(header::CONTENT_TYPE, "application/json").body(body.to_owned());
    request = request.header("X-Twilio-Email-Event-Webhook-Timestamp", timestamp);
    if let Some(signature) = signature {
        request = request.header("X-Twilio-Email-Event-Webhook-Signature", signature);
    }
    request.send().await.unwrap().status()
}

/// Posts a batch as the account of the practice in `path` would.
async fn tell(t: &TestApp, signer: &Signer, path: &str, events: &[Value]) -> u16 {
    let body = format!("{}\r\n", Value::from(events));
    let now = t.now().timestamp();
    post(t, path, now, Some(&signer.sign(now, &body)), &body).await.as_u16()
}

/// A mail that was taken, of which nothing was ever reported: its delivery and its token. The test has the only word.
async fn unreported(t: &TestApp) -> (Signer, String, Taken) {
    let signer = Signer::new();
    practice(t).await;
    use_sendgrid(t, ACME, &signer.shown()).await;
    somebody_with_mailbox(t, "lee", "quiet@example.com").await;
    let id = send_over(t, "lee", Channel::Email).await;
    until_state(t, &id, "SENT").await;
    let mail = taken(t, "quiet@example.com").remove(0);
    (signer, id, mail)
}

/// An event of that mail.
fn event(t: &TestApp, mail: &Taken, word: &str, more: Value) -> Value {
    let mut event = json!({
        "event": word,
        "email": "quiet@example.com",
        "timestamp": t.now().timestamp(),
        "sg_event_id": format!("{word}-1"),
        "sg_message_id": format!("{}.recvd-1", mail.id),
        "n": mail.token,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

on_a_server! {
    async fn what_the_practices_own_account_did_not_sign_is_refused_and_changes_nothing(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let rival = Signer::new();
        practice_named(t, "beta").await;
        use_sendgrid(t, "beta", &rival.shown()).await;
        practice_named(t, "gamma").await;
        let before = delivery(t, &id).await.revision;
        let batch = [event(t, &mail, "delivered", json!({})), event(t, &mail, "spamreport", json!({}))];
        let body = format!("{}\r\n", Value::from(&batch[..]));
        let now = t.now().timestamp();
        let good = signer.sign(now, &body);
        let day = 27 * 3_600;
        for (what, path, timestamp, signature, body) in [
            ("no signature", EVENTS, now, None, body.clone()),
            ("an empty one", EVENTS, now, Some(String::new()), body.clone()),
            ("no base64", EVENTS, now, Some("!".into()), body.clone()),
            ("another key's", EVENTS, now, Some(rival.sign(now, &body)), body.clone()),
            ("of another time", EVENTS, now + 1, Some(good.clone()), body.clone()),
            ("of another body", EVENTS, now, Some(good.clone()), body.replace("delivered", "processed")),
            ("of the same body without its end", EVENTS, now, Some(good.clone()), body.trim_end().into()),
            ("of more than a day ago", EVENTS, now - day, Some(signer.sign(now - day, &body)), body.clone()),
            ("of tomorrow", EVENTS, now + day, Some(signer.sign(now + day, &body)), body.clone()),
            ("for another practice", "/webhooks/sendgrid/beta", now, Some(good.clone()), body.clone()),
            ("for one that has no SendGrid", "/webhooks/sendgrid/gamma", now, Some(good.clone()), body.clone()),
            ("for one that is not there", "/webhooks/sendgrid/nowhere", now, Some(good.clone()), body.clone()),
            ("for none", "/webhooks/sendgrid/%20", now, Some(good.clone()), body.clone()),
        ] {
            let status = post(t, path, timestamp, signature.as_deref(), &body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
        }
        for nonsense in ["", "{}", "[1]", "[[]]", "null"] {
            let status = post(t, EVENTS, now, Some(&signer.sign(now, nonsense)), nonsense).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{nonsense}");
        }
        let now_is = delivery(t, &id).await;
        assert_eq!((state(&now_is), now_is.revision), ("SENT", before));
        assert_eq!(all_said(t).await, []);
        // Nothing but the signatures was wrong.
        assert_eq!(tell(t, &signer, EVENTS, &batch).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED", "it was committed before it was answered");
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
    }

    async fn events_of_mail_from_elsewhere_change_nothing(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let rival = Signer::new();
        practice_named(t, "beta").await;
        use_sendgrid(t, "beta", &rival.shown()).await;
        let before = delivery(t, &id).await.revision;
        // Of another practice's mail, told by an account that knows it; of a token that nobody has; of none; of odd ones.
        let foreign = event(t, &mail, "delivered", json!({}));
        assert_eq!(tell(t, &rival, "/webhooks/sendgrid/beta", &[foreign]).await, 204);
        let odd = [
            event(t, &mail, "delivered", json!({ "n": "AAAAAAAAAAAAAAAAAAAAAA" })),
            event(t, &mail, "bounce", json!({ "n": null, "type": "bounce" })),
            event(t, &mail, "bounce", json!({ "n": 7, "type": "bounce" })),
            event(t, &mail, "bounce", json!({ "n": "notification 7", "type": "bounce" })),
            event(t, &mail, "teleported", json!({})),
            event(t, &mail, "open", json!({ "useragent": "a scanner" })),
            event(t, &mail, "click", json!({ "url": "https://portal.acme.example" })),
            json!({ "event": "account_status_change", "type": "compliance_suspend" }),
            json!({}),
        ];
        assert_eq!(tell(t, &signer, EVENTS, &odd).await, 204);
        assert_eq!(tell(t, &signer, EVENTS, &[]).await, 204);
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), now.revision), ("SENT", before));
        assert_eq!(tell(t, &signer, EVENTS, &[event(t, &mail, "delivered", json!({}))]).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
    }

    async fn batches_in_any_order_and_number_add_up_to_the_same(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let mut events = vec![
            event(t, &mail, "processed", json!({})),
            event(t, &mail, "deferred", json!({ "response": "451 4.7.1 for quiet@example.com", "attempt": "1" })),
            event(t, &mail, "deferred", json!({ "response": "452 4.2.2 later", "attempt": "2" })),
            event(t, &mail, "delivered", json!({ "response": "250 OK", "sg_message_id": null })),
            event(t, &mail, "open", json!({})),
            event(t, &mail, "spamreport", json!({})),
            event(t, &mail, "unsubscribe", json!({})),
            event(t, &mail, "group_unsubscribe", json!({ "asm_group_id": 3 })),
            event(t, &mail, "processed", json!({ "n": null })),
        ];
        let mut random = StdRng::seed_from_u64(46);
        events = (0..46).flat_map(|_| events.clone()).collect();
        for (n, event) in events.iter_mut().enumerate() {
            // What repeats it has another id.
            event["sg_event_id"] = format!("event-{n}").into();
        }
        events.shuffle(&mut random);
        while !events.is_empty() {
            let size = random.random_range(1..=120).min(events.len());
            let batch: Vec<_> = events.drain(..size).collect();
            assert_eq!(tell(t, &signer, EVENTS, &batch).await, 204);
        }
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), now.failure.is_none(), now.possible_duplicate), ("DELIVERED", true, false));
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
        let lines = timeline(t, &id).await;
        let mut count = BTreeMap::<_, usize>::new();
        for (word, code) in &lines {
            *count.entry((word.as_str(), code.as_str())).or_default() += 1;
        }
        let expected = [
            ("accepted", ""),
            ("deferred", "451 4.7.1"),
            ("deferred", "452 4.2.2"),
            ("delivered", ""),
            ("processed", ""),
            ("spamreport", ""),
        ];
        assert_eq!(count.into_iter().collect::<Vec<_>>(), expected.map(|line| (line, 1)));
        history(t, &id).await;
    }

    async fn a_bounce_that_comes_late_outranks_the_delivery_and_stays(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let delivered = event(t, &mail, "delivered", json!({}));
        assert_eq!(tell(t, &signer, EVENTS, std::slice::from_ref(&delivered)).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
        let bounce = json!({ "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 gone", "sg_message_id": null });
        assert_eq!(tell(t, &signer, EVENTS, &[event(t, &mail, "bounce", bounce)]).await, 204);
        assert_eq!(tell(t, &signer, EVENTS, &[delivered]).await, 204);
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), failed(&now)), ("FAILED", ("INVALID_ADDRESS", "550 5.1.1")));
        assert_eq!(states(t, &id).await, ["PENDING", "SENT", "DELIVERED", "FAILED"]);
    }

    async fn an_opt_out_that_is_told_again_does_not_undo_what_was_decided_since(t: &mut TestApp) {
        let (signer, _, mail) = unreported(t).await;
        // Of mail that was not sent from here: SendGrid stops the mailbox for the whole account.
        let unsubscribe = event(t, &mail, "unsubscribe", json!({ "n": null, "sg_message_id": "other.1" }));
        assert_eq!(tell(t, &signer, EVENTS, std::slice::from_ref(&unsubscribe)).await, 204);
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
        t.advance(TimeDelta::minutes(5));
        let agree = proto::RecordConsentRequest {
            practice_id: ACME.into(),
            request_id: "again".into(),
            patient_id: "lee".into(),
            channel: Channel::Email.into(),
            state: proto::ConsentState::OptedIn.into(),
            source: proto::ConsentSource::Staff.into(),
            effective_time: None,
            evidence: "wants mail after all".into(),
        };
        t.caller(Role::Staff).preferences.record_consent(agree).await.unwrap();
        assert_eq!(tell(t, &signer, EVENTS, &[unsubscribe]).await, 204);
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER"), ("OPTED_IN", "STAFF")]);
        until_state(t, &send_over(t, "lee", Channel::Email).await, "SENT").await;
        assert_eq!(tell(t, &signer, EVENTS, &[event(t, &mail, "spamreport", json!({}))]).await, 204);
        assert_eq!(all_said(t).await.len(), 3);
    }

    async fn what_cannot_be_stored_is_asked_for_again(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let batch = [event(t, &mail, "delivered", json!({})), event(t, &mail, "unsubscribe", json!({}))];
        for table in ["delivery_event", "consent_ledger"] {
            t.execute(&format!("ALTER TABLE {table} RENAME TO {table}_gone")).await;
            assert_eq!(tell(t, &signer, EVENTS, &batch).await, 503, "{table}");
            t.execute(&format!("ALTER TABLE {table}_gone RENAME TO {table}")).await;
        }
        assert_eq!(tell(t, &signer, EVENTS, &batch).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
    }
}

on_a_server! {
    sqlite:
    async fn only_batches_of_a_fair_size_are_taken_and_only_by_post(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = browser().request(method, t.url(EVENTS)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
        let large = |size: usize| event(t, &mail, "delivered", json!({ "response": "x".repeat(size) }));
        assert_eq!(tell(t, &signer, EVENTS, &[large(1024 * 1024)]).await, 413);
        assert_eq!(state(&delivery(t, &id).await), "SENT");
        assert_eq!(tell(t, &signer, EVENTS, &[large(1000 * 1024)]).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
    }

    async fn a_thousand_events_of_a_batch_are_stored_before_it_is_answered(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let mut batch: Vec<_> = (0..1_000)
            .map(|n| event(t, &mail, "deferred", json!({ "response": format!("451 4.7.{} later", n % 500) })))
            .collect();
        batch.push(event(t, &mail, "delivered", json!({})));
        assert_eq!(tell(t, &signer, EVENTS, &batch).await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
        // However many different codes they have, the timeline tells a few; the last word may come amid them.
        let told = timeline(t, &id).await.iter().filter(|(word, _)| word == "deferred").count();
        assert!((23..=24).contains(&told), "{told}");
    }

    async fn too_many_reports_that_nobody_knows_keep_nothing_else_out(t: &mut TestApp) {
        let (signer, id, mail) = unreported(t).await;
        let strangers = |from: usize, count: usize| -> Vec<_> {
            let token = |n: usize| format!("{n:0>21}A");
            (from..from + count).map(|n| event(t, &mail, "processed", json!({ "n": token(n) }))).collect()
        };
        // As many as are kept for a practice, and those that came at the same moment as the last of them.
        for part in 0..9 {
            tell(t, &signer, EVENTS, &strangers(part * 250, 250)).await;
        }
        let mut batch = strangers(9_000, 1);
        assert_eq!(tell(t, &signer, EVENTS, &batch).await, 503, "it has to come again");
        batch.push(event(t, &mail, "delivered", json!({})));
        batch.push(event(t, &mail, "unsubscribe", json!({})));
        assert_eq!(tell(t, &signer, EVENTS, &batch).await, 503);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
        assert_eq!(all_said(t).await, [("OPTED_OUT", "PROVIDER")]);
    }
}
