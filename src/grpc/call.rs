//! What surrounds every call: an id to name it by, a span, one line in the log that says how it went, and its place among
//! the calls of its connection.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;
use tonic::Code;
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::status;
use crate::{
    domain::{Actor, AuditNote, Call, Scope},
    ports::Connection,
    service::refusals::Refusals,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who makes a call, and for which practice, once that is known: where it goes on record that it was refused. Kept with the
/// request.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller(Arc<OnceLock<Known>>);

#[derive(Debug)]
enum Known {
    /// Somebody who may make it.
    Scope(Scope),
    /// Somebody who may not, and the practice that they named.
    Denied(Arc<Actor>, String),
}

impl Caller {
    pub(super) fn is(&self, scope: &Scope) {
        let _ = self.0.set(Known::Scope(scope.clone()));
    }

    pub(super) fn is_denied(&self, actor: Arc<Actor>, practice: &str) {
        let _ = self.0.set(Known::Denied(actor, practice.to_owned()));
    }

    /// What goes on record when the call is refused.
    fn refused(&self, call: &Call, (code, resource): (i32, String)) -> Vec<AuditNote> {
        match self.0.get() {
            Some(Known::Scope(scope)) => scope.refused(resource, code).into_iter().collect(),
            Some(Known::Denied(actor, practice)) => actor.refused(practice, call, code),
            None => Vec::new(),
        }
    }
}

/// Gives the call an id, which its answer carries, and a span, and puts on record that it was refused. An id that the caller brought is not taken over: it could be
/// any text, and would end up in the log.
pub(super) async fn observe(State(refusals): State<Refusals>, mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let method = method(request.uri().path()).to_owned();
    let span = tracing::info_span!("rpc", rpc.method = method, request.id = id, practice.id = Empty);
    let peer = request.extensions().get::<Connection>().and_then(Connection::peer);
    let call = Call {
        action: method.trim_start_matches('/').to_owned(),
        trace_id: id.clone(),
        source_address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
    };
    let caller = Caller::default();
    request.extensions_mut().insert(call.clone());
    request.extensions_mut().insert(caller.clone());
    let start = Instant::now();
    let mut response = in_our_words(next.run(request).instrument(span.clone()).await);
    if let Some(refusal) = status::refusal(response.headers()) {
        caller.refused(&call, refusal).into_iter().for_each(|refusal| refusals.take(refusal));
    }
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
