//! `heedwell audit verify`: proves the consent ledgers and the audit trails. Each finding is a line of standard output; exit code 1 if there is any.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::{Arg, ArgMatches, Command};

use super::runtime;
use crate::{
    app,
    clock::SystemClock,
    config::{self, Env},
    domain::PracticeId,
    store::{Store, Time},
    telemetry,
    wake::Wake,
};

pub(super) fn command(settings: impl IntoIterator<Item = Arg>) -> Command {
    Command::new("audit")
        .about("Proof of what was kept")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("verify")
                .about("Proves the consent ledgers, the audit trails, and that no attempt began after an opt-out; exit code 1 if not")
                .arg(Arg::new("practice").long("practice").help("Only this practice"))
                .args(settings),
        )
}

pub(super) fn verify(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let only =
        matches.get_one::<String>("practice").map(|id| id.parse::<PracticeId>()).transpose().context("--practice")?;
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    runtime()?.block_on(async {
        let keys = app::load_keys(&config).context("HEEDWELL_MASTER_KEY_FILE")?;
        let time = Time::Database(Arc::new(SystemClock));
        let store = Store::open(config.store, keys, time, Wake::default()).await.context("HEEDWELL_DATABASE_URL")?;
        let found = app::prove(&store, only, |line| print(&line)).await;
        store.close().await;
        Ok(if found? { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

#[expect(clippy::print_stdout, reason = "the findings are the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
