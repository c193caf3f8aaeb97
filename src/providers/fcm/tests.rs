#![expect(clippy::unwrap_used, reason = "tests")]

mod description;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
    response::IntoResponse,
};
use chrono::{DateTime, TimeDelta};
use tokio::net::TcpListener;
use url::form_urlencoded;
use uuid::Uuid;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{Account, DeviceId, FailureReason, Registration},
    providers::{Outgoing, Providers, Settings, Urls, real_urls},
    sandbox::SERVICE_ACCOUNT,
};

const TOKEN: &str = "registration-token:of-a-phone";
const INSTALLATION: &str = "cP5Nv3TfQ0-u_dW1sRZ8aB";
const TAKEN: (u16, &str) = (200, r#"{"name":"projects/acme/messages/1"}"#);

fn account() -> ServiceAccount {
    let file: Value = serde_json::from_str(SERVICE_ACCOUNT).unwrap();
    let text = |name: &str| file[name].as_str().unwrap().to_owned();
    ServiceAccount {
        project_id: "acme".into(),
        client_email: text("client_email"),
        private_key: text("private_key").into(),
    }
}

fn push(tokens: &[&str]) -> OutgoingPush {
    let device = |(place, token): (usize, &&str)| {
        let Registration { device: id, time: register_time } = registration(place);
        Device { id, token: token.parse().unwrap(), register_time }
    };
    OutgoingPush {
        devices: tokens.iter().enumerate().map(device).collect(),
        title: "Acme Primary Care".to_owned().into(),
        body: "You have a new message.".to_owned().into(),
        id: "0191-notification".into(),
        ttl: Duration::from_secs(3_600),
    }
}

/// The registration of the device in that place.
fn registration(place: usize) -> Registration {
    let time = DateTime::UNIX_EPOCH + TimeDelta::hours(place as i64);
    Registration { device: DeviceId(Uuid::from_u128(place as u128 + 1)), time }
}

/// Status and body; unset: no answer at all.
type Answer = Option<(u16, String)>;

/// A stand-in that gives each device its answers, the last of them over and over, and writes down what it was asked.
#[derive(Default)]
struct Google {
    devices: Mutex<HashMap<String, VecDeque<Answer>>>,
    /// Its answers to requests for a token, one after the other; then `token-1` and so on, for an hour.
    tokens: Mutex<VecDeque<(u16, String)>>,
    sends: Mutex<Vec<(Uri, HeaderMap, Value)>>,
    grants: Mutex<Vec<HashMap<String, String>>>,
}

async fn handle(State(google): State<Arc<Google>>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    if uri.path() == "/token" {
        let mut grants = google.grants.lock().unwrap();
        grants.push(form_urlencoded::parse(&body).into_owned().collect());
        let usual = format!(r#"{{"access_token":"token-{}","expires_in":3599,"token_type":"Bearer"}}"#, grants.len());
        let (status, body) = google.tokens.lock().unwrap().pop_front().unwrap_or((200, usual));
        return (StatusCode::from_u16(status).unwrap(), HeaderMap::new(), body);
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    description::admits("SendMessageRequest", &body);
    let message = &body["message"];
    let token = message["token"].as_str().or(message["fid"].as_str()).unwrap().to_owned();
    google.sends.lock().unwrap().push((uri, headers, body));
    let answer = {
        let mut devices = google.devices.lock().unwrap();
        match devices.get_mut(&token) {
            None => Some((TAKEN.0, TAKEN.1.to_owned())),
            Some(answers) if answers.len() > 1 => answers.pop_front().unwrap(),
            Some(answers) => answers[0].clone(),
        }
    };
    match answer {
        Some((status, body)) => {
            let mut headers = HeaderMap::new();
            if let Some(wait) = body.split("retry-after ").nth(1) {
                headers.insert("retry-after", wait.split('"').next().unwrap().parse().unwrap());
            }
            (StatusCode::from_u16(status).unwrap(), headers, body)
        }
        None => std::future::pending().await,
    }
}

impl Google {
    async fn start() -> (Arc<Self>, Providers) {
        Self::start_at("http", Duration::from_secs(10)).await
    }

    async fn start_at(scheme: &str, call_timeout: Duration) -> (Arc<Self>, Providers) {
        let google = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(handle).with_state(google.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let urls = Urls {
            fcm: format!("{url}/base").parse().unwrap(),
            google_token: format!("{url}/token").parse().unwrap(),
            ..real_urls()
        };
        let settings = Settings { allow_private: true, call_timeout, ..Settings::new(urls) };
        let clock = ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap());
        (google, Providers::new(settings, Arc::new(clock)).unwrap())
    }

    /// What a device is answered, one after the other.
    fn answers(&self, token: &str, answers: &[Answer]) {
        self.devices.lock().unwrap().insert(token.to_owned(), answers.iter().cloned().collect());
    }

    fn sends(&self) -> usize {
        self.sends.lock().unwrap().len()
    }

    fn grants(&self) -> usize {
        self.grants.lock().unwrap().len()
    }
}

/// An error as FCM words it.
fn error(http: u16, status: &str, code: &str) -> Answer {
    let detail = json!({ "@type": FCM_ERROR, "errorCode": code });
    let details = if code.is_empty() { json!([]) } else { json!([detail]) };
    let body = json!({ "error": { "code": http, "message": "canary", "status": status, "details": details } });
    Some((http, body.to_string()))
}

async fn send(providers: &Providers, push: OutgoingPush) -> Handed {
    providers.send(&Account::Fcm(account()), &Outgoing::Push(push)).await
}

#[tokio::test]
async fn a_push_says_what_fcm_needs_and_nothing_of_the_patient() {
    let (google, providers) = Google::start().await;
    let handed = send(&providers, push(&[TOKEN, INSTALLATION])).await;
    let accepted = handed.outcome.unwrap();
    assert_eq!((accepted.provider_ref.as_deref(), accepted.sms_segments), (Some("projects/acme/messages/1"), None));
    assert_eq!((handed.gone, google.grants()), (Vec::new(), 1));

    let sends = google.sends.lock().unwrap().clone();
    let of = |target: &str| sends.iter().find(|(_, _, body)| body["message"][target].is_string()).unwrap();
    let (uri, headers, body) = of("token");
    assert_eq!(uri.path(), "/base/v1/projects/acme/messages:send");
    assert_eq!(headers["authorization"], "Bearer token-1");
    assert_eq!(
        *body,
        json!({ "message": {
            "token": TOKEN,
            "notification": { "title": "Acme Primary Care", "body": "You have a new message." },
            "data": { "notification_id": "0191-notification" },
            "android": {
                "priority": "HIGH",
                "ttl": "3600s",
                "notification": { "tag": "0191-notification", "visibility": "PRIVATE" },
            },
            "apns": {
                "headers": {
                    "apns-collapse-id": "0191-notification",
                    "apns-expiration": "1795611600",
                    "apns-priority": "10",
                    "apns-push-type": "alert",
                },
                "payload": { "aps": { "sound": "default" } },
            },
        } })
    );
    assert_eq!(of("fid").2["message"]["fid"], INSTALLATION);

    send(&providers, OutgoingPush { ttl: Duration::from_secs(99 * 24 * 3_600), ..push(&[TOKEN]) })
        .await
        .outcome
        .unwrap();
    let (_, _, body) = google.sends.lock().unwrap().pop().unwrap();
    assert_eq!(body["message"]["android"]["ttl"], "2419200s", "four weeks are the most");
}

#[tokio::test]
async fn a_token_is_asked_for_as_google_wants_it_and_kept() {
    let (google, providers) = Google::start().await;
    for _ in 0..3 {
        send(&providers, push(&[TOKEN])).await.outcome.unwrap();
    }
    let grants = google.grants.lock().unwrap().clone();
    let [grant] = &grants[..] else { panic!("{} tokens for one hour", grants.len()) };
    assert_eq!(grant["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let part = |place| grant["assertion"].split('.').nth(place).unwrap();
    let json = |text: &str| -> Value {
        use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(json(part(0)), json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = json(part(1));
    assert_eq!(claims["iss"], account().client_email);
    assert_eq!(claims["scope"], "https://www.googleapis.com/auth/firebase.messaging");
    assert!(claims["aud"].as_str().unwrap().ends_with("/token"));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_795_608_000), &json!(1_795_611_600)));
}

#[tokio::test]
async fn many_who_want_a_token_at_once_ask_once() {
    let (google, providers) = Google::start().await;
    let sends = (0..20).map(|_| send(&providers, push(&[TOKEN])));
    assert!(join_all(sends).await.into_iter().all(|handed| handed.outcome.is_ok()));
    assert_eq!((google.grants(), google.sends()), (1, 20));

    // A refusal is everybody's as well.
    let (google, providers) = Google::start().await;
    google.tokens.lock().unwrap().push_back((400, r#"{"error":"invalid_grant","error_description":"canary"}"#.into()));
    let refused = join_all((0..20).map(|_| send(&providers, push(&[TOKEN])))).await;
    for handed in refused {
        assert_eq!(handed.outcome, Err(SendError::misconfigured("token invalid_grant")));
    }
    assert_eq!((google.grants(), google.sends()), (1, 0));
    // The next to come asks again.
    send(&providers, push(&[TOKEN])).await.outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_ends() {
    let (google, providers) = Google::start().await;
    let after = async |seconds| {
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        send(&providers, push(&[TOKEN])).await.outcome.unwrap();
        tokio::time::pause();
        google.grants()
    };
    assert_eq!(after(0).await, 1);
    assert_eq!(after(3_400).await, 1);
    assert_eq!(after(100).await, 2, "too little of it is left");
}

#[tokio::test(start_paused = true)]
async fn a_token_lasts_an_hour_at_most_and_a_minute_at_least_whatever_is_said() {
    // What is said, and after how many seconds it is used for the last time.
    for (said, used) in [
        (r#""expires_in":9223372036854775807"#, 3_470),
        (r#""expires_in":86400"#, 3_470),
        (r#""expires_in":1"#, 50),
        (r#""token_type":"Bearer""#, 50),
    ] {
        let (google, providers) = Google::start().await;
        google.tokens.lock().unwrap().push_back((200, format!(r#"{{"access_token":"t",{said}}}"#)));
        let mut grants = Vec::new();
        for seconds in [0, used, 20] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            tokio::time::resume();
            send(&providers, push(&[TOKEN])).await.outcome.unwrap();
            tokio::time::pause();
            grants.push(google.grants());
        }
        assert_eq!(grants, [1, 1, 2], "{said}");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_once() {
    let (google, providers) = Google::start().await;
    let unauthenticated = || error(401, "UNAUTHENTICATED", "");
    google.answers(TOKEN, &[unauthenticated(), Some((TAKEN.0, TAKEN.1.to_owned()))]);
    send(&providers, push(&[TOKEN])).await.outcome.unwrap();
    assert_eq!((google.grants(), google.sends()), (2, 2));
    assert_eq!(google.sends.lock().unwrap()[1].1["authorization"], "Bearer token-2");

    let (google, providers) = Google::start().await;
    google.answers(TOKEN, &[unauthenticated()]);
    let handed = send(&providers, push(&[TOKEN])).await;
    assert_eq!(handed.outcome, Err(SendError::misconfigured("UNAUTHENTICATED")));
    assert_eq!((google.grants(), google.sends()), (2, 2), "and no more than once");

    // What Apple refuses is no matter of our token.
    let (google, providers) = Google::start().await;
    google.answers(TOKEN, &[error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")]);
    let refused = SendError::Misconfigured { code: "THIRD_PARTY_AUTH_ERROR".into(), reach: Reach::Sort };
    assert_eq!(send(&providers, push(&[TOKEN])).await.outcome, Err(refused));
    assert_eq!((google.grants(), google.sends()), (1, 1));
}

#[tokio::test]
async fn without_a_token_nothing_has_left() {
    for (answer, expected) in [
        ((503, "{}"), SendError::not_taken("token http 503")),
        ((429, "canary"), SendError::not_taken("token http 429")),
        ((200, "<html>"), SendError::not_taken("token http 200")),
        ((200, r#"{"access_token":"","expires_in":3599}"#), SendError::not_taken("token http 200")),
        ((200, r#"{"access_token":"a b\n","expires_in":3599}"#), SendError::not_taken("token http 200")),
        ((200, r#"{"access_token":"t","expires_in":0}"#), SendError::not_taken("token expires_in")),
        ((200, r#"{"access_token":"t","expires_in":-3599}"#), SendError::not_taken("token expires_in")),
        ((200, r#"{"access_token":"t","expires_in":18446744073709551615}"#), SendError::not_taken("token http 200")),
        ((200, r#"{"access_token":"t","expires_in":"canary"}"#), SendError::not_taken("token http 200")),
        ((302, ""), SendError::misconfigured("token http 302")),
        ((401, r#"{"error":"invalid_client"}"#), SendError::misconfigured("token invalid_client")),
    ] {
        let (google, providers) = Google::start().await;
        google.tokens.lock().unwrap().push_back((answer.0, answer.1.to_owned()));
        assert_eq!(send(&providers, push(&[TOKEN])).await.outcome, Err(expected), "{answer:?}");
        assert_eq!(google.sends(), 0);
    }
    // The stand-in speaks no TLS.
    let (_google, providers) = Google::start_at("https", Duration::from_secs(10)).await;
    assert_eq!(send(&providers, push(&[TOKEN])).await.outcome, Err(SendError::not_taken("tls")));
    let (_google, providers) = Google::start().await;
    // Who knows the name of an account has not its token.
    send(&providers, push(&[TOKEN])).await.outcome.unwrap();
    let broken = ServiceAccount { private_key: "canary".to_owned().into(), ..account() };
    let handed = providers.send(&Account::Fcm(broken), &Outgoing::Push(push(&[TOKEN]))).await;
    assert_eq!(handed.outcome, Err(SendError::misconfigured("private key")));
}

#[tokio::test]
async fn each_answer_has_its_consequence() {
    let bad_field = json!({ "error": { "status": "INVALID_ARGUMENT", "details": [
        { "@type": FCM_ERROR, "errorCode": "INVALID_ARGUMENT" },
        { "@type": BAD_REQUEST, "fieldViolations": [{ "field": "message.android.ttl", "description": "canary" }] },
    ] } });
    let refused = |reason, code: &str| SendError::Refused { reason, code: code.into() };
    let later = |seconds, code: &str| SendError::NotTaken {
        retry_after: Some(Duration::from_secs(seconds)),
        code: code.into(),
        reach: Reach::Account,
    };
    let html = "<html>canary</html>".to_owned();
    for (answer, expected) in [
        (error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), later(60, "QUOTA_EXCEEDED")),
        (Some((429, r#"{"x":"retry-after 7"}"#.to_owned())), later(7, "http 429")),
        (error(503, "UNAVAILABLE", "UNAVAILABLE"), SendError::unknown("http 503")),
        (error(500, "INTERNAL", "INTERNAL"), SendError::unknown("http 500")),
        (Some((502, html.clone())), SendError::unknown("http 502")),
        (Some((200, html.clone())), SendError::unknown("http 200")),
        (Some((200, r#"{"name":7}"#.to_owned())), SendError::unknown("http 200")),
        (Some((200, r#"{"name":"canary"}"#.to_owned())), SendError::unknown("http 200")),
        (Some((200, format!(r#"{{"name":"projects/{}"}}"#, "x".repeat(300)))), SendError::unknown("http 200")),
        (Some((201, TAKEN.1.to_owned())), SendError::unknown("http 201")),
        (Some((404, html)), refused(FailureReason::ProviderConfig, "http 404")),
        (Some((400, bad_field.to_string())), refused(FailureReason::Internal, "INVALID_ARGUMENT")),
        (error(403, "PERMISSION_DENIED", ""), SendError::misconfigured("PERMISSION_DENIED")),
        (Some((307, String::new())), refused(FailureReason::ProviderConfig, "http 307")),
    ] {
        let (google, providers) = Google::start().await;
        google.answers(TOKEN, std::slice::from_ref(&answer));
        let handed = send(&providers, push(&[TOKEN])).await;
        assert_eq!((handed.outcome, handed.gone), (Err(expected), Vec::new()), "{answer:?}");
        assert_eq!(google.sends(), 1, "one call, whatever the answer");
    }
}

#[tokio::test]
async fn silence_is_doubt_once_the_message_has_left() {
    let (google, providers) = Google::start_at("http", Duration::from_secs(2)).await;
    google.answers(TOKEN, &[None]);
    assert_eq!(send(&providers, push(&[TOKEN])).await.outcome, Err(SendError::unknown("timeout")));
    assert_eq!(google.sends(), 1);
}

#[tokio::test]
async fn one_device_that_takes_it_is_enough_and_those_that_are_gone_are_named() {
    let gone = || error(404, "NOT_FOUND", "UNREGISTERED");
    let mismatched = || error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH");
    let apple = || error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR");
    let tokens = ["registration-token:1", "registration-token:2", "registration-token:3"];
    let taken = || Some((TAKEN.0, TAKEN.1.to_owned()));
    let not_taken =
        |code: &str| Err(SendError::NotTaken { retry_after: None, code: code.into(), reach: Reach::Message });
    let ours = |code: &str, reach| Err(SendError::Misconfigured { code: code.into(), reach });
    for (answers, expected, forgotten) in [
        ([gone(), taken(), error(500, "INTERNAL", "")], Ok("projects/acme/messages/1"), vec![registration(0)]),
        ([gone(), gone(), gone()], not_taken("UNREGISTERED"), vec![registration(0), registration(1), registration(2)]),
        ([gone(), mismatched(), gone()], not_taken("UNREGISTERED"), vec![registration(0), registration(2)]),
        ([mismatched(), mismatched(), mismatched()], ours("SENDER_ID_MISMATCH", Reach::Message), vec![]),
        // What concerns others too is told, whichever device it was found at.
        ([mismatched(), apple(), gone()], not_taken("UNREGISTERED"), vec![registration(2)]),
        ([mismatched(), apple(), mismatched()], ours("THIRD_PARTY_AUTH_ERROR", Reach::Sort), vec![]),
        (
            [gone(), error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), taken()],
            Ok("projects/acme/messages/1"),
            vec![registration(0), registration(1)],
        ),
        (
            [gone(), error(503, "UNAVAILABLE", ""), gone()],
            Err(SendError::unknown("http 503")),
            vec![registration(0), registration(2)],
        ),
    ] {
        let (google, providers) = Google::start().await;
        for (token, answer) in tokens.iter().zip(&answers) {
            google.answers(token, std::slice::from_ref(answer));
        }
        let handed = send(&providers, push(&tokens)).await;
        let outcome = handed.outcome.map(|accepted| accepted.provider_ref.unwrap());
        assert_eq!((outcome, handed.gone), (expected.map(str::to_owned), forgotten), "{answers:?}");
        assert_eq!(google.sends(), 3);
    }
}
