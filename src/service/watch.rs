//! The watch protocol: everything after a cursor, in order, at the reader's pace; a checkpoint first thing and whenever it
//! is quiet; a planned end is no error. Nothing is dropped for a slow reader: each stream goes through the feed for itself,
//! and holds one page of it at most. A quiet stream costs the database nothing.

mod broadcast;
mod cursor;
mod heads;
mod pages;
mod places;
mod reader;
mod run;
mod talk;

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
    time::{Instant, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    clock::SharedClock,
    crypto::TokenKey,
    domain::{
        Conversation, ConversationId, ConversationMessage, DeliveryChange, DeliveryFilter, Denied, Engine, InboxItem,
        PatientId, Scope, Side,
    },
    service::Error,
    store::{FeedPage, Store},
};
pub use broadcast::{BroadcastRequest, BroadcastStep};
use heads::Heads;
use pages::Pages;
use places::{Place, Places};
use reader::Reader;
use run::Run;

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
    /// A broadcast that is over is no longer watched once it has been still for this long.
    pub still: Duration,
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
            still: Duration::from_secs(60),
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

/// What is watched.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The deliveries that the filter lets pass.
    Deliveries(DeliveryFilter),
    /// The inbox of a patient.
    Inbox(PatientId),
    /// The conversations that the caller may see, or one of them.
    Conversations(Option<ConversationId>),
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub subject: Subject,
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
    pub(crate) news: News,
}

/// What there is to tell.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// What the filter lets pass, by its place in the page; a checkpoint has no page. Watches at the same position share it.
    Deliveries(Option<(Arc<FeedPage>, Vec<usize>)>),
    /// Items that are new or were marked, as they are now, and how many are unread.
    Inbox(Vec<InboxItem>, i32),
    /// Conversations as they are now, each with the message that is new in it or whose delivery moved on, as one side sees them.
    Conversations(Side, Vec<ConversationChange>),
}

/// A change of a conversation.
#[derive(Clone, Debug)]
pub struct ConversationChange {
    /// As it is now.
    pub conversation: Conversation,
    /// New, or with a new state of its delivery.
    pub message: Option<ConversationMessage>,
}

impl Step {
    /// The changes of deliveries, oldest first; none in a checkpoint.
    pub fn changes(&self) -> impl Iterator<Item = &DeliveryChange> {
        let shown = match &self.news {
            News::Deliveries(shown) => shown.as_ref(),
            News::Inbox(..) | News::Conversations(..) => None,
        };
        shown.into_iter().flat_map(|(page, shown)| shown.iter().filter_map(|&place| page.changes.get(place)))
    }

    /// Of an inbox the items that are new or were marked, none in a checkpoint, and how many are unread.
    #[must_use]
    pub fn inbox(&self) -> (&[InboxItem], i32) {
        match &self.news {
            News::Inbox(items, unread) => (items, *unread),
            News::Deliveries(_) | News::Conversations(..) => (&[], 0),
        }
    }

    /// The changes of conversations, oldest first, and the side that sees them; none in a checkpoint.
    #[must_use]
    pub fn talk(&self) -> (Side, &[ConversationChange]) {
        match &self.news {
            News::Conversations(side, changes) => (*side, changes),
            News::Deliveries(_) | News::Inbox(..) => (Side::Staff, &[]),
        }
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
pub struct Steps<T = Step> {
    steps: mpsc::Receiver<T>,
    end: Arc<Mutex<Option<Error>>>,
    _place: Place,
    /// Says that the reader is gone.
    _here: DropGuard,
}

impl<T> Stream for Steps<T> {
    type Item = Result<T, Error>;

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
    /// practice, or the inbox is somebody else's.
    pub async fn start(&self, scope: Scope, exempt: bool, request: Request) -> Result<Steps, Error> {
        if let Subject::Inbox(patient) = &request.subject
            && !scope.covers(patient)
        {
            return Err(Denied::Scope.into());
        }
        let place = self.places.take(&scope.author().id, exempt, self.settings)?;
        // Interest first, then the look: a change in between is seen either way.
        let head = self.heads.of(scope.practice());
        let (position, newest) = self.position(&scope, &request).await?;
        head.is_at_least(newest);
        self.tell(&scope, &request.subject).await?;
        let (sender, steps) = mpsc::channel(1);
        let cut = request.cut.clone();
        let reader = Reader::new(self, &scope, sender.clone());
        let run = Run { watch: self.clone(), scope, request, position, unread: 0, head, reader, live: false };
        Ok(self.spawn((sender, steps), place, cut, run.run()))
    }

    /// Puts on the audit trail who begins to watch what shows text: once for all that the stream will show. Patients who look at
    /// their own inbox are left to themselves.
    async fn tell(&self, scope: &Scope, subject: &Subject) -> Result<(), Error> {
        let (patient, resource) = match subject {
            Subject::Deliveries(_) => return Ok(()),
            Subject::Inbox(_) if scope.patient().is_some() => return Ok(()),
            Subject::Inbox(patient) => (Some(patient.clone()), "inbox".to_owned()),
            Subject::Conversations(None) => (scope.patient().cloned(), "conversations".to_owned()),
            Subject::Conversations(Some(id)) => {
                (self.store.conversation_get(scope, *id).await?.patient, format!("conversation/{id}"))
            }
        };
        Ok(self.store.audit_read(scope, patient.as_ref(), resource).await?)
    }

    /// Lets a watch run that sends its steps by `open`.
    fn spawn<T: Send + 'static>(
        &self,
        (open, steps): (mpsc::Sender<T>, mpsc::Receiver<T>),
        place: Place,
        cut: Option<CancellationToken>,
        run: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Steps<T> {
        let (end, here) = (Arc::new(Mutex::new(None)), CancellationToken::new());
        let (slot, gone) = (Arc::clone(&end), here.clone());
        let (linger, stalls) = (self.settings.linger, Arc::clone(&self.stalls));
        self.tasks.spawn(async move {
            // `open` is kept until the error is in its place: the reader looks there as soon as the channel closes.
            let Err(error) = run.await else { return };
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
        Steps { steps, end, _place: place, _here: here.drop_guard() }
    }

    /// How many watches are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.places.taken()
    }

    /// Says how many watches are open, and keeps nothing else alive.
    pub fn count(&self) -> impl Fn() -> usize + Send + Sync + 'static + use<> {
        let places = self.places.clone();
        move || places.taken()
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
    async fn position(&self, scope: &Scope, request: &Request) -> Result<(i64, i64), Error> {
        match &request.start {
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
                let position = cursor::open(&self.tokens, scope, &request.subject, cursor);
                let position = position.ok_or(Error::CursorInvalid)?;
                let bounds = self.store.feed_bounds(scope).await?;
                // Ahead of the head: the database was restored from a backup, and what the client saw is gone.
                if position < bounds.earliest || position > bounds.newest {
                    let earliest = self.cursor(scope, &request.subject, bounds.earliest);
                    return Err(Error::CursorExpired { earliest });
                }
                let early = if mutant!("resumed early") { 8.min(position - bounds.earliest) } else { 0 };
                Ok((position - early, bounds.newest))
            }
        }
    }

    /// Says to whoever holds it that everything up to `position` of the feed was told.
    pub(super) fn cursor(&self, scope: &Scope, subject: &Subject, position: i64) -> String {
        cursor::mint(&self.tokens, scope, subject, position)
    }
}
