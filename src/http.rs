//! The sidecar: what providers call back and come for, what patients open, and the dashboard. Paths below `/webhooks/`, `/l/`,
//! `/m/` and `/u/` hold tokens and are never logged. Nothing here redirects but an opened link, since a redirected POST loses its
//! body.

mod bounces;
mod links;
mod media;
mod metrics;
mod page;
mod probes;
mod sendgrid;
mod twilio;
mod unsubscribe;
mod web;

use std::{net::IpAddr, time::Duration};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::from_fn_with_state,
    routing::{get, post},
};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, timeout::TimeoutLayer};

use crate::{
    domain::Provider,
    ports::Connection,
    service::{
        callbacks::{Answer, Callbacks},
        links::Links,
        media::Media,
        unsubscribe::Unsubscribe,
    },
    telemetry::Telemetry,
};

/// What the routes need.
#[derive(Clone, Debug)]
pub struct Services {
    /// Callbacks of providers.
    pub callbacks: Callbacks,
    /// Secure links.
    pub links: Links,
    /// Files that a provider comes for.
    pub media: Media,
    /// Links in mail that unsubscribe.
    pub unsubscribe: Unsubscribe,
    /// Whether the server may be sent work.
    pub readiness: Readiness,
    /// Who uses the dashboard.
    pub sign_in: SignIn,
    /// Where requests are counted.
    pub telemetry: Telemetry,
}

pub use metrics::metrics;
pub use probes::Readiness;
pub use web::{Home, SignIn, Stranger, with_cookie};

/// What callers may do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Time for the body and the answer.
    pub time_limit: Duration,
    /// Callbacks in work at once; others wait, for as long as the time limit allows.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { time_limit: Duration::from_secs(10), in_flight: 256 }
    }
}

/// Largest body of a callback of Twilio.
const BODY_LIMIT: usize = 64 * 1024;
/// Largest batch of events, and largest mail that comes back. SendGrid sends up to 768 KB; a report holds no more than headers.
const BATCH_LIMIT: usize = 1024 * 1024;
/// Files that are read at once: each is in memory as a whole.
const FILES: usize = 16;
/// Largest body of what the button on a page posts.
const FORM_LIMIT: usize = 8 * 1024;

/// The routes.
pub fn router(services: Services, settings: Settings) -> Router {
    let webhooks = Router::new()
        .route("/webhooks/twilio/{practice}/status/{token}", post(twilio::status))
        .route("/webhooks/twilio/{practice}/inbound", post(twilio::inbound))
        .layer(DefaultBodyLimit::max(BODY_LIMIT));
    let batches = Router::new()
        .route("/webhooks/sendgrid/{practice}", post(sendgrid::events))
        .route("/webhooks/bounce/{practice}", post(bounces::bounce))
        .layer(DefaultBodyLimit::max(BATCH_LIMIT));
    let webhooks = webhooks.merge(batches).layer(GlobalConcurrencyLimitLayer::new(settings.in_flight));
    let pages = Router::new()
        .route("/l/{token}", get(links::page).post(links::open))
        .route("/u/{token}", get(unsubscribe::page).post(unsubscribe::act))
        .layer(DefaultBodyLimit::max(FORM_LIMIT));
    let media = Router::new().route("/m/{token}", get(media::file)).layer(GlobalConcurrencyLimitLayer::new(FILES));
    let probes = Router::new().route("/healthz", get(probes::healthz)).route("/readyz", get(probes::readyz));
    let session = Router::new()
        .route("/sign-in", get(web::signed_in).post(web::sign_in))
        .route("/sign-out", post(web::sign_out))
        .layer(DefaultBodyLimit::max(FORM_LIMIT));
    let header = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::overriding(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let telemetry = services.telemetry.clone();
    webhooks
        .merge(pages)
        .merge(media)
        .merge(probes)
        .merge(session)
        .with_state(services)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, settings.time_limit))
        .layer(from_fn_with_state(telemetry, metrics::measure))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("referrer-policy", "no-referrer"))
        .layer(header("cache-control", "no-store"))
        // Its files are the same for everybody, and have headers of their own.
        .merge(web::page())
        .layer(CatchPanicLayer::new())
}

/// The connection that a request came over; in tests there may be none.
type Over = Option<Extension<Connection>>;

/// The address that it came from.
fn source(over: &Over) -> Option<IpAddr> {
    over.as_ref().and_then(|Extension(connection)| connection.peer())
}

/// How a provider is answered, which is counted.
fn answered(services: &Services, provider: Provider, answer: Answer) -> StatusCode {
    let (status, outcome) = match answer {
        Answer::Stored => (StatusCode::NO_CONTENT, "accepted"),
        Answer::Forbidden => (StatusCode::FORBIDDEN, "bad_signature"),
        Answer::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
        Answer::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    };
    services.telemetry.metrics.callback(provider.name(), outcome, 1);
    status
}
