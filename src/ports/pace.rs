//! How fast a client gets to the point. A connection must begin a request in time, and in HTTP/1.1 each head must arrive in
//! time once it has begun; hyper has one limit for both that and the silence in between.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// With what a client of HTTP/2 begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection has done so far.
#[derive(Debug)]
pub(super) struct Pace {
    /// Requests whose head is complete.
    begun: AtomicU64,
    /// Requests without an answer.
    open: AtomicUsize,
    http2: AtomicBool,
    /// Requests whose answer has not been said to its end: a watch is one for as long as it lasts.
    at_work: AtomicUsize,
    born: Instant,
    /// When the last of those ended, in nanoseconds after it was born.
    rested: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            begun: AtomicU64::default(),
            open: AtomicUsize::default(),
            http2: AtomicBool::default(),
            at_work: AtomicUsize::default(),
            born: Instant::now(),
            rested: AtomicU64::default(),
        }
    }
}

impl Pace {
    /// Notes a request until the guard is dropped, which the last byte of its answer takes along.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        self.at_work.fetch_add(1, Relaxed);
        Work(Arc::clone(self))
    }

    /// Since when nothing has been asked and not yet answered; unset: something is.
    pub(super) fn at_rest_since(&self) -> Option<Instant> {
        (self.at_work.load(Relaxed) == 0).then(|| self.born + Duration::from_nanos(self.rested.load(Relaxed)))
    }

    /// Whether the client has ever said anything whole: until then nothing of it can be under way.
    pub(super) fn has_spoken(&self) -> bool {
        self.http2.load(Relaxed) || self.begun.load(Relaxed) > 0
    }

    /// Notes a request; it is open until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        self.begun.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Open(Arc<Pace>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// A request whose answer has not been said to its end.
#[derive(Debug)]
pub(super) struct Work(Arc<Pace>);

impl Drop for Work {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.rested.store(now, Relaxed);
        self.0.at_work.fetch_sub(1, Relaxed);
    }
}

/// A connection whose reads fail once its client takes too long.
#[derive(Debug)]
pub(super) struct Paced<I> {
    io: I,
    pace: Arc<Pace>,
    limit: Duration,
    /// How much of [`PREFACE`] the client has sent; unset: it speaks HTTP/1.1.
    preface: Option<usize>,
    timer: Pin<Box<Sleep>>,
    /// The head that is waited for, by the number of those before it.
    waiting: Option<u64>,
}

impl<I> Paced<I> {
    pub(super) fn new(io: I, pace: Arc<Pace>, limit: Duration) -> Self {
        Self { io, pace, limit, preface: Some(0), timer: Box::pin(sleep(limit)), waiting: Some(0) }
    }

    fn took(&mut self, bytes: &[u8]) {
        if let Some(seen) = self.preface {
            let more = bytes.len().min(PREFACE.len() - seen);
            self.preface = (bytes[..more] == PREFACE[seen..seen + more]).then_some(seen + more);
            if self.preface == Some(PREFACE.len()) {
                // From here on HTTP/2 has pings and limits of its own.
                self.pace.http2.store(true, Relaxed);
                self.waiting = None;
            }
        }
        let begun = self.pace.begun.load(Relaxed);
        let http1 = self.preface.is_none();
        if http1 && self.waiting.is_none_or(|head| head < begun) {
            // While a request is open these bytes are its body, for which its own limits hold.
            self.waiting = (self.pace.open.load(Relaxed) == 0).then(|| {
                self.timer.as_mut().reset(Instant::now() + self.limit);
                begun
            });
        }
    }

    /// Nothing has come: is it time to give up?
    fn poll_limit(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        match self.waiting {
            Some(head) if self.pace.begun.load(Relaxed) <= head => {
                ready!(self.timer.as_mut().poll(context));
                Poll::Ready(io::ErrorKind::TimedOut.into())
            }
            _ => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.io).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                this.took(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Pending => this.poll_limit(context).map(Err),
            failed => failed,
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
