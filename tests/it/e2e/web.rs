//! What does not come over plain gRPC: gRPC-Web on the sidecar's port, probes, health and reflection.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::future::join;
use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchPutPatientsRequest, Channel, ErasePatientRequest, GetPracticeRequest, GetPracticeResponse,
        PutPracticeRequest, WatchDeliveriesRequest, WatchDeliveriesResponse,
    },
};
use prost::Message;
use reqwest::{Method, Response, StatusCode, Version};
use tokio::time::timeout;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use super::{
    callbacks::browser,
    given::{home, patient, practice, send_over},
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

/// The name of a service that is called most.
const NOTIFY: &str = "heedwell.v1.NotifyService";

/// Frames of an answer of gRPC-Web: messages, then trailers
/// (github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md).
pub(super) struct Frames {
    answer: Response,
    bytes: Vec<u8>,
}

enum Frame {
    Message(Vec<u8>),
    Trailers(BTreeMap<String, String>),
}

impl Frames {
    /// The next frame; unset at the end of the body.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((&flags, rest)) = self.bytes.split_first()
                && let Some((length, rest)) = rest.split_first_chunk::<4>()
                && let Some(body) = rest.get(..u32::from_be_bytes(*length) as usize)
            {
                let frame = match flags {
                    0 => Frame::Message(body.to_vec()),
                    0x80 => Frame::Trailers(trailers(body)),
                    other => panic!("flags {other}"),
                };
                self.bytes.drain(..5 + u32::from_be_bytes(*length) as usize);
                return Some(frame);
            }
            let chunk = timeout(LIMIT, self.answer.chunk()).await.expect("a frame in time").unwrap();
            match chunk {
                Some(chunk) => self.bytes.extend_from_slice(&chunk),
                None => {
                    assert!(self.bytes.is_empty(), "the body ends within a frame");
                    return None;
                }
            }
        }
    }

    pub(super) async fn message<M: Message + Default>(&mut self) -> M {
        match self.next().await {
            Some(Frame::Message(bytes)) => M::decode(bytes.as_slice()).unwrap(),
            Some(Frame::Trailers(trailers)) => panic!("{trailers:?}"),
            None => panic!("the answer ended"),
        }
    }

    /// Status and details: in a frame of their own, or in the headers of an answer without messages.
    pub(super) async fn end(mut self) -> BTreeMap<String, String> {
        match self.next().await {
            Some(Frame::Trailers(trailers)) => {
                assert!(self.next().await.is_none(), "trailers come last");
                trailers
            }
            Some(Frame::Message(_)) => panic!("another message"),
            None => {
                let headers = self.answer.headers().iter();
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
            }
        }
    }
}

fn trailers(bytes: &[u8]) -> BTreeMap<String, String> {
    let lines = std::str::from_utf8(bytes).unwrap().lines();
    lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect()
}

/// Makes a call as a browser does: HTTP/1.1 and no trailers.
async fn call(t: &TestApp, method: &str, token: &str, message: &impl Message) -> Frames {
    let bearer = format!("Bearer {token}");
    let bearer = [("x-grpc-web", "1"), ("authorization", bearer.as_str())];
    call_with(t, method, if token.is_empty() { &bearer[..1] } else { &bearer }, message).await
}

/// The same with headers of the test's own.
pub(super) async fn call_with(t: &TestApp, method: &str, headers: &[(&str, &str)], message: &impl Message) -> Frames {
    let encoded = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    body.extend(encoded);
    let mut request = browser()
        .post(t.url(&format!("/heedwell.v1.{method}")))
        .header("content-type", "application/grpc-web+proto")
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_11));
    let content_type = answer.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("application/grpc-web+proto"), "{content_type}");
    Frames { answer, bytes: Vec::new() }
}

on_a_server! {
    sqlite:
    async fn a_browser_makes_a_call_with_one_answer(t: &mut TestApp) {
        practice(t).await;
        let request = GetPracticeRequest { practice_id: ACME.into() };
        let mut frames = call(t, "DirectoryService/GetPractice", &t.token(Role::Staff), &request).await;
        let shown: GetPracticeResponse = frames.message().await;
        assert_eq!(shown.practice.unwrap().display_name, "Acme Primary Care");
        assert_eq!(frames.end().await["grpc-status"], "0");
    }

    async fn a_browser_is_told_what_is_wrong_as_others_are(t: &mut TestApp) {
        practice(t).await;
        let request = GetPracticeRequest { practice_id: "beta".into() };
        let end = call(t, "DirectoryService/GetPractice", &t.token(Role::Staff), &request).await.end().await;
        assert_eq!(end["grpc-status"], (Code::PermissionDenied as i32).to_string());
        let details = BASE64_STANDARD.decode(&end["grpc-status-details-bin"]);
        let details =
            details.or_else(|_| base64::prelude::BASE64_STANDARD_NO_PAD.decode(&end["grpc-status-details-bin"]));
        let details = details.unwrap();
        let holds = |text: &str| details.windows(text.len()).any(|bytes| bytes == text.as_bytes());
        assert!(holds("SCOPE_FORBIDDEN") && holds("heedwell.v1") && holds("google.rpc.ErrorInfo"));
        let end = call(t, "DirectoryService/GetPractice", "", &request).await.end().await;
        assert_eq!(end["grpc-status"], (Code::Unauthenticated as i32).to_string());
    }

    async fn a_browser_follows_a_watch_to_its_planned_end(t: &mut TestApp) {
        practice(t).await;
        let request = WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let mut frames = call(t, "NotifyService/WatchDeliveries", &t.token(Role::Staff), &request).await;
        let first: WatchDeliveriesResponse = frames.message().await;
        assert!(first.changes.is_empty() && !first.cursor.is_empty());
        let id = send_over(t, "pat", Channel::InApp).await;
        let next: WatchDeliveriesResponse = frames.message().await;
        assert_eq!(next.changes[0].delivery.as_ref().map(|it| it.delivery_id.as_str()), Some(id.as_str()));
        let app = t.take();
        let end = async {
            let last: WatchDeliveriesResponse = frames.message().await;
            assert!(last.changes.is_empty() && last.cursor == next.cursor);
            frames.end().await
        };
        let ((), end) = join(app.stop(), end).await;
        assert_eq!(end["grpc-status"], "0");
    }

    async fn calls_that_no_browser_needs_are_served_on_the_port_of_grpc_alone(t: &mut TestApp) {
        practice(t).await;
        let every = t.token_of(&crate::support::app::Pass::new(&Role::ALL, &[ACME]));
        let put = PutPracticeRequest {
            practice_id: ACME.into(),
            practice: Some(heedwell::grpc::proto::Practice { display_name: "Changed".into(), ..home() }),
        };
        let patients = BatchPutPatientsRequest { practice_id: ACME.into(), patients: vec![patient("new", "", "")] };
        let erase = ErasePatientRequest { practice_id: ACME.into(), patient_id: "pat".into() };
        let ends = [
            call(t, "DirectoryService/PutPractice", &every, &put).await.end().await,
            call(t, "DirectoryService/BatchPutPatients", &every, &patients).await.end().await,
            call(t, "DirectoryService/ErasePatient", &every, &erase).await.end().await,
        ];
        for end in ends {
            assert_eq!(end["grpc-status"], (Code::Unimplemented as i32).to_string());
        }
        let get = GetPracticeRequest { practice_id: ACME.into() };
        let shown = t.caller(Role::Staff).directory.get_practice(get).await.unwrap().into_inner().practice.unwrap();
        assert_eq!(shown.display_name, "Acme Primary Care");
        // The same for a client of plain gRPC that comes to the sidecar.
        let url = t.url("/heedwell.v1.DirectoryService/PutPractice");
        let answer =
            browser().post(url).header("content-type", "application/grpc").bearer_auth(&every).send().await.unwrap();
        assert_ne!(answer.headers().get("grpc-status").map(|code| code.as_bytes()), Some("0".as_bytes()));
    }

    async fn pages_of_other_origins_are_given_nothing(t: &mut TestApp) {
        practice(t).await;
        let request = browser()
            .request(Method::OPTIONS, t.url("/heedwell.v1.DirectoryService/GetPractice"))
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web");
        let answer = request.send().await.unwrap();
        assert!(answer.headers().get("access-control-allow-origin").is_none());
    }

    async fn probes_say_whether_it_lives_and_may_be_sent_work(t: &mut TestApp) {
        for (path, body) in [("/healthz", "ok"), ("/readyz", "ready")] {
            let answer = browser().get(t.url(path)).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.text().await.unwrap(), body);
        }
        for path in ["/dashboard", "/metrics", "/webhooks/", "/favicon.ico"] {
            assert_eq!(browser().get(t.url(path)).send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
        }
        // A schema that this binary does not know whole is not worked with.
        let forget =
            "UPDATE seaql_migrations SET version = 'other' WHERE version = (SELECT max(version) FROM seaql_migrations)";
        t.execute("CREATE TABLE kept AS SELECT * FROM seaql_migrations").await;
        t.execute(forget).await;
        let answer = browser().get(t.url("/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(browser().get(t.url("/healthz")).send().await.unwrap().status(), StatusCode::OK);
        t.execute("DELETE FROM seaql_migrations").await;
        t.execute("INSERT INTO seaql_migrations SELECT * FROM kept").await;
        t.execute("DROP TABLE kept").await;
        assert_eq!(browser().get(t.url("/readyz")).send().await.unwrap().status(), StatusCode::OK);
    }

    async fn each_service_has_its_health_which_needs_no_token(t: &mut TestApp) {
        let mut health = HealthClient::new(t.channel());
        let services =
            ["Notify", "Broadcast", "Template", "Inbox", "Preferences", "Conversations", "Directory", "Audit"];
        let names = services.map(|name| format!("heedwell.v1.{name}Service"));
        for service in names.into_iter().chain([String::new()]) {
            let answer = health.check(HealthCheckRequest { service: service.clone() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        let absent = health.check(HealthCheckRequest { service: "heedwell.v1.Nothing".into() }).await;
        assert_eq!(absent.err().unwrap().code(), Code::NotFound);

        let watch = health.watch(HealthCheckRequest { service: NOTIFY.into() }).await.unwrap();
        let mut watch = watch.into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        let app = t.take();
        let end = async {
            let next = timeout(LIMIT, watch.message()).await.expect("it is told in time");
            assert_eq!(next.unwrap().unwrap().status(), ServingStatus::NotServing);
            drop(watch);
        };
        join(app.stop(), end).await;
    }

    async fn reflection_shows_the_contract_in_both_versions(t: &mut TestApp) {
        let list = v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        };
        let mut reflection = v1::server_reflection_client::ServerReflectionClient::new(t.channel());
        let answers = reflection.server_reflection_info(tokio_stream::once(list)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(services)) =
            answer.message_response
        else {
            panic!("a list of services")
        };
        let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
        assert!(names.iter().filter(|name| name.starts_with("heedwell.v1.")).count() == 8, "{names:?}");
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"));

        let symbol = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                NOTIFY.into(),
            )),
        };
        let mut reflection = v1alpha::server_reflection_client::ServerReflectionClient::new(t.channel());
        let answers = reflection.server_reflection_info(tokio_stream::once(symbol)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        let Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) =
            answer.message_response
        else {
            panic!("a file of the contract")
        };
        let file = prost_types::FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
        assert_eq!(file.name(), "heedwell/v1/notify_service.proto");
    }
}
