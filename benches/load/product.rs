//! The server in a process of its own, with practices and patients in it, and its callers.

mod asks;

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use heedwell::grpc::proto::{
    self, directory_service_client::DirectoryServiceClient, email_settings, notification_input::Payload,
    notify_service_client::NotifyServiceClient, preferences_service_client::PreferencesServiceClient, sms_settings,
    watch_deliveries_request::Start,
};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Channel};
use uuid::Uuid;

use crate::{
    figures::Figures,
    machine::{Process, free_port, listening},
};

/// So many, as more than one lane shall be in use.
pub(crate) const PRACTICES: usize = 4;
pub(crate) const PATIENTS: usize = 250;
/// How those are named whom a broadcast goes to.
pub(crate) const CROWD: &str = "crowd";
/// Calls that one connection has under way: servers limit them.
const CALLS: usize = 32;
/// Watches on one connection, as servers limit them too.
const WATCHES: usize = 100;
pub(crate) const SYSTEM: i32 = 9;

/// How messages leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Texts by Twilio.
    Http,
    /// Mail by a relay.
    Smtp,
    /// Mail by SendGrid.
    SendGrid,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Smtp, Self::SendGrid];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Smtp => "smtp",
            Self::SendGrid => "sendgrid",
        }
    }

    pub(crate) const fn addr(self, providers: Providers) -> SocketAddr {
        match self {
            Self::Http | Self::SendGrid => providers.http,
            Self::Smtp => providers.smtp,
        }
    }

    pub(crate) const fn channel(self) -> proto::Channel {
        match self {
            Self::Http => proto::Channel::Sms,
            Self::Smtp | Self::SendGrid => proto::Channel::Email,
        }
    }
}

/// The key of a public test of SendGrid's own library (sendgrid/sendgrid-python, test_eventwebhook.py).
const EVENTS_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";

/// The account at Twilio, its secret, and the number that practices text from.
pub(crate) const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub(crate) const AUTH_TOKEN: &str = "bench";
pub(crate) const FROM_NUMBER: &str = "+12025550199";

/// Where mail and texts go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Providers {
    pub(crate) http: SocketAddr,
    pub(crate) smtp: SocketAddr,
}

/// A running server.
pub(crate) struct Product {
    process: Process,
    addr: SocketAddr,
    pub(crate) http: SocketAddr,
    token: String,
}

impl Product {
    pub(crate) async fn start(folder: &Path, database: &str, providers: Providers) -> Self {
        let (addr, http) = (free_port(), free_port());
        let mut command = binary();
        command
            .args(["serve", "--migrate"])
            .env("HEEDWELL_DATA_DIR", folder)
            .env("HEEDWELL_DISK_RESERVE_MIB", "256")
            .env("HEEDWELL_DATABASE_URL", database)
            .env("HEEDWELL_GRPC_ADDR", addr.to_string())
            .env("HEEDWELL_HTTP_ADDR", http.to_string())
            .env("HEEDWELL_METRICS_ADDR", "off")
            .env("HEEDWELL_TWILIO_URL", format!("http://{}", providers.http))
            .env("HEEDWELL_SENDGRID_URL", format!("http://{}", providers.http))
            .env("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "on")
            .env("HEEDWELL_SMS_RATE", "unlimited")
            .env("HEEDWELL_SMS_PER_DAY", "unlimited")
            .env("HEEDWELL_SMS_PER_BLOCK", "unlimited")
            .env("HEEDWELL_CALLS_PER_SECOND", "unlimited")
            .env("RUST_LOG", "warn");
        let process = Process::start(&mut command);
        listening(addr).await;
        Self { process, addr, http, token: token(folder) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) const fn grpc(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn callers(&self, count: usize) -> Callers {
        Callers::connect(self.addr, &self.token, count).await
    }

    /// Practices with patients, whose notices go this way.
    pub(crate) async fn furnish(&self, way: Way, providers: Providers) {
        for number in 0..PRACTICES {
            self.furnish_one(&practice(number), PATIENTS, settings(way, providers)).await;
        }
    }

    /// A practice with so many patients.
    pub(crate) async fn furnish_one(&self, practice: &str, patients: usize, settings: proto::PracticeSettings) {
        let patients = (0..patients).map(a_patient).collect();
        self.furnish_with(connect(self.addr).await, practice, patients, settings).await;
    }

    /// A practice with these patients.
    pub(crate) async fn furnish_with(
        &self,
        connection: Channel,
        practice: &str,
        patients: Vec<proto::Patient>,
        settings: proto::PracticeSettings,
    ) {
        let put = proto::PutPracticeRequest { practice_id: practice.into(), practice: Some(a_practice()) };
        let mut directory = DirectoryServiceClient::new(connection.clone());
        directory.put_practice(self.request(put)).await.unwrap();
        // A crowd comes later, by itself.
        if !patients.is_empty() {
            let put = proto::BatchPutPatientsRequest { practice_id: practice.into(), patients };
            directory.batch_put_patients(self.request(put)).await.unwrap();
        }
        let update = proto::UpdatePracticeSettingsRequest {
            practice_id: practice.into(),
            settings: Some(settings),
            update_mask: Some(prost_types::FieldMask {
                paths: ["sms", "email", "kind_channels"].map(str::to_owned).into(),
            }),
        };
        let mut preferences = PreferencesServiceClient::new(connection);
        preferences.update_practice_settings(self.request(update)).await.unwrap();
    }

    /// As many patients in the first practice as one call can ask about. Yields their ids.
    pub(crate) async fn furnish_more(&self) -> Vec<String> {
        let patients: Vec<_> = (0..2 * PATIENTS).map(a_patient).collect();
        let ids = patients.iter().map(|patient| patient.patient_id.clone()).collect();
        let put = proto::BatchPutPatientsRequest { practice_id: practice(0), patients };
        let mut directory = DirectoryServiceClient::new(connect(self.addr).await);
        directory.batch_put_patients(self.request(put)).await.unwrap();
        ids
    }

    pub(crate) async fn connect(&self) -> Channel {
        connect(self.addr).await
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        request(&self.token, message)
    }
}

/// The server's binary, or that of another build to be held against it.
fn binary() -> Command {
    let other = std::env::var_os("HEEDWELL_BIN");
    let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_heedwell").into()));
    command.env_remove("HEEDWELL_BIN");
    command
}

fn token(folder: &Path) -> String {
    let output = binary()
        .args(["token", "--ttl", "1d", "--practice", "*", "--role", "operator"])
        .args(["directory", "practice_admin", "sender", "staff", "portal"].iter().flat_map(|role| ["--role", role]))
        .env("HEEDWELL_DATA_DIR", folder)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// One of the few that every program furnishes.
pub(crate) fn practice(number: usize) -> String {
    practice_of(number % PRACTICES)
}

/// One of as many as there are.
pub(crate) fn practice_of(number: usize) -> String {
    format!("practice-{number}")
}

fn a_practice() -> proto::Practice {
    proto::Practice {
        legal_name: "Bench".into(),
        display_name: "Bench".into(),
        time_zone: "America/New_York".into(),
        ..Default::default()
    }
}

pub(crate) fn phone(number: usize) -> String {
    format!("+1202555{:04}", 2000 + number)
}

pub(crate) fn a_patient(number: usize) -> proto::Patient {
    proto::Patient {
        patient_id: format!("patient-{number}"),
        first_name: "Pat".into(),
        mobile_phone: phone(number),
        email: format!("pat-{number}@example.test"),
        ..Default::default()
    }
}

pub(crate) fn settings(way: Way, providers: Providers) -> proto::PracticeSettings {
    let sms = proto::SmsSettings {
        account_sid: ACCOUNT_SID.into(),
        auth_token: AUTH_TOKEN.into(),
        sender: Some(sms_settings::Sender::FromNumber(FROM_NUMBER.into())),
        ..Default::default()
    };
    let provider = if way == Way::SendGrid {
        email_settings::Provider::Sendgrid(proto::SendGridSettings {
            api_key: "bench".into(),
            webhook_public_key: EVENTS_KEY.into(),
            ..Default::default()
        })
    } else {
        email_settings::Provider::Smtp(proto::SmtpSettings {
            host: providers.smtp.ip().to_string(),
            port: providers.smtp.port().into(),
            security: proto::smtp_settings::Security::Starttls.into(),
            ..Default::default()
        })
    };
    let email = proto::EmailSettings {
        provider: Some(provider),
        from_address: "bench@example.test".into(),
        ..Default::default()
    };
    let kind = proto::KindChannels { kind: SYSTEM, channels: vec![way.channel().into()], offered_channels: Vec::new() };
    proto::PracticeSettings { sms: Some(sms), email: Some(email), kind_channels: vec![kind], ..Default::default() }
}

async fn connections(addr: SocketAddr, count: usize) -> Arc<[Channel]> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(connect(addr).await);
    }
    connections.into()
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

/// Those who call a server, heedwell or bare, on as many connections as they need.
#[derive(Clone)]
pub(crate) struct Callers {
    addr: SocketAddr,
    connections: Arc<[Channel]>,
    token: Arc<str>,
    count: usize,
    practices: usize,
    /// Of each practice.
    patients: usize,
    /// Many more, of the first practice; none: they write to the others.
    crowd: usize,
    /// Numbers what is sent, so that practices and patients have their turn.
    sent: Arc<AtomicUsize>,
}

impl Callers {
    pub(crate) async fn connect(addr: SocketAddr, token: &str, count: usize) -> Self {
        let connections = connections(addr, count.div_ceil(CALLS)).await;
        let (practices, patients) = (PRACTICES, PATIENTS);
        Self { addr, connections, token: token.into(), count, practices, patients, crowd: 0, sent: Arc::default() }
    }

    /// They send for so many practices, each of which has so many patients.
    pub(crate) fn of_practices(self, practices: usize, patients: usize) -> Self {
        Self { practices, patients, ..self }
    }

    /// They send to the crowd, of which there are so many.
    pub(crate) fn of_the_crowd(self, crowd: usize) -> Self {
        Self { crowd, ..self }
    }

    /// They all send for one and the same.
    pub(crate) fn of_one_practice(self) -> Self {
        Self { practices: 1, ..self }
    }

    /// The same with enough connections for so many watches.
    pub(crate) async fn with_room_for(&self, watches: usize) -> Self {
        Self { connections: connections(self.addr, watches.div_ceil(WATCHES)).await, ..self.clone() }
    }

    /// All of them send one after another for so long; `due`: what is sent leaves then, not at once.
    pub(crate) async fn send_for(&self, time: Duration, due: Option<SystemTime>) -> Figures {
        let start = Instant::now();
        let waits = self.each(|caller| async move {
            let mut waits = Vec::new();
            while start.elapsed() < time {
                waits.push(caller.send(due).await);
            }
            waits
        });
        let waits = waits.await;
        Figures { count: waits.len(), time: start.elapsed(), waits, ..Default::default() }
    }

    /// All of them ask for one patient after another for so long.
    pub(crate) async fn read_for(&self, time: Duration) -> Figures {
        let start = Instant::now();
        let waits = self.each(|caller| async move {
            let mut waits = Vec::new();
            while start.elapsed() < time {
                waits.push(caller.read().await);
            }
            waits
        });
        let waits = waits.await;
        Figures { count: waits.len(), time: start.elapsed(), waits, ..Default::default() }
    }

    /// So many are sent in all.
    pub(crate) async fn send_all(&self, count: usize, due: Option<SystemTime>) {
        let left = Arc::new(AtomicUsize::new(count));
        let take = |left: &AtomicUsize| {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        let none = self.each(|caller| {
            let left = Arc::clone(&left);
            async move {
                while take(&left) {
                    caller.send(due).await;
                }
                Vec::new()
            }
        });
        none.await;
    }

    async fn each<F>(&self, work: impl Fn(Self) -> F) -> Vec<Duration>
    where
        F: Future<Output = Vec<Duration>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for number in 0..self.count {
            let place = number / CALLS;
            tasks.spawn(work(Self { connections: self.connections[place..=place].into(), ..self.clone() }));
        }
        tasks.join_all().await.into_iter().flatten().collect()
    }

    /// Sends one and says how long the answer took.
    pub(crate) async fn send(&self, due: Option<SystemTime>) -> Duration {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        client.send_notification(request(&self.token, self.order(number, due))).await.unwrap();
        start.elapsed()
    }

    /// Makes a call that is refused: it has no key.
    pub(crate) async fn refused(&self) {
        let call = proto::SendNotificationRequest { request_id: String::new(), ..self.order(0, None) };
        let mut client = NotifyServiceClient::new(self.connections[0].clone());
        let refusal = client.send_notification(request(&self.token, call)).await.err().map(|status| status.code());
        assert_eq!(refusal, Some(tonic::Code::InvalidArgument));
    }

    fn order(&self, number: usize, due: Option<SystemTime>) -> proto::SendNotificationRequest {
        let (of, number) = (number % self.practices, number / self.practices);
        let patient = match self.crowd {
            0 => format!("patient-{}", number % self.patients),
            crowd => format!("{CROWD}-{}", number % crowd),
        };
        order(practice_of(of), number, patient, due)
    }
}

/// A change of one practice is what a watcher waits for.
pub(crate) struct Watcher(Streaming<proto::WatchDeliveriesResponse>);

impl Watcher {
    /// Of the first practice. Returns once it watches.
    pub(crate) async fn start(callers: &Callers, number: usize) -> Self {
        Self::of(callers, number, &practice(0), None).await
    }

    /// Of some practice, after a cursor or from now on.
    pub(crate) async fn of(callers: &Callers, number: usize, practice: &str, cursor: Option<String>) -> Self {
        let connection = callers.connections[number % callers.connections.len()].clone();
        let start = cursor.map(Start::Cursor);
        let watch = proto::WatchDeliveriesRequest { practice_id: practice.into(), start, ..Default::default() };
        let mut client = NotifyServiceClient::new(connection);
        let mut stream = client.watch_deliveries(request(&callers.token, watch)).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().unwrap().changes.is_empty());
        Self(stream)
    }

    /// Waits for changes, and says how many came.
    pub(crate) async fn next(&mut self) -> usize {
        self.changes().await.len()
    }

    /// Waits for changes.
    pub(crate) async fn changes(&mut self) -> Vec<proto::DeliveryChange> {
        loop {
            let changes = self.0.message().await.unwrap().unwrap().changes;
            if !changes.is_empty() {
                return changes;
            }
        }
    }
}

/// As callers send it.
pub(crate) fn a_request() -> proto::SendNotificationRequest {
    order(practice(0), 7, "patient-7".into(), Some(SystemTime::now()))
}

fn order(
    practice_id: String,
    number: usize,
    patient_id: String,
    due: Option<SystemTime>,
) -> proto::SendNotificationRequest {
    let notice = proto::SystemDetails { title: "Notice".into(), body: "A notice.".into(), security: false };
    let notification = proto::NotificationInput {
        patient_id,
        payload: Some(Payload::System(notice)),
        reference: format!("reference-{number}"),
        schedule_time: due.map(Into::into),
        ..Default::default()
    };
    proto::SendNotificationRequest {
        practice_id,
        request_id: Uuid::now_v7().simple().to_string(),
        notification: Some(notification),
    }
}
