#![expect(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeSet, path::Path, time::Duration};

use axum::{body::Body, routing::any};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::*;
use crate::{
    auth::{LocalKey, NewToken, Settings},
    clock::{Clock, SystemClock},
    crypto::KeyFile,
    domain::{Engine, Practices, Role},
    grpc::proto::{
        ListAuditEventsRequest, ListAuditEventsResponse, audit_service_client::AuditServiceClient,
        audit_service_server::AuditService,
    },
    store::{self, Reserve, Store, Time},
    wake::Wake,
};

struct Guard {
    routes: Routes,
    key: LocalKey,
    _folder: tempfile::TempDir,
}

impl Guard {
    /// The services that need nothing but a token, a call that breaks down, and all that surrounds them.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let (key, _) = LocalKey::load_or_create(&path).unwrap();
        let settings = Settings {
            jwks: None,
            issuer: "https://issuer.example".into(),
            audience: "heedwell".into(),
            leeway: Duration::from_secs(30),
            local_key: Some(path),
            emergency_key: None,
        };
        let verifier = Arc::new(Verifier::new(settings, Arc::new(SystemClock)).await.unwrap());
        let routes = Routes::new(AuditServiceServer::new(Later));
        let broken = any(async || -> () { panic!("Pat Doe") });
        let routes = Routes::from(routes.into_axum_router().route("/heedwell.v1.Broken/Call", broken));
        let store = store(folder.path()).await;
        let told = (Refusals::new(store.clone(), Engine::new()), Emergencies::new(store));
        let calls = Arc::new(Calls::new(None));
        Self {
            routes: guarded(routes, verifier, calls, call::Observer::new(told, crate::telemetry::Telemetry::default())),
            key,
            _folder: folder,
        }
    }

    fn token(&self, roles: &[Role]) -> String {
        let token = NewToken {
            subject: "svc".into(),
            name: String::new(),
            practices: Practices::Named(["a".parse().unwrap()].into()),
            roles: roles.iter().copied().collect(),
            patient: None,
            ttl: Duration::from_secs(60),
        };
        self.key.issue(&token, "https://issuer.example", "heedwell", SystemClock.now())
    }

    fn request<T>(&self, message: T, roles: &[Role]) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.token(roles)).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }

    async fn audit(&self, request: Request<ListAuditEventsRequest>) -> Status {
        AuditServiceClient::new(self.routes.clone()).list_audit_events(request).await.err().unwrap()
    }
}

/// A database without practices.
async fn store(folder: &Path) -> Store {
    let settings = store::Settings {
        database_url: format!("sqlite:{}", folder.join("db").display()),
        migrate: true,
        sms_regions: Vec::new(),
        lease: Duration::from_secs(60),
        connections: 1,
        hints: false,
        reserve: Reserve::default(),
        key_uses: crate::crypto::DATA_KEY_USES,
        telemetry: crate::telemetry::Telemetry::default(),
    };
    let keys = KeyFile::create(&folder.join("keys")).unwrap();
    Store::open(settings, keys, Time::Database(Arc::new(SystemClock)), Wake::default()).await.unwrap()
}

/// Only checks who calls.
struct Later;

#[tonic::async_trait]
impl AuditService for Later {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        auth::scope(&request, &request.get_ref().practice_id, &[Role::Auditor])?;
        Err(Status::unimplemented("later"))
    }
}

fn events(practice: &str) -> ListAuditEventsRequest {
    ListAuditEventsRequest { practice_id: practice.into(), ..Default::default() }
}

fn reason(status: &Status) -> (Code, String) {
    (status.code(), status.get_error_details().error_info().unwrap().reason.clone())
}

#[tokio::test]
async fn token_practice_and_role_are_checked_in_this_order_before_anything_is_told() {
    let guard = Guard::new().await;
    let status = guard.audit(Request::new(events("a"))).await;
    assert_eq!(reason(&status), (Code::Unauthenticated, "TOKEN_INVALID".into()));
    let mut request = Request::new(events("a"));
    request.metadata_mut().insert("authorization", "Bearer nonsense".parse().unwrap());
    assert_eq!(reason(&guard.audit(request).await), (Code::Unauthenticated, "TOKEN_INVALID".into()));
    let status = guard.audit(guard.request(events("b"), &[])).await;
    assert_eq!(reason(&status), (Code::PermissionDenied, "SCOPE_FORBIDDEN".into()));
    let status = guard.audit(guard.request(events("a"), &[Role::Staff])).await;
    assert_eq!(reason(&status), (Code::PermissionDenied, "ROLE_REQUIRED".into()));
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["required_role"], "auditor");
    let large = ListAuditEventsRequest { patient_id: "x".repeat(LONGEST_MESSAGE), ..events("a") };
    let status = guard.audit(guard.request(large, &[Role::Auditor])).await;
    assert_eq!(reason(&status), (Code::InvalidArgument, "FIELD_INVALID".into()));
    let status = guard.audit(guard.request(events("a"), &[Role::Auditor])).await;
    assert_eq!(status.code(), Code::Unimplemented);
}

async fn raw(guard: &Guard, path: &str, id: &str) -> http::Response<Body> {
    let request = http::Request::post(path)
        .header("authorization", format!("Bearer {}", guard.token(&[])))
        .header("x-request-id", id)
        .body(Body::empty())
        .unwrap();
    guard.routes.clone().into_axum_router().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_server_goes_on() {
    let guard = Guard::new().await;
    let response = raw(&guard, "/heedwell.v1.Broken/Call", "x").await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(reason(&status), (Code::Internal, "INTERNAL".into()));
    assert!(!format!("{response:?}").contains("Pat"));
    let response = raw(&guard, "/heedwell.v1.Broken/Other", "x").await;
    assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Unimplemented);
}

#[tokio::test]
async fn each_answer_has_an_id_that_the_caller_did_not_choose() {
    let guard = Guard::new().await;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let response = raw(&guard, "/heedwell.v1.Broken/Other", "Pat Doe").await;
        ids.insert(response.headers()["x-request-id"].to_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|id| uuid::Uuid::try_parse(id).is_ok()));
}

#[test]
fn every_service_of_the_contract_is_served() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "heedwell.v1");
    let services = files.flat_map(|file| &file.service).map(|service| format!("heedwell.v1.{}", service.name()));
    let expected: BTreeSet<_> = services.chain([String::new()]).collect();
    assert_eq!(SERVICES.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), expected);
}
