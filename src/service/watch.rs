//! The watch protocol: everything after a cursor, in order, at the reader's pace; a checkpoint first thing and whenever it
//! is quiet; a planned end is no error. Nothing is dropped for a slow reader: each stream goes through the feed for itself,
//! and holds one page of it at most. A quiet stream costs the database nothing.

mod heads;
mod pages;
mod places;

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::Stream;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    clock::SharedClock,
    crypto::{Purpose, TokenKey},
    domain::{DeliveryChange, DeliveryFilter, Engine, Scope},
    service::Error,
    store::{FeedPage, Store},
};
use heads::{Head, Heads};
use pages::Pages;
use places::{Place, Places};

/// How watches behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A stream ends, as planned, after this long, give or take a tenth.
    pub lifetime: Duration,
    /// A reader that takes nothing for this long is told that its watch has ended.
    pub stall: Duration,
    /// How long it has to take that. Then its call is cut off, since it would keep its place and a page for as long as its
    /// connection lives.
    pub linger: Duration,
    /// How often it is looked whether feeds have moved even though nobody hinted at it.
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
            linger: Duration::from_secs(60),
            poll: Duration::from_millis(500),
            per_subject: 100,
            in_all: 5_000,
            history: TimeDelta::days(7),
        }
    }
}

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
    /// Ends the call of a caller who takes not even its end, and frees what waits for it.
    pub cut: Option<CancellationToken>,
}

/// A step of a watch.
#[derive(Clone, Debug)]
pub struct Step {
    /// Everything up to here has been sent or held back.
    pub cursor: String,
    /// The server's clock.
    pub server_time: DateTime<Utc>,
    /// What the filter lets pass, by its place in the page; a checkpoint has no page. Watches at the same position share it.
    pub(crate) shown: Option<(Arc<FeedPage>, Vec<usize>)>,
}

impl Step {
    /// The changes, oldest first; none in a checkpoint.
    pub fn changes(&self) -> impl Iterator<Item = &DeliveryChange> {
        self.shown.iter().flat_map(|(page, shown)| shown.iter().filter_map(|&place| page.changes.get(place)))
    }
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
    places: Places,
    heads: Heads,
    pages: Pages,
    stalls: Arc<AtomicU64>,
}

/// A running watch. It ends without an error as planned, or with one.
#[derive(Debug)]
pub struct Steps {
    steps: mpsc::Receiver<Step>,
    end: Arc<Mutex<Option<Error>>>,
    _place: Place,
    /// Says that the reader is gone.
    _here: DropGuard,
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
        let (places, heads, pages) = (Places::default(), Heads::default(), Pages::new(store.clone()));
        let (tasks, stalls) = (TaskTracker::new(), Arc::default());
        Self { store, tokens, clock, settings, stop, tasks, places, heads, pages, stalls }
    }

    /// Keeps watches up to date; without it they see nothing new. Ends when they do.
    pub async fn follow(self, engine: Engine) {
        self.heads.follow(self.store, engine, self.settings.poll, self.stop).await;
    }

    /// Starts a watch. `exempt` is for a subject that stands for many people, such as the portal's backend.
    ///
    /// # Errors
    /// `CURSOR_INVALID`, `CURSOR_EXPIRED`, `FIELD_INVALID`, `TOO_MANY_WATCHES`; `SCOPE_FORBIDDEN` when there is no such
    /// practice.
    pub async fn start(&self, scope: Scope, exempt: bool, request: Request) -> Result<Steps, Error> {
        let place = self.places.take(&scope.author().id, exempt, self.settings)?;
        // Interest first, then the look: a change in between is seen either way.
        let head = self.heads.of(scope.practice());
        let (position, newest) = self.position(&scope, &request.start).await?;
        head.is_at_least(newest);
        let (sender, steps) = mpsc::channel(1);
        let (end, here) = (Arc::new(Mutex::new(None)), CancellationToken::new());
        let (slot, gone, cut) = (Arc::clone(&end), here.clone(), request.cut.clone());
        let run = Run { watch: self.clone(), scope, request, position, head, sender };
        let (linger, stalls) = (self.settings.linger, Arc::clone(&self.stalls));
        self.tasks.spawn(async move {
            // Kept until the error is in its place: the reader looks there as soon as the channel closes.
            let open = run.sender.clone();
            let Err(error) = run.run().await else { return };
            let stalled = matches!(error, Error::WatchStalled);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            drop(open);
            if stalled {
                stalls.fetch_add(1, Ordering::Relaxed);
                if timeout(linger, gone.cancelled()).await.is_err() {
                    cut.iter().for_each(CancellationToken::cancel);
                }
            }
        });
        Ok(Steps { steps, end, _place: place, _here: here.drop_guard() })
    }

    /// How many watches are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.places.taken()
    }

    /// How often the database was asked for changes, on behalf of all watches.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.pages.reads()
    }

    /// How many watches ended because their readers took nothing.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// Where a watch begins, and the newest position.
    async fn position(&self, scope: &Scope, start: &Start) -> Result<(i64, i64), Error> {
        match start {
            Start::Now => {
                let newest = self.store.feed_head(scope).await?;
                Ok((newest, newest))
            }
            Start::Time(time) => {
                if *time < self.clock.now() - self.settings.history {
                    return Err(Error::field("start_time", "must not be older than changes are kept (7 days)"));
                }
                let newest = self.store.feed_head(scope).await?;
                Ok((self.store.feed_position_at(scope, *time).await?, newest))
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
                Ok((position, bounds.newest))
            }
        }
    }

    fn cursor(&self, scope: &Scope, position: i64) -> String {
        self.tokens.mint(Purpose::DeliveryCursor, scope.practice().as_str(), &position.to_be_bytes())
    }
}

struct Run {
    watch: Watch,
    scope: Scope,
    request: Request,
    position: i64,
    head: Head,
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
        self.send(None).await?;
        let mut heartbeat = Instant::now() + self.request.heartbeat;
        loop {
            // Before the next page is read: a stream never holds more than the one that its reader has not taken.
            self.taken().await?;
            if self.next_page().await? {
                heartbeat = Instant::now() + self.request.heartbeat;
            }
            match self.wait(heartbeat, end).await {
                Event::Look => {}
                Event::Heartbeat => {
                    self.send(None).await?;
                    heartbeat = Instant::now() + self.request.heartbeat;
                }
                Event::End => return self.send(None).await,
                Event::Expired => return Err(Error::TokenInvalid),
                Event::Gone => return Ok(()),
            }
        }
    }

    /// Moves on by one page, and says whether there was anything in it to send.
    async fn next_page(&mut self) -> Result<bool, Error> {
        // What it says is there must be found.
        let newest = self.head.newest();
        if newest <= self.position {
            return Ok(false);
        }
        let page = match self.watch.pages.after(&self.scope, self.position).await? {
            Some(page) if !page.gap => page,
            None if mutant!("serial feed") => return Ok(false),
            // The reader was so slow that changes were forgotten before it came to them.
            Some(_) | None => {
                let bounds = self.watch.store.feed_bounds(&self.scope).await?;
                return Err(Error::CursorExpired { earliest: self.watch.cursor(&self.scope, bounds.earliest) });
            }
        };
        self.position = page.position;
        let changes = page.changes.iter().enumerate();
        let mut shown: Vec<_> = changes.filter_map(|(place, change)| self.shows(change).then_some(place)).collect();
        if mutant!("coalesced") {
            let id = |place: usize| page.changes.get(place).map(|change| change.delivery.id);
            let all = shown.clone();
            shown.retain(|place| !all.iter().any(|later| later > place && id(*later) == id(*place)));
        }
        if mutant!("early checkpoint") && !shown.is_empty() {
            self.send(None).await?;
        }
        if shown.is_empty() {
            return Ok(false);
        }
        self.send(Some((page, shown))).await?;
        Ok(true)
    }

    fn shows(&self, change: &DeliveryChange) -> bool {
        let own = change.delivery.patient.as_ref().is_none_or(|patient| self.scope.covers(patient));
        own && self.request.filter.passes(change)
    }

    async fn wait(&mut self, heartbeat: Instant, end: Instant) -> Event {
        let expired = self.expired();
        tokio::select! {
            biased;
            () = self.watch.stop.cancelled() => Event::End,
            () = self.sender.closed() => Event::Gone,
            () = expired => Event::Expired,
            () = sleep_until(end) => Event::End,
            // Before the next page: in a busy practice there is always one.
            () = sleep_until(heartbeat) => Event::Heartbeat,
            () = self.head.beyond(self.position) => Event::Look,
        }
    }

    /// How long the token behind the watch still holds; unset: for ever.
    fn left(&self) -> Option<Duration> {
        let left = self.scope.expire_time()? - self.watch.clock.now();
        Some(left.to_std().unwrap_or_default())
    }

    /// Resolves when the token behind the watch ends.
    fn expired(&self) -> impl Future<Output = ()> + use<> {
        let left = self.left();
        async move {
            match left {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Hands a step over once the reader has taken the one before.
    async fn send(&self, shown: Option<(Arc<FeedPage>, Vec<usize>)>) -> Result<(), Error> {
        self.taken().await?;
        let cursor = self.watch.cursor(&self.scope, self.position);
        // There is room for it, unless the reader left, who needs no answer.
        let _ = self.sender.try_send(Step { cursor, server_time: self.watch.clock.now(), shown });
        Ok(())
    }

    /// Waits until the reader has taken the step before, or left. Nothing goes out once the token has ended: the clock may
    /// have jumped since that was waited for.
    async fn taken(&self) -> Result<(), Error> {
        if self.left().is_some_and(|left| left.is_zero()) {
            return Err(Error::TokenInvalid);
        }
        tokio::select! {
            biased;
            taken = timeout(self.watch.settings.stall, self.sender.reserve()) => match taken {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::WatchStalled),
            },
            () = self.expired() => Err(Error::TokenInvalid),
        }
    }
}
