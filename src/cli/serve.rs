//! `heedwell serve`.

use std::{process::ExitCode, sync::Arc};

use super::{runtime, told_to_stop};
use crate::{
    app::App,
    clock::SystemClock,
    config::{self, Env},
    store::Time,
    telemetry,
};

pub(super) fn run(env: &Env, migrate: bool) -> anyhow::Result<ExitCode> {
    let config = config::read(env, migrate)?;
    telemetry::start(&config.telemetry);
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let app = App::start(config, Time::Database(Arc::new(SystemClock))).await?;
        let metrics = app.metrics_addr.map(tracing::field::display);
        tracing::info!(grpc = %app.grpc_addr, http = %app.http_addr, metrics, "serving");
        told_to_stop().await?;
        tracing::info!("stopping");
        tokio::select! {
            () = app.stop() => {}
            // Whoever says it twice means it.
            told = told_to_stop() => told?,
        }
        Ok(ExitCode::SUCCESS)
    });
    // The system may take minutes over a name that it cannot resolve: that must not keep the process.
    runtime.shutdown_background();
    done
}
