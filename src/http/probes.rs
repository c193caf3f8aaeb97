//! Whether the process lives, and whether it may be sent work.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{extract::State, http::StatusCode};
use futures::future::BoxFuture;

use super::Services;

type Check = Arc<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>;

/// Says whether the server may be sent work: it is not stopping, and its database answers with the right schema.
#[derive(Clone)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
    check: Check,
}

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Readiness {
    /// Ready while `check` says so.
    pub fn new(check: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static) -> Self {
        Self { stopping: Arc::default(), check: Arc::new(check) }
    }

    /// Not ready from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// `GET /healthz`.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`.
pub(super) async fn readyz(State(services): State<Services>) -> (StatusCode, &'static str) {
    let readiness = &services.readiness;
    if readiness.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    if (readiness.check)().await { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "database") }
}
