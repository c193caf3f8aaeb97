//! `heedwell migrate`.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;

use super::runtime;
use crate::{
    clock::SystemClock,
    config::{self, Env},
    custody,
    store::{Store, Time},
    telemetry,
    wake::Wake,
};

pub(super) fn run(env: &Env) -> anyhow::Result<ExitCode> {
    let config = config::read(env, true)?;
    telemetry::start(&config.telemetry);
    runtime()?.block_on(async {
        let keys = custody::load(&config.custody).await?;
        let time = Time::Database(Arc::new(SystemClock));
        let store = Store::open(config.store, keys, time, Wake::default()).await.context("HEEDWELL_DATABASE_URL")?;
        store.close().await;
        tracing::info!("the schema is up to date");
        Ok(ExitCode::SUCCESS)
    })
}
