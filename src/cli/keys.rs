//! `heedwell keys`: which data keys there are, new ones in their place, and destroying those of a practice.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};

use super::{
    beside::{self, with},
    runtime,
};
use crate::{
    config::{self, Config, Env},
    custody::{self, Source, Stored},
    domain::{AuditEvent, PracticeId, Practices},
    store::KeyRecord,
    telemetry,
};

pub(super) fn command(settings: impl IntoIterator<Item = Arg> + Clone) -> Command {
    let practice = || Arg::new("practice").long("practice").help("Of this practice");
    Command::new("keys")
        .about("The keys that everything is sealed with")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("Lists the data keys, one in a line").args(settings.clone()))
        .subcommand(
            Command::new("rotate")
                .about("Wraps all data keys anew, by the newest master of the key file")
                .arg(super::flag(
                    "new-master",
                    "Adds a master to the key file first: then it must be where every replica finds it, and one be started anew",
                ))
                .arg(super::flag("data", "Begins new data keys too, which take over some minutes later"))
                .arg(practice().help("Begins a new data key for this practice only"))
                .args(settings.clone()),
        )
        .subcommand(
            Command::new("seal")
                .about("Has Vault seal the key file, by the newest version of its key, whether it was sealed before or not")
                .args(settings.clone()),
        )
        .subcommand(
            Command::new("shred")
                .about("Destroys the keys of a practice: nothing that is sealed for it can ever be read again")
                .arg(practice().required(true))
                .arg(Arg::new("confirm").long("confirm").required(true).help("The same id once more"))
                .args(settings),
        )
}

pub(super) fn run(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let config = config::read(env, false)?;
    telemetry::start(&config.telemetry);
    match matches.subcommand() {
        Some(("list", _)) => with(config, async |store, engine| {
            for record in store.keys_list(&engine).await? {
                print(&line(&record));
            }
            Ok(())
        }),
        Some(("rotate", matches)) => rotate(config, matches),
        Some(("seal", _)) => {
            let stored = runtime()?.block_on(custody::seal(&config.custody))?;
            if !hand_over(&stored) {
                print("the key file is sealed: copy it to every replica");
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(("shred", matches)) => {
            let practice = practice(matches)?.context("--practice")?;
            if matches.get_one::<String>("confirm").map(String::as_str) != Some(practice.as_str()) {
                bail!("--confirm must name the same practice as --practice");
            }
            with(config, async |store, engine| {
                let count = store.keys_shred(&engine, &practice).await?;
                print(&format!("{practice}: {count} keys destroyed"));
                Ok(())
            })
        }
        _ => Ok(ExitCode::from(2)),
    }
}

fn rotate(config: Config, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let only = practice(matches)?;
    if matches.get_flag("new-master") {
        refuse_screen(&config.custody)?;
        let (number, stored) = runtime()?.block_on(custody::add_master(&config.custody))?;
        let resource = format!("keys/master.{number}");
        beside::tell_or_say(config, &Practices::All, &AuditEvent::of_system(AuditEvent::MASTER_ADDED, None, resource));
        match hand_over(&stored) {
            false => {
                print(&format!("added master.{number}: copy the file to every replica, and start one of them anew"))
            }
            true => say(&format!("master.{number} is new in it; start every replica anew once it is stored")),
        }
        // A replica that does not know it could open none of the keys that it wraps.
        return Ok(ExitCode::SUCCESS);
    }
    with(config, async |store, engine| {
        let count = store.keys_rewrap(&engine).await?;
        let masters: Vec<_> =
            store.masters_in_use(&engine).await?.iter().map(|number| format!("master.{number}")).collect();
        print(&format!("{count} data keys wrapped anew; in use: {}", masters.join(", ")));
        let begin = match only {
            Some(practice) => vec![practice],
            None if matches.get_flag("data") => {
                store.keys_list(&engine).await?.into_iter().map(|it| it.practice).collect()
            }
            None => Vec::new(),
        };
        for practice in begin.into_iter().collect::<BTreeSet<_>>() {
            let begun = store.keys_begin(&engine, &practice).await?;
            let told =
                if begun { "a new data key takes over in three minutes" } else { "a new one is about to take over" };
            print(&format!("{practice}: {told}"));
        }
        Ok(())
    })
}

/// Keys that nobody has sealed do not belong on a screen, and in what it remembers.
fn refuse_screen(settings: &custody::Settings) -> anyhow::Result<()> {
    if matches!(settings.source, Source::Command(_)) && settings.kms.is_none() && io::stdout().is_terminal() {
        bail!(
            "HEEDWELL_MASTER_KEY_COMMAND: the new keys would be printed: redirect standard output to where they are stored"
        );
    }
    Ok(())
}

/// Prints what the operator has to store. False: it is stored.
fn hand_over(stored: &Stored) -> bool {
    let Stored::ToStore(text) = stored else { return false };
    print(text.as_str().trim_end());
    say("nothing is changed yet: store what stands on standard output where HEEDWELL_MASTER_KEY_COMMAND takes it from");
    true
}

fn practice(matches: &ArgMatches) -> anyhow::Result<Option<PracticeId>> {
    matches.get_one::<String>("practice").map(|id| id.parse::<PracticeId>()).transpose().context("--practice")
}

fn line(record: &KeyRecord) -> String {
    let master = record.master.map_or("an unknown master".to_owned(), |number| format!("master.{number}"));
    let state = match record.retire_time {
        None => "seals".to_owned(),
        Some(time) => format!("until {}", time.to_rfc3339()),
    };
    let since = record.create_time.to_rfc3339();
    format!("{} {} {master} since {since} {state}, {} uses", record.practice, record.id.simple(), record.uses)
}

#[expect(clippy::print_stdout, reason = "the result of the command")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "standard output is the result alone")]
fn say(line: &str) {
    eprintln!("{line}");
}
