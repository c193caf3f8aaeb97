//! Measures how the queue stands, for whoever reads metrics. Every replica says the same of it.

use crate::{domain::Engine, store::Store, telemetry};

/// Measures once.
pub(super) async fn run_once(store: &Store, engine: &Engine) {
    match store.queue_state(engine).await {
        Ok(state) => store.telemetry().metrics.queue(&state),
        Err(error) => tracing::error!(error = %telemetry::chain(&error), "how the queue stands could not be measured"),
    }
}
