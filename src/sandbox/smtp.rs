//! A mail relay (RFC 5321) that stores every mail in the journal and misbehaves on demand. Guarantee: a mail is in the
//! journal before its final dot is answered.

mod auth;
mod bounces;
mod session;
mod wire;

use std::{io, sync::Arc};

use rcgen::CertifiedKey;
use rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use self::bounces::Bounces;
use self::{
    session::{Ending, Session},
    wire::Wire,
};
use super::{journal::Journal, line, rules::Rules};

/// What every session of the relay shares.
pub(super) struct Relay {
    tls: Option<Tls>,
    login: Option<(String, String)>,
    journal: Journal,
    rules: Rules,
    bounces: Arc<Bounces>,
}

struct Tls {
    acceptor: TlsAcceptor,
    certificate_pem: String,
}

impl Relay {
    /// # Errors
    /// Key or certificate cannot be made.
    pub(super) fn new(
        starttls: bool,
        login: Option<(String, String)>,
        journal: &Journal,
        rules: &Rules,
        bounces: Bounces,
    ) -> io::Result<Self> {
        let tls = starttls.then(Tls::new).transpose()?;
        Ok(Self { tls, login, journal: journal.clone(), rules: rules.clone(), bounces: Arc::new(bounces) })
    }

    pub(super) fn bounces(&self) -> Arc<Bounces> {
        Arc::clone(&self.bounces)
    }

    pub(super) fn certificate_pem(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.certificate_pem.as_str())
    }
}

impl Tls {
    /// A fresh key and a self-signed certificate for this machine's own names.
    fn new() -> io::Result<Self> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .map_err(io::Error::other)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate_pem: cert.pem() })
    }
}

/// Takes connections until `stop`; each session is a task that ends with it.
pub(super) async fn serve(listener: TcpListener, relay: Arc<Relay>, tasks: TaskTracker, stop: CancellationToken) {
    while let Some((stream, _)) = stop.run_until_cancelled(line::accept(&listener)).await {
        let (relay, stop) = (Arc::clone(&relay), stop.clone());
        tasks.spawn(async move {
            if let Some(Err(error)) = stop.run_until_cancelled(converse(&relay, stream)).await {
                tracing::debug!(%error, "a mail session broke off");
            }
        });
    }
}

async fn converse(relay: &Relay, stream: TcpStream) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    wire.say("220 localhost ESMTP Heedwell sandbox").await?;
    let ending = Session::new(relay, false).converse(&mut wire).await?;
    let Some(tls) = relay.tls.as_ref().filter(|_| ending == Ending::Upgrade) else { return Ok(()) };
    // Nothing said in plain text counts any more (RFC 3207, section 4.2): a new wire and a new session.
    let mut wire = Wire::new(tls.acceptor.accept(wire.into_inner()).await?);
    Session::new(relay, true).converse(&mut wire).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
