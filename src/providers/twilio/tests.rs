#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::Method, http::Uri, response::IntoResponse};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use url::form_urlencoded;

use super::*;
use crate::{
    clock::ManualClock,
    domain::{Account, FailureReason, Phi, in_pool},
    providers::{MediaError, Outgoing, Providers, Settings, Urls, real_urls},
};

const ACCOUNT: &str = "AC00000000000000000000000000000001";
/// Not asked.
const SERVICE: &str = "MG00000000000000000000000000000001";
/// The stand-in's clock: 30 s ahead of ours.
const DATE: &str = "Wed, 25 Nov 2026 12:00:30 +0000";

fn our_time() -> DateTime<Utc> {
    "2026-11-25T12:00:00Z".parse().unwrap()
}

fn sid(n: usize) -> String {
    format!("SM{n:032x}")
}

fn phone(number: &str) -> PhoneNumber {
    PhoneNumber::from_trusted(number.into())
}

fn account(sender: SmsSender) -> TwilioAccount {
    let password = "secret".to_owned().into();
    TwilioAccount { account_sid: ACCOUNT.into(), username: "SK1".into(), password, sender, pool_number: None }
}

fn number() -> SmsSender {
    SmsSender::Number(phone("+15005550006"))
}

fn sms() -> OutgoingSms {
    OutgoingSms {
        to: phone("+12025550142"),
        body: Phi::new("Sí & mañana".into()),
        media: Vec::new(),
        status_callback: Some("https://notify.example.test/webhooks/twilio/p/status/t#rc=3&rp=all".into()),
        validity_seconds: 40_000,
    }
}

/// A stand-in that gives its answers in turn and writes down what it was asked.
#[derive(Default)]
struct Api {
    answers: Mutex<VecDeque<(u16, HeaderMap, String)>>,
    requests: Mutex<Vec<(Method, Uri, HeaderMap, String)>>,
}

impl Api {
    fn answer(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        map.entry("date").or_insert(DATE.parse().unwrap());
        self.answers.lock().unwrap().push_back((status, map, body.into()));
    }

    async fn start(self: &Arc<Self>) -> Providers {
        async fn handle(
            State(api): State<Arc<Api>>,
            method: Method,
            uri: Uri,
            headers: HeaderMap,
            body: Bytes,
        ) -> impl IntoResponse {
            let body = String::from_utf8(body.to_vec()).unwrap();
            api.requests.lock().unwrap().push((method, uri, headers, body));
            let answer = api.answers.lock().unwrap().pop_front();
            match answer {
                Some((status, headers, body)) => (StatusCode::from_u16(status).unwrap(), headers, body),
                // Nothing prepared: no answer.
                None => std::future::pending().await,
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(handle).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        client(port)
    }

    fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn client(port: u16) -> Providers {
    let settings = Settings {
        allow_private: true,
        call_timeout: Duration::from_millis(500),
        ..Settings::new(Urls { twilio: format!("http://127.0.0.1:{port}").parse().unwrap(), ..real_urls() })
    };
    Providers::new(settings, Arc::new(ManualClock::new(our_time()))).unwrap()
}

async fn send(providers: &Providers) -> Result<Accepted, SendError> {
    providers.send(&Account::Twilio(account(number())), &Outgoing::Sms(sms())).await.outcome
}

/// What one answer comes to.
async fn outcome(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Result<Accepted, SendError> {
    let api = Arc::new(Api::default());
    api.answer(status, headers, body);
    let outcome = send(&api.start().await).await;
    assert_eq!(api.asked(), 1, "one call, whatever the answer");
    outcome
}

#[tokio::test]
async fn a_create_says_what_twilio_needs_and_nothing_else() {
    let api = Arc::new(Api::default());
    api.answer(201, &[], &json!({"sid": sid(1), "status": "queued", "num_segments": "2"}).to_string());
    let accepted = send(&api.start().await).await.unwrap();
    assert_eq!(
        accepted,
        Accepted {
            provider_ref: Some(sid(1)),
            status: ReportedStatus::Queued,
            sms_segments: Some(2),
            clock_offset: Some(TimeDelta::seconds(30)),
        }
    );

    let requests = api.requests.lock().unwrap();
    let (method, uri, headers, body) = &requests[0];
    assert_eq!((method, uri.to_string()), (&Method::POST, format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json")));
    assert_eq!(headers["authorization"], "Basic U0sxOnNlY3JldA==");
    let form: Vec<(String, String)> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let expected = [
        ("To", "+12025550142"),
        ("From", "+15005550006"),
        ("Body", "Sí & mañana"),
        ("ValidityPeriod", "36000"),
        ("StatusCallback", "https://notify.example.test/webhooks/twilio/p/status/t#rc=3&rp=all"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_messaging_service_stands_in_for_the_number() {
    let account = account(SmsSender::MessagingService(SERVICE.into()));
    let form = form(&account, &OutgoingSms { validity_seconds: 0, status_callback: None, ..sms() });
    let names: Vec<_> = form.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["To", "MessagingServiceSid", "Body", "ValidityPeriod"]);
    assert_eq!(form[3].1, "1");
}

#[test]
fn an_answer_comes_from_the_number_of_the_service_that_was_written_to() {
    let service = Account::Twilio(account(SmsSender::MessagingService(SERVICE.into())));
    let Account::Twilio(account) = service.answering(&in_pool(SERVICE, &phone("+15005550009"))) else { panic!() };
    let form = form(&account, &sms());
    let sender = |name| form.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    assert_eq!((sender("MessagingServiceSid"), sender("From")), (Some(SERVICE), Some("+15005550009")));
}

#[tokio::test]
async fn each_answer_has_its_verdict() {
    let refused = |reason, code: &str| Err(SendError::Refused { reason, code: code.into() });
    let problem = |code: u32| json!({"code": code, "message": "text", "status": 400}).to_string();
    assert_eq!(outcome(400, &[], &problem(21211)).await, refused(FailureReason::InvalidAddress, "21211"));
    assert_eq!(outcome(401, &[], &problem(20003)).await, Err(SendError::misconfigured("20003")));
    assert_eq!(outcome(404, &[], "<html>").await, refused(FailureReason::Other, "http 404"));
    assert_eq!(outcome(500, &[], &problem(20500)).await, Err(SendError::unknown("20500")));
    assert_eq!(outcome(502, &[], "<html>Bad gateway").await, Err(SendError::unknown("http 502")));
    let elsewhere = [("location", "http://127.0.0.1:1/")];
    assert_eq!(outcome(307, &elsewhere, "").await, refused(FailureReason::ProviderConfig, "http 307"));
}

#[tokio::test]
async fn too_many_requests_says_when_to_come_back() {
    let not_taken = |retry_after| {
        Err(SendError::NotTaken { retry_after, code: "http 429".into(), reach: crate::providers::Reach::Account })
    };
    assert_eq!(outcome(429, &[("retry-after", "7")], "").await, not_taken(Some(Duration::from_secs(7))));
    let date = [("retry-after", "Wed, 25 Nov 2026 12:01:00 GMT")];
    assert_eq!(outcome(429, &date, "").await, not_taken(Some(Duration::from_secs(60))));
    let past = [("retry-after", "Wed, 25 Nov 2026 11:00:00 GMT")];
    assert_eq!(outcome(429, &past, "").await, not_taken(Some(Duration::ZERO)));
    assert_eq!(outcome(429, &[("retry-after", "soon")], "").await, not_taken(None));
}

#[tokio::test]
async fn a_success_without_a_sid_is_unknown() {
    for body in ["", "<html>Welcome</html>", "{}", r#"{"sid":"SM1","status":"queued"}"#, r#"{"sid":null}"#] {
        assert_eq!(outcome(201, &[], body).await, Err(SendError::unknown("http 201")), "{body}");
    }
    let endless = format!(r#"{{"sid":"{}","x":"{}"}}"#, sid(1), "x".repeat(300_000));
    assert_eq!(outcome(201, &[], &endless).await, Err(SendError::unknown("http 201")));
}

#[tokio::test]
async fn an_unfamiliar_status_does_not_undo_the_acceptance() {
    let body = json!({"sid": sid(1), "status": "teleported", "num_segments": "0"}).to_string();
    let accepted = outcome(201, &[("date", "never")], &body).await.unwrap();
    assert_eq!(accepted.status, ReportedStatus::Accepted);
    assert_eq!((accepted.sms_segments, accepted.clock_offset), (None, None));
}

#[tokio::test]
async fn silence_is_unknown() {
    let api = Arc::new(Api::default());
    assert_eq!(send(&api.start().await).await, Err(SendError::unknown("timeout")));
    assert_eq!(api.asked(), 1);
}

#[tokio::test]
async fn a_connection_cut_after_the_request_is_unknown() {
    for (answer, code) in [("", "closed"), ("HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{\"sid\":", "http 201")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(tcp.read(&mut request).await.unwrap() > 0);
            tcp.write_all(answer.as_bytes()).await.unwrap();
            drop(tcp);
            // No second connection: nothing is repeated in secret.
            let again = tokio::time::timeout(Duration::from_millis(200), listener.accept()).await;
            assert!(again.is_err());
        });
        assert_eq!(send(&client(port)).await, Err(SendError::unknown(code)));
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_connection_and_an_unknown_name_have_taken_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(send(&client(port)).await, Err(SendError::not_taken("connect")));

    for (url, allow_private, expected) in [
        ("http://twilio.invalid", true, SendError::not_taken("dns")),
        ("https://localhost", false, SendError::misconfigured("private address")),
    ] {
        let settings =
            Settings { allow_private, ..Settings::new(Urls { twilio: url.parse().unwrap(), ..real_urls() }) };
        let providers = Providers::new(settings, Arc::new(ManualClock::new(our_time()))).unwrap();
        assert_eq!(send(&providers).await, Err(expected), "{url}");
    }
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_has_taken_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 201 Created\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let settings =
        Settings { allow_private: true, ..Settings::new(Urls { twilio: url.parse().unwrap(), ..real_urls() }) };
    let providers = Providers::new(settings, Arc::new(ManualClock::new(our_time()))).unwrap();
    assert_eq!(send(&providers).await, Err(SendError::not_taken("tls")));
}

fn look() -> Look {
    Look {
        to: phone("+12025550142"),
        body: Phi::new("Hello".into()),
        sms_segments: 1,
        intent_time: our_time(),
        end_time: our_time() + TimeDelta::seconds(30),
        now: our_time(),
    }
}

fn times() -> (DateTime<Utc>, DateTime<Utc>) {
    (look().intent_time, look().end_time)
}

/// A message as the list shows it, made `seconds` after our intent by the provider's clock.
fn listed(n: usize, seconds: i64) -> Value {
    let created = our_time() + TimeDelta::seconds(seconds);
    json!({
        "sid": sid(n), "status": "sent", "to": "+12025550142", "from": "+15005550006", "body": "Hello",
        "messaging_service_sid": null, "num_segments": "1", "error_code": null,
        "date_created": created.to_rfc2822(), "date_sent": null, "price": null
    })
}

fn with(mut message: Value, field: &str, value: Value) -> Value {
    message[field] = value;
    message
}

fn page(messages: &[Value], next: Option<&str>) -> String {
    json!({"messages": messages, "next_page_uri": next}).to_string()
}

#[tokio::test]
async fn a_look_reads_the_list_until_it_is_older_than_the_attempt() {
    let api = Arc::new(Api::default());
    let next = format!("http://evil.test/2010-04-01/Accounts/{ACCOUNT}/Messages.json?Page=1&PageToken=PA1");
    api.answer(200, &[], &page(&[listed(3, 500), listed(2, 40)], Some(&next)));
    api.answer(200, &[], &page(&[listed(2, 40), listed(1, 26), listed(9, 24)], Some(&next)));
    api.answer(200, &[], &page(&[listed(8, -500)], Some(&next)));
    let found = api.start().await.find(&account(number()), &look()).await.unwrap();

    let sids: Vec<_> = found.candidates.iter().map(|candidate| candidate.sid.clone()).collect();
    assert_eq!(sids, [sid(2), sid(1)]);
    assert_eq!(found.clock_offset, Some(TimeDelta::seconds(30)));
    let first = &found.candidates[0];
    assert_eq!((first.status, first.certain, first.sms_segments), (Some(ReportedStatus::Sent), true, Some(1)));
    assert!(first.same_text);
    assert_eq!(first.create_time, our_time() + TimeDelta::seconds(40));

    let requests = api.requests.lock().unwrap();
    let asked: Vec<_> = requests.iter().map(|(_, uri, ..)| uri.query().unwrap().to_owned()).collect();
    let first = "To=%2B12025550142&From=%2B15005550006&PageSize=20";
    assert_eq!(asked, [first, "Page=1&PageToken=PA1", "Page=1&PageToken=PA1"]);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_proves_nothing() {
    let undated = with(listed(1, 40), "date_created", json!("yesterday"));
    for (status, body, code) in [
        (500, String::new(), "http 500"),
        (401, json!({"code": 20003}).to_string(), "20003"),
        (200, "<html>".into(), "unreadable"),
        (200, page(&[undated], None), "unreadable"),
        (204, String::new(), "http 204"),
    ] {
        let api = Arc::new(Api::default());
        api.answer(status, &[], &body);
        let error = api.start().await.find(&account(number()), &look()).await.unwrap_err();
        assert_eq!(error.code, code);
    }
    let api = Arc::new(Api::default());
    for _ in 0..=PAGES {
        api.answer(200, &[], &page(&[listed(1, 40)], Some("/x?Page=1")));
    }
    let error = api.start().await.find(&account(number()), &look()).await.unwrap_err();
    assert_eq!((error.code.as_str(), api.asked()), ("too many pages", PAGES));
}

/// The database dates the attempts, and its clock need not be that of this machine.
#[tokio::test]
async fn the_providers_clock_is_compared_with_the_one_that_dated_the_attempt() {
    let api = Arc::new(Api::default());
    // By the queue's clock it is five minutes earlier than by ours, and by the provider's half a minute later.
    let behind = TimeDelta::minutes(5);
    let mut look = look();
    for time in [&mut look.intent_time, &mut look.end_time, &mut look.now] {
        *time -= behind;
    }
    api.answer(200, &[], &page(&[listed(2, 200), listed(1, 40)], None));
    let found = api.start().await.find(&account(number()), &look).await.unwrap();
    assert_eq!(found.clock_offset, Some(behind + TimeDelta::seconds(30)));
    let sids: Vec<_> = found.candidates.iter().map(|candidate| candidate.sid.clone()).collect();
    assert_eq!(sids, [sid(1)]);
}

#[tokio::test]
async fn without_the_providers_time_the_window_is_wide() {
    let api = Arc::new(Api::default());
    // A date that cannot be read is none.
    for _ in 0..2 {
        api.answer(200, &[("date", "soon")], &page(&[listed(3, 640), listed(2, 500), listed(1, -500)], None));
    }
    let providers = api.start().await;
    let found = providers.find(&account(number()), &look()).await.unwrap();
    assert_eq!((found.candidates.len(), found.clock_offset), (2, None));
    let (early, late) = (&found.candidates[1], &found.candidates[0]);
    let (begin, end) = times();
    assert!(found.may_be_of(early, begin, end) && found.may_be_of(late, begin, end));
    assert!(!found.may_be_of(late, begin - TimeDelta::minutes(10), end - TimeDelta::minutes(10)));
}

#[tokio::test]
async fn a_message_is_asked_about_by_its_sid() {
    let api = Arc::new(Api::default());
    let failed = with(with(listed(1, 40), "status", json!("undelivered")), "error_code", json!(30003));
    api.answer(200, &[], &failed.to_string());
    api.answer(200, &[], &with(listed(1, 40), "status", json!("teleported")).to_string());
    // Another message, one that is gone, and no message at all.
    api.answer(200, &[], &listed(2, 40).to_string());
    api.answer(404, &[], &json!({"code": 20404}).to_string());
    api.answer(200, &[], "<html>");
    let providers = api.start().await;
    let account = account(number());
    let reported = providers.fetch(&account, &sid(1)).await.unwrap();
    assert_eq!(reported, Reported { status: Some(ReportedStatus::Undelivered), error_code: Some("30003".into()) });
    assert_eq!(reported.status.unwrap().failure(Some("30003")), Some(FailureReason::Unreachable));
    let novel = providers.fetch(&account, &sid(1)).await.unwrap();
    assert_eq!((novel.status, novel.error_code), (None, None));
    for code in ["another message", "20404", "unreadable"] {
        assert_eq!(providers.fetch(&account, &sid(1)).await.unwrap_err().code, code);
    }
    let requests = api.requests.lock().unwrap();
    let (method, uri, ..) = &requests[0];
    let path = format!("/2010-04-01/Accounts/{ACCOUNT}/Messages/{}.json", sid(1));
    assert_eq!((method, uri.path(), uri.query()), (&Method::GET, path.as_str(), None));
}

#[test]
fn the_window_follows_the_providers_clock() {
    let at = |seconds| our_time() + TimeDelta::seconds(seconds);
    assert_eq!(window(times(), Some(TimeDelta::zero())), at(-5)..=at(90));
    assert_eq!(window(times(), Some(TimeDelta::seconds(-300))), at(-305)..=at(-210));
    assert_eq!(window(times(), None), at(-600)..=at(630));
}

/// The candidates among `messages`, by number and certainty.
fn among(messages: &[Value], account: &TwilioAccount) -> Vec<(String, bool)> {
    let messages: Vec<Message> =
        messages.iter().map(|message| serde_json::from_value(message.clone()).unwrap()).collect();
    let window = window(times(), Some(TimeDelta::zero()));
    let found = candidates(&messages, account, &look(), &window);
    found.into_iter().map(|candidate| (candidate.sid, candidate.certain)).collect()
}

#[test]
fn only_the_same_text_to_the_same_number_in_time_is_a_candidate() {
    let messages = [
        listed(1, 0),
        listed(2, -5),
        listed(3, 90),
        listed(4, -6),
        listed(5, 91),
        with(listed(6, 0), "body", json!("Hello!")),
        with(listed(7, 0), "to", json!("+12025550143")),
        with(listed(8, 0), "from", json!("+15005550007")),
        with(listed(9, 0), "sid", json!("XX1")),
        with(listed(10, 0), "body", json!("Hello \n")),
    ];
    assert_eq!(among(&messages, &account(number())), [1, 2, 3, 10].map(|n| (sid(n), true)));
}

#[test]
fn with_a_service_the_number_is_open_and_the_service_counts() {
    let of_service =
        |n, service: Value| with(with(listed(n, 0), "from", Value::Null), "messaging_service_sid", service);
    let messages =
        [of_service(1, json!(SERVICE)), of_service(2, json!("MG2")), of_service(3, Value::Null), listed(4, 0)];
    let service = account(SmsSender::MessagingService(SERVICE.into()));
    assert_eq!(among(&messages, &service), [(sid(1), true)]);
    // Of an answer it is known.
    let from = |n, number: &str| with(of_service(n, json!(SERVICE)), "from", json!(number));
    let messages = [from(1, "+15005550009"), from(2, "+15005550008"), of_service(3, json!(SERVICE))];
    let answering = TwilioAccount { pool_number: Some(phone("+15005550009")), ..service };
    assert_eq!(among(&messages, &answering), [(sid(1), true), (sid(3), true)]);
}

#[test]
fn a_redacted_text_is_certain_only_when_length_and_segments_agree() {
    let redacted =
        |n, body: Value, segments: &str| with(with(listed(n, 0), "body", body), "num_segments", json!(segments));
    let messages = [
        redacted(1, json!("*****"), "1"),
        redacted(2, json!("***"), "1"),
        redacted(3, json!(""), "1"),
        redacted(4, Value::Null, "0"),
        redacted(5, json!("XXXXX"), "0"),
        redacted(6, json!("*****"), "2"),
        redacted(7, json!(""), "2"),
    ];
    let expected = [(1, true), (2, false), (3, false), (4, false), (5, false)];
    assert_eq!(among(&messages, &account(number())), expected.map(|(n, certain)| (sid(n), certain)));
}

const FILE: &str = "/2010-04-01/Accounts/AC00000000000000000000000000000001/Messages/MM00000000000000000000000000000001\
/Media/ME00000000000000000000000000000001";

async fn fetched(api: &Arc<Api>, path: &str) -> Result<Vec<u8>, MediaError> {
    let providers = api.start().await;
    let port = providers.twilio.base.port().unwrap();
    providers.media(&account(number()), &format!("http://127.0.0.1:{port}{path}")).await
}

#[tokio::test]
async fn a_file_is_followed_to_where_it_is_and_the_log_in_stays_behind() {
    let api = Arc::new(Api::default());
    api.answer(307, &[("location", "/elsewhere?signature=1")], "");
    api.answer(200, &[], "content");
    assert_eq!(fetched(&api, FILE).await, Ok(b"content".to_vec()));
    let requests = api.requests.lock().unwrap();
    let asked = requests.iter().map(|(_, uri, headers, _)| (uri.to_string(), headers.contains_key("authorization")));
    assert_eq!(asked.collect::<Vec<_>>(), [(FILE.to_owned(), true), ("/elsewhere?signature=1".to_owned(), false)]);
}

#[tokio::test]
async fn only_what_is_the_accounts_own_is_asked_for() {
    let api = Arc::new(Api::default());
    let providers = api.start().await;
    let base = providers.twilio.base.to_string();
    let base = base.trim_end_matches('/');
    for address in [
        format!("https://api.twilio.com{FILE}"),
        format!("{base}{}", FILE.replacen("01/Messages", "02/Messages", 1)),
        format!("{base}{}", FILE.replacen("01/Messages", "012/Messages", 1)),
        format!("{base}{}", FILE.replacen("/Messages", "/../x/Messages", 1)),
        format!("{base}/"),
        // What else the log-in opens.
        format!("{base}/2010-04-01/Accounts/AC00000000000000000000000000000001/Messages.json"),
        format!(
            "{base}/2010-04-01/Accounts/AC00000000000000000000000000000001/Keys/SK00000000000000000000000000000001"
        ),
        format!("{base}{}", FILE.replace("/Media/", "/Feedback/")),
        format!("{base}{}", FILE.replace("/Media/", "/x/Media/")),
        format!("{base}{}", FILE.replace("/MM", "/CA")),
        format!("{base}{}", FILE.replace("/ME", "/RE")),
        format!("{base}{FILE}/"),
        format!("{base}{FILE}.json"),
        format!("{base}{FILE}?Format=json"),
        format!("{base}{FILE}/../../../../Keys.json"),
        format!("{base}{}", FILE.replace("/Messages/", "/%2e%2e/")),
        format!("{}{FILE}", base.replace("http://", "http://user:word@")),
        format!("{}{FILE}", base.replace("http://", "https://")),
        format!("http://127.0.0.1:1{FILE}"),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        let answer = providers.media(&account(number()), &address).await;
        assert_eq!(answer, Err(MediaError::Refused { code: "address" }), "{address}");
    }
    assert_eq!(api.asked(), 0);
}

#[tokio::test]
async fn a_file_that_leads_astray_or_is_too_large_is_refused_and_one_that_is_late_is_not() {
    for location in ["ftp://example.com/x", "http://user@example.com/", "file:///etc/passwd", "http://"] {
        let api = Arc::new(Api::default());
        api.answer(302, &[("location", location)], "");
        assert_eq!(fetched(&api, FILE).await, Err(MediaError::Refused { code: "redirect" }), "{location}");
    }
    let api = Arc::new(Api::default());
    (0..5).for_each(|_| api.answer(302, &[("location", FILE)], ""));
    assert_eq!(fetched(&api, FILE).await, Err(MediaError::Refused { code: "redirects" }));
    assert_eq!(api.asked(), 4);
    let api = Arc::new(Api::default());
    api.answer(200, &[], &"x".repeat(5 * 1024 * 1024 + 1));
    assert_eq!(fetched(&api, FILE).await, Err(MediaError::Refused { code: "too large" }));
    for status in [404, 401, 429, 500] {
        let api = Arc::new(Api::default());
        api.answer(status, &[], "");
        assert_eq!(fetched(&api, FILE).await, Err(MediaError::Later { code: format!("http {status}") }));
    }
}

#[tokio::test]
async fn a_name_that_leads_into_our_own_network_is_refused_for_good() {
    let urls = Urls { twilio: "https://localhost:9".parse().unwrap(), ..real_urls() };
    let providers = Providers::new(Settings::new(urls), Arc::new(ManualClock::new(our_time()))).unwrap();
    let answer = providers.media(&account(number()), &format!("https://localhost:9{FILE}")).await;
    assert_eq!(answer, Err(MediaError::Refused { code: "private address" }));
}
