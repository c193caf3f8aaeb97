//! `heedwell audit`: proves the consent ledgers and the audit trails, also by what was anchored of them; takes a trail out; shows
//! the key that anchors are verified with.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::runtime;
use crate::{
    app,
    clock::SystemClock,
    config::{self, Config, Env},
    crypto::AnchorKey,
    custody,
    domain::{ActorType, AuditEvent, AuditRecord, Phi, PracticeId},
    store::{Anchor, Anchored, Store, Time},
    telemetry,
    wake::Wake,
};

pub(super) fn command<S: IntoIterator<Item = Arg>>(settings: impl Fn() -> S) -> Command {
    let practice = || Arg::new("practice").long("practice").value_name("P");
    let anchors = Arg::new("anchors").long("anchors").value_name("FILE").action(ArgAction::Append);
    let verify = Command::new("verify")
        .about("Proves the consent ledgers, the audit trails, and that no attempt began after an opt-out; exit code 1 if not")
        .arg(practice().help("Only this practice"))
        .arg(
            anchors
                .value_parser(value_parser!(PathBuf))
                .help("Anchors that were kept: history before them must be what it was; may be given several times"),
        )
        .args(settings());
    let export = Command::new("export")
        .about("Writes the audit trail of a practice to standard output, as NDJSON, the oldest first")
        .arg(practice().required(true).help("Its practice"))
        .arg(
            Arg::new("after")
                .long("after")
                .value_name("POSITION")
                .default_value("0")
                .value_parser(value_parser!(i64).range(0..))
                .help("Only what comes after this position"),
        )
        .args(settings());
    let key = Command::new("key").about("Shows the public key of anchors, as a JWK").args(settings());
    Command::new("audit")
        .about("Proof of what was kept")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([verify, export, key])
}

pub(super) fn verify(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let only =
        matches.get_one::<String>("practice").map(|id| id.parse::<PracticeId>()).transpose().context("--practice")?;
    let files = matches.get_many::<PathBuf>("anchors").unwrap_or_default();
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    let key = runtime()?.block_on(custody::load(&config.custody))?.anchor();
    let (mut anchored, mut forged) = (Anchored::default(), false);
    for file in files {
        forged |= read_anchors(file, &key, only.as_ref(), &mut anchored)
            .with_context(|| format!("{} cannot be read", file.display()))?;
    }
    runtime()?.block_on(async {
        let store = open(config).await?;
        let found = app::prove(&store, only, &anchored, |line| print(&line)).await;
        store.close().await;
        Ok(if found? || forged { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// Reads a file of anchors, one a line, and tells which of them are none of this key's. True: there are some.
fn read_anchors(path: &Path, key: &AnchorKey, only: Option<&PracticeId>, anchored: &mut Anchored) -> io::Result<bool> {
    let mut forged = false;
    for (number, line) in (1..).zip(BufReader::new(File::open(path)?).lines()) {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        match key.open(line.trim()).and_then(|json| Anchor::from_json(&json)) {
            Some(mut anchor) => {
                anchor.heads.retain(|of| only.is_none_or(|only| of.practice == *only));
                anchored.add(anchor);
            }
            None => {
                print(&format!("{}, line {number}: no anchor that was signed with this key", path.display()));
                forged = true;
            }
        }
    }
    Ok(forged)
}

pub(super) fn export(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let practice = matches.get_one::<String>("practice").map(String::as_str).unwrap_or_default();
    let practice: PracticeId = practice.parse().context("--practice")?;
    let after = matches.get_one::<i64>("after").copied().unwrap_or_default();
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    runtime()?.block_on(async {
        let store = open(config).await?;
        let mut out = BufWriter::new(io::stdout().lock());
        let written = app::export_trail(&store, practice, after, |record| {
            serde_json::to_writer(&mut out, &object(record))?;
            out.write_all(b"\n")
        });
        let written = written.await;
        store.close().await;
        written?;
        out.flush().context("standard output")?;
        Ok(ExitCode::SUCCESS)
    })
}

/// An entry as it is exported. Fields are only ever added.
fn object(record: AuditRecord) -> Value {
    let AuditRecord { position, event_time, event, hash } = record;
    let AuditEvent { actor, action, patient, resource, code, trace_id, source_address, emergency } = event;
    let actor_type = match actor.kind {
        ActorType::Service => "service",
        ActorType::Staff => "staff",
        ActorType::Patient => "patient",
        ActorType::System => "system",
        ActorType::Provider => "provider",
    };
    json!({
        "position": position,
        "event_time": event_time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
        "actor_type": actor_type,
        "actor_id": actor.id,
        "actor_name": actor.display_name,
        "action": action,
        "patient_id": patient.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        "resource": resource,
        "code": code,
        "trace_id": trace_id,
        "source_address": source_address,
        "emergency_reason": emergency.map(Phi::into_inner).unwrap_or_default(),
        "hash": hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

pub(super) fn key(env: &Env) -> anyhow::Result<ExitCode> {
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    print(&runtime()?.block_on(custody::load(&config.custody))?.anchor().public_key());
    Ok(ExitCode::SUCCESS)
}

async fn open(config: Config) -> anyhow::Result<Store> {
    let keys = custody::load(&config.custody).await?;
    let time = Time::Database(Arc::new(SystemClock));
    Store::open(config.store, keys, time, Wake::default()).await.context("HEEDWELL_DATABASE_URL")
}

#[expect(clippy::print_stdout, reason = "the findings are the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
