//! `heedwell token`: a token from the local signing key, alone on standard output.

use std::{collections::BTreeSet, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command, parser::ValueSource};

use super::beside;
use crate::{
    auth::{Bond, EMERGENCY_LIFE, LocalKey, NewToken, is_reason},
    clock::{Clock, SystemClock},
    config::{self, Config, Env},
    domain::{AuditEvent, PatientId, Phi, PracticeId, Practices, Role},
    ports,
};

pub(super) fn command() -> Command {
    let names = Role::ALL.map(Role::name);
    Command::new("token")
        .about("Issues a token from the local signing key, which is made on first use; the audit trails tell of it")
        .arg(
            Arg::new("role")
                .long("role")
                .required(true)
                .action(clap::ArgAction::Append)
                .value_parser(names)
                .help("What it may do; may be repeated"),
        )
        .arg(
            Arg::new("practice")
                .long("practice")
                .required(true)
                .action(clap::ArgAction::Append)
                .help("The practice it covers; may be repeated; '*' for operators: all"),
        )
        .arg(Arg::new("subject").long("subject").default_value("local").help("Who bears it"))
        .arg(
            Arg::new("emergency")
                .long("emergency")
                .value_name("REASON")
                .value_parser(reason)
                .help("For an emergency, by the key of HEEDWELL_EMERGENCY_KEY_FILE: for an hour at most, all that is done with it is told, with this reason; wants --subject"),
        )
        .arg(Arg::new("patient").long("patient").help("The patient that role patient is bound to"))
        .arg(
            Arg::new("certificate")
                .long("certificate")
                .value_name("FILE")
                .help("A client's certificate in PEM: the token is good only over a connection with it"),
        )
        .arg(
            Arg::new("ttl")
                .long("ttl")
                .default_value("1h")
                .value_parser(duration)
                .help("How long it is valid: 90s, 15m, 1h, 7d"),
        )
}

pub(super) fn run(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let many = |name| matches.get_many::<String>(name).into_iter().flatten();
    let roles: BTreeSet<Role> = many("role").filter_map(|name| Role::from_name(name)).collect();
    let patient =
        matches.get_one::<String>("patient").map(|id| id.parse::<PatientId>()).transpose().context("--patient")?;
    if roles.contains(&Role::Patient) && patient.is_none() {
        bail!("--role patient needs --patient");
    }
    let practices = if many("practice").any(|id| id == "*") {
        Practices::All
    } else {
        Practices::Named(
            many("practice").map(|id| id.parse::<PracticeId>()).collect::<Result<_, _>>().context("--practice")?,
        )
    };
    let emergency = matches.get_one::<String>("emergency").map(|reason| Phi::new(reason.clone()));
    let certificate = matches.get_one::<String>("certificate").map(|path| {
        let pem = std::fs::read_to_string(path)?;
        anyhow::Ok(ports::thumbprint(&pem)?)
    });
    let certificate = certificate.transpose().context("--certificate")?;
    let subject = matches.get_one::<String>("subject").cloned().unwrap_or_default();
    let ttl = matches.get_one::<Duration>("ttl").copied().unwrap_or_default();
    if emergency.is_some() && ttl > EMERGENCY_LIFE {
        bail!("--ttl: a token for an emergency is valid for an hour at most");
    }
    // Whoever acts in one is to be known (45 CFR 164.312(a)(2)(i)).
    if emergency.is_some() && matches.value_source("subject") != Some(ValueSource::CommandLine) {
        bail!("--emergency needs --subject: who bears the token");
    }
    let key = signing_key(env, emergency.is_some())?;
    let (issuer, audience) = config::issuer_and_audience(env);
    let token = NewToken { subject, name: String::new(), practices, roles, patient, ttl };
    tell(env, &token, emergency.as_ref())?;
    let bond = Bond { certificate: certificate.as_ref(), emergency: emergency.as_ref() };
    print(&key.issue_bound(&token, (issuer.as_str(), audience.as_str()), SystemClock.now(), bond));
    Ok(ExitCode::SUCCESS)
}

/// The key for emergencies, if there is one and it is one; else the local key.
fn signing_key(env: &Env, emergency: bool) -> anyhow::Result<LocalKey> {
    if let Some(path) = config::emergency_key(env).filter(|_| emergency) {
        return key(&path, "HEEDWELL_EMERGENCY_KEY_FILE");
    }
    let data_dir = config::data_dir(env);
    std::fs::create_dir_all(&data_dir).context("HEEDWELL_DATA_DIR")?;
    key(&config::local_key(&data_dir), "HEEDWELL_DATA_DIR")
}

fn key(path: &Path, variable: &'static str) -> anyhow::Result<LocalKey> {
    let (key, made) = LocalKey::load_or_create(path).context(variable)?;
    if made {
        say(&format!("made a new signing key: {}", path.display()));
    }
    Ok(key)
}

/// Puts on the trails of the practices that the token covers that it is issued. One for an emergency is issued only then.
fn tell(env: &Env, token: &NewToken, emergency: Option<&Phi<String>>) -> anyhow::Result<()> {
    let roles = token.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join("+");
    let resource = format!("token/{}/{roles}/{}s", token.subject, token.ttl.as_secs());
    let event = AuditEvent::of_system(AuditEvent::TOKEN_ISSUED, token.patient.clone(), resource);
    let event = AuditEvent { emergency: emergency.cloned(), ..event };
    let config: anyhow::Result<Config> = config::read(env, false).map_err(Into::into);
    match (config, emergency) {
        (Ok(config), Some(_)) => beside::tell(config, &token.practices, &event),
        (Ok(config), None) => {
            beside::tell_or_say(config, &token.practices, &event);
            Ok(())
        }
        (Err(error), Some(_)) => Err(error),
        // Nobody serves with these settings.
        (Err(_), None) => Ok(()),
    }
}

fn reason(text: &str) -> Result<String, String> {
    if is_reason(text) { Ok(text.to_owned()) } else { Err("must be a line of 1 to 200 characters".into()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a number and s, m, h or d, for example 1h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    match count.checked_mul(seconds) {
        Some(seconds) if (1..=366 * 86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err("must be from one second to 366 days".into()),
    }
}

#[expect(clippy::print_stdout, reason = "the token is the result of the command")]
fn print(token: &str) {
    println!("{token}");
}

#[expect(clippy::print_stderr, reason = "said beside the result")]
fn say(text: &str) {
    eprintln!("heedwell: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "h", "1", "1w", "-1h", "0s", "367d", "1.5h", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
