//! `heedwell demo`: a whole server in this process, stand-ins for its providers, two practices with patients, one notification of
//! each kind, mail that comes back, a broadcast, and a talk. It is a client like any other: it calls gRPC over TCP, and the server
//! calls the stand-ins over TCP.

mod announce;
mod client;
mod talk;
mod world;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::time::{Instant, timeout_at};

use super::{runtime, told_to_stop};
use crate::{
    app::{self, App},
    clock::SystemClock,
    config::{self, Env},
    sandbox::{Sandbox, Settings},
    store::Time,
    telemetry,
};
use client::{ACME, Client};

/// How long everything may take until each delivery has reached its final state.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(once: bool) -> anyhow::Result<ExitCode> {
    telemetry::start(&telemetry::Settings { filter: "warn".into(), ..Default::default() });
    let folder = std::env::temp_dir().join(format!("heedwell-demo-{}", uuid::Uuid::new_v4()));
    let done = runtime()?.block_on(show(once, &folder));
    // The folder holds nothing but made-up patients; what cannot be removed is left to the system.
    let _ = std::fs::remove_dir_all(&folder);
    done
}

async fn show(once: bool, folder: &std::path::Path) -> anyhow::Result<ExitCode> {
    let sandbox = Sandbox::start(Settings::default()).await.context("the stand-ins")?;
    app::make_folder(folder).context("a folder for temporary files")?;
    let config = config::read(&environment(&sandbox, folder), true)?;
    let app = App::start(config, Time::Database(Arc::new(SystemClock))).await?;
    say(&format!("gRPC      http://{}", app.grpc_addr));
    say(&format!("sidecar   http://{}", app.http_addr));
    let web = [sandbox.twilio_url(), sandbox.sendgrid_url(), sandbox.fcm_url()];
    say(&format!("stand-ins {} and smtp://{}\n", web.join(", "), sandbox.smtp_addr()));

    let mut client = Client::connect(app.grpc_addr, folder).await?;
    world::furnish(&mut client, &sandbox).await.context("setting the practice up")?;
    let watch = client.watch().await?;
    let expected = world::send(&mut client).await.context("sending")?;
    let verdict = timeout_at(Instant::now() + LIMIT, client::follow(watch, &expected)).await;
    let well = match verdict {
        Ok(verdict) => verdict?,
        Err(_) => {
            say("\nnot everything reached its final state in time");
            false
        }
    };
    client::table(&client.list().await?, &expected);
    client::inbox(&client.inbox(ACME, "pat").await?);
    let announced = timeout_at(Instant::now() + LIMIT, announce::everybody(&mut client)).await;
    announced.context("the broadcast did not end in time")?.context("announcing something")?;
    let webhook = format!("http://{}/webhooks/twilio/{}/inbound", app.http_addr, ACME);
    let talked = timeout_at(Instant::now() + LIMIT, talk::hold(&mut client, &sandbox, &webhook)).await;
    talked.context("the conversation did not end in time")?.context("talking with Pat")?;
    if !once {
        say("\nThe server stays up; send it more, or stop it with Ctrl-C. A token for both practices:");
        say(&format!("{}\n", client.token()));
        say("The dashboard, with that token in the part of the address that browsers keep to themselves:");
        say(&format!("http://{}/#token={}\n", app.http_addr, client.token()));
        told_to_stop().await?;
    }
    app.stop().await;
    sandbox.stop().await;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn environment(sandbox: &Sandbox, folder: &std::path::Path) -> Env {
    let mut env = Env::default();
    // It has a few messages to keep, whatever the disk is otherwise filled with.
    env.set("HEEDWELL_DISK_RESERVE_MIB", "256");
    env.set("HEEDWELL_DATA_DIR", folder.display().to_string());
    env.set("HEEDWELL_ANCHOR_FILE", folder.join("anchors").display().to_string());
    env.set("HEEDWELL_GRPC_ADDR", "127.0.0.1:0");
    env.set("HEEDWELL_HTTP_ADDR", "127.0.0.1:0");
    env.set("HEEDWELL_METRICS_ADDR", "off");
    env.set("HEEDWELL_TWILIO_URL", sandbox.twilio_url());
    env.set("HEEDWELL_SENDGRID_URL", sandbox.sendgrid_url());
    env.set("HEEDWELL_FCM_URL", sandbox.fcm_url());
    env.set("HEEDWELL_GOOGLE_TOKEN_URL", sandbox.google_token_url());
    env.set("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "on");
    env.set("HEEDWELL_DRAIN_SECONDS", "0");
    env
}

#[expect(clippy::print_stdout, reason = "the demo shows itself on standard output")]
fn say(line: &str) {
    println!("{line}");
}
