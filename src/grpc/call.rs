//! What surrounds every call: an id to name it by, a span, one line in the log that says how it went, and its place among
//! the calls of its connection.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue};
use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{Instrument, field::Empty};
use uuid::Uuid;

use super::{proto, status};
use crate::{
    domain::{Actor, AuditNote, Call, Scope, TraceContext},
    ports::Connection,
    service::{emergencies::Emergencies, refusals::Refusals},
    telemetry::{Span, Telemetry},
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

    /// For which practice a call is made with a token for an emergency.
    fn in_an_emergency(&self) -> Option<&Scope> {
        match self.0.get() {
            Some(Known::Scope(scope)) if scope.is_emergency() => Some(scope),
            _ => None,
        }
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

/// Who watches over calls.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    refusals: Refusals,
    emergencies: Emergencies,
    telemetry: Telemetry,
    /// The paths of the contract: whatever else is called is not worth a name.
    methods: Arc<BTreeSet<Arc<str>>>,
}

impl Observer {
    pub(super) fn new((refusals, emergencies): (Refusals, Emergencies), telemetry: Telemetry) -> Self {
        let contract = FileDescriptorSet::decode(proto::DESCRIPTOR).unwrap_or_default();
        let paths = contract.file.iter().flat_map(|file| {
            file.service.iter().flat_map(|service| {
                let path = |method: &str| format!("{}.{}/{method}", file.package(), service.name());
                service.method.iter().map(move |method| Arc::from(path(method.name())))
            })
        });
        Self { refusals, emergencies, telemetry, methods: Arc::new(paths.collect()) }
    }

    /// The path, if it is of the contract. Another may be any text.
    fn method(&self, path: &str) -> Arc<str> {
        path.strip_prefix('/').and_then(|path| self.methods.get(path)).cloned().unwrap_or_else(|| Arc::from("unknown"))
    }
}

/// Gives the call an id, which its answer carries, and a span, and puts on record that it was refused. An id that the caller brought is not taken over: it could be
/// any text, and would end up in the log.
pub(super) async fn observe(State(observer): State<Observer>, mut request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let method = observer.method(request.uri().path());
    let name = (*method).to_owned();
    let parent = request.headers().get("traceparent").and_then(|header| TraceContext::of_header(header.to_str().ok()?));
    let mut traced = observer.telemetry.traces.serve(name.clone(), parent);
    let trace = traced.context();
    let span =
        tracing::info_span!("rpc", rpc.method = &*method, request.id = id, practice.id = Empty, trace.id = Empty);
    if let Some(trace) = trace {
        span.record("trace.id", trace.trace());
    }
    let peer = request.extensions().get::<Connection>().and_then(Connection::peer);
    let call = Call {
        action: name,
        trace_id: id.clone(),
        source_address: peer.map(|peer| peer.to_string()).unwrap_or_default(),
        trace,
    };
    let caller = Caller::default();
    request.extensions_mut().insert(call.clone());
    request.extensions_mut().insert(caller.clone());
    let start = Instant::now();
    let mut response = in_our_words(next.run(request).instrument(span.clone()).await);
    if status::refusal(response.headers()).is_none()
        && let Some(scope) = caller.in_an_emergency()
        && let Err(error) = observer.emergencies.tell(scope).await
    {
        // Nothing of the answer has left yet: what cannot be put on the trail is not shown.
        response = Status::from(error).into_http();
    }
    if let Some(refusal) = status::refusal(response.headers()) {
        caller.refused(&call, refusal).into_iter().for_each(|refusal| observer.refusals.take(refusal));
    }
    let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    let took = start.elapsed();
    observer.telemetry.metrics.call(Arc::clone(&method), name_of(code), took);
    tell(&mut traced, &method, &id, name_of(code), &caller);
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(rpc.code = code, duration_ms, "call answered"));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Refuses the call when its connection keeps too many waiting for their answer, before anything is done for it: a burst passes, and
/// an overload is told. A stream counts until it begins. Without a connection, as in tests, there is nothing to share.
pub(super) async fn admit(request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<Connection>().cloned();
    let place = match &connection {
        Some(connection) => connection.place().await,
        None => None,
    };
    if connection.is_some() && place.is_none() {
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

/// What the span of a call says, by the semantic conventions of OpenTelemetry.
fn tell(traced: &mut Span, method: &str, id: &str, code: &'static str, caller: &Caller) {
    traced.set("rpc.system.name", "grpc");
    traced.set("rpc.method", method.to_owned());
    traced.set("rpc.response.status_code", code);
    traced.set("request.id", id.to_owned());
    if let Some(Known::Scope(scope)) = caller.0.get() {
        traced.set("practice.id", scope.practice().as_str().to_owned());
    }
    // Of a server's spans these are the codes that speak of a fault of its own.
    if matches!(code, "UNKNOWN" | "DEADLINE_EXCEEDED" | "UNIMPLEMENTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS") {
        traced.fail();
    }
}

/// The name of a code, by its number (gRPC's `statuscodes.md`).
fn name_of(code: &str) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    code.parse().ok().and_then(|number: usize| NAMES.get(number).copied()).unwrap_or("UNKNOWN")
}
