//! Forgets changes that no cursor may ask for any more.

use chrono::TimeDelta;

use crate::{
    domain::Engine,
    store::{Store, StoreError},
    telemetry,
};

/// How long changes are kept (contract, `WatchDeliveries`).
const HISTORY: TimeDelta = TimeDelta::days(7);
/// Rows in one transaction, so that it stays short.
const PAGE: u64 = 1_000;

/// Forgets what is older, by the clock that dated it.
pub(super) async fn run_once(store: &Store, engine: &Engine) {
    if let Err(error) = forget(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "old changes could not be forgotten");
    }
}

async fn forget(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    let before = store.now().await? - HISTORY;
    while store.feed_forget(engine, before, PAGE).await? > 0 {}
    Ok(())
}
