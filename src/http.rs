//! The sidecar: what providers call back and what patients open. Paths below `/webhooks/` and `/l/` hold tokens and are
//! never logged. Nothing here redirects but an opened link, since a redirected POST loses its body.

mod links;
mod probes;
mod twilio;

use std::{future::Future, io, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue, StatusCode},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::{catch_panic::CatchPanicLayer, set_header::SetResponseHeaderLayer, timeout::TimeoutLayer};

use crate::service::{callbacks::Callbacks, links::Links};

/// What the routes need.
#[derive(Clone, Debug)]
pub struct Services {
    /// Callbacks of providers.
    pub callbacks: Callbacks,
    /// Secure links.
    pub links: Links,
    /// Whether the server may be sent work.
    pub readiness: Readiness,
}

pub use probes::Readiness;

/// Largest body of a callback.
const BODY_LIMIT: usize = 64 * 1024;
/// Time for headers, body and answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Callbacks in work at once.
const IN_FLIGHT: usize = 256;

/// The routes.
pub fn router(services: Services) -> Router {
    let webhooks = Router::new()
        .route("/webhooks/twilio/{practice}/status/{token}", post(twilio::status))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(GlobalConcurrencyLimitLayer::new(IN_FLIGHT));
    let pages = Router::new().route("/l/{token}", get(links::page).post(links::open));
    let probes = Router::new().route("/healthz", get(probes::healthz)).route("/readyz", get(probes::readyz));
    let header = |name: &'static str, value: &'static str| {
        SetResponseHeaderLayer::overriding(HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    webhooks
        .merge(pages)
        .merge(probes)
        .with_state(services)
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIME_LIMIT))
        .layer(header("x-content-type-options", "nosniff"))
        .layer(header("referrer-policy", "no-referrer"))
        .layer(header("cache-control", "no-store"))
        .layer(CatchPanicLayer::new())
}

/// Serves `router` until `stop` resolves and the calls under way have ended.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}
