//! `heedwell move`: from SQLite to PostgreSQL.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};

use super::{beside::note_all, progress::Progress, runtime};
use crate::{
    app,
    clock::SystemClock,
    config::{self, Env},
    crypto::KeyFile,
    custody,
    domain::{AuditEvent, Engine},
    store::{self, Anchored, OpenError, Rows, Settings, Standing, Store, Time},
    telemetry,
    wake::Wake,
};

pub(super) fn command(settings: impl IntoIterator<Item = Arg>) -> Command {
    Command::new("move")
        .about("Moves everything from SQLite to an empty PostgreSQL database that `heedwell migrate` has prepared")
        .arg(Arg::new("to").long("to").required(true).value_name("URL").help("postgres://USER@HOST/DATABASE"))
        .args(settings)
}

pub(super) fn run(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let to = matches.get_one::<String>("to").cloned().unwrap_or_default();
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    runtime()?.block_on(async {
        let load = async || custody::load(&config.custody).await;
        let target = Settings { database_url: to, migrate: false, ..config.store.clone() };
        // Whoever opens it has it alone: a server must be stopped.
        let source = open(config.store.clone(), load().await?).await.context("HEEDWELL_DATABASE_URL")?;
        let done = all(&source, target, [load().await?, load().await?], &app::operator()).await;
        source.close().await;
        done.map(|()| ExitCode::SUCCESS)
    })
}

async fn all(source: &Store, to: Settings, keys: [KeyFile; 2], engine: &Engine) -> anyhow::Result<()> {
    if source.standing(engine).await? != Standing::Live {
        bail!("HEEDWELL_DATABASE_URL: the database is held, a copy, or moved already: `heedwell doctor` says which");
    }
    let [for_rows, for_proof] = keys;
    let mut progress = None;
    let told = |rows| match rows {
        Rows::Total(total) => progress = Some(Progress::new(total)),
        Rows::Arrived(count) => progress.iter_mut().for_each(|progress| progress.add(count)),
    };
    store::relocate(source, &to, &for_rows, &time(), told, engine).await?;
    progress.into_iter().for_each(Progress::finish);
    let target = open(to, for_proof).await.context("--to")?;
    let done = hand_over(source, &target, engine).await;
    target.close().await;
    done
}

/// Proves what arrived, and only then has the other database send in the place of this one. There is no moment at which both would.
async fn hand_over(source: &Store, target: &Store, engine: &Engine) -> anyhow::Result<()> {
    let [before, after] = [proof(source).await?, proof(target).await?];
    if before != after {
        bail!("--to: what arrived does not prove what the original does; it stays held: drop it, and try again");
    }
    before.iter().for_each(|line| print(line));
    source.instance_leave(engine).await?;
    note_all(target, engine, |_| AuditEvent::of_system(AuditEvent::RESUMED, None, "moved".to_owned())).await?;
    target.instance_resume(engine).await?;
    print("moved: the new database is live, and this one sends nothing any more");
    Ok(())
}

/// What `heedwell audit verify` says of it.
async fn proof(store: &Store) -> anyhow::Result<Vec<String>> {
    let lines = std::cell::RefCell::new(Vec::new());
    app::prove(store, None, &Anchored::default(), |line| lines.borrow_mut().push(line)).await?;
    Ok(lines.into_inner())
}

async fn open(settings: Settings, keys: KeyFile) -> Result<Store, OpenError> {
    Store::open(settings, keys, time(), Wake::default()).await
}

fn time() -> Time {
    Time::Database(Arc::new(SystemClock))
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
