//! `heedwell sandbox`: the provider stand-ins as a process of their own.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Arg, ArgMatches, Command, value_parser};

use super::{flag, runtime, told_to_stop};
use crate::sandbox::{MAGIC, Sandbox, Settings};

pub(super) fn command() -> Command {
    let addr = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name).long(name).default_value(default).value_parser(value_parser!(SocketAddr)).help(help)
    };
    Command::new("sandbox")
        .about("Stands in for Twilio, SendGrid, Firebase Cloud Messaging and a mail relay, with real signatures and magic recipients")
        .arg(addr("twilio-addr", "127.0.0.1:4010", "Where Twilio's API is served"))
        .arg(addr("sendgrid-addr", "127.0.0.1:4011", "Where SendGrid's API is served"))
        .arg(addr("fcm-addr", "127.0.0.1:4012", "Where the API of FCM and Google's token endpoint are served"))
        .arg(addr("smtp-addr", "127.0.0.1:2525", "Where the mail relay listens"))
        .arg(addr("control-addr", "127.0.0.1:4000", "Where the control endpoint is served"))
        .arg(
            Arg::new("journal")
                .long("journal")
                .value_parser(value_parser!(PathBuf))
                .help("File for the journal, one JSON object a line"),
        )
        .arg(
            Arg::new("carrier-delay-ms")
                .long("carrier-delay-ms")
                .default_value("50")
                .value_parser(value_parser!(u64))
                .help("Time between two steps of a text's life"),
        )
        .arg(flag("starttls", "Lets the mail relay offer STARTTLS, with a certificate of its own"))
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let defaults = Settings::default();
    let addr = |name, default| matches.get_one::<SocketAddr>(name).copied().unwrap_or(default);
    let settings = Settings {
        twilio_addr: addr("twilio-addr", defaults.twilio_addr),
        sendgrid_addr: addr("sendgrid-addr", defaults.sendgrid_addr),
        fcm_addr: addr("fcm-addr", defaults.fcm_addr),
        smtp_addr: addr("smtp-addr", defaults.smtp_addr),
        control_addr: addr("control-addr", defaults.control_addr),
        journal: matches.get_one::<PathBuf>("journal").cloned(),
        carrier_delay: Duration::from_millis(matches.get_one::<u64>("carrier-delay-ms").copied().unwrap_or(50)),
        smtp_starttls: matches.get_flag("starttls"),
        smtp_login: None,
    };
    runtime()?.block_on(async {
        let sandbox = Sandbox::start(settings).await?;
        show(&sandbox);
        told_to_stop().await?;
        sandbox.stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

#[expect(clippy::print_stdout, reason = "where the stand-ins are is the result of the command")]
fn show(sandbox: &Sandbox) {
    println!("twilio   {}", sandbox.twilio_url());
    println!("sendgrid {}", sandbox.sendgrid_url());
    println!("fcm      {}", sandbox.fcm_url());
    println!("google   {}", sandbox.google_token_url());
    println!("smtp     {}", sandbox.smtp_addr());
    println!("control  {}", sandbox.control_url());
    println!("\nmagic recipients:");
    for magic in MAGIC {
        println!("  {:<18} {}", magic.recipient, magic.description);
    }
}
