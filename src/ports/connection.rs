//! The life of one connection.

use std::{
    future::Future,
    net::IpAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::{
    body::{Frame, Incoming, SizeHint},
    rt::Executor,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::{
    Port, Protocol, Settings, Stop,
    pace::{Pace, Paced, Work},
    seats::Seat,
    tls,
};

/// How long a connection is silent before TCP probes it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Most bytes of HTTP/1.1 that are read ahead.
const READ_AHEAD: usize = 64 * 1024;

tokio::task_local! {
    /// Ends the call of HTTP/2 that this task serves.
    static CALL: CancellationToken;
}

/// The connection that a request came over; kept with the request.
#[derive(Clone, Debug)]
pub struct Connection {
    calls: Arc<Semaphore>,
    calls_wait: Duration,
    cut: CancellationToken,
    peer: Option<IpAddr>,
    certificate: Option<[u8; 32]>,
}

impl Connection {
    /// The address at its other end: that of a proxy, where there is one. Unset when it was gone before it was asked for.
    #[must_use]
    pub const fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// SHA-256 of the certificate with which the client began the connection; unset: with none.
    #[must_use]
    pub const fn certificate(&self) -> Option<&[u8; 32]> {
        self.certificate.as_ref()
    }

    /// A place among the calls in work on this connection, first come, first served; unset when all stay taken for as long as a
    /// call may wait for one.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        timeout(self.calls_wait, Arc::clone(&self.calls).acquire_owned()).await.ok()?.ok()
    }

    /// Ends this call whatever its client does, and frees everything that waits for it. HTTP/2 resets the call; HTTP/1.1,
    /// which has one call at a time, closes the connection.
    #[must_use]
    pub const fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(tcp: TcpStream, seat: Seat, port: Arc<Port>, stop: Stop, tasks: TaskTracker) {
    // Without these it works as well, only slower to send and to notice a peer that is gone.
    let _ = tcp.set_nodelay(true);
    let _ = SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE));
    let peer = tcp.peer_addr().ok().map(|address| address.ip().to_canonical());
    let at_once = stop.at_once.clone();
    let life = async {
        let Some(tls) = &port.tls else { return speak(tcp, (peer, None), &seat.pace, &port, (&stop, tasks)).await };
        let handshake = timeout(port.settings.head, tls.acceptor().accept(tcp));
        tokio::select! {
            () = stop.planned.cancelled() => {}
            agreed = handshake => if let Ok(Ok(tls)) = agreed {
                let certificate = tls::of_client(&tls);
                // Apart, so that connections in the clear are not as large.
                Box::pin(speak(tls, (peer, certificate), &seat.pace, &port, (&stop, tasks))).await;
            },
        }
    };
    at_once.run_until_cancelled(seat.end.run_until_cancelled(life)).await;
}

async fn speak(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (peer, certificate): (Option<IpAddr>, Option<[u8; 32]>),
    pace: &Arc<Pace>,
    port: &Port,
    (stop, tasks): (&Stop, TaskTracker),
) {
    let settings = port.settings;
    let cut = CancellationToken::new();
    // The calls do not outlive their connection.
    let _calls = cut.clone().drop_guard();
    let connection = Connection {
        calls: Arc::new(Semaphore::new(settings.calls)),
        calls_wait: settings.calls_wait,
        cut: cut.clone(),
        peer,
        certificate,
    };
    let router = port.router.clone();
    let service = service_fn({
        let pace = Arc::clone(pace);
        move |request: http::Request<Incoming>| {
            let (open, work) = (pace.begin(), pace.work());
            let (mut connection, mut router) = (connection.clone(), router.clone());
            async move {
                if let Ok(call) = CALL.try_with(CancellationToken::clone) {
                    connection.cut = call;
                }
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(connection);
                let answer = router.call(request).await;
                drop(open);
                answer.map(|answer| answer.map(|body| Body::new(Answer { body, _work: work })))
            }
        }
    });
    let builder = builder(settings, port.protocol, Calls { tasks, cut: cut.clone() });
    let io = TokioIo::new(Paced::new(io, Arc::clone(pace), settings.head));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut end = pin!(sleep(settings.age.mul_f64(rand::random_range(0.9..1.1))));
    let (mut is_old, mut is_stopping) = (false, false);
    loop {
        tokio::select! {
            // An error is the client's: it went away, or did not speak HTTP.
            _ = connection.as_mut() => return,
            () = cut.cancelled() => return,
            () = &mut end => {
                if is_old {
                    return;
                }
                is_old = true;
                connection.as_mut().graceful_shutdown();
                end.as_mut().reset(Instant::now() + settings.grace);
            }
            () = stop.planned.cancelled(), if !is_stopping => {
                // hyper would wait for ever for its first words (#4170).
                if !pace.has_spoken() {
                    return;
                }
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

fn builder(settings: Settings, protocol: Protocol, calls: Calls) -> Builder<Calls> {
    let mut builder = Builder::new(calls);
    if protocol == Protocol::Http2 {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        // Measured over the silence between two requests too: the head's own limit is that of `pace`.
        .header_read_timeout(settings.idle)
        .max_buf_size(READ_AHEAD)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive)
        .max_concurrent_streams(settings.streams)
        .max_header_list_size(settings.head_bytes)
        .max_send_buf_size(settings.send_buffer);
    builder
}

/// The body of an answer. The connection is at work until it has been said, or nobody wants it any more.
struct Answer {
    body: Body,
    _work: Work,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the calls of one connection of HTTP/2, each on a task that can be ended by itself.
#[derive(Clone, Debug)]
struct Calls {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Calls
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, call: F) {
        let cut = self.cut.child_token();
        self.tasks.spawn(CALL.scope(cut.clone(), async move {
            cut.run_until_cancelled(call).await;
        }));
    }
}
