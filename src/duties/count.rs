//! Counts deliveries for statistics, behind the changes that it follows.

use crate::{domain::Engine, store::Store, telemetry};

/// Changes of one round over all practices, so that it ends.
const ROUND: u64 = 20_000;

/// Counts what has changed.
pub(super) async fn run_once(store: &Store, engine: &Engine) {
    loop {
        match store.deliveries_count(engine, ROUND).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "deliveries could not be counted");
                return;
            }
        }
    }
}
