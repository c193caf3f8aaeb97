//! Tries parked reports again: their attempts may have turned up.

use crate::{
    domain::Engine,
    store::{Store, StoreError},
    telemetry,
};

/// Reports in one transaction, so that it stays short.
const PAGE: u64 = 100;

/// Tries all that are due.
pub(super) async fn run_once(store: &Store, engine: &Engine) {
    if let Err(error) = retry(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "parked reports could not be tried again");
    }
}

async fn retry(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    while store.parked_retry(engine, PAGE).await? > 0 {}
    Ok(())
}
