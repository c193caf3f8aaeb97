//! The socket below lettre's dialogue. lettre's own would wait for delayed acknowledgements, and would carry text that was
//! slipped in before STARTTLS over into the encrypted session.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite};
#[expect(deprecated, reason = "lettre offers no other way to begin with TLS on a socket that it did not open")]
use lettre::transport::smtp::client::AsyncNetworkStream;
use lettre::transport::smtp::client::{AsyncTokioStream, TlsParameters};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf},
    net::TcpStream,
    task::spawn_blocking,
};

/// More than all replies to all mails of one connection, handshake included. A relay that says more is cut off: lettre
/// would collect a line without end.
const READ_LIMIT: usize = 1024 * 1024;
/// Parameters for this many hosts are kept; each holds the system's CA certificates.
const HOSTS: usize = 64;

/// A TCP connection that hands on one line at a time. What follows a line stays here, so that after STARTTLS it meets the
/// TLS handshake, which it breaks, instead of lettre's buffer, where it would pass for a reply (CVE-2011-0411).
#[derive(Debug)]
pub(super) struct Socket {
    tcp: BufReader<TcpStream>,
    allowance: usize,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp: BufReader::with_capacity(2048, tcp), allowance: READ_LIMIT }
    }

    /// Whether the relay runs on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.peer_addr().is_ok_and(|peer| peer.ip().is_loopback())
    }

    /// The same with TLS from the first byte on (RFC 8314).
    pub(super) async fn encrypted(self, tls: TlsParameters) -> Result<Encrypted, lettre::transport::smtp::Error> {
        #[expect(deprecated, reason = "as above")]
        let mut stream = AsyncNetworkStream::use_existing_tokio1(Box::new(self));
        stream.upgrade_tls(tls).await?;
        Ok(Encrypted(stream))
    }
}

impl AsyncTokioStream for Socket {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.get_ref().peer_addr()
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(self.allowance);
        let ready = ready!(Pin::new(&mut self.tcp).poll_fill_buf(cx))?;
        let line = ready.iter().position(|byte| *byte == b'\n').map_or(ready, |end| &ready[..=end]);
        let line = line.get(..room).unwrap_or(line);
        buf.put_slice(line);
        let length = line.len();
        Pin::new(&mut self.tcp).consume(length);
        self.allowance -= length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A [`Socket`] with TLS around it.
#[derive(Debug)]
#[expect(deprecated, reason = "as above")]
pub(super) struct Encrypted(AsyncNetworkStream);

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = ready!(FuturesRead::poll_read(Pin::new(&mut self.0), cx, buf.initialize_unfilled()))?;
        buf.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        FuturesWrite::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        FuturesWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        FuturesWrite::poll_close(Pin::new(&mut self.0), cx)
    }
}

/// TLS parameters by host. Making them reads all CA certificates from disk.
#[derive(Default)]
pub(super) struct Tls(Mutex<HashMap<String, TlsParameters>>);

impl Tls {
    /// The parameters to prove that the peer is `host`; unset when the system has no CA certificates.
    pub(super) async fn parameters(&self, host: &str) -> Option<TlsParameters> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(host).cloned();
        if known.is_some() {
            return known;
        }
        let name = host.to_owned();
        let made = spawn_blocking(|| TlsParameters::new(name)).await.ok()?.ok()?;
        self.keep(host, made.clone());
        Some(made)
    }

    pub(super) fn keep(&self, host: &str, parameters: TlsParameters) {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS {
            // It fills again with the hosts that are still in use, and with certificates as they are by then.
            hosts.clear();
        }
        hosts.insert(host.into(), parameters);
    }
}
