//! Forgets changes that no cursor may ask for any more, to whom broadcasts have written once that is of no more use, and files that
//! were uploaded and never sent; removes texts, files and the histories of deliveries that are older than the operator keeps them.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Settings;
use crate::{
    domain::{Engine, UNSENT_FILES_KEPT},
    store::{Standing, Store, StoreError},
    telemetry,
};

/// How long changes are kept (contract, `WatchDeliveries`).
const CHANGES: TimeDelta = TimeDelta::days(7);
/// Rows in one transaction, so that it stays short.
const PAGE: u64 = 1_000;
/// The same of files, each of which has many rows.
const FILES: u64 = 20;
/// The same of texts: with one writer nobody waits long for a page.
const TEXTS: u64 = 200;
/// Lines of timelines that are looked at together, where there is more than one writer: each practice among them has a transaction of
/// its own, and an entry on its trail.
const HISTORIES: u64 = 10_000;
/// How often histories are looked at from the oldest on.
const WALK_EVERY: TimeDelta = TimeDelta::days(1);

/// How far histories were looked at, and when that began with the oldest. Those that had to stay (what is planned, and what was heard of
/// again) are looked at once a day, and not each time.
#[derive(Debug, Default)]
pub(super) struct Walk(Mutex<Option<(DateTime<Utc>, Uuid)>>);

impl Walk {
    /// After which delivery to go on.
    fn resume(&self, now: DateTime<Utc>) -> Uuid {
        let mut walk = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *walk {
            Some((began, after)) if now - began < WALK_EVERY => after,
            _ => walk.insert((now, Uuid::nil())).1,
        }
    }

    fn reached(&self, id: Uuid) {
        if let Some((_, after)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *after = id;
        }
    }
}

/// Forgets what is older, by the clock that dated it.
pub(super) async fn run_once(store: &Store, engine: &Engine, settings: &Settings) {
    if let Err(error) = forget(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "old changes could not be forgotten");
    }
    if let Err(error) = forget_addresses(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "the addresses of past broadcasts could not be forgotten");
    }
    if let Err(error) = forget_files(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "files that were never sent could not be forgotten");
    }
    let Some(retention) = settings.content_retention else { return };
    if !may_remove(store, engine).await {
        return;
    }
    if let Err(error) = remove_files(store, engine, retention).await {
        tracing::error!(error = %telemetry::chain(&error), "files whose time is over could not be removed");
    }
    if let Err(error) = remove_texts(store, engine, retention).await {
        tracing::error!(error = %telemetry::chain(&error), "texts whose time is over could not be removed");
    }
}

/// Removes the histories of deliveries whose time is over.
pub(super) async fn run_histories(store: &Store, engine: &Engine, settings: &Settings, walk: &Walk) {
    let Some(retention) = settings.history_retention else { return };
    if may_remove(store, engine).await
        && let Err(error) = remove_histories(store, engine, retention, walk).await
    {
        tracing::error!(error = %telemetry::chain(&error), "histories whose time is over could not be removed");
    }
}

/// Whether what is old may go: what a held database or a copy of one still has is what somebody may have brought it back for.
async fn may_remove(store: &Store, engine: &Engine) -> bool {
    matches!(store.standing(engine).await, Ok(Standing::Live))
}

async fn forget(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    let before = store.now().await? - CHANGES;
    while store.feed_forget(engine, before, PAGE).await? > 0 {}
    Ok(())
}

async fn forget_addresses(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    while store.broadcast_addresses_forget(engine, PAGE).await? > 0 {}
    Ok(())
}

async fn forget_files(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    let before = store.now().await? - UNSENT_FILES_KEPT;
    while store.attachments_forget(engine, before, FILES).await? > 0 {}
    Ok(())
}

async fn remove_files(store: &Store, engine: &Engine, retention: TimeDelta) -> Result<(), StoreError> {
    let before = store.now().await? - retention;
    while store.attachments_remove(engine, before, FILES).await? > 0 {}
    Ok(())
}

async fn remove_texts(store: &Store, engine: &Engine, retention: TimeDelta) -> Result<(), StoreError> {
    let before = store.now().await? - retention;
    while store.messages_remove(engine, before, TEXTS).await? > 0 {}
    let mut after = Uuid::nil();
    while let Some(last) = store.texts_remove(engine, (before, after), TEXTS).await? {
        after = last;
    }
    Ok(())
}

async fn remove_histories(store: &Store, engine: &Engine, retention: TimeDelta, walk: &Walk) -> Result<(), StoreError> {
    let now = store.now().await?;
    // By whole days, so that a practice's trail tells of it once a day.
    let before = (now - retention).date_naive().and_time(NaiveTime::MIN).and_utc();
    let page = if store.is_alone() { PAGE } else { HISTORIES };
    let mut after = walk.resume(now);
    while let Some(last) = store.histories_remove(engine, (before, after), page).await? {
        walk.reached(last);
        after = last;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_are_looked_at_on_from_the_last_one_and_once_a_day_from_the_oldest() {
        let (walk, start) = (Walk::default(), DateTime::UNIX_EPOCH);
        assert_eq!(walk.resume(start), Uuid::nil());
        walk.reached(Uuid::from_u128(7));
        assert_eq!(walk.resume(start + TimeDelta::minutes(10)), Uuid::from_u128(7));
        walk.reached(Uuid::from_u128(9));
        assert_eq!(walk.resume(start + WALK_EVERY - TimeDelta::seconds(1)), Uuid::from_u128(9));
        assert_eq!(walk.resume(start + WALK_EVERY), Uuid::nil());
        assert_eq!(walk.resume(start + WALK_EVERY * 2 - TimeDelta::seconds(1)), Uuid::nil());
    }
}
