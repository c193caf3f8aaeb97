//! Notifications: accepted whole or not at all, once per `request_id`.

mod accept;
mod basis;
mod rows;
mod sealed;

use std::sync::PoisonError;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    NewLink, Store, StoreError,
    entity::{delivery, delivery_event, notification},
    idem::{self, Key},
    image,
};
use crate::domain::{
    ActorType, Author, BroadcastId, Channel, ChannelSet, Content, Decision, Delivery, DeliveryEvent, DeliveryId, Kind,
    NotificationId, Patient, PatientId, Scope,
};
use accept::accepted_before_on;
pub(super) use accept::{Accept, store_on};
pub(super) use basis::Ask;
pub use basis::Basis;
pub(super) use rows::{inbox_row, pack, unpack};
pub(super) use sealed::content_on;
use sealed::decisions_on;
pub(super) use sealed::{addressed_row, copied_row, reply_row, to_contact, to_content, to_reply};

/// A notification to be accepted: everything is decided and rendered.
#[derive(Clone, Debug)]
pub struct NewNotification {
    /// Made for it.
    pub id: NotificationId,
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// The patient as the decision saw them.
    pub patient: Patient,
    /// The kind.
    pub kind: Kind,
    /// The caller's reference; may be empty.
    pub reference: String,
    /// First in the queue.
    pub urgent: bool,
    /// Security alerts come first in the inbox.
    pub security: bool,
    /// The channels asked for; unset: those effective.
    pub requested: Option<ChannelSet>,
    /// Not before; unset: now.
    pub schedule_time: Option<DateTime<Utc>>,
    /// No attempt after.
    pub expire_time: DateTime<Utc>,
    /// The sender named no end: when staff send it again, the usual time starts anew.
    pub default_expiry: bool,
    /// For a reminder, the start of the visit.
    pub visit_time: Option<DateTime<Utc>>,
    /// One per channel, used or not.
    pub decisions: Vec<Decision>,
    /// One per channel considered.
    pub deliveries: Vec<NewDelivery>,
    /// The secure links that the texts carry.
    pub links: Vec<NewLink>,
    /// The broadcast that it is a share of.
    pub broadcast: Option<BroadcastId>,
}

/// One delivery of a new notification.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Made for it.
    pub id: DeliveryId,
    /// The channel; its decision is among those of the notification.
    pub channel: Channel,
    /// The text; unset when it is skipped, or over already.
    pub content: Option<Content>,
    /// Why it is over although its decision lets it go.
    pub over: Option<Over>,
}

/// Why a delivery is over before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Its broadcast was cancelled.
    Cancelled,
    /// There is no text for this patient.
    NoText,
}

/// A notification as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRecord {
    /// Its id.
    pub id: NotificationId,
    /// For whom.
    pub patient: PatientId,
    /// What about.
    pub kind: Kind,
    /// The caller's reference.
    pub reference: String,
    /// When it was accepted.
    pub create_time: DateTime<Utc>,
    /// Not before; unset: at once.
    pub schedule_time: Option<DateTime<Utc>>,
    /// No attempt after.
    pub expire_time: DateTime<Utc>,
    /// When it was cancelled.
    pub cancel_time: Option<DateTime<Utc>>,
    /// Who sent it.
    pub creator: Author,
    /// The caller's key; empty for a share of a broadcast.
    pub request_id: String,
    /// The broadcast that it is a share of.
    pub broadcast: Option<BroadcastId>,
    /// In the order of the channels; a retry follows what it repeats.
    pub deliveries: Vec<Delivery>,
}

/// What became of an accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored now.
    New(NotificationRecord),
    /// The key made this before, by the same request.
    Replayed(NotificationRecord),
    /// The key was used for another request.
    KeyReused(NotificationId),
}

/// A notification with its timelines and, if asked for, its text and decisions.
#[derive(Clone, Debug)]
pub struct NotificationDetail {
    /// The notification.
    pub record: NotificationRecord,
    /// For each delivery: its timeline, and its text if asked for and still kept.
    pub details: Vec<(Vec<DeliveryEvent>, Option<Content>)>,
    /// As decided at accept; only if asked for.
    pub decisions: Vec<Decision>,
}

impl Store {
    /// Stores a notification with its deliveries, texts, links, gates and first changes, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when there is no such practice; Overloaded when too many wait already.
    pub async fn notification_accept(&self, scope: &Scope, new: NewNotification) -> Result<Accepted, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        *self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.inner.accepts.enter(self, Accept { scope: scope.clone(), keys, new }).await
    }

    /// What the key `request_id` made before, as it is now; unset when it is new.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn notification_prior(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Accepted>, StoreError> {
        let key = Key {
            practice: scope.practice().as_str(),
            resource: idem::NOTIFICATIONS,
            request_id,
            fingerprint,
            makes: Uuid::nil(),
        };
        accepted_before_on(&self.within(scope), scope, key).await
    }

    /// Reads a notification with its deliveries.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn notification_get(&self, scope: &Scope, id: NotificationId) -> Result<NotificationRecord, StoreError> {
        record_on(&self.within(scope), scope, id).await
    }

    /// Reads a notification with its timelines; `full` adds text and decisions.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn notification_detail(
        &self,
        scope: &Scope,
        id: NotificationId,
        full: bool,
    ) -> Result<NotificationDetail, StoreError> {
        let record = record_on(&self.within(scope), scope, id).await?;
        let keys = self.keys(scope.practice()).await?;
        let mut details = Vec::with_capacity(record.deliveries.len());
        for delivery in &record.deliveries {
            let events = delivery_event::Entity::find()
                .filter(delivery_event::Column::DeliveryId.eq(delivery.id.0))
                .order_by_asc(delivery_event::Column::N)
                .all(&self.within(scope))
                .await?;
            let events = events.into_iter().map(image::to_event).collect::<Result<_, _>>()?;
            let content = if full { content_on(&self.within(scope), &keys, delivery.id).await? } else { None };
            details.push((events, content));
        }
        let decisions = if full {
            let row = notification::Entity::find_by_id(id.0).one(&self.within(scope)).await?;
            let row = row.ok_or(StoreError::NotFound("notification"))?;
            decisions_on(&self.within(scope), &keys, id.0, &row.decisions_ct).await?
        } else {
            Vec::new()
        };
        Ok(NotificationDetail { record, details, decisions })
    }
}

async fn record_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    id: NotificationId,
) -> Result<NotificationRecord, StoreError> {
    let mut query = notification::Entity::find_by_id(id.0);
    if !mutant!("no practice") {
        query = query.filter(notification::Column::PracticeId.eq(scope.practice().as_str()));
    }
    let row = query.one(db).await?.ok_or(StoreError::NotFound("notification"))?;
    let deliveries = delivery::Entity::find()
        .filter(delivery::Column::SourceId.eq(id.0))
        .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
        .order_by_asc(delivery::Column::Channel)
        .order_by_asc(delivery::Column::Id)
        .all(db)
        .await?;
    let deliveries = deliveries.iter().map(image::to_delivery).collect::<Result<_, _>>()?;
    to_record(row, deliveries)
}

fn to_record(row: notification::Model, deliveries: Vec<Delivery>) -> Result<NotificationRecord, StoreError> {
    let corrupt = || StoreError::Corrupt("notification");
    Ok(NotificationRecord {
        id: NotificationId(row.id),
        patient: row.patient_id.parse().map_err(|_| corrupt())?,
        kind: Kind::from_number(row.kind).ok_or_else(corrupt)?,
        reference: row.reference,
        create_time: row.create_time,
        schedule_time: row.schedule_time,
        expire_time: row.expire_time,
        cancel_time: row.cancel_time,
        creator: Author {
            kind: ActorType::from_number(row.creator_type).ok_or_else(corrupt)?,
            id: row.creator_id,
            display_name: row.creator_name,
        },
        request_id: row.request_id,
        broadcast: row.broadcast_id.map(BroadcastId),
        deliveries,
    })
}
