//! Forgets changes that no cursor may ask for any more.

use chrono::TimeDelta;

use crate::{clock::SharedClock, domain::Engine, store::Store, telemetry};

/// How long changes are kept (contract, `WatchDeliveries`).
const HISTORY: TimeDelta = TimeDelta::days(7);
/// Rows in one transaction, so that it stays short.
const PAGE: u64 = 1_000;

/// Forgets what is older.
pub(super) async fn run_once(store: &Store, engine: &Engine, clock: &SharedClock) {
    let before = clock.now() - HISTORY;
    loop {
        match store.feed_forget(engine, before, PAGE).await {
            Ok(PAGE) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "old changes could not be forgotten");
                return;
            }
        }
    }
}
