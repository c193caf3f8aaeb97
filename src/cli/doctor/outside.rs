//! Whether providers can be reached. Nothing is sent, and nobody's log-in is used.

use std::time::Duration;

use futures::future::join_all;

use super::{Report, database::Used};
use crate::{
    config::Config,
    domain::Provider,
    providers::{self, SendError},
};

/// For each of them, all at once.
const LIMIT: Duration = Duration::from_secs(5);
/// Relays beyond these are not tried.
const RELAYS: usize = 50;

pub(super) async fn look(config: &Config, used: &Used, report: &mut Report) {
    let settings = &config.providers;
    let apis = [
        ("HEEDWELL_TWILIO_URL", &settings.twilio_url, Provider::Twilio),
        ("HEEDWELL_SENDGRID_URL", &settings.sendgrid_url, Provider::SendGrid),
        ("HEEDWELL_FCM_URL", &settings.fcm_url, Provider::Fcm),
        ("HEEDWELL_GOOGLE_TOKEN_URL", &settings.google_token_url, Provider::Fcm),
    ];
    let apis = join_all(apis.map(async |(name, url, provider)| {
        (name, used.providers.contains(&provider), providers::reach(settings, url, LIMIT).await)
    }));
    let relays = join_all(
        used.relays
            .iter()
            .take(RELAYS)
            .map(async |(host, port)| (host, port, providers::reach_relay(settings, host, *port, LIMIT).await)),
    );
    let (apis, relays) = tokio::join!(apis, relays);
    for (name, is_used, reached) in apis {
        match reached {
            Ok(()) => report.ok("providers", name, "can be reached".to_owned()),
            Err(error) if is_used => report.wrong("providers", name, why(&error)),
            Err(error) => report.warning("providers", name, format!("{}; no practice uses it", why(&error))),
        }
    }
    for (host, port, reached) in relays {
        match reached {
            Ok(()) => report.ok("providers", "", format!("the relay {host}:{port} can be reached")),
            Err(error) => report.wrong("providers", "", format!("the relay {host}:{port}: {}", why(&error))),
        }
    }
}

fn why(error: &SendError) -> String {
    match error.code() {
        "dns" => "its name cannot be resolved: look at the name, and at this machine's resolver".to_owned(),
        "private address" => {
            "its address is not public: HEEDWELL_ALLOW_PRIVATE_PROVIDERS is for tests alone".to_owned()
        }
        "port" => "no relay is connected to at that port: it must be 465, 587 or 2525".to_owned(),
        "tls" => {
            "its certificate is not trusted: look for a proxy in between, and at this machine's authorities".to_owned()
        }
        "timeout" => "it does not answer in time: look at the firewall".to_owned(),
        _ => "there is no connection to it: look at the firewall".to_owned(),
    }
}
