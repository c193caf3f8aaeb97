//! Notifications: decide, render, store, return. Sending follows by itself.

mod prepare;
mod preview;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};

use crate::{
    clock::SharedClock,
    crypto::{FingerprintKey, Purpose, TokenKey},
    domain::{
        ChannelSet, Class, Delivery, DeliveryFilter, DeliveryId, DeliveryStats, Hours, Kind, NotificationId, PatientId,
        Payload, Phi, Priority, Scope,
    },
    service::{Error, Violation, admission::Admission, pages::Pages},
    store::{
        Accepted, Basis, Cancelled, DeliveryPage, Keyset, NewRetry, NotificationDetail, NotificationRecord, Retried,
        Store, StoreError,
    },
};

pub use preview::ChannelPreview;

/// The list that page tokens of deliveries are for.
const LIST: &str = "deliveries";
/// How many items of a batch are worked on at once.
const BATCH_WIDTH: usize = 16;
/// The longest period of statistics.
const LONGEST_PERIOD: TimeDelta = TimeDelta::days(92);

/// A request to notify one patient, to be met once.
#[derive(Clone, Debug)]
pub struct Order {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// What to send.
    pub input: Input,
}

/// What to send to one patient; its fields are valid by themselves.
#[derive(Clone, Debug)]
pub struct Input {
    /// For whom.
    pub patient: PatientId,
    /// What about.
    pub payload: Payload,
    /// Words of the sender.
    pub custom_content: Option<Phi<String>>,
    /// The channels to consider; unset: those effective.
    pub channels: Option<ChannelSet>,
    /// Not before.
    pub schedule_time: Option<DateTime<Utc>>,
    /// No attempt after.
    pub expire_time: Option<DateTime<Utc>>,
    /// The caller's reference; may be empty.
    pub reference: String,
    /// How soon.
    pub priority: Priority,
}

/// What a send yields.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The notification as it is now.
    pub notification: NotificationRecord,
    /// The key had been accepted before.
    pub replayed: bool,
}

/// What a cancel yields.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The notification as it is now.
    pub notification: NotificationRecord,
    /// What this call did.
    pub done: Cancelled,
}

/// A request to send a delivery again.
#[derive(Clone, Debug)]
pub struct RetryOrder {
    /// The caller's key.
    pub request_id: String,
    /// What to send again.
    pub delivery: DeliveryId,
}

/// What a retry yields.
#[derive(Clone, Debug)]
pub struct Resent {
    /// The new delivery as it is now.
    pub delivery: Delivery,
    /// The key had been accepted before.
    pub replayed: bool,
}

/// What statistics are asked for.
#[derive(Clone, Debug)]
pub struct StatsQuery {
    /// Of deliveries made at or after.
    pub start_time: DateTime<Utc>,
    /// Made before; unset: now.
    pub end_time: Option<DateTime<Utc>>,
    /// Of these kinds; all when empty.
    pub kinds: Vec<Kind>,
}

/// Which deliveries a list is asked for.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Which.
    pub filter: DeliveryFilter,
    /// Created at or after.
    pub start_time: Option<DateTime<Utc>>,
    /// Created before.
    pub end_time: Option<DateTime<Utc>>,
    /// At most this many.
    pub page_size: u64,
    /// Where the page begins; empty: at the newest.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of a list.
#[derive(Debug)]
pub struct ListPage {
    /// The deliveries, newest first.
    pub deliveries: Vec<Delivery>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Where to start watching; first page only, else empty.
    pub watch_cursor: String,
}

/// Sends and reads notifications.
#[derive(Clone, Debug)]
pub struct Notify {
    store: Store,
    admission: Admission,
    clock: SharedClock,
    fingerprints: FingerprintKey,
    tokens: TokenKey,
    pages: Pages,
    public_url: Arc<str>,
}

impl Notify {
    /// Over `store`; `public_url` is where patients reach this server, without a slash at the end.
    #[must_use]
    pub fn new(
        store: Store,
        admission: Admission,
        clock: SharedClock,
        fingerprints: FingerprintKey,
        tokens: TokenKey,
        public_url: &str,
    ) -> Self {
        let pages = Pages::new(fingerprints.clone(), tokens.clone());
        Self { store, admission, clock, fingerprints, tokens, pages, public_url: public_url.into() }
    }

    /// The present moment.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Accepts one notification. A repeat of the same request yields what the first one made, as it is now.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `NOT_FOUND` (patient), `REQUEST_ID_REUSED`, `RATE_LIMITED`.
    pub async fn send(&self, scope: &Scope, order: Order) -> Result<Sent, Error> {
        failpoint!("F1");
        let fingerprint = self.fingerprints.fingerprint(order.canonical.expose());
        let request_id = order.request_id.clone();
        let accepted = match self.accept(scope, order, fingerprint).await {
            Ok(accepted) => accepted,
            // A repeat is told what it was told, though what was valid then may be out of date now, and there may be no room
            // for anything new.
            Err(refusal) => match self.store.notification_prior(scope, &request_id, &fingerprint).await {
                Ok(Some(before)) => before,
                _ => return Err(refusal),
            },
        };
        failpoint!("F3");
        match accepted {
            Accepted::New(notification) => Ok(Sent { notification, replayed: false }),
            Accepted::Replayed(notification) => Ok(Sent { notification, replayed: true }),
            Accepted::KeyReused(id) => Err(Error::request_id_reused("notification", id)),
        }
    }

    /// Accepts an order for which there are grounds and room.
    async fn accept(&self, scope: &Scope, order: Order, fingerprint: [u8; 32]) -> Result<Accepted, Error> {
        let Basis { grounds, open } = self.store.notification_basis(scope, &order.input.patient).await?;
        let grounds = grounds.ok_or_else(|| Error::not_found("patient", &order.input.patient))?;
        self.admission.room()?;
        self.admission.backlog(open, Class::of_one(order.input.priority == Priority::Urgent))?;
        let new = self.prepare(order, grounds, fingerprint).await?;
        self.admission.texts(scope.practice(), &new, open, self.clock.now())?;
        Ok(self.store.notification_accept(scope, new).await?)
    }

    /// Accepts several notifications, each on its own; results are in the order of the orders.
    pub async fn send_all(&self, scope: &Scope, orders: Vec<Result<Order, Error>>) -> Vec<Result<Sent, Error>> {
        let sends = orders.into_iter().map(|order| async move { self.send(scope, order?).await });
        stream::iter(sends).buffered(BATCH_WIDTH).collect().await
    }

    /// Reads one notification; `full` adds text and decisions, which the audit trail tells.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn get(&self, scope: &Scope, id: NotificationId, full: bool) -> Result<NotificationDetail, Error> {
        let detail = match self.store.notification_detail(scope, id, full).await {
            Ok(detail) => detail,
            Err(error) => return Err(self.absent(scope, error, id).await),
        };
        if full {
            self.store.audit_read(scope, Some(&detail.record.patient), format!("notification/{id}")).await?;
        }
        Ok(detail)
    }

    /// Stops what can still be stopped of a notification and revokes its links. A repeat finds nothing left to stop.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn cancel(&self, scope: &Scope, id: NotificationId) -> Result<Stopped, Error> {
        match self.store.notification_cancel(scope, id).await {
            Ok(done) => Ok(Stopped { notification: self.store.notification_get(scope, id).await?, done }),
            Err(error) => Err(self.absent(scope, error, id).await),
        }
    }

    /// Sends a delivery again, as a new one. A repeat of the same request yields what the first one made, as it is now.
    ///
    /// # Errors
    /// `NOT_FOUND`, `REQUEST_ID_REUSED`, `STATE_FORBIDS`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn retry(&self, scope: &Scope, order: RetryOrder) -> Result<Resent, Error> {
        // A repeat of what was accepted is told the same, and may be made again.
        self.admission.room()?;
        let RetryOrder { request_id, delivery } = order;
        let fingerprint = self.fingerprints.fingerprint(delivery.0.as_bytes());
        let retry = NewRetry { request_id, fingerprint, delivery };
        match self.store.delivery_retry(scope, retry).await.map_err(|error| Error::from(error).named(delivery))? {
            Retried::New(delivery) => Ok(Resent { delivery, replayed: false }),
            Retried::Replayed(delivery) => Ok(Resent { delivery, replayed: true }),
            Retried::KeyReused(id) => Err(Error::request_id_reused("delivery", id)),
        }
    }

    /// What to answer when a notification could not be found, or something else went wrong.
    async fn absent(&self, scope: &Scope, error: StoreError, id: NotificationId) -> Error {
        if !matches!(error, StoreError::NotFound("notification")) {
            return error.into();
        }
        // In a practice that is not there nothing is looked for: it is refused like a foreign one.
        match self.store.practice_get(scope).await {
            Ok(_) => Error::from(error).named(id),
            Err(no_practice) => no_practice.into(),
        }
    }

    /// What became of the deliveries of a period, which is widened to whole hours of UTC.
    ///
    /// # Errors
    /// `FIELD_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn stats(&self, scope: &Scope, query: StatsQuery) -> Result<(Hours, DeliveryStats), Error> {
        let end_time = query.end_time.unwrap_or_else(|| self.clock.now());
        let period = end_time - query.start_time;
        if period <= TimeDelta::zero() || period > LONGEST_PERIOD {
            let fault = "must be before end_time, which is now unless given, by at most 92 days";
            return Err(Error::FieldInvalid(vec![Violation::new("start_time", fault)]));
        }
        let hours = Hours::covering(query.start_time, end_time);
        let stats = self.store.delivery_stats(scope, hours.clone(), &query.kinds).await?;
        Ok((hours, stats))
    }

    /// Lists deliveries, newest first.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn list(&self, scope: &Scope, query: ListQuery) -> Result<ListPage, Error> {
        let position = self.pages.open(scope, LIST, query.canonical.expose(), &query.page_token)?;
        let after = match position {
            None => None,
            Some(position) => Some(Keyset::from_bytes(&position).ok_or(Error::PageTokenInvalid)?),
        };
        // The head is read before the list: a change in between is seen twice, and never missed.
        let head = self.store.feed_head(scope).await?;
        let period = (query.start_time, query.end_time);
        let page = self.store.deliveries_list(scope, &query.filter, period, after, query.page_size).await?;
        let DeliveryPage { deliveries, next } = page;
        let next_page_token = next
            .map_or_else(String::new, |next| self.pages.mint(scope, LIST, query.canonical.expose(), &next.to_bytes()));
        let watch_cursor = match after {
            None => self.tokens.mint(Purpose::DeliveryCursor, scope.practice().as_str(), &head.to_be_bytes()),
            Some(_) => String::new(),
        };
        Ok(ListPage { deliveries, next_page_token, watch_cursor })
    }
}
