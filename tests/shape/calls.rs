//! Whole calls, to a server in this process that answers and does nothing by itself, over SQLite.

use std::{cell::Cell, collections::BTreeSet, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use chrono::DateTime;
use heedwell::{
    app::Answers,
    auth::{LocalKey, NewToken},
    clock::ManualClock,
    config::{self, Env},
    domain::{Practices, Role},
    grpc::proto::{
        self, BatchPutPatientsRequest, GetPatientRequest, NotificationInput, Patient, Practice, PutPracticeRequest,
        SendNotificationRequest, SystemDetails, notification_input::Payload,
    },
    store::Time,
};
use http::Request;
use prost::Message;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

/// A send that is accepted, one that is refused for a field, and a read.
pub(crate) const CALLS: [&str; 3] = ["call_accepted", "call_refused", "call_read"];
pub(crate) const WARM: usize = 30;
pub(crate) const TIMES: usize = 100;

/// A Monday, ten in the morning in New York.
const START: i64 = 1_772_463_600;
const PRACTICE: &str = "acme";
const PATIENT: &str = "pat";
/// Of gRPC.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";

pub(crate) struct Server {
    runtime: Runtime,
    answers: Answers,
    token: String,
    number: Cell<usize>,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let now = DateTime::from_timestamp(START, 0).unwrap();
        let mut env = Env::default();
        env.set("HEEDWELL_DATA_DIR", folder.path().display().to_string());
        env.set("HEEDWELL_DATABASE_URL", format!("sqlite:{}", folder.path().join("heedwell.db").display()));
        env.set("HEEDWELL_PUBLIC_URL", "https://reach.acme.example".to_owned());
        env.set("HEEDWELL_DISK_RESERVE_MIB", "256".to_owned());
        env.set("HEEDWELL_CALLS_PER_SECOND", "unlimited".to_owned());
        let config = config::read(&env, true).unwrap();
        let key = config::local_key(&config.data_dir);
        let time = Time::Injected(Arc::new(ManualClock::new(now)));
        let answers = runtime.block_on(Answers::of(config, time)).unwrap();
        let (key, _) = LocalKey::load_or_create(&key).unwrap();
        let roles = BTreeSet::from([Role::Sender, Role::Staff, Role::PracticeAdmin, Role::Directory, Role::Operator]);
        let new = NewToken {
            subject: "shape".into(),
            name: "Robin".into(),
            practices: Practices::All,
            roles,
            patient: None,
            ttl: Duration::from_secs(24 * 3_600),
        };
        let token = key.issue(&new, "heedwell", "heedwell", now);
        let server = Self { runtime, answers, token, number: Cell::default(), _folder: folder };
        server.furnish();
        server
    }

    fn furnish(&self) {
        let practice = Practice {
            legal_name: "Acme Primary Care, PLLC".into(),
            display_name: "Acme Primary Care".into(),
            time_zone: "America/New_York".into(),
            ..Default::default()
        };
        let put = PutPracticeRequest { practice_id: PRACTICE.into(), practice: Some(practice) };
        self.call("DirectoryService/PutPractice", &put, OK);
        let patient = Patient {
            patient_id: PATIENT.into(),
            first_name: "Pat".into(),
            portal_enabled: true,
            ..Default::default()
        };
        let put = BatchPutPatientsRequest { practice_id: PRACTICE.into(), patients: vec![patient] };
        self.call("DirectoryService/BatchPutPatients", &put, OK);
    }

    /// Makes a call so often, one after the other.
    pub(crate) fn often(&self, call: &str, times: usize) {
        for _ in 0..times {
            let number = self.number.replace(self.number.get() + 1);
            match call {
                "call_accepted" => self.send(format!("request-{number}"), OK),
                "call_refused" => self.send(String::new(), INVALID_ARGUMENT),
                "call_read" => {
                    let get = GetPatientRequest { practice_id: PRACTICE.into(), patient_id: PATIENT.into() };
                    self.call("DirectoryService/GetPatient", &get, OK);
                }
                other => panic!("{other}"),
            }
        }
    }

    /// To the inbox, where it has arrived once it is accepted.
    fn send(&self, request_id: String, code: &str) {
        let notice = SystemDetails { title: "Notice".into(), body: "A notice.".into(), security: false };
        let notification = NotificationInput {
            patient_id: PATIENT.into(),
            payload: Some(Payload::System(notice)),
            channels: vec![proto::Channel::InApp.into()],
            reference: "reference".into(),
            ..Default::default()
        };
        let send =
            SendNotificationRequest { practice_id: PRACTICE.into(), request_id, notification: Some(notification) };
        self.call("NotifyService/SendNotification", &send, code);
    }

    fn call(&self, method: &str, message: &impl Message, code: &str) {
        let message = message.encode_to_vec();
        // Not compressed, and its length (the gRPC protocol over HTTP/2, "Length-Prefixed-Message").
        let head = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0][..], &head, &message].concat();
        let request = Request::post(format!("/heedwell.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Body::from(body))
            .unwrap();
        self.runtime.block_on(async {
            let response = self.answers.grpc.clone().oneshot(request).await.unwrap();
            let refused = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
            // An answer that begins with a message ends well, in trailers that nobody needs to read here.
            assert_eq!(refused.as_deref().unwrap_or(OK), code, "{method}");
            let answer = to_bytes(response.into_body(), usize::MAX).await.unwrap();
            assert_eq!(answer.is_empty(), code != OK, "{method}");
        });
    }
}
