//! What surrounds every call: an id to name it by, a span, one line in the log that says how it went, and its place among
//! the calls of its connection.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::Code;
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::status;
use crate::{domain::Call, ports::Connection};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the call an id, which its answer carries, and a span. An id that the caller brought is not taken over: it could be
/// any text, and would end up in the log.
pub(super) async fn observe(mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let method = method(request.uri().path()).to_owned();
    let span = tracing::info_span!("rpc", rpc.method = method, request.id = id, practice.id = Empty);
    let peer = request.extensions().get::<Connection>().and_then(Connection::peer);
    request.extensions_mut().insert(Call {
        action: method.trim_start_matches('/').to_owned(),
        trace_id: id.clone(),
        source_address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
    });
    let start = Instant::now();
    let mut response = in_our_words(next.run(request).instrument(span.clone()).await);
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    let duration_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(rpc.code = code, duration_ms, "call answered"));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Refuses the call when its connection has too many that wait for their answer already, before anything is done for it.
/// A stream counts until it begins. Without a connection, as in tests, there is nothing to share.
pub(super) async fn admit(request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Connection>().map(Connection::place);
    if matches!(place, Some(None)) {
        return status::too_many_calls().into_http();
    }
    let answer = next.run(request).await;
    drop(place);
    answer
}

/// What tonic refuses by itself before any handler sees it has no details, and a code that means something else here.
fn in_our_words(response: Response) -> Response {
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is = |code: Code| header("grpc-status") == (code as i32).to_string();
    if response.headers().contains_key("grpc-status-details-bin") {
        response
    } else if is(Code::OutOfRange) {
        status::too_large().into_http()
    } else if is(Code::Internal) {
        // Ours has details. tonic's is about what came: no message of the call, half of one, none, or two.
        status::malformed().into_http()
    } else {
        response
    }
}

/// The path of a call of ours; another path may be any text.
fn method(path: &str) -> &str {
    let plain = path.len() <= 80 && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.".contains(&byte));
    if plain && path.starts_with("/heedwell.v1.") { path } else { "unknown" }
}
