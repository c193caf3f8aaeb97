//! Broadcasts: preview, accept, read, cancel. Sending follows by itself.

mod preview;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Duration, Instant, sleep};

use crate::{
    clock::SharedClock,
    crypto::{self, FingerprintKey},
    domain::{
        Announcement, Audience, Broadcast, BroadcastId, BroadcastState, Channel, ChannelSet, Class, Phi, Scope,
        template,
    },
    service::{Error, Violation, admission::Admission, pages::Pages},
    store::{BroadcastPage, Created, Keyset, NewBroadcast, Store, StoreError, WordingHome},
};
pub use preview::{Preview, Reach};

/// The list that page tokens of broadcasts are for.
const LIST: &str = "broadcasts";
/// Longest time ahead for which a broadcast may be scheduled.
const FARTHEST_SCHEDULE: TimeDelta = TimeDelta::days(400);
/// Deliveries that are stopped in one transaction.
const STOPPED: u64 = 200;
/// How long a caller waits for everything to be stopped. What is left then is stopped by the server, and begins no more either.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the next try waits when the database was too busy to stop a page.
const PAUSE: Duration = Duration::from_millis(100);

/// What to send to whom; its fields are valid by themselves.
#[derive(Clone, Debug)]
pub struct Input {
    /// What it says.
    pub announcement: Announcement,
    /// To whom.
    pub audience: Audience,
    /// Over which channels.
    pub channels: ChannelSet,
    /// Not before; unset: now.
    pub schedule_time: Option<DateTime<Utc>>,
}

/// A request for a broadcast, to be met once.
#[derive(Clone, Debug)]
pub struct Order {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// What to send.
    pub input: Input,
    /// An audience of more patients is refused.
    pub expected: i64,
}

/// What an accept yields.
#[derive(Clone, Debug)]
pub struct Made {
    /// The broadcast as it is now.
    pub broadcast: Broadcast,
    /// The key had been accepted before.
    pub replayed: bool,
}

/// Which broadcasts a list is asked for.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// In any of these; empty: in whatever state.
    pub states: Vec<BroadcastState>,
    /// At most this many.
    pub page_size: u64,
    /// Where the page begins; empty: at the newest.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// Sends and reads broadcasts.
#[derive(Clone, Debug)]
pub struct Broadcasts {
    store: Store,
    admission: Admission,
    clock: SharedClock,
    fingerprints: FingerprintKey,
    pages: Pages,
    public_url: String,
}

impl Broadcasts {
    /// Over `store`; `public_url` is where patients reach this server, without a slash at the end.
    #[must_use]
    pub fn new(
        store: Store,
        admission: Admission,
        (clock, fingerprints): (SharedClock, FingerprintKey),
        pages: Pages,
        public_url: String,
    ) -> Self {
        Self { store, admission, clock, fingerprints, pages, public_url }
    }

    /// Accepts a broadcast. A repeat of the same request yields what the first one made, as it is now.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `REQUEST_ID_REUSED`, `CHANNEL_NOT_CONFIGURED`, `STATE_FORBIDS` (more patients than expected),
    /// `RATE_LIMITED`.
    pub async fn create(&self, scope: &Scope, order: Order) -> Result<Made, Error> {
        failpoint!("F1");
        let fingerprint = self.fingerprints.fingerprint(order.canonical.expose());
        let request_id = order.request_id.clone();
        let created = match self.accept(scope, order, fingerprint).await {
            Ok(created) => created,
            // A repeat is told what it was told, whatever has changed since.
            Err(refusal) => match self.store.broadcast_prior(scope, &request_id, &fingerprint).await {
                Ok(Some(before)) => before,
                _ => return Err(refusal),
            },
        };
        failpoint!("F3");
        match created {
            Created::New(broadcast) => Ok(Made { broadcast, replayed: false }),
            Created::Replayed(broadcast) => Ok(Made { broadcast, replayed: true }),
            Created::KeyReused(id) => Err(Error::request_id_reused("broadcast", id)),
        }
    }

    async fn accept(&self, scope: &Scope, order: Order, fingerprint: [u8; 32]) -> Result<Created, Error> {
        let home = self.store.wording_home(scope).await?;
        self.admission.room()?;
        let open = self.store.open_deliveries_of(scope).await?;
        self.admission.backlog(open, Class::Bulk)?;
        let Order { request_id, input, expected, .. } = order;
        let (home, input) = self.checked(home, input).await?;
        if let Some(channel) = not_set_up(&home, input.channels) {
            return Err(Error::ChannelNotConfigured { channel });
        }
        if input.channels.contains(Channel::Sms) {
            // Each share has a segment at least. What is accepted goes out whole, whatever the day has been used for by then.
            self.admission.day(scope.practice(), expected, open, self.clock.now())?;
        }
        let new = NewBroadcast {
            id: BroadcastId(crypto::new_id(self.clock.now())),
            request_id,
            fingerprint,
            announcement: input.announcement,
            audience: input.audience,
            channels: input.channels,
            schedule_time: input.schedule_time,
            expected,
        };
        Ok(self.store.broadcast_create(scope, new).await?)
    }

    /// What only the clock and the practice can tell of an input. Rendering is bounded, but it is work: it does not belong on a
    /// thread that serves connections.
    async fn checked(&self, home: WordingHome, input: Input) -> Result<(WordingHome, Input), Error> {
        let mut violations = Vec::new();
        if input.schedule_time.is_some_and(|time| time > self.clock.now() + FARTHEST_SCHEDULE) {
            violations.push(Violation::new("broadcast.schedule_time", "must be at most 400 days ahead"));
        }
        let work = tokio::task::spawn_blocking(move || {
            let of = (&home.practice, &home.settings);
            let problems = template::announcement_problems(&input.announcement, input.channels, of).into_iter();
            violations.extend(problems.map(|(field, it)| Violation::new(format!("broadcast.{field}"), it)));
            if violations.is_empty() { Ok((home, input)) } else { Err(Error::FieldInvalid(violations)) }
        });
        work.await.map_err(|error| Error::Internal(error.into()))?
    }

    /// Reads one broadcast, which the audit trail tells.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn get(&self, scope: &Scope, id: BroadcastId) -> Result<Broadcast, Error> {
        let broadcast = self.find(scope, id).await?;
        self.store.audit_read(scope, None, format!("broadcast/{id}")).await?;
        Ok(broadcast)
    }

    async fn find(&self, scope: &Scope, id: BroadcastId) -> Result<Broadcast, Error> {
        self.store.broadcast_get(scope, id).await.map_err(|error| Error::from(error).named(id))
    }

    /// Lists broadcasts, newest first, which the audit trail tells, and says where the next page begins; empty on the last.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn list(&self, scope: &Scope, query: ListQuery) -> Result<(Vec<Broadcast>, String), Error> {
        let canonical = query.canonical.expose();
        let after = match self.pages.open(scope, LIST, canonical, &query.page_token)? {
            None => None,
            Some(position) => Some(Keyset::from_bytes(&position).ok_or(Error::PageTokenInvalid)?),
        };
        let page = self.store.broadcasts_list(scope, &query.states, after, query.page_size).await?;
        self.store.audit_read(scope, None, LIST).await?;
        let BroadcastPage { broadcasts, next } = page;
        let token = |next: Keyset| self.pages.mint(scope, LIST, canonical, &next.to_bytes());
        Ok((broadcasts, next.map(token).unwrap_or_default()))
    }

    /// Cancels a broadcast that is not over. Once this returns nothing of it begins; a repeat finds nothing left to do. What it
    /// yields as pending was under way before, unless there was more to be stopped than the caller waits for.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn cancel(&self, scope: &Scope, id: BroadcastId) -> Result<Broadcast, Error> {
        let named = |error: StoreError| Error::from(error).named(id);
        if !self.store.broadcast_cancel(scope, id).await.map_err(named)? {
            // Nothing was done, but what it says is shown.
            self.store.audit_read(scope, None, format!("broadcast/{id}")).await?;
        }
        let broadcast = self.find(scope, id).await?;
        if broadcast.state != BroadcastState::Cancelled || broadcast.complete_time.is_some() {
            return Ok(broadcast);
        }
        // Most are small, so that the answer says how it ended.
        let (end, mut after) = (Instant::now() + PATIENCE, None);
        while Instant::now() < end {
            match self.store.broadcast_stop((scope, id), None, after, STOPPED).await {
                Ok(None) => break,
                Ok(last) => after = last,
                // It is cancelled, come what may: what is not stopped here the server stops.
                Err(error) => {
                    tracing::warn!(broadcast.id = %id, error = %crate::telemetry::chain(&error), "stopping waits");
                    sleep(PAUSE).await;
                }
            }
        }
        self.find(scope, id).await
    }
}

/// The first of these channels that cannot send.
fn not_set_up(home: &WordingHome, channels: ChannelSet) -> Option<Channel> {
    channels.iter().find(|channel| !home.settings.is_set_up(*channel))
}
