//! `heedwell doctor`: looks at the set-up and says what to mend, a line for each thing that was looked at. It changes nothing, makes
//! no keys, sends nothing, and tells neither a secret nor anything of patients.

mod database;
mod files;
mod keys;
mod outside;
mod report;

use std::{io, process::ExitCode, sync::Arc};

use clap::{ArgMatches, Command};
use rustix::process::{Resource, getrlimit};

pub use report::{Finding, Level, Report};

use super::runtime;
use crate::{
    clock::{SharedClock, SystemClock},
    config::{self, Env},
};

/// What is around the process, which tests replace.
#[derive(Clone, Debug)]
pub struct Around {
    /// The local clock.
    pub clock: SharedClock,
    /// Whether the memory of a process that crashes is written to disk, with its keys.
    pub core_dumps: bool,
}

impl Around {
    /// That of this process.
    #[must_use]
    pub fn here() -> Self {
        // Unset: without a limit.
        let core_dumps = getrlimit(Resource::Core).current != Some(0);
        Self { clock: Arc::new(SystemClock), core_dumps }
    }
}

pub(super) fn command() -> Command {
    Command::new("doctor")
        .about("Looks at configuration, keys, database, certificates and providers, and says what to mend; exit code 1 if anything is wrong")
        .arg(super::flag("json", "One JSON object instead of lines"))
}

pub(super) fn run(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let report = runtime.block_on(examine(env, &Around::here()));
    // The system may take minutes over a name that it cannot resolve: that must not keep the process.
    runtime.shutdown_background();
    let out = io::stdout().lock();
    if matches.get_flag("json") {
        report.write_json(out)?
    } else {
        report.write_lines(out)?
    }
    Ok(if report.is_wrong() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Looks at everything that a server with these settings would use.
pub async fn examine(env: &Env, around: &Around) -> Report {
    let mut report = Report::default();
    let config = match config::read(env, false) {
        Ok(config) => config,
        Err(faults) => {
            for fault in faults.iter() {
                report.wrong("configuration", fault.variable.clone(), fault.remedy.to_string());
            }
            report.warning("configuration", "", "nothing else was looked at: mend this first".to_owned());
            return report;
        }
    };
    report.ok("configuration", "", "every value can be used".to_owned());
    files::look(&config, around, &mut report);
    let keys = keys::look(&config, &mut report).await;
    let used = database::look(&config, keys, around, &mut report).await;
    outside::look(&config, &used, &mut report).await;
    report
}
