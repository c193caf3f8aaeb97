//! The sidecar's address for what Twilio reports: who may say something there, and what comes of it.

use std::collections::BTreeSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use heedwell::grpc::proto::{Channel, DeliveryFilter};
use reqwest::{Client, Method, StatusCode, header::CONTENT_TYPE};
use ring::hmac;

use super::{
    given::{ACCOUNT, AUTH_TOKEN, PHONE, mask, practice, practice_named, send_over, somebody_with_phone},
    seen::{Text, Watcher, delivery, everything, failed, history, image, state, texts, until_state},
};
use crate::support::app::{ACME, TestApp, on_a_server};

pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=UTF-8";

/// A client as strangers use it: HTTP/1.1, no redirects, a new connection each time.
pub(super) fn browser() -> Client {
    // Another part of the process may have chosen a provider already, and any choice will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().http1_only();
    client.pool_max_idle_per_host(0).build().unwrap()
}

/// Posts a signed report on a message to where it was asked for. Yields the status of the answer.
pub(super) async fn report(t: &TestApp, message: &Text, status: &str) -> u16 {
    assert!(message.callback.starts_with(&t.url("/webhooks/")));
    let url = message.callback.split('#').next().unwrap();
    let fields = report_of(message, status);
    post(url, Some(&signature(AUTH_TOKEN, url, &fields)), FORM, form(&fields)).await.as_u16()
}

fn report_of<'a>(message: &'a Text, status: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("AccountSid", ACCOUNT),
        ("MessageSid", &message.sid),
        ("MessageStatus", status),
        ("SmsSid", &message.sid),
        ("SmsStatus", status),
        ("To", PHONE),
    ]
}

pub(super) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// As Twilio signs (twilio.com/docs/usage/webhooks/webhooks-security).
pub(super) fn signature(auth_token: &str, url: &str, fields: &[(&str, &str)]) -> String {
    let sorted: BTreeSet<_> = fields.iter().collect();
    let mut text = url.to_owned();
    sorted.into_iter().for_each(|(name, value)| text.extend([*name, *value]));
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

pub(super) async fn post(url: &str, signature: Option<&str>, content_type: &str, body: String) -> StatusCode {
    let mut request = browser().post(url).header(CONTENT_TYPE, content_type).body(body);
    if let Some(signature) = signature {
        request = request.header("X-Twilio-Signature", signature);
    }
    request.send().await.unwrap().status()
}

/// A message that was taken and of which nothing was ever reported, and the id of its delivery.
async fn unreported(t: &TestApp) -> (String, Text) {
    practice(t).await;
    somebody_with_phone(t, "lee", "+12025550122").await;
    let id = send_over(t, "lee", Channel::Sms).await;
    until_state(t, &id, "SENT").await;
    (id, texts(t, "+12025550122").pop().unwrap())
}

on_a_server! {
    async fn what_is_not_signed_by_the_practices_own_account_is_refused_and_changes_nothing(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        practice_named(t, "beta").await;
        let before = delivery(t, &id).await.revision;
        let url = message.callback.split('#').next().unwrap();
        let fields = report_of(&message, "delivered");
        let good = signature(AUTH_TOKEN, url, &fields);
        let edited = form(&report_of(&message, "undelivered"));
        let elsewhere = url.replace("/acme/", "/nowhere/");
        let query = format!("{url}?x=1");
        for (what, url, signature, body) in [
            ("no signature", url, None, form(&fields)),
            ("an empty one", url, Some(String::new()), form(&fields)),
            ("no base64", url, Some("!".into()), form(&fields)),
            ("another key's", url, Some(signature("another", url, &fields)), form(&fields)),
            ("of an empty key", url, Some(signature("", url, &fields)), form(&fields)),
            ("of another status", url, Some(good.clone()), edited),
            ("of another address", url, Some(signature(AUTH_TOKEN, &query, &fields)), form(&fields)),
            ("for a query that was added", &query, Some(good.clone()), form(&fields)),
            ("for a field that was added", url, Some(good.clone()), form(&fields) + "&ErrorCode=30003"),
            (
                "for a practice that is not there",
                &elsewhere,
                Some(signature(AUTH_TOKEN, &elsewhere, &fields)),
                form(&fields),
            ),
        ] {
            let status = post(url, signature.as_deref(), FORM, body).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
        }
        // With the account's own key, of a message of another account, or of none.
        for (name, other, expected) in [
            ("AccountSid", "AC00000000000000000000000000000002", StatusCode::FORBIDDEN),
            ("AccountSid", "", StatusCode::BAD_REQUEST),
            ("MessageSid", "SM1", StatusCode::BAD_REQUEST),
        ] {
            let fields: Vec<_> = fields.iter().map(|&(known, it)| (known, if known == name { other } else { it })).collect();
            let status = post(url, Some(&signature(AUTH_TOKEN, url, &fields)), FORM, form(&fields)).await;
            assert_eq!(status, expected, "{name} {other}");
        }
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), now.revision), ("SENT", before));
        assert_eq!(report(t, &message, "delivered").await, 204);
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED", "it was committed before it was answered");
    }

    async fn a_token_of_another_practice_is_unknown_here(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        practice_named(t, "beta").await;
        let url = message.callback.split('#').next().unwrap().replace("/acme/", "/beta/");
        let fields = report_of(&message, "delivered");
        // Signed by the account of the practice in the address, and still none of its attempts.
        let status = post(&url, Some(&signature(AUTH_TOKEN, &url, &fields)), FORM, form(&fields)).await;
        assert!(status.is_success());
        assert_eq!(state(&delivery(t, &id).await), "SENT");
        let made_up = t.url("/webhooks/twilio/acme/status/AAAAAAAAAAAAAAAAAAAAAA");
        let status = post(&made_up, Some(&signature(AUTH_TOKEN, &made_up, &fields)), FORM, form(&fields)).await;
        assert!(status.is_success());
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn a_report_of_another_message_under_the_same_token_is_a_second_message(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        assert_eq!(report(t, &message, "sent").await, 204);
        let other = Text { sid: format!("SM{:032x}", 0xfeed), callback: message.callback.clone(), ..texts(t, "+12025550122").remove(0) };
        assert_eq!(report(t, &other, "delivered").await, 204);
        let now = delivery(t, &id).await;
        assert!(now.possible_duplicate, "the patient may have it twice");
        assert_eq!(now.provider_message_id, message.sid, "the delivery keeps the message that was proven to be its own");
    }

    async fn reports_add_up_whatever_their_order_and_number(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        for status in ["delivered", "sent", "delivered", "queued", "undelivered", "sent", "delivered"] {
            assert_eq!(report(t, &message, status).await, 204, "{status}");
        }
        let now = delivery(t, &id).await;
        assert_eq!(state(&now), "DELIVERED");
        assert!(now.failure.is_none() && now.deliver_time.is_some());
        let states: Vec<_> = history(t, &id).await.iter().map(state).collect();
        assert_eq!(states, ["PENDING", "SENT", "DELIVERED"], "what adds nothing is no change");
    }

    async fn a_receipt_after_a_failure_makes_it_delivered(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        let mut watcher = Watcher::open(t, DeliveryFilter::default(), None).await;
        assert_eq!(report(t, &message, "failed").await, 204);
        let failure = until_state(t, &id, "FAILED").await;
        assert_eq!(failed(&failure).0, "OTHER");
        assert_eq!(report(t, &message, "delivered").await, 204);
        let seen: Vec<_> = watcher.until(|it| state(it) == "DELIVERED").await;
        assert_eq!(seen.iter().map(|change| state(image(change))).collect::<Vec<_>>(), ["FAILED", "DELIVERED"]);
        assert!(delivery(t, &id).await.failure.is_none());
    }

    async fn the_second_token_verifies_while_the_first_is_replaced(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        let url = message.callback.split('#').next().unwrap();
        let fields = report_of(&message, "delivered");
        let second = signature("the-next-token", url, &fields);
        assert_eq!(post(url, Some(&second), FORM, form(&fields)).await, StatusCode::FORBIDDEN);
        let request = heedwell::grpc::proto::UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings: Some(heedwell::grpc::proto::PracticeSettings {
                sms: Some(heedwell::grpc::proto::SmsSettings {
                    secondary_auth_token: "the-next-token".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            update_mask: Some(mask(&["sms.secondary_auth_token"])),
        };
        let mut admin = t.caller(heedwell::domain::Role::PracticeAdmin).preferences;
        admin.update_practice_settings(request).await.unwrap();
        assert!(post(url, Some(&second), FORM, form(&fields)).await.is_success());
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
    }
}

on_a_server! {
    sqlite:
    async fn only_forms_of_a_fair_size_are_taken_and_only_by_post(t: &mut TestApp) {
        let (id, message) = unreported(t).await;
        let url = message.callback.split('#').next().unwrap();
        let long = "x".repeat(64 * 1024);
        let mut fields = report_of(&message, "delivered");
        fields.push(("Padding", &long));
        let too_long = post(url, Some(&signature(AUTH_TOKEN, url, &fields)), FORM, form(&fields)).await;
        assert_eq!(too_long, StatusCode::PAYLOAD_TOO_LARGE);

        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = browser().request(method, url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
        let json = r#"{"MessageStatus":"delivered"}"#.to_owned();
        // What Twilio signs of a body that is no form is the address alone, and its hash must be in there.
        let bare = signature(AUTH_TOKEN, url, &[]);
        assert_eq!(post(url, Some(&bare), "application/json", json).await, StatusCode::FORBIDDEN);
        assert_eq!(state(&delivery(t, &id).await), "SENT");

        let fair = "x".repeat(60 * 1024);
        fields.pop();
        fields.push(("Padding", &fair));
        assert!(post(url, Some(&signature(AUTH_TOKEN, url, &fields)), FORM, form(&fields)).await.is_success());
        assert_eq!(state(&delivery(t, &id).await), "DELIVERED");
    }
}
