//! Connections as the stand-ins take them: accepted without delay, and cut on demand. A handler that cuts its line sends
//! not a single byte of a reply, which is the failure that our clients must call an unknown outcome.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

/// Serves `router` until `stop`, then cuts what is still open.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let lines = Lines { listener, stop: stop.clone() };
    let service = router.into_make_service_with_connect_info::<Cut>();
    if let Err(error) = axum::serve(lines, service).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "a stand-in stopped serving HTTP");
    }
}

/// The next connection, with Nagle's delay off. A failed accept is transient (no file descriptor left, a peer that gave
/// up), so it is tried again after a pause.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await.and_then(|(stream, peer)| stream.set_nodelay(true).map(|()| (stream, peer))) {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a stand-in could not accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Cuts the connection that a request came by.
#[derive(Clone)]
pub(super) struct Cut(CancellationToken);

impl Cut {
    /// From now on the connection neither reads nor writes; hyper closes it at its next attempt.
    pub(super) fn now(&self) {
        self.0.cancel();
    }
}

impl Connected<IncomingStream<'_, Lines>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().cut.clone()
    }
}

struct Lines {
    listener: TcpListener,
    stop: CancellationToken,
}

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, peer) = accept(&self.listener).await;
        (Line { stream, cut: Cut(self.stop.child_token()) }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// After a cut every use of it fails. A stop cuts all lines, and the graceful shutdown that comes with it wakes each
/// connection to find that out.
struct Line {
    stream: TcpStream,
    cut: Cut,
}

impl Line {
    fn check(&self) -> io::Result<()> {
        if self.cut.0.is_cancelled() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
