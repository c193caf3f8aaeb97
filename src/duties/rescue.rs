//! Takes over deliveries whose worker is gone.

use crate::{domain::Engine, store::Store, telemetry};

/// Takes over every delivery whose lease has ended.
pub(super) async fn run_once(store: &Store, engine: &Engine) {
    loop {
        match store.rescue(engine, false).await {
            Ok(0) => return,
            Ok(count) => tracing::warn!(count, "deliveries taken over from a worker that is gone"),
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "expired leases could not be looked for");
                return;
            }
        }
    }
}
