//! Serving on a port: what one connection may take, how long it may live, and how it ends. hyper alone waits for ever on a
//! connection that never speaks (#4170), and tonic's server ends a connection that has grown old without a word before. What
//! is served is no business of this room.

mod connection;
mod pace;
mod seats;
mod tls;
mod validity;

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use connection::Connection;
pub use tls::{Tls, TlsError, TlsFiles, thumbprint};
pub use validity::{Validity, validities};

use crate::telemetry;
use seats::Seats;

/// What connections may do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Most connections of a port at once, or as many as half of the descriptors that the process may have allow, if those are
    /// fewer. Beyond them the address that has most gives one up that is at rest; where none is, the new one is closed.
    pub connections: usize,
    /// Time to agree on TLS, to begin the first request, and in HTTP/1.1 for the head of each one from its first byte.
    pub head: Duration,
    /// How long a connection of HTTP/1.1 may be silent between two requests. Proxies keep theirs for 60 s, and a request
    /// that meets a connection just being closed is lost.
    pub idle: Duration,
    /// How long a connection lives, give or take a tenth, before its client is asked to open another, so that load spreads.
    pub age: Duration,
    /// How long its calls may go on after that: longer than a watch lives, so that watches end by themselves.
    pub grace: Duration,
    /// A client of HTTP/2 that is silent for this long is pinged, and given up after as long again.
    pub keepalive: Duration,
    /// Open calls of one connection of HTTP/2, watches included.
    pub streams: u32,
    /// Calls of one connection that wait for their answer.
    pub calls: usize,
    /// How long a further one waits for a place among them before it is refused: longer than what a burst takes, and much shorter than
    /// what a caller waits for.
    pub calls_wait: Duration,
    /// Most bytes of a request's head.
    pub head_bytes: u32,
    /// Most bytes that wait for a slow reader of one call.
    pub send_buffer: usize,
    /// How often the files of certificates are looked at. One that has changed is taken at the second look.
    pub certificates: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections: 10_000,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            age: Duration::from_secs(30 * 60),
            grace: Duration::from_secs(35 * 60),
            keepalive: Duration::from_secs(20),
            streams: 200,
            calls: 64,
            calls_wait: Duration::from_secs(2),
            head_bytes: 16 * 1024,
            send_buffer: 400 * 1024,
            certificates: Duration::from_secs(10),
        }
    }
}

/// When to end.
#[derive(Clone, Debug)]
pub struct Stop {
    /// No new connections; those there are end once their calls have.
    pub planned: CancellationToken,
    /// Whatever is still there is dropped.
    pub at_once: CancellationToken,
}

/// Whether a port speaks HTTP/1.1 too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 alone.
    Http2,
    /// Either, as the client begins.
    Either,
}

/// What is served, and how.
#[derive(Debug)]
pub struct Port {
    /// What answers.
    pub router: Router,
    /// Unset: in the clear.
    pub tls: Option<Tls>,
    /// What is spoken.
    pub protocol: Protocol,
    /// The limits.
    pub settings: Settings,
}

/// How long to wait when no connection can be taken, as when the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

impl Port {
    /// Serves until `stop`, and returns once no connection is left.
    pub async fn serve(self, listener: TcpListener, stop: Stop) {
        let (port, connections) = (Arc::new(self), TaskTracker::new());
        let number = listener.local_addr().map_or(0, |address| address.port());
        let seats = Arc::new(Seats::new(port.settings.connections, number));
        loop {
            let accepted = tokio::select! {
                () = stop.planned.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    // Without a place it is closed before a word is said.
                    if let Some(seat) = seats.take(peer.ip()) {
                        let life = connection::serve(tcp, seat, Arc::clone(&port), stop.clone(), connections.clone());
                        connections.spawn(life);
                    }
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(error = %telemetry::chain(&error), "no connection can be taken");
                    sleep(PAUSE).await;
                }
            }
        }
        // Closed first, so that whoever connects now is refused at once and goes elsewhere.
        drop(listener);
        connections.close();
        connections.wait().await;
    }
}

/// Whether a connection went away before it was taken.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
