//! `heedwell export broadcast`: the report of a broadcast, as CSV and as NDJSON. It is a client like any other: it pages through
//! `ListDeliveries` of a running server, and writes nothing that this does not show.

mod files;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command, value_parser};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{progress::Progress, runtime};
use crate::{
    auth::{LocalKey, NewToken},
    clock::{Clock, SystemClock},
    config::{self, Env},
    domain::{PracticeId, Practices, Role},
    grpc::proto::{
        Broadcast, Delivery, DeliveryFilter, GetBroadcastRequest, ListDeliveriesRequest, broadcast::State,
        broadcast_service_client::BroadcastServiceClient, notify_service_client::NotifyServiceClient,
    },
};
use files::Files;

/// Deliveries of a page: as many as there may be.
const PAGE: i32 = 500;

pub(super) fn command(settings: impl IntoIterator<Item = Arg>) -> Command {
    let broadcast = Command::new("broadcast")
        .about("Writes the report of a broadcast, one line a delivery, to ID.csv and ID.ndjson")
        .arg(Arg::new("id").required(true).value_name("ID").help("The broadcast"))
        .arg(Arg::new("practice").long("practice").required(true).help("Its practice"))
        .arg(
            Arg::new("output")
                .long("output")
                .default_value(".")
                .value_parser(value_parser!(PathBuf))
                .help("The folder to write to"),
        )
        .arg(
            Arg::new("server")
                .long("server")
                .value_name("URL")
                .help("The server; default: HEEDWELL_GRPC_ADDR, by http"),
        )
        .arg(
            Arg::new("token-file")
                .long("token-file")
                .value_parser(value_parser!(PathBuf))
                .help("A token of role staff or auditor; default: one from the local signing key"),
        )
        .args(settings);
    Command::new("export")
        .about("Takes out what was kept")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(broadcast)
}

pub(super) fn broadcast(env: &Env, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let text = |name| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let practice: PracticeId = text("practice").parse().context("--practice")?;
    let folder = matches.get_one::<PathBuf>("output").cloned().unwrap_or_default();
    let server = match matches.get_one::<String>("server") {
        Some(server) => server.clone(),
        None => format!("http://{}", config::grpc_addr(env)?),
    };
    let token = match matches.get_one::<PathBuf>("token-file") {
        Some(file) => std::fs::read_to_string(file).context("--token-file")?.trim().to_owned(),
        None => local_token(env, &practice)?,
    };
    let report = Report { practice, id: text("id"), bearer: format!("Bearer {token}").parse().context("the token")? };
    runtime()?.block_on(report.export(server, folder))
}

/// A token that may read what became of deliveries, and no text.
fn local_token(env: &Env, practice: &PracticeId) -> anyhow::Result<String> {
    let (key, _) = LocalKey::load_or_create(&config::local_key(&config::data_dir(env))).context("HEEDWELL_DATA_DIR")?;
    let (issuer, audience) = config::issuer_and_audience(env);
    let token = NewToken {
        subject: "heedwell export".into(),
        name: String::new(),
        practices: Practices::Named(BTreeSet::from([practice.clone()])),
        roles: BTreeSet::from([Role::Auditor]),
        patient: None,
        // Millions of deliveries take a while.
        ttl: Duration::from_secs(12 * 3_600),
    };
    Ok(key.issue(&token, &issuer, &audience, SystemClock.now()))
}

struct Report {
    practice: PracticeId,
    id: String,
    bearer: MetadataValue<Ascii>,
}

impl Report {
    async fn export(&self, server: String, folder: PathBuf) -> anyhow::Result<ExitCode> {
        let channel =
            Channel::from_shared(server).context("--server")?.connect().await.context("reaching the server")?;
        let broadcast = self.broadcast(channel.clone()).await?;
        let total = broadcast.counts.as_ref().map_or(0, |counts| {
            counts.pending
                + counts.unconfirmed
                + counts.sent
                + counts.delivered
                + counts.failed
                + counts.skipped
                + counts.cancelled
        });
        // What the server calls it, which names no other folder.
        let mut files = Files::create(&folder, &broadcast.broadcast_id)?;
        let mut progress = Progress::new(u64::try_from(total).unwrap_or_default());
        let mut notify = NotifyServiceClient::new(channel);
        let mut page_token = String::new();
        loop {
            let request = self.request(ListDeliveriesRequest {
                practice_id: self.practice.to_string(),
                filter: Some(DeliveryFilter { broadcast_id: broadcast.broadcast_id.clone(), ..Default::default() }),
                page_size: PAGE,
                page_token,
                ..Default::default()
            });
            let page = notify.list_deliveries(request).await?.into_inner();
            for delivery in &page.deliveries {
                files.write(delivery)?;
            }
            progress.add(page.deliveries.len());
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let written = files.finish()?;
        progress.finish();
        for path in written {
            print(&path.display().to_string());
        }
        if matches!(broadcast.state(), State::Scheduled | State::Running) {
            say("the broadcast is not over: this is how it stood");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn broadcast(&self, channel: Channel) -> anyhow::Result<Broadcast> {
        let request = GetBroadcastRequest { practice_id: self.practice.to_string(), broadcast_id: self.id.clone() };
        let found = BroadcastServiceClient::new(channel).get_broadcast(self.request(request)).await?.into_inner();
        match found.broadcast {
            Some(broadcast) => Ok(broadcast),
            None => bail!("the server answered without the broadcast"),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }
}

/// What a report says of a delivery, in this order: nothing that a list does not show, and no address that is not masked.
fn columns(delivery: &Delivery) -> [(&'static str, String); 17] {
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
    let failure = delivery.failure.as_ref();
    let known = |word: String| if word == "unspecified" { String::new() } else { word };
    [
        ("delivery_id", delivery.delivery_id.clone()),
        ("patient_id", delivery.patient_id.clone()),
        ("channel", word(delivery.channel().as_str_name(), "CHANNEL_")),
        ("address_hint", delivery.address_hint.clone()),
        ("state", word(delivery.state().as_str_name(), "DELIVERY_STATE_")),
        ("skip_reason", known(word(delivery.skip_reason().as_str_name(), "SKIP_REASON_"))),
        (
            "failure_reason",
            failure.map(|it| known(word(it.reason().as_str_name(), "FAILURE_REASON_"))).unwrap_or_default(),
        ),
        ("failure_message", failure.map(|it| it.message.clone()).unwrap_or_default()),
        ("provider_code", failure.map(|it| it.provider_code.clone()).unwrap_or_default()),
        ("provider", delivery.provider.clone()),
        ("provider_message_id", delivery.provider_message_id.clone()),
        ("attempts", delivery.attempts.to_string()),
        ("possible_duplicate", delivery.possible_duplicate.to_string()),
        ("retry_of_delivery_id", delivery.retry_of_delivery_id.clone()),
        ("create_time", time(delivery.create_time)),
        ("send_time", time(delivery.send_time)),
        ("deliver_time", time(delivery.deliver_time)),
    ]
}

#[expect(clippy::print_stdout, reason = "the files are the result of the command")]
fn print(line: &str) {
    println!("{line}");
}

#[expect(clippy::print_stderr, reason = "said beside the result")]
fn say(text: &str) {
    eprintln!("heedwell: {text}");
}
