//! The watch protocol: everything after a cursor, in order, at the reader's pace; a checkpoint first thing and whenever it
//! is quiet; a planned end is no error. Nothing is dropped for a slow reader, since each stream reads the feed for itself.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::SharedClock,
    crypto::{Purpose, TokenKey},
    domain::{DeliveryChange, DeliveryFilter, Scope},
    service::Error,
    store::Store,
    wake::Listener,
};

/// How watches behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A stream ends, as planned, after this long, give or take a tenth.
    pub lifetime: Duration,
    /// A reader that takes nothing for this long is cut off.
    pub stall: Duration,
    /// How often the feed is read even though nobody hinted at a change.
    pub poll: Duration,
    /// Open watches of one subject.
    pub per_subject: usize,
    /// Open watches of this process.
    pub in_all: usize,
    /// How long changes are kept.
    pub history: TimeDelta,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(30 * 60),
            stall: Duration::from_secs(60),
            poll: Duration::from_millis(500),
            per_subject: 100,
            in_all: 5_000,
            history: TimeDelta::days(7),
        }
    }
}

/// Most changes in one step.
const PAGE: u64 = 256;

/// Where a watch begins.
#[derive(Clone, Debug)]
pub enum Start {
    /// With the next change.
    Now,
    /// After this cursor.
    Cursor(String),
    /// With the first change at or after this time.
    Time(DateTime<Utc>),
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Request {
    /// Which changes.
    pub filter: DeliveryFilter,
    /// From where.
    pub start: Start,
    /// How long it may be quiet.
    pub heartbeat: Duration,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
}

/// A step of a watch.
#[derive(Clone, Debug)]
pub struct Step {
    /// Everything up to here has been sent or held back.
    pub cursor: String,
    /// Empty in a checkpoint.
    pub changes: Vec<DeliveryChange>,
    /// The server's clock.
    pub server_time: DateTime<Utc>,
}

/// Serves watches.
#[derive(Clone, Debug)]
pub struct Watch {
    store: Store,
    tokens: TokenKey,
    clock: SharedClock,
    settings: Settings,
    stop: CancellationToken,
    tasks: TaskTracker,
    open: Arc<Mutex<HashMap<String, usize>>>,
}

/// A running watch. It ends without an error as planned, or with one.
#[derive(Debug)]
pub struct Steps {
    steps: mpsc::Receiver<Step>,
    end: Arc<Mutex<Option<Error>>>,
    _place: Place,
}

impl Stream for Steps {
    type Item = Result<Step, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.steps.poll_recv(context) {
            Poll::Ready(Some(step)) => Poll::Ready(Some(Ok(step))),
            Poll::Ready(None) => Poll::Ready(self.end.lock().unwrap_or_else(PoisonError::into_inner).take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Watch {
    /// Over `store`. Streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(
        store: Store,
        tokens: TokenKey,
        clock: SharedClock,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        Self { store, tokens, clock, settings, stop, tasks: TaskTracker::new(), open: Arc::default() }
    }

    /// Starts a watch. `exempt` is for a subject that stands for many people, such as the portal's backend.
    ///
    /// # Errors
    /// `CURSOR_INVALID`, `CURSOR_EXPIRED`, `FIELD_INVALID`, `TOO_MANY_WATCHES`; `SCOPE_FORBIDDEN` when there is no such
    /// practice.
    pub async fn start(&self, scope: Scope, exempt: bool, request: Request) -> Result<Steps, Error> {
        let place = Place::take(&self.open, &scope.author().id, exempt, self.settings)?;
        // Interest first, then the look: a change in between is seen either way.
        let wake = self.store.wake().listen();
        let position = self.position(&scope, &request.start).await?;
        let (sender, steps) = mpsc::channel(1);
        let end = Arc::new(Mutex::new(None));
        let run = Run { watch: self.clone(), scope, request, position, wake, sender };
        let slot = Arc::clone(&end);
        self.tasks.spawn(async move {
            // Kept until the error is in its place: the reader looks there as soon as the channel closes.
            let open = run.sender.clone();
            if let Err(error) = run.run().await {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            drop(open);
        });
        Ok(Steps { steps, end, _place: place })
    }

    /// How many watches are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    async fn position(&self, scope: &Scope, start: &Start) -> Result<i64, Error> {
        match start {
            Start::Now => Ok(self.store.feed_head(scope).await?),
            Start::Time(time) => {
                if *time < self.clock.now() - self.settings.history {
                    return Err(Error::field("start_time", "must not be older than changes are kept (7 days)"));
                }
                Ok(self.store.feed_position_at(scope, *time).await?)
            }
            Start::Cursor(cursor) => {
                let bytes = self.tokens.open(Purpose::DeliveryCursor, scope.practice().as_str(), cursor);
                let bytes: [u8; 8] = bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Error::CursorInvalid)?;
                let position = i64::from_be_bytes(bytes);
                let bounds = self.store.feed_bounds(scope).await?;
                // Ahead of the head: the database was restored from a backup, and what the client saw is gone.
                if position < bounds.earliest || position > bounds.newest {
                    return Err(Error::CursorExpired { earliest: self.cursor(scope, bounds.earliest) });
                }
                Ok(position)
            }
        }
    }

    fn cursor(&self, scope: &Scope, position: i64) -> String {
        self.tokens.mint(Purpose::DeliveryCursor, scope.practice().as_str(), &position.to_be_bytes())
    }
}

/// A place among the open watches, given back when it is dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Mutex<HashMap<String, usize>>>,
    subject: String,
}

impl Place {
    fn take(
        open: &Arc<Mutex<HashMap<String, usize>>>,
        subject: &str,
        exempt: bool,
        settings: Settings,
    ) -> Result<Self, Error> {
        let mut counts = open.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= settings.in_all {
            return Err(Error::TooManyWatches { limit: settings.in_all });
        }
        let count = counts.entry(subject.to_owned()).or_default();
        if !exempt && *count >= settings.per_subject {
            return Err(Error::TooManyWatches { limit: settings.per_subject });
        }
        *count += 1;
        Ok(Self { open: Arc::clone(open), subject: subject.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.subject);
            }
        }
    }
}

struct Run {
    watch: Watch,
    scope: Scope,
    request: Request,
    position: i64,
    wake: Listener,
    sender: mpsc::Sender<Step>,
}

/// Why a watch stopped waiting.
enum Event {
    Look,
    Heartbeat,
    End,
    Expired,
    Gone,
}

impl Run {
    async fn run(mut self) -> Result<(), Error> {
        let share = rand::random_range(0.9..1.1);
        let end = Instant::now() + self.watch.settings.lifetime.mul_f64(share);
        let end = self.request.deadline.map_or(end, |deadline| end.min(deadline));
        self.send(Vec::new()).await?;
        let mut heartbeat = Instant::now() + self.request.heartbeat;
        loop {
            let page = self.watch.store.feed_read_after(&self.scope, self.position, PAGE).await?;
            if page.gap {
                let bounds = self.watch.store.feed_bounds(&self.scope).await?;
                return Err(Error::CursorExpired { earliest: self.watch.cursor(&self.scope, bounds.earliest) });
            }
            self.position = page.position;
            let changes: Vec<_> = page.changes.into_iter().filter(|change| self.shows(change)).collect();
            if !changes.is_empty() {
                self.send(changes).await?;
                heartbeat = Instant::now() + self.request.heartbeat;
            }
            // A long backlog is no reason to outlive the token, the lifetime or the server.
            if page.full && !self.is_over(end) {
                continue;
            }
            match self.wait(heartbeat, end).await {
                Event::Look => {}
                Event::Heartbeat => {
                    self.send(Vec::new()).await?;
                    heartbeat = Instant::now() + self.request.heartbeat;
                }
                Event::End => return self.send(Vec::new()).await,
                Event::Expired => return Err(Error::TokenInvalid),
                Event::Gone => return Ok(()),
            }
        }
    }

    fn shows(&self, change: &DeliveryChange) -> bool {
        let own = change.delivery.patient.as_ref().is_none_or(|patient| self.scope.covers(patient));
        own && self.request.filter.passes(change)
    }

    fn is_over(&self, end: Instant) -> bool {
        let expired = self.scope.expire_time().is_some_and(|time| time <= self.watch.clock.now());
        expired || Instant::now() >= end || self.watch.stop.is_cancelled()
    }

    async fn wait(&mut self, heartbeat: Instant, end: Instant) -> Event {
        let left = self.scope.expire_time().map(|time| time - self.watch.clock.now());
        let expiry = left.map(|left| Instant::now() + left.to_std().unwrap_or_default());
        let expired = async {
            match expiry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.watch.stop.cancelled() => Event::End,
            () = self.sender.closed() => Event::Gone,
            () = expired => Event::Expired,
            () = sleep_until(end) => Event::End,
            // Before the hints: in a busy practice there is always one.
            () = sleep_until(heartbeat) => Event::Heartbeat,
            () = self.wake.practice(self.scope.practice()) => Event::Look,
            () = tokio::time::sleep(self.watch.settings.poll) => Event::Look,
        }
    }

    /// Hands a step over once the reader has taken the one before.
    async fn send(&self, changes: Vec<DeliveryChange>) -> Result<(), Error> {
        let cursor = self.watch.cursor(&self.scope, self.position);
        let step = Step { cursor, changes, server_time: self.watch.clock.now() };
        match self.sender.send_timeout(step, self.watch.settings.stall).await {
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Error::WatchStalled),
            // A reader who left needs no answer.
            Ok(()) | Err(mpsc::error::SendTimeoutError::Closed(_)) => Ok(()),
        }
    }
}
