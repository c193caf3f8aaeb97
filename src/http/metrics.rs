//! Metrics for Prometheus, on a port of their own, and what the sidecar's own requests add to them.

use std::sync::Arc;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::time::Instant;

use crate::telemetry::Telemetry;

/// The text format of Prometheus, version 0.0.4.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`.
pub fn metrics(telemetry: Telemetry) -> Router {
    let show =
        async |State(telemetry): State<Telemetry>| ([(header::CONTENT_TYPE, TEXT)], telemetry.text()).into_response();
    Router::new().route("/metrics", get(show)).with_state(telemetry)
}

/// Counts a request by its route: the path itself may hold a token.
pub(super) async fn measure(State(telemetry): State<Telemetry>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let (route, start) = (Arc::<str>::from(route), Instant::now());
    let response = next.run(request).await;
    telemetry.metrics.request(route, response.status().as_u16(), start.elapsed());
    response
}
