//! `heedwell backup`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::runtime;
use crate::{
    app,
    clock::SystemClock,
    config::{self, Env},
    store::{self, Time},
    telemetry,
};

pub(super) fn command(settings: impl IntoIterator<Item = Arg>) -> Command {
    Command::new("backup")
        .about("Copies the SQLite database to a file, also while a server runs and sends; the copy sends nothing until it is resumed")
        .arg(
            Arg::new("file")
                .required(true)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("The copy; it must not be there yet"),
        )
        .args(settings)
}

pub(super) fn run(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let file = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    let time = Time::Database(Arc::new(SystemClock));
    let made = runtime()?.block_on(store::backup(&config.store, &file, &time, &app::operator()))?;
    print(&format!("{}: {} bytes, as of {}", file.display(), made.bytes, made.time.to_rfc3339()));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
