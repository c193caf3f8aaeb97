//! Notifications: decide, render, store, return. Sending follows by itself.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};

use crate::{
    clock::SharedClock,
    crypto::{self, FingerprintKey, Purpose, TokenKey},
    domain::{
        Channel, ChannelSet, Decision, DeliveryFilter, DeliveryId, EmailAddress, Grounds, NotificationId, PatientId,
        Payload, Phi, PhoneNumber, Priority, Scope, SecureLink,
        template::{self, RenderError, Rendering},
    },
    service::{Error, Violation, pages::Pages},
    store::{
        Accepted, Basis, DeliveryPage, GroundsRow, Keyset, NewDelivery, NewLink, NewNotification, NotificationDetail,
        NotificationRecord, Store, StoreError,
    },
};

/// Longest time ahead for which a notification may be scheduled.
const FARTHEST_SCHEDULE: TimeDelta = TimeDelta::days(400);
/// How long a notification waits for its chance unless the caller says otherwise.
const DEFAULT_LIFE: TimeDelta = TimeDelta::hours(12);
/// How long a secure link opens unless the caller says otherwise.
const DEFAULT_LINK_LIFE: TimeDelta = TimeDelta::days(14);
/// The list that page tokens of deliveries are for.
const LIST: &str = "deliveries";
/// How many items of a batch are worked on at once.
const BATCH_WIDTH: usize = 16;

/// A request to notify one patient; its fields are valid by themselves.
#[derive(Clone, Debug)]
pub struct Order {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
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
    pub deliveries: Vec<crate::domain::Delivery>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Where to start watching; first page only, else empty.
    pub watch_cursor: String,
}

/// Sends and reads notifications.
#[derive(Clone, Debug)]
pub struct Notify {
    store: Store,
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
        clock: SharedClock,
        fingerprints: FingerprintKey,
        tokens: TokenKey,
        public_url: &str,
    ) -> Self {
        let pages = Pages::new(fingerprints.clone(), tokens.clone());
        Self { store, clock, fingerprints, tokens, pages, public_url: public_url.into() }
    }

    /// Accepts one notification. A repeat of the same request yields what the first one made, as it is now.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `NOT_FOUND` (patient), `REQUEST_ID_REUSED`.
    pub async fn send(&self, scope: &Scope, order: Order) -> Result<Sent, Error> {
        failpoint!("F1");
        let fingerprint = self.fingerprints.fingerprint(order.canonical.expose());
        // A replay is answered before anything else is looked at: what was valid then may be out of date now.
        let grounds =
            match self.store.notification_basis(scope, &order.request_id, &fingerprint, &order.patient).await? {
                Basis::Same(id) => {
                    let notification = self.store.notification_get(scope, id).await?;
                    return Ok(Sent { notification, replayed: true });
                }
                Basis::Other(id) => return Err(Error::RequestIdReused { name: id.to_string() }),
                Basis::NoPatient => return Err(Error::not_found("patient", &order.patient)),
                Basis::Grounds(grounds) => *grounds,
            };
        let new = self.prepare(order, grounds, fingerprint).await?;
        let accepted = self.store.notification_accept(scope, new).await?;
        failpoint!("F3");
        match accepted {
            Accepted::New(notification) => Ok(Sent { notification, replayed: false }),
            Accepted::Replayed(notification) => Ok(Sent { notification, replayed: true }),
            Accepted::KeyReused(id) => Err(Error::RequestIdReused { name: id.to_string() }),
        }
    }

    /// Accepts several notifications, each on its own; results are in the order of the orders.
    pub async fn send_all(&self, scope: &Scope, orders: Vec<Result<Order, Error>>) -> Vec<Result<Sent, Error>> {
        let sends = orders.into_iter().map(|order| async move { self.send(scope, order?).await });
        stream::iter(sends).buffered(BATCH_WIDTH).collect().await
    }

    /// Reads one notification; `full` adds text and decisions.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn get(&self, scope: &Scope, id: NotificationId, full: bool) -> Result<NotificationDetail, Error> {
        match self.store.notification_detail(scope, id, full).await {
            Ok(detail) => Ok(detail),
            Err(error @ StoreError::NotFound("notification")) => {
                // In a practice that is not there nothing is looked for: it is refused like a foreign one.
                self.store.practice_get(scope).await?;
                Err(Error::from(error).named(id))
            }
            Err(error) => Err(error.into()),
        }
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

    async fn prepare(
        &self,
        order: Order,
        grounds: GroundsRow,
        fingerprint: [u8; 32],
    ) -> Result<NewNotification, Error> {
        let now = grounds.now;
        let violations: Vec<_> = check_times(&order, now).into_iter().chain(check_link(&order, &grounds)).collect();
        if !violations.is_empty() {
            return Err(Error::FieldInvalid(violations));
        }
        let not_before = first_time(&order, now);
        let expire_time = expire_time(&order, now);
        let decisions: Vec<Decision> = Channel::ALL
            .into_iter()
            .map(|channel| decide(&order, &grounds, channel, not_before, expire_time))
            .collect();
        let (link, links) = self.link(&order, not_before);
        let id = NotificationId(crypto::new_id(self.clock.now()));
        let considered: Vec<_> = decisions.iter().filter(|decision| decision.considered).cloned().collect();
        let used: Vec<Channel> = considered.iter().filter(|decision| decision.uses()).map(|it| it.channel).collect();
        // Rendering is bounded, but it is work: it does not belong on a thread that serves connections.
        let rendered = tokio::task::spawn_blocking(move || {
            let contents: Result<Vec<_>, _> = used
                .into_iter()
                .map(|channel| Ok((channel, render(&order, &grounds, channel, link.as_deref())?)))
                .collect();
            contents.map(|contents| (order, grounds, contents))
        });
        let (order, grounds, mut contents) =
            rendered.await.map_err(|error| Error::Internal(error.into()))?.map_err(unrenderable)?;
        let deliveries = considered.iter().map(|decision| NewDelivery {
            id: DeliveryId(crypto::new_id(self.clock.now())),
            channel: decision.channel,
            address_hint: hint(&grounds, decision.channel),
            content: contents
                .iter_mut()
                .find(|(channel, _)| *channel == decision.channel)
                .map(|(_, content)| std::mem::take(content)),
        });
        Ok(NewNotification {
            id,
            request_id: order.request_id,
            fingerprint,
            deliveries: deliveries.collect(),
            kind: order.payload.kind(),
            security: matches!(&order.payload, Payload::System(notice) if notice.security),
            patient: grounds.patient,
            reference: order.reference,
            urgent: order.priority == Priority::Urgent,
            requested: order.channels,
            schedule_time: order.schedule_time,
            expire_time,
            decisions,
            links,
        })
    }

    /// The short address that stands for the sender's link, and what is kept of it.
    fn link(&self, order: &Order, not_before: DateTime<Utc>) -> (Option<String>, Vec<NewLink>) {
        let Some(SecureLink { target_url, ttl, max_opens }) = order.payload.link() else { return (None, Vec::new()) };
        let token = crypto::random_token();
        let new = NewLink {
            token_digest: self.fingerprints.fingerprint(&token),
            target_url: target_url.clone(),
            expire_time: not_before + ttl.unwrap_or(DEFAULT_LINK_LIFE),
            max_opens: i32::try_from(*max_opens).unwrap_or(i32::MAX),
        };
        (Some(format!("{}/l/{}", self.public_url, crypto::base64url(&token))), vec![new])
    }
}

/// The earliest time at which it may go.
fn first_time(order: &Order, now: DateTime<Utc>) -> DateTime<Utc> {
    order.schedule_time.unwrap_or(now).max(now)
}

/// What only the clock can tell of the order's times.
fn check_times(order: &Order, now: DateTime<Utc>) -> Vec<Violation> {
    let mut violations = Vec::new();
    if order.schedule_time.is_some_and(|time| time > now + FARTHEST_SCHEDULE) {
        violations.push(Violation::new("notification.schedule_time", "must be at most 400 days ahead"));
    }
    if order.expire_time.is_some_and(|time| time <= first_time(order, now)) {
        violations.push(Violation::new("notification.expire_time", "must be in the future and after schedule_time"));
    }
    violations
}

/// When the notification ends.
fn expire_time(order: &Order, now: DateTime<Utc>) -> DateTime<Utc> {
    let end = order.expire_time.unwrap_or(first_time(order, now) + DEFAULT_LIFE);
    match &order.payload {
        // A reminder of a visit that has begun is worse than none.
        Payload::AppointmentReminder(visit) => end.min(visit.start_time),
        _ => end,
    }
}

/// What only the practice's settings can tell of the order's link.
fn check_link(order: &Order, grounds: &GroundsRow) -> Option<Violation> {
    let link = order.payload.link()?;
    let host = url::Url::parse(&link.target_url).ok().and_then(|url| url.host_str().map(str::to_lowercase));
    if host.is_some_and(|host| grounds.settings.link_hosts.contains(&host)) {
        return None;
    }
    let field = format!("notification.{}.link.target_url", arm(&order.payload));
    Some(Violation::new(field, "must lead to a host that is in the practice's link_hosts"))
}

/// The name of the payload's arm in the contract.
const fn arm(payload: &Payload) -> &'static str {
    match payload {
        Payload::AppointmentReminder(_) => "appointment_reminder",
        Payload::AppointmentConfirmed(_) => "appointment_confirmed",
        Payload::AppointmentCancelled(_) => "appointment_cancelled",
        Payload::PaymentDue(_) => "payment_due",
        Payload::PaymentReceived(_) => "payment_received",
        Payload::PaymentFailed(_) => "payment_failed",
        Payload::MessageReceived(_) => "message_received",
        Payload::DocumentShared(_) => "document_shared",
        Payload::System(_) => "system",
        Payload::Custom(_) => "custom",
    }
}

fn decide(
    order: &Order,
    row: &GroundsRow,
    channel: Channel,
    not_before: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Decision {
    let grounds = Grounds {
        patient: &row.patient,
        settings: &row.settings,
        kind: order.payload.kind(),
        requested: order.channels,
        gates: row.gates.get(&channel).copied().unwrap_or_default(),
        sms_regions: &row.sms_regions,
        not_before,
        expires_at,
        now: row.now,
    };
    grounds.decide(channel)
}

fn render(
    order: &Order,
    grounds: &GroundsRow,
    channel: Channel,
    link: Option<&str>,
) -> Result<crate::domain::Content, RenderError> {
    template::render(&Rendering {
        channel,
        payload: &order.payload,
        custom_content: order.custom_content.as_ref(),
        practice: &grounds.practice,
        patient: &grounds.patient,
        sms_prefix: grounds.settings.sms_prefix(&grounds.practice),
        phi_permitted: grounds.settings.email.phi_permitted(),
        link,
    })
}

fn unrenderable(error: RenderError) -> Error {
    match error {
        RenderError::UnknownTemplate => {
            Error::field("notification.custom.template_key", "the practice has no template of that key")
        }
        RenderError::TooLong => Error::field("notification", "the text would be too long for the channel"),
        RenderError::Template(_) => Error::Internal(Box::new(error)),
    }
}

fn hint(grounds: &GroundsRow, channel: Channel) -> String {
    match channel {
        Channel::Email => grounds.patient.email.as_ref().map(EmailAddress::mask),
        Channel::Sms => grounds.patient.mobile_phone.as_ref().map(PhoneNumber::mask),
        Channel::InApp | Channel::Push => None,
    }
    .unwrap_or_default()
}
