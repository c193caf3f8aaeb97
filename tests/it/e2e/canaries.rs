//! What must not leave by a side door: names, addresses, texts, files, credentials and tokens, each like nothing else, go through every
//! call and every callback of a server that is a process of its own and logs all that it may: several values of each field, in letters
//! and signs that others escape. Then they are looked for, in every form, in what it said, in its refusals, in its traces and metrics,
//! in its files and in its database, the log that this writes ahead included.

mod forms;
mod spoilt;

use std::{fs, path::Path, process::Command, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    config::Env,
    domain::{Phi, Role},
    sandbox::SERVICE_ACCOUNT,
    telemetry,
};
use reqwest::{Method, StatusCode};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use serde_json::{Value, json};
use tonic::Status;

use self::forms::{Canary, Seeker};
use super::{
    attachments::PNG,
    callbacks::{FORM, browser, form, post, signature},
    conversations::texts_in,
    fairness::wait_for,
    given::{AUTH_TOKEN, PHONE, TARGET, new_key},
    inbound::{text, url},
    isolation::wire::Wire,
    seen::{everything, state},
    trail,
};
use crate::support::{
    Backend, WrittenAhead,
    app::{ACME, Pass, TestApp},
    collector::Collector,
    database_dump,
};

/// The most that a log can be asked for, and whoever asked for it had a reason to.
const LOG: &str = "trace,h2=trace,hyper=trace,sqlx=trace,rustls=trace,html5ever=trace";
/// Why somebody has to look at once.
const EMERGENCY: &str = "the kestrel is on fire";
/// Bearer of nothing.
const BEARER: &str = "kestrel.bearer.of-no-token";
/// Of each way of sending, a secret of the practice's.
const SECRETS: [(&str, &str); 4] = [
    ("a password of the relay", "kestrel-relay-password"),
    ("an API key of SendGrid", "SG.kestrel-api-key"),
    ("a secret of bounces", "kestrel-secret-of-bounces"),
    ("an auth token of Twilio", AUTH_TOKEN),
];
/// What a patient is, is told, and says.
const PATIENT: [(&str, &str); 21] = [
    ("a first name", "Zéphyrine"),
    ("a last name", "O'Quillfeather"),
    ("a mail address", "zephyrine.oq@kestrel.example"),
    ("a number", "+12025550143"),
    ("a number as it is dialled", "2025550143"),
    ("a doctor", "Dr. Kestrel-Ray"),
    ("a place", "Kestrel North Office"),
    ("an address of a place", "500 Kestrel Street"),
    ("an invoice", "INV-KESTREL-7"),
    ("a card", "Visa kestrel 4242"),
    ("a title of a document", "Kestrel consent form"),
    ("a title", "Kestrel sign-in"),
    ("a body", "Somebody like a kestrel signed in."),
    ("a variable", "kestrel at noon"),
    ("words of the practice's software", "Bring the kestrel's card."),
    ("words of staff", "Staff say: a kestrel."),
    ("words of the patient", "I am a kestrel, says the patient"),
    ("a name of a file", "kestrel-file.png"),
    ("a device", "kestrel-device:token"),
    ("evidence", "kestrel evidence on paper"),
    ("a target of a link", TARGET),
];

/// What stands behind each value of a further round.
const TAILS: [&str; 3] =
    ["", " \u{39a}\u{3b9}\u{3c1}\u{3ba}\u{3b9}\u{3bd}\u{3ad}\u{3b6}\u{3b9} \u{1f426}", " \"kestrel\" & <kestrel> 100%"];

fn is(what: &str) -> &'static str {
    PATIENT.iter().chain(&SECRETS).find(|(name, _)| *name == what).unwrap().1
}

/// The value of a round: what has a form of its own has another number, and everything else has a tail.
fn is_in(round: usize, what: &str) -> String {
    let text = is(what);
    match (round, what) {
        (0, _) => text.to_owned(),
        (_, "a mail address") => text.replace('@', &format!("{round}@")),
        (_, "a number" | "a number as it is dialled") => text.replace("0143", &format!("01{}", 60 + round)),
        (_, "a name of a file") => text.replace(".png", &format!(" {round}.png")),
        (_, "a device" | "an invoice" | "a target of a link") => format!("{text}-{round}"),
        _ => format!("{text}{}", TAILS[round]),
    }
}

/// Somebody of the practice, who keeps account of every refusal.
struct Somebody<'a> {
    t: &'a TestApp,
    wire: Wire,
    token: String,
    refusals: Vec<u8>,
    /// Which values it has; each is those of another patient.
    round: usize,
}

impl<'a> Somebody<'a> {
    fn new(t: &'a TestApp) -> Self {
        let token = t.token_of(&all_roles());
        Self { t, wire: Wire::new(), token, refusals: Vec::new(), round: 0 }
    }

    fn is(&self, what: &str) -> String {
        is_in(self.round, what)
    }

    /// The patient of the round.
    fn who(&self) -> String {
        format!("zoe{}", self.round)
    }

    async fn tries(&mut self, call: &str, request: Value) -> Result<Value, Status> {
        let answer = self.wire.call(self.t.channel(), &self.token, call, &request).await;
        if let Err(status) = &answer {
            let metadata = format!("{:?}", status.metadata());
            self.refusals
                .extend([call.as_bytes(), status.message().as_bytes(), status.details(), metadata.as_bytes()].concat());
            self.refusals.push(b'\n');
        }
        Ok(answer?.json)
    }

    async fn does(&mut self, call: &str, mut request: Value) -> Value {
        request["practice_id"] = json!(ACME);
        self.tries(call, request).await.unwrap_or_else(|status| panic!("{call}: {status:?}"))
    }

    async fn is_refused(&mut self, call: &str, mut request: Value) {
        request["practice_id"] = json!(ACME);
        assert!(self.tries(call, request).await.is_err(), "{call}");
    }

    async fn settings(&mut self, paths: &str, settings: Value) {
        self.does("PreferencesService/UpdatePracticeSettings", json!({"settings": settings, "update_mask": paths}))
            .await;
    }

    fn patient(&self, id: &str) -> Value {
        json!({"patient_id": id, "first_name": self.is("a first name"), "last_name": self.is("a last name"),
            "email": self.is("a mail address"), "mobile_phone": self.is("a number"), "portal_enabled": true})
    }

    /// A patient with a phone.
    async fn knows(&mut self) {
        self.does("DirectoryService/BatchPutPatients", json!({"patients": [self.patient(&self.who())]})).await;
        for query in ["a first name", "a last name", "a mail address", "a number"] {
            self.does("DirectoryService/ListPatients", json!({"query": self.is(query)})).await;
        }
        let device =
            json!({"patient_id": self.who(), "fcm_token": self.is("a device"), "device_name": self.is("a title")});
        self.does("InboxService/RegisterPushDevice", device).await;
        let every = [1, 2, 3, 4];
        let kinds: Vec<_> = (1..=9).map(|kind| json!({"kind": kind, "channels": every})).collect();
        let settings = json!({"kind_channels": kinds, "push": {"fcm_service_account_json": SERVICE_ACCOUNT}});
        self.settings("kindChannels,push", settings).await;
    }

    /// One of each kind, over every channel.
    async fn sends(&mut self) {
        let later = (now() + TimeDelta::days(2)).to_rfc3339();
        let link = json!({"target_url": self.is("a target of a link")});
        let visit = json!({"start_time": later, "provider_name": self.is("a doctor"), "location_name": self.is("a place"),
            "location_address": self.is("an address of a place"), "link": link});
        let payment = json!({"amount": {"currency_code": "USD", "units": 12}, "invoice_number": self.is("an invoice"),
            "payment_time": later, "method_hint": self.is("a card"), "link": link});
        let document =
            json!({"action": 1, "document_count": 1, "titles": [self.is("a title of a document")], "link": link});
        let (when, at) = (self.is("a variable"), |channel| json!({"key": "note", "channel": channel}));
        for channel in 1..=3 {
            let subject = if channel == 3 { "" } else { "Hello" };
            let content = json!({"subject": subject, "text": "Come, {{ first_name }}: {{ when }}."});
            let version = json!({"ref": at(channel), "content": content, "variables": ["when"], "active": true});
            self.does("TemplateService/CreateTemplateVersion", version).await;
        }
        let preview = json!({"ref": at(1), "variables": {"when": when}});
        self.does("TemplateService/PreviewTemplate", preview).await;
        for (kind, payload) in [
            ("appointment_reminder", visit.clone()),
            ("appointment_confirmed", visit.clone()),
            ("appointment_cancelled", visit),
            ("payment_due", payment.clone()),
            ("payment_received", payment.clone()),
            ("payment_failed", payment),
            ("message_received", json!({"sender_name": self.is("a doctor"), "link": link})),
            ("document_shared", document),
            ("system", json!({"title": self.is("a title"), "body": self.is("a body"), "security": true})),
            ("custom", json!({"template_key": "note", "variables": {"when": when}})),
        ] {
            let channels = if kind == "custom" { vec![1, 2, 3] } else { vec![1, 2, 3, 4] };
            let mut notification = json!({"patient_id": self.who(), "channels": channels, kind: payload});
            if kind.starts_with("appointment") {
                notification["custom_content"] = json!(self.is("words of the practice's software"));
            }
            self.does("NotifyService/PreviewNotification", json!({"notification": notification})).await;
            self.does("NotifyService/SendNotification", json!({"request_id": new_key(), "notification": notification}))
                .await;
        }
        let consent = json!({"request_id": new_key(), "patient_id": self.who(), "channel": 3, "state": 2, "source": 2,
            "evidence": self.is("evidence")});
        self.does("PreferencesService/RecordConsent", consent).await;
    }

    /// Both sides of a conversation, with files.
    async fn talks(&mut self) {
        let file = json!({"request_id": new_key(), "file_name": self.is("a name of a file"), "media_type": "image/png",
            "content": BASE64_STANDARD.encode(picture())});
        let file = self.does("ConversationsService/UploadAttachment", file).await["attachment"]["attachmentId"].take();
        for (route, files) in [(1, json!([file])), (2, json!([]))] {
            let message = json!({"request_id": new_key(), "patient_id": self.who(), "route": route, "body": self.is("words of staff"),
                "attachment_ids": files});
            self.does("ConversationsService/SendMessage", message).await;
        }
        self.does("ConversationsService/DownloadAttachment", json!({"attachment_id": file})).await;
        let (said, number) = (self.is("words of the patient"), self.is("a number"));
        assert_eq!(texts_in(self.t, ACME, &number, &said).await, StatusCode::OK);
        assert_eq!(texts_in(self.t, ACME, &number, &format!("please stop, {said}")).await, StatusCode::OK);
        assert_eq!(texts_in(self.t, ACME, &number, "START").await, StatusCode::OK);
        let list = json!({"filter": {"patient_id": self.who()}});
        let talk =
            self.does("ConversationsService/ListConversations", list).await["conversations"][0]["conversationId"]
                .take();
        self.does("ConversationsService/ListMessages", json!({"conversation_id": talk})).await;
        self.does("InboxService/ListInboxItems", json!({"patient_id": self.who()})).await;
    }

    /// Waits until something has been tried with everything.
    async fn rests(&self) {
        let open =
            async || everything(self.t).await.iter().filter(|it| state(it) == "PENDING" && it.attempts == 0).count();
        wait_for("everything has been tried", async || open().await == 0).await;
    }

    /// Mails by SendGrid, and what becomes of them; and by a relay that lets nobody in.
    async fn mails(&mut self) {
        let key = self.t.sandbox.sendgrid_webhook(is("an API key of SendGrid"), &self.t.url("/webhooks/sendgrid/acme"));
        let account = json!({"api_key": is("an API key of SendGrid"), "webhook_public_key": key});
        let from = "no-reply@mail.acme.example";
        self.settings("email", json!({"email": {"sendgrid": account, "from_address": from}})).await;
        let mail = |id: &str| {
            let system = json!({"title": is("a title"), "body": is("a body")});
            let notification = json!({"patient_id": id, "channels": [2], "system": system});
            json!({"request_id": new_key(), "notification": notification})
        };
        self.does("NotifyService/SendNotification", mail("zoe0")).await;
        self.rests().await;
        let relay = self.t.sandbox.smtp_addr();
        let relay = json!({"host": relay.ip().to_string(), "port": relay.port(), "security": 1, "username": "acme",
            "password": is("a password of the relay")});
        let email = json!({"smtp": relay, "from_address": from, "bounce_address": "bounce@bounces.acme.example",
            "bounce_secret": is("a secret of bounces")});
        self.settings("email", json!({"email": email})).await;
        self.does("NotifyService/SendNotification", mail("zoe0")).await;
        self.rests().await;
    }

    /// What strangers may send, with what is only the practice's and the patient's.
    async fn is_called_back(&mut self) -> Vec<Canary> {
        let (t, mut canaries) = (self.t, Vec::new());
        let fields = text("SM00000000000000000000000000000077", is("a number"), is("words of the patient"));
        let ours = url(t, ACME);
        let good = signature(AUTH_TOKEN, &ours, &fields);
        canaries.push(Canary::new("a signature of Twilio", good.trim_end_matches('=')));
        for (signature, expected) in [(&*good, StatusCode::OK), ("a2VzdHJlbC1zaWduYXR1cmU=", StatusCode::FORBIDDEN)] {
            assert_eq!(post(&ours, Some(signature), FORM, form(&fields)).await, expected);
        }
        let said = json!([{"email": is("a mail address"), "event": is("a body"), "sg_message_id": is("a title"), "reason": is("a body"),
            "timestamp": now().timestamp()}]).to_string();
        let bounce = format!("To: {}\r\nSubject: {}\r\n\r\n{}\r\n", is("a mail address"), is("a title"), is("a body"));
        let secret = format!("Bearer {}", is("a secret of bounces"));
        for (path, header, value, body) in [
            ("/webhooks/sendgrid/acme", "x-twilio-email-event-webhook-signature", "a2VzdHJlbC1zaWduYXR1cmU=", &said),
            ("/webhooks/bounce/acme", "authorization", &secret, &bounce),
            ("/webhooks/bounce/acme", "authorization", BEARER, &bounce),
            ("/webhooks/twilio/acme/inbound", "x-twilio-signature", is("a body"), &said),
            ("/sign-in", "authorization", BEARER, &said),
            ("/nowhere/zephyrine.oq@kestrel.example?name=O'Quillfeather", "cookie", BEARER, &said),
        ] {
            let asked = browser().post(t.url(path)).header(header, value).body(body.clone());
            let answer = asked.send().await.unwrap();
            self.refusals.extend(answer.bytes().await.unwrap());
        }
        // Every link that was given, looked at and followed; and one that never was.
        for (way, token) in links(t) {
            canaries.push(Canary::new(format!("a token of /{way}/"), token.clone()));
            if way == "status" {
                continue;
            }
            for path in [format!("/{way}/{token}"), format!("/{way}/{token}x")] {
                for method in [Method::GET, Method::POST] {
                    let answer = browser().request(method, t.url(&path)).send().await.unwrap();
                    if way != "m" && way != "l" {
                        self.refusals.extend(answer.bytes().await.unwrap());
                    }
                }
            }
        }
        canaries
    }

    /// Everything that is wrong with requests.
    async fn errs(&mut self) {
        for word in ["kestrel", "kestrel\u{0}", "kestrel{{ oq.kestrel | kestrel }}<kestrel>"] {
            for (call, mut request) in spoilt::all(word) {
                let _ = self.tries(&call, request.clone()).await;
                request["practice_id"] = json!(ACME);
                let _ = self.tries(&call, request).await;
            }
        }
        let token = std::mem::replace(&mut self.token, BEARER.to_owned());
        self.is_refused("DirectoryService/BatchPutPatients", json!({"patients": [self.patient("zoe0")]})).await;
        self.token = token;
    }

    /// A database that refuses, and one that keeps everybody waiting.
    async fn meets_trouble(&mut self) {
        let (never, again) = match self.t.home.backend {
            Backend::Sqlite => (
                "CREATE TRIGGER never BEFORE INSERT ON patient BEGIN SELECT RAISE(ABORT, 'never'); END",
                "DROP TRIGGER never",
            ),
            Backend::Postgres => (
                "ALTER TABLE patient ADD CONSTRAINT never CHECK (patient_id = '') NOT VALID",
                "ALTER TABLE patient DROP CONSTRAINT never",
            ),
        };
        self.t.execute(never).await;
        self.is_refused("DirectoryService/BatchPutPatients", json!({"patients": [self.patient("new")]})).await;
        self.t.execute(again).await;
        let raw = self.t.home.raw().await;
        let lock = raw.begin().await.unwrap();
        let backend = raw.get_database_backend();
        let locks = match self.t.home.backend {
            // Whoever writes has the only place.
            Backend::Sqlite => "UPDATE patient SET patient_id = patient_id",
            Backend::Postgres => "LOCK TABLE patient IN ACCESS EXCLUSIVE MODE",
        };
        lock.execute_raw(Statement::from_string(backend, locks)).await.unwrap();
        self.is_refused("DirectoryService/BatchPutPatients", json!({"patients": [self.patient("zoe0")]})).await;
        lock.rollback().await.unwrap();
        raw.close().await.unwrap();
        self.does("DirectoryService/BatchPutPatients", json!({"patients": [self.patient("zoe0")]})).await;
    }
}

fn now() -> DateTime<Utc> {
    SystemTime::now().into()
}

fn all_roles() -> Pass {
    let roles: Vec<_> = Role::ALL.into_iter().filter(|role| *role != Role::Patient).collect();
    Pass { subject: "somebody".into(), ..Pass::new(&roles, &[ACME]) }
}

/// A picture in which something is written.
fn picture() -> Vec<u8> {
    [PNG, &b"a kestrel in a picture"[..]].concat()
}

/// What patients and providers were given, each with where it leads.
fn links(t: &TestApp) -> Vec<(&'static str, String)> {
    let told = serde_json::to_string(&t.sandbox.journal().entries()).unwrap();
    let mut found = Vec::new();
    for way in ["l", "u", "m", "status"] {
        for (_, rest) in told.match_indices(&format!("/{way}/")).map(|(at, word)| told.split_at(at + word.len())) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
            if end >= 16 {
                found.push((way, rest[..end].to_owned()));
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap()));
        }
    }
}

/// Everything that is like nothing else.
fn canaries(t: &TestApp) -> Vec<Canary> {
    let key = SERVICE_ACCOUNT.split("PRIVATE KEY-----").nth(1).unwrap();
    let key = key.trim_start_matches("\\n").split("\\n").nth(3).unwrap();
    // Pat's number stands in the server's own words, as an example.
    let told = trail::CANARIES
        .into_iter()
        .map(|text| ("something of Pat", text))
        .filter(|(_, text)| text.len() >= 8 && !PHONE.ends_with(text));
    let words = [
        ("a key of FCM", key),
        ("no token", BEARER),
        ("an emergency", EMERGENCY),
        ("a spoilt field", "kestrel-"),
        ("a picture", "a kestrel in a picture"),
    ];
    let further = (1..TAILS.len())
        .flat_map(|round| PATIENT.map(|(what, _)| Canary::new(format!("{what} of round {round}"), is_in(round, what))));
    let all = PATIENT.into_iter().chain(SECRETS).chain(told).chain(words);
    let tokens = Role::ALL.map(|role| t.token(role)).into_iter().chain([t.token_of(&all_roles())]);
    // Of a token, what makes it one.
    let tokens = tokens.map(|token| Canary::new("a bearer's token", token.rsplit('.').next().unwrap()));
    all.map(|(what, text)| Canary::new(what, text)).chain(further).chain(tokens).collect()
}

/// Fails if any of it is anywhere: in what was said, in refusals, in traces and metrics, in files, in the database, in its log ahead.
async fn search(
    mut t: TestApp,
    canaries: &[Canary],
    refusals: Vec<u8>,
    collector: &Collector,
    ahead: Option<WrittenAhead>,
) {
    let said = t.process().said();
    let mut places = vec![("a refusal".to_owned(), refusals)];
    files(&t.home.path(""), &mut places);
    if t.home.backend == Backend::Sqlite {
        // While it serves, what it wrote last is there alone.
        let log = places.iter().find(|(name, _)| name.ends_with("heedwell.db-wal"));
        assert!(log.is_some_and(|(_, bytes)| bytes.len() > 10_000), "there is a log ahead");
    }
    if let Some(ahead) = ahead {
        let written = ahead.files().await;
        assert!(written.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > 100_000, "there is a log ahead");
        places.extend(written);
    }
    let metrics = browser().get(format!("http://{}/metrics", t.process().metrics_addr)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("heedwell_alarms_total{alarm=\"emergency\"}"), "{metrics}");
    places.push(("the metrics".into(), metrics.into_bytes()));
    if t.home.backend == Backend::Postgres {
        places.push(("the database".into(), database_dump(&t.home.url)));
    }
    t.stop().await;
    files(&t.home.path(""), &mut places);
    let log = said.bytes();
    let lines = log.split(|byte| *byte == b'\n').count();
    assert!(lines > 100, "{lines} lines of a log: it was to say all that it may");
    places.push(("the log".into(), log));
    let (spans, exported) = (collector.spans().len(), collector.bytes());
    assert!(spans > 300, "{spans} spans: each call was to have one");
    places.push(("a trace or a metric".into(), exported));
    let seeker = Seeker::new(canaries);
    let found: Vec<_> = places.iter().flat_map(|(place, bytes)| seeker.found(place, bytes)).collect();
    let first: Vec<_> = found.iter().take(30).collect();
    assert!(found.is_empty(), "{} times, as in {first:#?}", found.len());
    t.end().await;
}

async fn nothing_leaves(backend: Backend) {
    let (collector, addr) = Collector::start().await;
    let export = |env: &mut Env| env.set("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{addr}"));
    let Some(mut t) = TestApp::spawn_apart(backend, LOG, export).await else { return };
    let ahead = match backend {
        Backend::Sqlite => None,
        Backend::Postgres => WrittenAhead::keep(&t.home.url).await,
    };
    let mut canaries = canaries(&t);
    trail::every_call(&t).await;
    t.emergency = Some(Phi::new(EMERGENCY.into()));
    let mut somebody = Somebody::new(&t);
    for round in 0..TAILS.len() {
        somebody.round = round;
        somebody.knows().await;
        somebody.sends().await;
        somebody.talks().await;
    }
    somebody.round = 0;
    somebody.rests().await;
    somebody.mails().await;
    canaries.extend(somebody.is_called_back().await);
    somebody.errs().await;
    somebody.meets_trouble().await;
    let refusals = somebody.refusals;
    assert!(refusals.len() > 10_000, "much was refused");
    search(t, &canaries, refusals, &collector, ahead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_by_a_side_door_sqlite() {
    nothing_leaves(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_by_a_side_door_postgres() {
    nothing_leaves(Backend::Postgres).await;
}

/// Run by the test below, in a process of its own.
#[test]
#[ignore = "it panics, to be looked at from outside"]
fn panics() {
    telemetry::start(&telemetry::Settings { filter: "trace".into(), ..Default::default() });
    let text = is("a first name").to_owned();
    let cut = std::panic::catch_unwind(|| text[..2].len());
    let named: Result<(), String> = is("a last name").parse::<u8>().map(drop).map_err(|_| is("a last name").to_owned());
    let expected = std::panic::catch_unwind(|| named.unwrap());
    let literal = std::panic::catch_unwind(|| panic!("a literal of the program"));
    assert!(cut.is_err() && expected.is_err() && literal.is_err());
}

#[test]
fn a_panic_tells_where_it_was_and_nothing_of_what_was_in_hand() {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "e2e::canaries::panics", "--ignored", "--nocapture"])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&said);
    assert!(done.status.success(), "{text}");
    assert!(text.matches("tests/it/e2e/canaries.rs:").count() >= 3, "{text}");
    assert!(text.contains("a literal of the program"), "{text}");
    let canaries = PATIENT.map(|(what, text)| Canary::new(what, text));
    assert_eq!(Seeker::new(&canaries).found("the log", &said), Vec::<String>::new());
}
