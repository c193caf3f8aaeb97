//! A server in this process that answers and does nothing by itself, with a practice in it; and a look at its database from outside.
//! Nothing is ever sent anywhere.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use chrono::DateTime;
use heedwell::{
    app::Answers,
    auth::{LocalKey, NewToken},
    clock::ManualClock,
    config::{self, Env},
    crypto::{KeyFile, TokenKey},
    domain::{Practices, Role},
    grpc::proto::{
        BatchPutPatientsRequest, Channel, EmailSettings, ListDeliveriesRequest, MessageRoute, NotificationInput,
        Patient, Practice, PracticeSettings, PutPracticeRequest, SendGridSettings, SendMessageRequest,
        SendNotificationRequest, SmsSettings, SystemDetails, UpdatePracticeSettingsRequest, email_settings,
        notification_input::Payload, send_message_request, sms_settings,
    },
    store::Time,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use prost::Message;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::{
    contract::{Method, contract},
    plan::{self, Known},
};

/// When the server stands still: a Monday, ten in the morning in New York.
pub(crate) const START: i64 = 1_772_463_600;
/// The practice whose callbacks are answered. Requests cannot change it.
pub(crate) const CALLED_BACK: &str = "called-back";
/// Its account at Twilio.
pub(crate) const ACCOUNT: &str = "AC00000000000000000000000000000001";
/// What proves to be Twilio.
pub(crate) const AUTH_TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Under which address it is reached.
pub(crate) const PUBLIC_URL: &str = "https://reach.acme.example";
/// The longest answer (LONGEST_MESSAGE of the calls), and the longest trailers: some clients take no more.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024 + 5;
const LONGEST_TRAILERS: usize = 8 * 1024;

pub(crate) struct Server {
    runtime: Runtime,
    pub(crate) answers: Answers,
    /// Whoever may do everything in the practice, the operator, and nobody.
    pub(crate) tokens: [String; 3],
    pub(crate) known: Known,
    /// What proves to be SendGrid.
    pub(crate) sendgrid: EcdsaKeyPair,
    /// What its tokens are made with.
    pub(crate) keys: TokenKey,
    outside: RefCell<SqliteConnection>,
    _folder: TempDir,
}

/// What was answered to a call.
pub(crate) struct Answer {
    /// gRPC's code.
    pub(crate) code: i32,
    /// Its words.
    pub(crate) said: String,
    pub(crate) messages: Vec<u8>,
}

/// Does something with the server of this thread.
pub(crate) fn with<T>(work: impl FnOnce(&Server) -> T) -> T {
    thread_local! {
        static SERVER: Server = Server::start();
    }
    SERVER.with(work)
}

impl Server {
    fn start() -> Self {
        // What the server says of its own errors, beside the input that brought them about.
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr);
        let _ = log.try_init();
        // In memory where there is such a place: this is not about disks.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let database = folder.path().join("heedwell.db");
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(START, 0).unwrap()));
        let mut env = Env::default();
        env.set("HEEDWELL_DATA_DIR", folder.path().display().to_string());
        env.set("HEEDWELL_DATABASE_URL", format!("sqlite:{}", database.display()));
        env.set("HEEDWELL_PUBLIC_URL", PUBLIC_URL);
        env.set("HEEDWELL_DISK_RESERVE_MIB", "256");
        for name in ["SMS_PER_DAY", "SMS_PER_BLOCK", "CALLS_PER_SECOND"] {
            env.set(&format!("HEEDWELL_{name}"), "unlimited");
        }
        let config = config::read(&env, true).unwrap();
        let (key, master) = (config::local_key(&config.data_dir), config.data_dir.join("master-key"));
        let answers = runtime.block_on(Answers::of(config, Time::Injected(clock))).unwrap();
        let (key, _) = LocalKey::load_or_create(&key).unwrap();
        let token = |practices, roles: &[Role]| {
            let roles: BTreeSet<_> = roles.iter().copied().collect();
            let ttl = Duration::from_secs(365 * 24 * 3_600);
            let new = NewToken { subject: "fuzz".into(), name: "Robin".into(), practices, roles, patient: None, ttl };
            key.issue(&new, "heedwell", "heedwell", DateTime::from_timestamp(START, 0).unwrap())
        };
        let in_practice =
            [Role::Sender, Role::Staff, Role::PracticeAdmin, Role::Portal, Role::Directory, Role::Auditor];
        let acme = Practices::Named(["acme".parse().unwrap()].into());
        let operator = token(Practices::All, &[Role::Operator, Role::PracticeAdmin, Role::Directory]);
        let outside = SqliteConnection::connect(&format!("sqlite:{}", database.display()));
        let outside = runtime.block_on(outside).unwrap();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let sendgrid =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &SystemRandom::new()).unwrap();
        let mut server = Self {
            runtime,
            answers,
            tokens: [token(acme, &in_practice), operator, String::new()],
            known: Known::new(),
            sendgrid,
            keys: KeyFile::load(&master).unwrap().tokens(),
            outside: RefCell::new(outside),
            _folder: folder,
        };
        server.furnish();
        server.count_changes();
        server
    }

    /// Has the database count each row that is written, but for those that put on record who was refused.
    fn count_changes(&self) {
        const COUNTED: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'audit%' \
            AND name NOT LIKE 'sqlite_%'";
        let mut outside = self.outside.borrow_mut();
        self.block_on(async {
            let tables: Vec<String> = sqlx::query_scalar(COUNTED).fetch_all(&mut *outside).await.unwrap();
            assert!(tables.len() > 20, "{} tables", tables.len());
            let mut script = "CREATE TABLE changes (count INTEGER); INSERT INTO changes VALUES (0);".to_owned();
            for table in tables {
                for change in ["INSERT", "UPDATE", "DELETE"] {
                    script += &format!(
                        "CREATE TRIGGER {table}_{change} AFTER {change} ON {table} \
                         BEGIN UPDATE changes SET count = count + 1; END;"
                    );
                }
            }
            sqlx::raw_sql(sqlx::AssertSqlSafe(script)).execute(&mut *outside).await.unwrap();
        });
    }

    /// Two practices with somebody in them; something was sent in one, and the other hears from its providers.
    #[expect(clippy::too_many_lines, reason = "a world reads best whole")]
    fn furnish(&mut self) {
        for practice_id in ["acme", CALLED_BACK] {
            let practice = Practice {
                legal_name: "Acme Primary Care, PLLC".into(),
                display_name: "Acme Primary Care".into(),
                time_zone: "America/New_York".into(),
                ..Default::default()
            };
            let practice_id = practice_id.to_owned();
            self.put("PutPractice", &PutPracticeRequest { practice_id: practice_id.clone(), practice: Some(practice) });
            let patients = ["pat", "sam"].map(|id| Patient {
                patient_id: id.into(),
                first_name: "Pat".into(),
                email: format!("{id}@example.com"),
                mobile_phone: "+12025550142".into(),
                portal_enabled: true,
                ..Default::default()
            });
            self.put("BatchPutPatients", &BatchPutPatientsRequest { practice_id, patients: patients.into() });
        }
        // A SubjectPublicKeyInfo (RFC 5480) as SendGrid shows it.
        let head = BASE64_STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE").unwrap();
        let key = [&head[..], &self.sendgrid.public_key().as_ref()[1..]].concat();
        let sendgrid = SendGridSettings {
            api_key: "SG.made-up".into(),
            webhook_public_key: BASE64_STANDARD.encode(key),
            ..Default::default()
        };
        let settings = PracticeSettings {
            sms: Some(SmsSettings {
                account_sid: ACCOUNT.into(),
                auth_token: AUTH_TOKEN.into(),
                sender: Some(sms_settings::Sender::FromNumber("+12025550199".into())),
                ..Default::default()
            }),
            email: Some(EmailSettings {
                from_address: "no-reply@mail.acme.example".into(),
                provider: Some(email_settings::Provider::Sendgrid(sendgrid)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mask = prost_types::FieldMask { paths: vec!["sms".into(), "email".into()] };
        self.put(
            "UpdatePracticeSettings",
            &UpdatePracticeSettingsRequest {
                practice_id: CALLED_BACK.into(),
                settings: Some(settings),
                update_mask: Some(mask),
            },
        );
        for at in 0..3 {
            let notification = NotificationInput {
                patient_id: "pat".into(),
                channels: vec![Channel::InApp.into()],
                payload: Some(Payload::System(SystemDetails {
                    title: "News".into(),
                    body: "We moved.".into(),
                    security: false,
                })),
                ..Default::default()
            };
            self.put(
                "SendNotification",
                &SendNotificationRequest {
                    practice_id: "acme".into(),
                    request_id: format!("first-{at}"),
                    notification: Some(notification),
                },
            );
            self.put(
                "SendMessage",
                &SendMessageRequest {
                    practice_id: "acme".into(),
                    request_id: format!("first-{at}"),
                    body: "Good morning.".into(),
                    route: MessageRoute::Portal.into(),
                    target: Some(send_message_request::Target::PatientId("pat".into())),
                    ..Default::default()
                },
            );
        }
        self.put(
            "ListDeliveries",
            &ListDeliveriesRequest { practice_id: "acme".into(), page_size: 1, ..Default::default() },
        );
    }

    /// A call that must be well.
    fn put(&mut self, name: &str, request: &impl Message) {
        let method = contract().method(name);
        let token = usize::from(name.starts_with("PutP") || name.starts_with("Upd") || name.starts_with("BatchPut"));
        let answer = self.call(method, &self.tokens[token], &framed(&request.encode_to_vec()));
        assert_eq!(answer.code, 0, "{name}");
        plan::learn(&method.output, &answer.messages[5..], &mut self.known);
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(work));
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Calls with a body as it is.
    pub(crate) fn call(&self, method: &Method, token: &str, body: &[u8]) -> Answer {
        let mut request =
            Request::post(&method.path).header("content-type", "application/grpc").header("te", "trailers");
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body.to_vec())).unwrap();
        self.block_on(async {
            let response = self.answers.grpc.clone().oneshot(request).await.unwrap();
            let mut status = status(response.headers());
            let (mut messages, mut body) = (Vec::new(), response.into_body());
            while status.is_none()
                && let Some(frame) = body.frame().await
            {
                let frame = frame.unwrap();
                if let Some(trailers) = frame.trailers_ref() {
                    status = self::status(trailers);
                } else if let Some(data) = frame.data_ref() {
                    messages.extend_from_slice(data);
                    if method.watch {
                        // It would go on for ever; what it begins with is enough.
                        status = Some((0, String::new()));
                    }
                }
            }
            assert!(messages.len() <= LONGEST_ANSWER, "an answer of {} bytes", messages.len());
            let (code, said) = status.expect("a status");
            Answer { code, said, messages }
        })
    }

    /// A request to the sidecar, and its whole answer.
    pub(crate) fn request(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        let router: Router = self.answers.http.clone();
        self.block_on(async {
            let response = router.oneshot(request.map(Body::from)).await.unwrap();
            let (head, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            assert!(body.len() <= 64 * 1024, "an answer of {} bytes", body.len());
            Response::from_parts(head, body)
        })
    }

    /// Does something, and says whether it left a trace in the database. What is put on record of a refusal counts as none.
    pub(crate) fn leaves_a_trace<T>(&self, work: impl FnOnce() -> T) -> (T, bool) {
        let before = self.changes();
        let done = work();
        (done, self.changes() != before)
    }

    fn changes(&self) -> i64 {
        let mut outside = self.outside.borrow_mut();
        self.block_on(sqlx::query_scalar("SELECT count FROM changes").fetch_one(&mut *outside)).unwrap()
    }
}

fn status(headers: &http::HeaderMap) -> Option<(i32, String)> {
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(length <= LONGEST_TRAILERS, "trailers of {length} bytes");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Some((text("grpc-status")?.parse().ok()?, text("grpc-message").unwrap_or_default().to_owned()))
}

/// A message as it travels: not compressed, its length before it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}
