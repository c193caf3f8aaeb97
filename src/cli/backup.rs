//! `heedwell backup`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{beside, runtime};
use crate::{
    app,
    clock::SystemClock,
    config::{self, Env},
    domain::{AuditEvent, Practices},
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
    runtime()?.block_on(store::may_be_copied(&config.store, &file))?;
    // Before, so that the copy tells of itself too. A full disk keeps nobody from a backup.
    let event = AuditEvent::of_system(AuditEvent::COPIED, None, "instance".to_owned());
    beside::tell_or_say(config::read(env, false)?, &Practices::All, &event);
    let made = runtime()?.block_on(store::backup(&config.store, &file, &time, &app::operator()))?;
    print(&format!("{}: {} bytes, as of {}", file.display(), made.bytes, made.time.to_rfc3339()));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
