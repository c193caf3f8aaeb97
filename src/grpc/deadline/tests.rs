#![expect(clippy::unwrap_used, reason = "tests")]

use axum::{Router, body::Body, middleware::from_fn, routing::any};
use http::HeaderValue;
use prost::Message;
use prost_types::FileDescriptorSet;
use tower::ServiceExt;

use super::*;
use crate::grpc::proto;

fn headers(timeout: &str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), HeaderValue::from_str(timeout).unwrap())])
}

#[test]
fn timeouts_have_a_number_and_a_unit() {
    let rows = [
        ("1H", 3_600_000_000_000),
        ("2M", 120_000_000_000),
        ("3S", 3_000_000_000),
        ("4m", 4_000_000),
        ("5u", 5_000),
        ("6n", 6),
        ("99999999n", 99_999_999),
    ];
    for (text, nanos) in rows {
        assert_eq!(asked(&headers(text)), Some(Duration::from_nanos(nanos)), "{text}");
    }
    for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
        assert_eq!(asked(&headers(bad)), None, "{bad}");
    }
    assert!(asked(&headers("99999999H")).is_some());
}

#[test]
fn the_streams_are_those_of_the_contract() {
    let set = FileDescriptorSet::decode(proto::DESCRIPTOR).unwrap();
    let mut streams = Vec::new();
    for file in set.file.iter().filter(|file| file.package() == "heedwell.v1") {
        for service in &file.service {
            let calls = service.method.iter().filter(|call| call.server_streaming());
            streams.extend(calls.map(|call| format!("/heedwell.v1.{}/{}", service.name(), call.name())));
        }
    }
    streams.sort();
    assert_eq!(streams, STREAMS);
}

/// How a call that takes `works` is answered, and after how long.
async fn call(path: &str, timeout: Option<&str>, works: Duration) -> (Option<String>, Duration) {
    let router = Router::new().fallback(any(async move || tokio::time::sleep(works).await)).layer(from_fn(limit));
    let mut request = http::Request::builder().uri(path).body(Body::empty()).unwrap();
    if let Some(timeout) = timeout {
        *request.headers_mut() = headers(timeout);
    }
    let start = Instant::now();
    let response = router.oneshot(request).await.unwrap();
    let code = response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
    (code, start.elapsed())
}

const UNARY: &str = "/heedwell.v1.NotifyService/SendNotification";
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_before_its_callers_deadline() {
    let (code, after) = call(UNARY, Some("2S"), HOUR).await;
    assert_eq!(code.as_deref(), Some("4"));
    assert!(after <= Duration::from_secs(2) && after > Duration::from_millis(1_990), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_at_most_30_seconds_whatever_its_caller_allows() {
    for timeout in [None, Some("1H"), Some("nonsense"), Some("99999999H")] {
        let (code, after) = call(UNARY, timeout, HOUR).await;
        assert_eq!((code.as_deref(), after.as_secs()), (Some("4"), 30), "{timeout:?}");
    }
    let (code, after) = call(UNARY, None, Duration::from_secs(29)).await;
    assert_eq!((code, after.as_secs()), (None, 29));
}

#[tokio::test(start_paused = true)]
async fn the_beginning_of_a_stream_waits_as_long_as_its_caller_does() {
    for stream in STREAMS {
        assert_eq!(call(stream, None, HOUR).await, (None, HOUR), "{stream}");
        let (code, after) = call(stream, Some("1M"), HOUR).await;
        assert_eq!(code.as_deref(), Some("4"));
        assert!(after > Duration::from_secs(59), "{stream}: {after:?}");
    }
}
