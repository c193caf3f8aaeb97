//! Counts how often the data keys have sealed, and wraps them anew after the operator has added a master.

use crate::{domain::Engine, store::Store, telemetry};

pub(super) async fn run_once(store: &Store, engine: &Engine) {
    if let Err(error) = store.keys_count(engine).await {
        tracing::error!(error = %telemetry::chain(&error), "the uses of data keys could not be counted");
    }
    match store.keys_rewrap(engine).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "data keys are wrapped by the newest master now"),
        Err(error) => tracing::error!(error = %telemetry::chain(&error), "data keys could not be wrapped anew"),
    }
}
