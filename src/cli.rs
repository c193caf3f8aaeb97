//! The command line: one file per verb. Every setting is also a flag of the same name, which wins over the environment.

mod audit;
mod backup;
mod beside;
mod demo;
pub mod doctor;
mod export;
mod health;
mod instance;
mod keys;
mod migrate;
mod process;
mod progress;
mod relocate;
mod sandbox;
mod serve;
mod token;

use std::{ffi::OsString, process::ExitCode};

use clap::{Arg, ArgMatches, Command, error::ErrorKind};

use crate::{
    config::{Env, VARIABLES},
    telemetry,
};

/// Runs the verb that `arguments` name. Standard output is for results, standard error for everything else.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(2) };
        }
    };
    if let Err(error) = process::keep_private() {
        complain(&anyhow::Error::new(error).context("the memory of this process cannot be kept private"));
        return ExitCode::FAILURE;
    }
    process::have_all_descriptors();
    // In tests it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(&env(matches), matches.get_flag("migrate")),
        Some(("migrate", matches)) => migrate::run(&env(matches)),
        Some(("audit", matches)) => match matches.subcommand() {
            Some(("verify", matches)) => audit::verify(&env(matches), matches),
            Some(("export", matches)) => audit::export(&env(matches), matches),
            Some(("key", matches)) => audit::key(&env(matches)),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("health", matches)) => health::run(&env(matches)),
        Some(("doctor", matches)) => doctor::run(&env(matches), matches),
        Some(("export", matches)) => match matches.subcommand() {
            Some(("broadcast", matches)) => export::broadcast(&env(matches), matches),
            _ => Ok(ExitCode::from(2)),
        },
        Some(("keys", matches)) => match matches.subcommand() {
            Some((_, settings)) => keys::run(&env(settings), matches),
            None => Ok(ExitCode::from(2)),
        },
        Some(("backup", matches)) => backup::run(&env(matches), matches),
        Some(("move", matches)) => relocate::run(&env(matches), matches),
        Some(("hold", matches)) => instance::hold(&env(matches)),
        Some(("resume", matches)) => instance::resume(&env(matches), matches),
        Some(("token", matches)) => token::run(&env(matches), matches),
        Some(("sandbox", matches)) => sandbox::run(matches),
        Some(("demo", matches)) => demo::run(matches.get_flag("once")),
        _ => Ok(ExitCode::from(2)),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "the last words of a command")]
fn complain(error: &anyhow::Error) {
    eprintln!("heedwell: {}", telemetry::chain(error.as_ref()));
}

fn command() -> Command {
    Command::new("heedwell")
        .about("Carries messages between medical practices and their patients")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve")
                .about("Serves gRPC and the sidecar, and sends; SIGTERM drains")
                .arg(flag("migrate", "Brings the schema up to date first (SQLite always does)"))
                .args(settings()),
        )
        .subcommand(Command::new("migrate").about("Brings the schema up to date").args(settings()))
        .subcommand(
            Command::new("health")
                .about("Asks the server of these settings whether it may be sent work")
                .args(settings()),
        )
        .subcommand(audit::command(settings))
        .subcommand(doctor::command().args(settings()))
        .subcommand(export::command(settings()))
        .subcommand(keys::command(settings().collect::<Vec<_>>()))
        .subcommand(backup::command(settings()))
        .subcommands(instance::commands(settings))
        .subcommand(relocate::command(settings()))
        .subcommand(token::command().args(settings()))
        .subcommand(sandbox::command())
        .subcommand(
            Command::new("demo")
                .about("Shows everything at once, against provider stand-ins inside the process")
                .arg(flag("once", "Ends when every delivery has reached its final state")),
        )
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(clap::ArgAction::SetTrue)
}

/// One flag per setting: `--grpc-addr` for `HEEDWELL_GRPC_ADDR`.
fn settings() -> impl Iterator<Item = Arg> {
    VARIABLES.into_iter().filter_map(|variable| {
        let name = variable.strip_prefix("HEEDWELL_")?.to_lowercase().replace('_', "-");
        let help = format!("Wins over {variable}");
        Some(Arg::new(variable).long(name).value_name("VALUE").help(help).help_heading("Settings"))
    })
}

fn env(matches: &ArgMatches) -> Env {
    let mut env = Env::of_process();
    for variable in VARIABLES {
        if let Ok(Some(value)) = matches.try_get_one::<String>(variable) {
            env.set(variable, value);
        }
    }
    env
}

/// A runtime of several threads, for verbs that serve.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Resolves when the process is told to stop.
async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
