//! Whether what is outside can be reached at all, without sending anything: an operator asks.

use std::time::Duration;

use url::Url;

use super::{
    SendError, Settings, check,
    net::{Network, http_failure},
};

/// Whether an API answers to anything: name, connection, TLS, and a first line of HTTP, whatever it says.
///
/// # Errors
/// What kept it from that.
pub async fn reach(settings: &Settings, url: &Url, limit: Duration) -> Result<(), SendError> {
    let network = Network::new(settings.allow_private);
    check(url, network).ok_or_else(|| SendError::misconfigured("private address"))?;
    let settings = Settings { connect_timeout: limit, call_timeout: limit, ..settings.clone() };
    let client = network.http_client(&settings).map_err(|error| http_failure(&error))?;
    client.head(url.clone()).send().await.map(drop).map_err(|error| http_failure(&error))
}

/// Whether a relay takes a connection. Nothing is said to it.
///
/// # Errors
/// What kept it from that.
pub async fn reach_relay(settings: &Settings, host: &str, port: u16, limit: Duration) -> Result<(), SendError> {
    let network = Network::new(settings.allow_private);
    Ok(network.connect(host, port, limit).await.map(drop)?)
}
