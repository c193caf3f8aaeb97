//! Looks once more, some minutes later, for what is left of patients who were erased, and goes on where somebody was stopped on the
//! way.

use crate::{domain::Engine, store::Store, telemetry};

pub(super) async fn run_once(store: &Store, engine: &Engine) {
    let due = match store.erasures_due(engine).await {
        Ok(due) => due,
        Err(error) => {
            tracing::error!(error = %telemetry::chain(&error), "erasures could not be looked for");
            return;
        }
    };
    for erasure in due {
        // One that fails must not hold up the others.
        if let Err(error) = store.erasure_sweep(engine, &erasure).await {
            tracing::error!(error = %telemetry::chain(&error), "an erasure could not go on and is tried again");
        }
    }
}
