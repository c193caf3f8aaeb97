//! `heedwell hold` and `heedwell resume`: whether a database sends, which only an operator can know of one that was restored.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Arg, ArgGroup, ArgMatches, Command};

use super::{
    beside::{self, note_all},
    flag,
};
use crate::{
    config::{self, Env},
    domain::{AuditEvent, Author, Engine, PracticeId},
    store::{Reason, Standing, Store},
    telemetry,
};

/// Deliveries that are stopped in one transaction.
const PAGE: u64 = 200;

pub(super) fn commands<S: IntoIterator<Item = Arg>>(settings: impl Fn() -> S) -> [Command; 2] {
    let hold = Command::new("hold")
        .about("Makes the database quiet: nothing is sent from it until `heedwell resume`, whatever serves it")
        .args(settings());
    let resume = Command::new("resume")
        .about("Has a database send again that was held, or that is a copy of another")
        .arg(flag("send-pending", "Sends what waits: the original never ran after the copy was made"))
        .arg(flag(
            "cancel-pending",
            "Cancels what was due by now, and what was under way: the original may have sent it after the copy was made",
        ))
        .group(ArgGroup::new("pending").args(["send-pending", "cancel-pending"]).required(true))
        .arg(flag("after-move", "Also where it was moved to another database, which will never send again"))
        .args(settings());
    [hold, resume]
}

pub(super) fn hold(env: &Env) -> anyhow::Result<ExitCode> {
    with(env, async |store, engine| {
        let (before, calling) = store.instance_hold(&engine).await?;
        match before {
            Standing::Live => {
                note_all(&store, &engine, |_| AuditEvent::of_system(AuditEvent::HELD, None, "instance".to_owned()))
                    .await?;
                print("held: nothing is sent until `heedwell resume`");
            }
            Standing::Quiet(quiet) => print(&format!("it was quiet already, since {}", quiet.since.to_rfc3339())),
        }
        if calling > 0 {
            print(&format!("{calling} messages are being handed over at this moment, which ends within 65 s"));
        }
        Ok(())
    })
}

pub(super) fn resume(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let (cancel, after_move) = (matches.get_flag("cancel-pending"), matches.get_flag("after-move"));
    with(env, async |store, engine| {
        let Standing::Quiet(quiet) = store.standing(&engine).await? else {
            print("it is live: there is nothing to resume");
            return Ok(());
        };
        if quiet.reason == Reason::Moved && !after_move {
            bail!(
                "the database was moved to another one, which sends: should both send, patients would get everything twice. If that \
                 one is gone for good, say --after-move"
            );
        }
        if quiet.cut.is_some() && !cancel {
            bail!("an earlier --cancel-pending has not finished: say it again");
        }
        let mut stopped = Vec::new();
        if cancel {
            stopped = cancel_all(&store, &engine).await?;
        }
        note_all(&store, &engine, |practice| {
            let count = stopped.iter().find(|(of, _)| of == practice).map_or(0, |(_, count)| *count);
            let resource = if cancel { format!("pending/cancelled/{count}") } else { "pending/sent".to_owned() };
            AuditEvent::of_system(AuditEvent::RESUMED, None, resource)
        })
        .await?;
        store.instance_resume(&engine).await?;
        let count: i64 = stopped.iter().map(|(_, count)| count).sum();
        print(&match cancel {
            true => format!("live again; {count} deliveries are cancelled that the original may have sent"),
            false => "live again: what waits is sent".to_owned(),
        });
        if quiet.reason == Reason::Copy {
            print(
                "opt-outs that came after the copy was made are not in it: record them again before anything is sent to those patients. \
                 Texts to whoever wrote STOP are refused by Twilio (21610), which opts them out here; mail, portal and staff have \
                 nobody who remembers",
            );
        }
        Ok(())
    })
}

/// Stops what the original may have handed over, practice by practice. Says how many deliveries of each are cancelled.
async fn cancel_all(store: &Store, engine: &Engine) -> anyhow::Result<Vec<(PracticeId, i64)>> {
    let cut = store.instance_cut(engine).await?;
    for (practice, id) in store.instance_broadcasts(engine, cut).await? {
        store.broadcast_cancel(&engine.scope(practice, Author::system()), id).await?;
    }
    let (mut stopped, mut last) = (Vec::new(), None);
    loop {
        let practices = store.practices_open(engine, last.as_ref()).await?;
        let Some(newest) = practices.last() else { return Ok(stopped) };
        last = Some(newest.clone());
        for practice in practices {
            let (mut after, mut sum) = (None, 0);
            loop {
                let (reached, count) = store.instance_stop(engine, &practice, cut, after, PAGE).await?;
                sum += i64::from(count);
                if reached.is_none() {
                    break;
                }
                after = reached;
            }
            stopped.push((practice, sum));
        }
    }
}

fn with(env: &Env, work: impl AsyncFnOnce(Store, Engine) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    beside::with(config, work)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(line: &str) {
    println!("{line}");
}
