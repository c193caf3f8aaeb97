#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{collections::HashMap, sync::Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::post,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use url::form_urlencoded;

use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const AUTH_TOKEN: &str = "12345678901234567890123456789012";
const FROM: &str = "+15005550006";
const LIMIT: Duration = Duration::from_secs(20);

/// What came to the webhook.
#[derive(Clone, Debug)]
struct Hook {
    headers: HeaderMap,
    params: Vec<(String, String)>,
}

impl Hook {
    fn get(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

/// A webhook that keeps what it gets and answers the given statuses, then 204.
#[derive(Default)]
struct Hooks {
    answers: Mutex<Vec<StatusCode>>,
    seen: Mutex<Vec<Hook>>,
}

async fn hook(State(hooks): State<Arc<Hooks>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let params = form_urlencoded::parse(&body).into_owned().collect();
    hooks.seen.lock().unwrap().push(Hook { headers, params });
    hooks.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT)
}

struct Bench {
    sandbox: Sandbox,
    http: reqwest::Client,
    hooks: Arc<Hooks>,
    webhook: String,
    server: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Bench {
    async fn start(settings: Settings) -> Self {
        let sandbox = Sandbox::start(Settings { carrier_delay: Duration::from_millis(1), ..settings }).await.unwrap();
        sandbox.rules().set_account(ACCOUNT, AUTH_TOKEN);
        let hooks = Arc::<Hooks>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook = format!("http://{}/status", listener.local_addr().unwrap());
        let router = Router::new().route("/status/{token}", post(hook)).route("/inbound", post(hook));
        let router = router.with_state(Arc::clone(&hooks));
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        let http = reqwest::Client::builder().retry(reqwest::retry::never()).no_proxy().build().unwrap();
        Self { sandbox, http, hooks, webhook, server }
    }

    fn messages_url(&self) -> String {
        format!("{}/2010-04-01/Accounts/{ACCOUNT}/Messages.json", self.sandbox.twilio_url())
    }

    async fn create(&self, to: &str, token: &str) -> reqwest::Result<reqwest::Response> {
        let callback = format!("{}/{token}", self.webhook);
        let form = [("To", to), ("From", FROM), ("Body", "Hello"), ("StatusCallback", &callback)];
        self.http.post(self.messages_url()).basic_auth(ACCOUNT, Some(AUTH_TOKEN)).form(&form).send().await
    }

    async fn list(&self, query: &[(&str, &str)]) -> Value {
        let request = self.http.get(self.messages_url()).basic_auth(ACCOUNT, Some(AUTH_TOKEN)).query(query);
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Waits for that many callback tries and gives what the webhook got.
    async fn callbacks(&self, count: usize) -> Vec<Hook> {
        let is_sent = |entry: &&Entry| matches!(entry, Entry::CallbackSent { .. });
        let sent = |entries: &[Entry]| entries.iter().filter(is_sent).count() >= count;
        self.sandbox.journal().wait_for(LIMIT, sent).await.unwrap();
        self.hooks.seen.lock().unwrap().clone()
    }

    async fn control(&self, path: &str, body: Value) -> reqwest::Response {
        let url = format!("{}{path}", self.sandbox.control_url());
        self.http.post(url).json(&body).send().await.unwrap()
    }
}

fn statuses(hooks: &[Hook]) -> Vec<&str> {
    hooks.iter().map(|hook| hook.get("MessageStatus")).collect()
}

#[tokio::test]
async fn a_message_is_created_called_back_with_a_signature_and_found_again() {
    let bench = Bench::start(Settings::default()).await;
    let response = bench.create("+12025550142", "t1#rc=3&rp=all").await.unwrap();
    assert_eq!(response.status(), 201);
    let created: Value = response.json().await.unwrap();
    assert_eq!(created["status"], "queued");
    assert_eq!(created["num_segments"], "1");
    assert_eq!(created["error_code"], Value::Null);
    assert!(created["date_created"].as_str().unwrap().ends_with("+0000"));

    let hooks = bench.callbacks(2).await;
    assert_eq!(statuses(&hooks), ["sent", "delivered"]);
    for hook in &hooks {
        assert_eq!(hook.get("MessageSid"), created["sid"]);
        assert_eq!(hook.header("user-agent"), "TwilioProxy/1.1");
        let params: Vec<_> = hook.params.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let expect = signature::sign(AUTH_TOKEN, &format!("{}/t1", bench.webhook), &params);
        assert_eq!(hook.header("x-twilio-signature"), expect);
    }
    let url = format!("{}{}", bench.sandbox.twilio_url(), created["uri"].as_str().unwrap());
    let found = bench.http.get(url).basic_auth(ACCOUNT, Some(AUTH_TOKEN)).send().await.unwrap();
    assert_eq!(found.json::<Value>().await.unwrap()["status"], "delivered");
    bench.sandbox.journal().entries().iter().for_each(|entry| assert!(!matches!(entry, Entry::TokenReused { .. })));
}

#[tokio::test]
async fn a_messaging_service_accepts_then_queues() {
    let bench = Bench::start(Settings::default()).await;
    let callback = format!("{}/t1", bench.webhook);
    let service = "MG00000000000000000000000000000001";
    let form = [
        ("To", "+12025550121"),
        ("MessagingServiceSid", service),
        ("Body", "Hello"),
        ("StatusCallback", callback.as_str()),
    ];
    let request = bench.http.post(bench.messages_url()).basic_auth(ACCOUNT, Some(AUTH_TOKEN)).form(&form);
    let created: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!((&created["status"], &created["from"]), (&json!("accepted"), &Value::Null));
    assert_eq!(statuses(&bench.callbacks(3).await), ["queued", "sent", "delivered"]);
}

#[tokio::test]
async fn early_callbacks_all_come_before_the_answer() {
    let bench = Bench::start(Settings::default()).await;
    let response = bench.create("+12025550121", "t1").await.unwrap();
    assert_eq!(statuses(&bench.hooks.seen.lock().unwrap()), ["sent", "delivered"]);
    assert_eq!(response.json::<Value>().await.unwrap()["status"], "queued");
}

#[tokio::test]
async fn a_dropped_reply_is_a_broken_connection_and_yet_a_message() {
    let bench = Bench::start(Settings::default()).await;
    let error = bench.create("+12025550116", "t1").await.unwrap_err();
    assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{error:?}");
    assert_eq!(statuses(&bench.callbacks(2).await), ["sent", "delivered"]);
    bench.create("+12025550125", "t2").await.unwrap_err();
    let listed = bench.list(&[("To", "+12025550125")]).await;
    assert_eq!(listed["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_500_may_or_may_not_have_taken_the_message() {
    let bench = Bench::start(Settings::default()).await;
    for (to, taken) in [("+12025550117", 1), ("+12025550118", 0)] {
        let response = bench.create(to, to).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.json::<Value>().await.unwrap()["code"], 20500);
        assert_eq!(bench.list(&[("To", to)]).await["messages"].as_array().unwrap().len(), taken);
    }
}

#[tokio::test]
async fn refusals_look_like_twilios() {
    let bench = Bench::start(Settings::default()).await;
    for (to, status, code) in
        [("+12025550112", 400, 21211), ("+12025550113", 400, 21610), ("+12025550115", 401, 20003), ("202", 400, 21211)]
    {
        let response = bench.create(to, "t1").await.unwrap();
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.unwrap();
        assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)));
        assert_eq!(body["more_info"], format!("https://www.twilio.com/docs/errors/{code}"));
    }
    let limited = bench.create("+12025550114", "t1").await.unwrap();
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(bench.create("+12025550114", "t1").await.unwrap().status(), 201);
}

#[tokio::test]
async fn only_the_first_password_of_a_user_opens_the_account() {
    let bench = Bench::start(Settings::default()).await;
    let key = "SK00000000000000000000000000000001";
    let other = "AC00000000000000000000000000000002";
    for (user, password, status) in [
        (ACCOUNT, AUTH_TOKEN, 200),
        (ACCOUNT, "wrong", 401),
        (key, "secret", 200),
        (key, "another", 401),
        (other, AUTH_TOKEN, 401),
    ] {
        let response = bench.http.get(bench.messages_url()).basic_auth(user, Some(password)).send().await.unwrap();
        assert_eq!(response.status(), status, "{user}:{password}");
    }
}

#[tokio::test]
async fn reports_are_repeated_reversed_or_left_out_on_demand() {
    let bench = Bench::start(Settings::default()).await;
    bench.create("+12025550120", "t1").await.unwrap();
    let repeated = [["sent"; 5], ["delivered"; 5]].concat();
    assert_eq!(statuses(&bench.callbacks(10).await), repeated);
    bench.create("+12025550119", "t2").await.unwrap();
    assert_eq!(statuses(&bench.callbacks(12).await[10..]), ["delivered", "sent"]);
    bench.sandbox.rules().set("+12025550199", "unreachable").unwrap();
    bench.create("+12025550199", "t3").await.unwrap();
    let last = bench.callbacks(14).await.pop().unwrap();
    assert_eq!((last.get("MessageStatus"), last.get("ErrorCode")), ("undelivered", "30003"));
}

#[tokio::test]
async fn a_failed_callback_is_tried_again_as_its_fragment_says() {
    let bench = Bench::start(Settings::default()).await;
    *bench.hooks.answers.lock().unwrap() = vec![StatusCode::SERVICE_UNAVAILABLE; 2];
    bench.sandbox.rules().set("+12025550142", "sent_only").unwrap();
    bench.create("+12025550142", "t1#rc=3&rp=5xx").await.unwrap();
    let hooks = bench.callbacks(3).await;
    assert_eq!(statuses(&hooks), ["sent"; 3]);
    let event = hooks[0].header("i-twilio-idempotency-token");
    assert!(hooks.iter().all(|hook| hook.header("i-twilio-idempotency-token") == event));
    let tries = bench.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::CallbackSent { attempt, http_status, .. } => Some((attempt, http_status)),
        _ => None,
    });
    assert_eq!(tries.collect::<Vec<_>>(), [(1, Some(503)), (2, Some(503)), (3, Some(204))]);
}

#[tokio::test]
async fn a_token_that_two_messages_carry_is_journalled() {
    let bench = Bench::start(Settings::default()).await;
    let mut sids = Vec::new();
    for _ in 0..2 {
        let created: Value = bench.create("+12025550122", "t1").await.unwrap().json().await.unwrap();
        sids.push(created["sid"].as_str().unwrap().to_owned());
    }
    let entries = bench.sandbox.journal().entries();
    assert!(matches!(entries[1], Entry::TwilioCreate { token_uses: 2, outcome: Outcome::Created, .. }));
    assert_eq!(entries[2], Entry::TokenReused { token: "t1".to_owned(), sids });
}

#[tokio::test]
async fn lists_are_newest_first_paged_and_may_lag() {
    let bench = Bench::start(Settings::default()).await;
    let mut sids = Vec::new();
    for token in ["t1", "t2", "t3"] {
        let created: Value = bench.create("+12025550122", token).await.unwrap().json().await.unwrap();
        sids.push(created["sid"].clone());
    }
    let first = bench.list(&[("To", "+12025550122"), ("PageSize", "2")]).await;
    assert_eq!((&first["messages"][0]["sid"], &first["messages"][1]["sid"]), (&sids[2], &sids[1]));
    let next = format!("{}{}", bench.sandbox.twilio_url(), first["next_page_uri"].as_str().unwrap());
    let second = bench.http.get(next).basic_auth(ACCOUNT, Some(AUTH_TOKEN)).send().await.unwrap();
    let second: Value = second.json().await.unwrap();
    assert_eq!((&second["messages"][0]["sid"], &second["next_page_uri"]), (&sids[0], &Value::Null));
    bench.sandbox.rules().set_list_lag(Duration::from_secs(3600));
    assert_eq!(bench.list(&[]).await["messages"], json!([]));
}

#[tokio::test]
async fn twilios_clock_can_be_set_off() {
    let bench = Bench::start(Settings::default()).await;
    bench.sandbox.rules().set_clock_offset(chrono::TimeDelta::days(-400));
    let response = bench.create("+12025550122", "t1").await.unwrap();
    let date = response.headers()["date"].to_str().unwrap().to_owned();
    let created: Value = response.json().await.unwrap();
    let age = |text| journal::now() - chrono::DateTime::parse_from_rfc2822(text).unwrap().to_utc();
    assert_eq!(age(&date).num_days(), 400);
    assert_eq!(age(created["date_created"].as_str().unwrap()).num_days(), 400);
}

#[tokio::test]
async fn the_control_endpoint_sends_inbound_texts_and_pages_the_journal() {
    let bench = Bench::start(Settings::default()).await;
    let url = format!("{}/inbound?x=a%20b", bench.webhook);
    let inbound = json!({ "url": url, "account_sid": ACCOUNT, "from": "+12025550142", "to": FROM, "body": "Sí 👍" });
    let answer: Value = bench.control("/inbound", inbound).await.json().await.unwrap();
    assert_eq!((&answer["http_status"], &answer["body"]), (&json!(204), &json!("")));
    let hook = bench.callbacks(1).await.remove(0);
    let fields: HashMap<_, _> = hook.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!((fields["Body"], fields["SmsStatus"], fields["FromCity"]), ("Sí 👍", "received", ""));
    assert_eq!(answer["sid"], fields["MessageSid"]);
    let params: Vec<_> = hook.params.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(hook.header("x-twilio-signature"), signature::sign(AUTH_TOKEN, &url, &params));

    let journal = format!("{}/journal?after=0&wait_seconds=20", bench.sandbox.control_url());
    let page: Value = bench.http.get(&journal).send().await.unwrap().json().await.unwrap();
    assert_eq!((&page["next"], &page["entries"][0]["event"]), (&json!(1), &json!("callback_sent")));
    assert_eq!(bench.http.delete(&journal).send().await.unwrap().status(), 204);
    let after = format!("{}/journal?after=1&wait_seconds=20", bench.sandbox.control_url());
    let (page, _) = tokio::join!(bench.http.get(after).send(), bench.create("+12025550112", "t1"));
    let page: Value = page.unwrap().json().await.unwrap();
    assert_eq!(page["entries"][0]["event"], "twilio_refused");
}

#[tokio::test]
async fn an_inbound_text_takes_along_every_file_of_whatever_type_or_none() {
    let bench = Bench::start(Settings::default()).await;
    let url = format!("{}/inbound", bench.webhook);
    let inbound = |media: &[&str]| json!({ "url": url, "account_sid": ACCOUNT, "from": "+12025550142", "to": FROM, "body": "", "media": media });
    for (media, told) in
        [(&["picture", "hologram"][..], "no such file; there are: picture, "), (&["note"; 11], "at most 10")]
    {
        let answer = bench.control("/inbound", inbound(media)).await;
        assert_eq!(answer.status(), 400);
        let fault: Value = answer.json().await.unwrap();
        assert!(fault["error"].as_str().unwrap().contains(told), "{fault}");
    }
    let media = ["picture", "note", "lie", "video", "card", "late", "huge", "long", "empty", "nowhere"];
    assert_eq!(bench.control("/inbound", inbound(&media)).await.status(), 200);
    let hook = bench.callbacks(1).await.remove(0);
    assert_eq!((hook.get("NumMedia"), hook.get("MediaContentType3")), ("10", "video/mp4"));
    assert_eq!((hook.get("MediaContentType4"), hook.get("MediaContentType9")), ("text/x-vcard", "image/png"));
    assert!(hook.get("MediaUrl9").contains("/Media/ME"));
}

#[tokio::test]
async fn the_control_endpoint_takes_rules_and_answers_faults_in_json() {
    let bench = Bench::start(Settings::default()).await;
    let rule = |behaviour| json!({ "recipient": "+12025550142", "behaviour": behaviour });
    assert_eq!(bench.control("/rules", rule(Some("opted_out"))).await.status(), 204);
    assert_eq!(bench.create("+12025550142", "t1").await.unwrap().status(), 400);
    assert_eq!(bench.control("/rules", rule(None)).await.status(), 204);
    assert_eq!(bench.create("+12025550142", "t1").await.unwrap().status(), 201);
    for (path, body, status) in [
        ("/rules", rule(Some("spam")), 400),
        ("/rules", json!({}), 422),
        ("/nowhere", json!({}), 404),
        ("/magic", json!({}), 405),
    ] {
        let response = bench.control(path, body).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(response.json::<Value>().await.unwrap()["error"].is_string());
    }
}

#[tokio::test]
async fn the_journal_file_holds_each_entry_as_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let bench = Bench::start(Settings { journal: Some(path.clone()), ..Settings::default() }).await;
    bench.create("+12025550117", "t1").await.unwrap();
    bench.create("+12025550118", "t2").await.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let entries: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries, bench.sandbox.journal().entries());
    assert_eq!(entries.len(), 2);
}

#[tokio::test]
async fn stop_ends_idle_connections_and_half_sent_requests() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let http = reqwest::Client::new();
    http.get(format!("{}/healthz", sandbox.control_url())).send().await.unwrap();
    let mut mail = TcpStream::connect(sandbox.smtp_addr).await.unwrap();
    assert_eq!(mail.read_u8().await.unwrap(), b'2');
    let mut half = TcpStream::connect(sandbox.twilio_addr).await.unwrap();
    let head = format!("POST /2010-04-01/Accounts/{ACCOUNT}/Messages.json HTTP/1.1\r\nHost: twilio\r\n");
    half.write_all(format!("{head}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    half.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    tokio::time::timeout(LIMIT, sandbox.stop()).await.unwrap();
    let mut rest = Vec::new();
    mail.read_to_end(&mut rest).await.unwrap();
    assert!(half.read_u8().await.is_err());
}

#[tokio::test]
async fn a_recipient_texts_back_by_themselves_and_is_out_of_reach_from_stop_to_start() {
    let bench = Bench::start(Settings::default()).await;
    assert_eq!(bench.create("+12025550126", "t1").await.unwrap().status(), 201);
    let stop = bench.callbacks(3).await.remove(2);
    assert_eq!((stop.get("Body"), stop.get("From"), stop.get("To")), ("STOP", "+12025550126", FROM));
    assert_eq!((stop.get("SmsStatus"), stop.get("AccountSid")), ("received", ACCOUNT));
    let params: Vec<_> = stop.params.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let url = bench.webhook.replace("/status", "/inbound");
    assert_eq!(stop.header("x-twilio-signature"), signature::sign(AUTH_TOKEN, &url, &params));
    let refused = bench.create("+12025550126", "t2").await.unwrap();
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], 21610);

    let inbound = json!({ "url": url, "account_sid": ACCOUNT, "from": "+12025550126", "to": FROM, "body": " start " });
    bench.control("/inbound", inbound).await;
    assert_eq!(bench.create("+12025550126", "t3").await.unwrap().status(), 201);

    let bench = Bench::start(Settings::default()).await;
    assert_eq!(bench.create("+12025550128", "t4").await.unwrap().status(), 201);
    let hooks = bench.callbacks(4).await;
    assert_eq!([hooks[2].get("Body"), hooks[3].get("Body")], ["STOP", "START"]);
    assert_eq!(bench.create("+12025550128", "t5").await.unwrap().status(), 201);
}
