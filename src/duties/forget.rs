//! Forgets changes that no cursor may ask for any more, to whom broadcasts have written once that is of no more use, and files that
//! were uploaded and never sent; removes texts and files that are older than the operator keeps them.

use chrono::TimeDelta;
use uuid::Uuid;

use crate::{
    domain::{Engine, UNSENT_FILES_KEPT},
    store::{Store, StoreError},
    telemetry,
};

/// How long changes are kept (contract, `WatchDeliveries`).
const HISTORY: TimeDelta = TimeDelta::days(7);
/// Rows in one transaction, so that it stays short.
const PAGE: u64 = 1_000;
/// The same of files, each of which has many rows.
const FILES: u64 = 20;
/// The same of texts: with one writer nobody waits long for a page.
const TEXTS: u64 = 200;

/// Forgets what is older, by the clock that dated it.
pub(super) async fn run_once(store: &Store, engine: &Engine, retention: Option<TimeDelta>) {
    if let Err(error) = forget(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "old changes could not be forgotten");
    }
    if let Err(error) = forget_addresses(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "the addresses of past broadcasts could not be forgotten");
    }
    if let Err(error) = forget_files(store, engine).await {
        tracing::error!(error = %telemetry::chain(&error), "files that were never sent could not be forgotten");
    }
    let Some(retention) = retention else { return };
    if let Err(error) = remove_files(store, engine, retention).await {
        tracing::error!(error = %telemetry::chain(&error), "files whose time is over could not be removed");
    }
    if let Err(error) = remove_texts(store, engine, retention).await {
        tracing::error!(error = %telemetry::chain(&error), "texts whose time is over could not be removed");
    }
}

async fn forget(store: &Store, engine: &Engine) -> Result<(), StoreError> {
    let before = store.now().await? - HISTORY;
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
