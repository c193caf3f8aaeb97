//! How fast notifications are accepted, and how soon they reach a provider. The server runs in a process of its own; the
//! provider is a sink in this one that answers like Twilio and notes when a message came, and that none came twice.
//!
//! `cargo bench --bench load -- [--clients 32] [--seconds 10] [--idle 200] [--database URL]`
//!
//! The database is a fresh SQLite file unless a URL of an empty PostgreSQL database is given.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a program that prints figures"
)]

use std::{
    collections::HashMap,
    env, fs,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use heedwell::grpc::proto::{
    self, directory_service_client::DirectoryServiceClient, notification_input::Payload,
    notify_service_client::NotifyServiceClient, preferences_service_client::PreferencesServiceClient, sms_settings,
};
use tokio::net::TcpListener;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

type Seen = Arc<Mutex<HashMap<String, Instant>>>;

const PATIENTS: usize = 500;

struct Options {
    clients: usize,
    seconds: u64,
    idle: usize,
    database: Option<String>,
}

fn options() -> Options {
    let arguments: Vec<String> = env::args().collect();
    let value = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1).cloned();
    let number = |name: &str, default: u64| value(name).map_or(default, |text| text.parse().unwrap());
    Options {
        clients: number("--clients", 32) as usize,
        seconds: number("--seconds", 10),
        idle: number("--idle", 200) as usize,
        database: value("--database"),
    }
}

#[tokio::main]
async fn main() {
    let options = options();
    let seen = Seen::default();
    let sink = sink(Arc::clone(&seen)).await;
    let folder = tempfile::tempdir().unwrap();
    let (mut server, addr, token) = serve(folder.path(), sink, options.database.as_deref()).await;
    let channel = connect(addr).await;
    furnish(&channel, &token).await;
    println!("idle memory: {} MiB", resident(&server) / 1024);

    let mut waits = Vec::new();
    for number in 0..options.idle {
        let name = format!("idle-{number}");
        let start = Instant::now();
        send(&channel, &token, &name, number).await;
        let came = loop {
            // One at a time, so that the newest is this one.
            if let Some(came) = seen.lock().unwrap().values().copied().max().filter(|came| *came > start) {
                break came;
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        };
        waits.push(came - start);
    }
    println!("accept to provider, idle: {}", spread(&mut waits));

    let end = Instant::now() + Duration::from_secs(options.seconds);
    let begin = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..options.clients {
        let (channel, token) = (connect(addr).await, token.clone());
        tasks.spawn(async move {
            let mut waits = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                send(&channel, &token, &format!("load-{client}-{}", waits.len()), client * 7919 + waits.len()).await;
                waits.push(start.elapsed());
            }
            waits
        });
    }
    let mut waits: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let accepted = waits.len();
    println!(
        "accepts, {} clients: {:.0}/s, {}",
        options.clients,
        accepted as f64 / begin.elapsed().as_secs_f64(),
        spread(&mut waits)
    );
    let all = accepted + options.idle;
    while seen.lock().unwrap().len() < all {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("accepted and at the provider: {:.0}/s", accepted as f64 / begin.elapsed().as_secs_f64());
    println!("memory after {all}: {} MiB", resident(&server) / 1024);
    server.kill().unwrap();
    server.wait().unwrap();
}

/// Answers like Twilio's create.
async fn sink(seen: Seen) -> SocketAddr {
    async fn create(State(seen): State<Seen>, body: String) -> (StatusCode, String) {
        let form: HashMap<_, _> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        // Each attempt has a callback of its own.
        let twice = seen.lock().unwrap().insert(form["StatusCallback"].clone(), Instant::now());
        assert!(twice.is_none(), "one attempt came twice");
        let sid = format!("SM{}", uuid::Uuid::new_v4().simple());
        (StatusCode::CREATED, format!(r#"{{"sid":"{sid}","status":"queued","num_segments":"1"}}"#))
    }
    let router = Router::new().route("/2010-04-01/Accounts/{account}/Messages.json", post(create)).with_state(seen);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    addr
}

async fn serve(folder: &std::path::Path, sink: SocketAddr, database: Option<&str>) -> (Child, SocketAddr, String) {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (grpc, http) = (free(), free());
    let mut command = Command::new(env!("CARGO_BIN_EXE_heedwell"));
    command
        .args(["serve", "--migrate"])
        .env("HEEDWELL_DATA_DIR", folder)
        .env("HEEDWELL_GRPC_ADDR", grpc.to_string())
        .env("HEEDWELL_HTTP_ADDR", http.to_string())
        .env("HEEDWELL_TWILIO_URL", format!("http://{sink}"))
        .env("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "on")
        .env("HEEDWELL_SMS_RATE", "unlimited")
        .env("RUST_LOG", "warn")
        .stderr(Stdio::inherit());
    if let Some(url) = database {
        command.env("HEEDWELL_DATABASE_URL", url);
    }
    let begin = Instant::now();
    let server = command.spawn().unwrap();
    while tokio::net::TcpStream::connect(grpc).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("start to listening: {} ms", begin.elapsed().as_millis());
    println!("binary: {:.1} MiB", fs::metadata(env!("CARGO_BIN_EXE_heedwell")).unwrap().len() as f64 / 1_048_576.0);
    let token = Command::new(env!("CARGO_BIN_EXE_heedwell"))
        .args(["token", "--ttl", "1d", "--practice", "bench"])
        .args(["operator", "directory", "practice_admin", "sender"].iter().flat_map(|role| ["--role", role]))
        .env("HEEDWELL_DATA_DIR", folder)
        .output()
        .unwrap();
    (server, grpc, String::from_utf8(token.stdout).unwrap().trim().to_owned())
}

async fn connect(addr: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap()
}

fn request<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
    request.metadata_mut().insert("authorization", bearer);
    request
}

async fn furnish(channel: &Channel, token: &str) {
    let practice = proto::Practice {
        legal_name: "Bench".into(),
        display_name: "Bench".into(),
        time_zone: "America/New_York".into(),
        ..Default::default()
    };
    let put = proto::PutPracticeRequest { practice_id: "bench".into(), practice: Some(practice) };
    DirectoryServiceClient::new(channel.clone()).put_practice(request(token, put)).await.unwrap();
    let patients = (0..PATIENTS).map(|number| proto::Patient {
        patient_id: format!("patient-{number}"),
        first_name: "Pat".into(),
        mobile_phone: format!("+1202555{:04}", 2000 + number),
        ..Default::default()
    });
    let put = proto::BatchPutPatientsRequest { practice_id: "bench".into(), patients: patients.collect() };
    DirectoryServiceClient::new(channel.clone()).batch_put_patients(request(token, put)).await.unwrap();
    let sms = proto::SmsSettings {
        account_sid: "AC00000000000000000000000000000001".into(),
        auth_token: "bench".into(),
        sender: Some(sms_settings::Sender::FromNumber("+12025550199".into())),
        ..Default::default()
    };
    let kind =
        proto::KindChannels { kind: 9, channels: vec![proto::Channel::Sms.into()], offered_channels: Vec::new() };
    let update = proto::UpdatePracticeSettingsRequest {
        practice_id: "bench".into(),
        settings: Some(proto::PracticeSettings { sms: Some(sms), kind_channels: vec![kind], ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["sms".into(), "kind_channels".into()] }),
    };
    PreferencesServiceClient::new(channel.clone()).update_practice_settings(request(token, update)).await.unwrap();
}

async fn send(channel: &Channel, token: &str, name: &str, number: usize) {
    let notice = proto::SystemDetails { title: "Notice".into(), body: "A notice.".into(), security: false };
    let input = proto::NotificationInput {
        patient_id: format!("patient-{}", number % PATIENTS),
        payload: Some(Payload::System(notice)),
        reference: name.into(),
        ..Default::default()
    };
    let send = proto::SendNotificationRequest {
        practice_id: "bench".into(),
        request_id: name.into(),
        notification: Some(input),
    };
    NotifyServiceClient::new(channel.clone()).send_notification(request(token, send)).await.unwrap();
}

fn spread(waits: &mut [Duration]) -> String {
    waits.sort_unstable();
    let at = |share: f64| {
        waits.get(((waits.len() - 1) as f64 * share) as usize).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    };
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// Resident memory in KiB.
fn resident(server: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}
