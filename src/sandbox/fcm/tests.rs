#![expect(clippy::unwrap_used, reason = "tests")]

use base64::prelude::*;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};

use super::super::{Entry, Outcome, Sandbox, Settings};
use crate::sandbox::SERVICE_ACCOUNT;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// An assertion with these claims, or others in their place, signed with a key.
fn assertion(sandbox: &Sandbox, head: &Value, other: &[(&str, Value)], key: &str) -> String {
    let account: Value = serde_json::from_str(SERVICE_ACCOUNT).unwrap();
    let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).timestamp();
    let mut claims = json!({
        "iss": account["client_email"], "scope": SCOPE, "aud": sandbox.google_token_url(), "iat": now, "exp": now + 3_600,
    });
    for (name, value) in other {
        claims[*name] = value.clone();
    }
    let text = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", text(head), text(&claims));
    let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn own_key(account: &str) -> String {
    serde_json::from_str::<Value>(account).unwrap()["private_key"].as_str().unwrap().to_owned()
}

fn head() -> Value {
    json!({ "alg": "RS256", "typ": "JWT" })
}

async fn token(sandbox: &Sandbox, assertion: &str) -> (u16, Value) {
    let form = [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)];
    let response = reqwest::Client::new().post(sandbox.google_token_url()).form(&form).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn bearer(sandbox: &Sandbox) -> String {
    let (status, answer) = token(sandbox, &assertion(sandbox, &head(), &[], &own_key(SERVICE_ACCOUNT))).await;
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")));
    answer["access_token"].as_str().unwrap().to_owned()
}

fn good(token: &str) -> Value {
    json!({ "message": {
        "token": token,
        "notification": { "title": "Acme", "body": "Hello" },
        "data": { "notification_id": "n1" },
        "android": { "priority": "HIGH", "ttl": "60s", "notification": { "tag": "n1", "visibility": "PRIVATE" } },
        "apns": { "headers": { "apns-collapse-id": "n1" }, "payload": { "aps": { "sound": "default" } } },
    } })
}

async fn send(sandbox: &Sandbox, bearer: &str, project: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
    let url = format!("{}/v1/projects/{project}/messages:send", sandbox.fcm_url());
    let response = reqwest::Client::new().post(url).bearer_auth(bearer).json(body).send().await?;
    let status = response.status().as_u16();
    Ok((status, response.json().await.unwrap_or_default()))
}

#[tokio::test]
async fn a_token_is_for_whoever_holds_the_accounts_key_and_says_what_google_wants() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let stranger = own_key(include_str!("../../../tests/vectors/service_account_of_a_stranger.json"));
    let own = own_key(SERVICE_ACCOUNT);
    for (head, other, key, error) in [
        (head(), ("iss", json!("somebody@else.iam.gserviceaccount.com")), &own, "invalid_grant"),
        (head(), ("aud", json!("https://oauth2.googleapis.com/token")), &own, "invalid_grant"),
        (head(), ("scope", json!("https://www.googleapis.com/auth/cloud-platform")), &own, "invalid_scope"),
        (head(), ("exp", json!(1_000)), &own, "invalid_grant"),
        (head(), ("iat", json!(4_000_000_000_i64)), &own, "invalid_grant"),
        (head(), ("x", json!(1)), &stranger, "invalid_grant"),
        (json!({ "alg": "none", "typ": "JWT" }), ("x", json!(1)), &own, "invalid_grant"),
    ] {
        let (status, answer) = token(&sandbox, &assertion(&sandbox, &head, std::slice::from_ref(&other), key)).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{other:?}");
    }
    let refused = sandbox.journal().entries();
    assert!(refused.len() == 7 && refused.iter().all(|entry| matches!(entry, Entry::GoogleToken { why: Some(_) })));
    bearer(&sandbox).await;
    assert!(matches!(sandbox.journal().entries().last(), Some(Entry::GoogleToken { why: None })));
}

#[tokio::test]
async fn each_magic_token_is_answered_as_listed() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let bearer = bearer(&sandbox).await;
    for (token, status, code) in [
        ("gone:1", 404, "UNREGISTERED"),
        ("badtoken:1", 400, "INVALID_ARGUMENT"),
        ("badrequest:1", 400, "INVALID_ARGUMENT"),
        ("mismatch:1", 403, "SENDER_ID_MISMATCH"),
        ("quota:1", 429, "QUOTA_EXCEEDED"),
        ("unavailable:1", 503, "UNAVAILABLE"),
        ("apns:1", 401, "THIRD_PARTY_AUTH_ERROR"),
        ("html:1", 502, ""),
    ] {
        let (got, answer) = send(&sandbox, &bearer, "heedwell-sandbox", &good(token)).await.unwrap();
        let told = answer["error"]["details"][0]["errorCode"].as_str().unwrap_or_default();
        assert_eq!((got, told), (status, code), "{token}");
        assert!(
            matches!(sandbox.journal().entries().pop(), Some(Entry::FcmRefused { token: Some(it), .. }) if it == token)
        );
    }
    let (status, answer) = send(&sandbox, &bearer, "heedwell-sandbox", &good("quota:1")).await.unwrap();
    assert!(status == 200 && answer["name"].as_str().unwrap().starts_with("projects/heedwell-sandbox/messages/"));
    assert_eq!(send(&sandbox, &bearer, "heedwell-sandbox", &good("internal:1")).await.unwrap().0, 500);
    assert!(send(&sandbox, &bearer, "heedwell-sandbox", &good("drop:1")).await.is_err());
    for (token, outcome) in [("internal:1", Outcome::Failed), ("drop:1", Outcome::Dropped)] {
        let taken = |entry: &Entry| matches!(entry, Entry::FcmMessage { token: it, outcome: end, uses: 1, .. } if it == token && *end == outcome);
        assert!(sandbox.journal().entries().iter().any(taken), "{token}");
    }
    // The same tag for the same device takes the place of the one before, which is counted.
    send(&sandbox, &bearer, "heedwell-sandbox", &good("internal:1")).await.unwrap();
    assert!(matches!(sandbox.journal().entries().pop(), Some(Entry::FcmMessage { uses: 2, .. })));
    // A rule beats the magic.
    sandbox.rules().set("gone:1", "push_accepted").unwrap();
    assert_eq!(send(&sandbox, &bearer, "heedwell-sandbox", &good("gone:1")).await.unwrap().0, 200);
    assert!(sandbox.rules().set("+12025550142", "push_accepted").is_err());
    assert!(sandbox.rules().set("gone:1", "delivered").is_err());
}

#[tokio::test]
async fn a_send_is_checked_as_fcm_checks_it() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let bearer = bearer(&sandbox).await;
    for (pointer, value, field) in [
        ("/message/token", json!(""), "message.token"),
        ("/message/data/notification_id", json!(7), "message.data"),
        ("/message/data", json!({ "from": "x" }), "message.data"),
        ("/message/data", json!({ "google.x": "x" }), "message.data"),
        ("/message/android/ttl", json!("60"), "message.android.ttl"),
        ("/message/android/ttl", json!("2419201s"), "message.android.ttl"),
        ("/message/android/priority", json!("high"), "message.android.priority"),
        ("/message/android/notification/visibility", json!("private"), "message.android.notification.visibility"),
        ("/message/android/notification", json!({ "tags": "x" }), "message.android.notification.tags"),
        ("/message/apns/headers/apns-collapse-id", json!("x".repeat(65)), "message.apns.headers"),
        ("/message/notification/body", json!("x".repeat(5_000)), "message"),
        ("/message/notification", json!({ "text": "x" }), "message.notification.text"),
        ("/message", json!(null), "message"),
        ("", json!({ "messages": {} }), "messages"),
    ] {
        let mut body = good("phone:1");
        *body.pointer_mut(pointer).unwrap() = value;
        let (status, answer) = send(&sandbox, &bearer, "heedwell-sandbox", &body).await.unwrap();
        let told = &answer["error"]["details"][1]["fieldViolations"][0]["field"];
        assert_eq!((status, told), (400, &json!(field)), "{pointer}");
    }
    let mut two = good("phone:1");
    two["message"]["fid"] = json!("cP5Nv3TfQ0-u_dW1sRZ8aB");
    assert_eq!(send(&sandbox, &bearer, "heedwell-sandbox", &two).await.unwrap().0, 400);
    assert_eq!(send(&sandbox, "ya29.made-up", "heedwell-sandbox", &good("phone:1")).await.unwrap().0, 401);
    assert_eq!(send(&sandbox, &bearer, "another", &good("phone:1")).await.unwrap().0, 403);
    sandbox.rules().set_clock_offset(chrono::TimeDelta::hours(2));
    assert_eq!(send(&sandbox, &bearer, "heedwell-sandbox", &good("phone:1")).await.unwrap().0, 401, "it has ended");
}
