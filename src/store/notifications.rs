//! Notifications: accepted whole or not at all, once per `request_id`.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};

use super::{
    NewLink, Store, StoreError,
    entity::{content, delivery, delivery_event, idem, inbox_item, notification},
    feed::{self, Change},
    grounds, image,
    image::{CLOSED, WAITING},
    links, stop,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{
    ActorType, Author, Channel, ChannelSet, Content, Decision, DecisionStep, Delivery, DeliveryEvent, DeliveryId,
    DeliveryState, Facts, GIVE_UP_AFTER, Kind, NotificationId, Outcome, Patient, PatientId, Phi, Provider, Scope,
    SkipReason, Source, shown,
};

const DECISIONS: Sealed = Sealed { table: "notification", column: "decisions_ct" };
const BODY: Sealed = Sealed { table: "content", column: "body_ct" };
const NOTIFICATIONS: i16 = 1;

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
}

/// One delivery of a new notification.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Made for it.
    pub id: DeliveryId,
    /// The channel; its decision is among those of the notification.
    pub channel: Channel,
    /// Masked address; may be empty.
    pub address_hint: String,
    /// The text; unset when it is skipped.
    pub content: Option<Content>,
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
    /// The caller's key.
    pub request_id: String,
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

/// What a key made before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prior {
    /// Nothing.
    None,
    /// This, by the same request.
    Same(NotificationId),
    /// This, by another request.
    Other(NotificationId),
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
    /// What `request_id` made before, if anything.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn notification_prior(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Prior, StoreError> {
        prior_on(self.read(), scope.practice().as_str(), request_id, fingerprint).await
    }

    /// Stores a notification with its deliveries, texts, links, gates and first changes, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn notification_accept(&self, scope: &Scope, new: NewNotification) -> Result<Accepted, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let practice = scope.practice().as_str();
                if !take_key_on(tx, practice, &new).await? {
                    return match prior_on(&tx.db, practice, &new.request_id, &new.fingerprint).await? {
                        Prior::Same(id) => Ok(Accepted::Replayed(record_on(&tx.db, &scope, id).await?)),
                        Prior::Other(id) => Ok(Accepted::KeyReused(id)),
                        Prior::None => Err(StoreError::Corrupt("idem")),
                    };
                }
                let record = accept_on(tx, &keys, &scope, &new).await?;
                Ok(Accepted::New(record))
            })
        })
        .await
    }

    /// Reads a notification with its deliveries.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn notification_get(&self, scope: &Scope, id: NotificationId) -> Result<NotificationRecord, StoreError> {
        record_on(self.read(), scope, id).await
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
        let record = record_on(self.read(), scope, id).await?;
        let keys = self.keys(scope.practice()).await?;
        let mut details = Vec::with_capacity(record.deliveries.len());
        for delivery in &record.deliveries {
            let events = delivery_event::Entity::find()
                .filter(delivery_event::Column::DeliveryId.eq(delivery.id.0))
                .order_by_asc(delivery_event::Column::N)
                .all(self.read())
                .await?;
            let events = events.into_iter().map(image::to_event).collect::<Result<_, _>>()?;
            let content = if full { content_on(self.read(), &keys, delivery.id).await? } else { None };
            details.push((events, content));
        }
        let decisions = if full {
            let row = notification::Entity::find_by_id(id.0).one(self.read()).await?;
            let row = row.ok_or(StoreError::NotFound("notification"))?;
            let stored: Vec<DecisionBody> = keys.open(DECISIONS, id.0.as_bytes(), &row.decisions_ct)?;
            stored.into_iter().map(DecisionBody::read).collect::<Option<_>>().ok_or(StoreError::Corrupt("decision"))?
        } else {
            Vec::new()
        };
        Ok(NotificationDetail { record, details, decisions })
    }
}

async fn prior_on(
    db: &impl ConnectionTrait,
    practice: &str,
    request_id: &str,
    fingerprint: &[u8; 32],
) -> Result<Prior, StoreError> {
    let key = (practice.to_owned(), NOTIFICATIONS, request_id.to_owned());
    Ok(match idem::Entity::find_by_id(key).one(db).await? {
        None => Prior::None,
        Some(row) if row.fingerprint == fingerprint => Prior::Same(NotificationId(row.resource_id)),
        Some(row) => Prior::Other(NotificationId(row.resource_id)),
    })
}

/// Takes the key; a twin under way is waited for on the unique index. False when it was taken before.
async fn take_key_on(tx: &Tx, practice: &str, new: &NewNotification) -> Result<bool, StoreError> {
    let row = idem::ActiveModel {
        practice_id: Set(practice.to_owned()),
        resource: Set(NOTIFICATIONS),
        request_id: Set(new.request_id.clone()),
        fingerprint: Set(new.fingerprint.to_vec()),
        resource_id: Set(new.id.0),
    };
    let taken = idem::Entity::insert(row)
        .on_conflict_do_nothing_on([idem::Column::PracticeId, idem::Column::Resource, idem::Column::RequestId])
        .exec_without_returning(&tx.db)
        .await?;
    Ok(matches!(taken, sea_orm::TryInsertResult::Inserted(1..)))
}

async fn accept_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    new: &NewNotification,
) -> Result<NotificationRecord, StoreError> {
    // First of all: deliveries are locked before gates.
    let void = stop::void_on(tx, scope, new).await?;
    let row = notification_row(tx, keys, scope, new)?;
    notification::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx.db).await?;
    let used = new.decisions.iter().filter(|decision| decision.uses());
    let gates: Vec<_> = used.flat_map(|decision| grounds::gate_keys(keys, decision.channel, &new.patient)).collect();
    grounds::gates_insert_on(tx, keys.practice(), &gates).await?;
    links::insert_on(tx, keys, new.id, &new.links).await?;

    let (mut rows, mut texts, mut events, mut items) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for delivery in &new.deliveries {
        let decision = new.decisions.iter().find(|decision| decision.channel == delivery.channel);
        let decision = decision.ok_or(StoreError::Corrupt("decision"))?;
        let row = delivery_row(tx, keys, new, delivery, decision);
        if let Some(content) = &delivery.content {
            texts.push(content_row(keys, delivery.id, content)?.into_active_model());
        }
        if row.facts & Facts::DELIVERED.bits() != 0 {
            items.push(inbox_row(&row, new.security).into_active_model());
        }
        events.push(first_event(&row, scope.author()).into_active_model());
        rows.push(row);
    }
    let active = rows.iter().map(|row| row.clone().into_active_model());
    delivery::Entity::insert_many(active).exec_without_returning(&tx.db).await?;
    content::Entity::insert_many(texts).exec_without_returning(&tx.db).await?;
    inbox_item::Entity::insert_many(items).exec_without_returning(&tx.db).await?;
    delivery_event::Entity::insert_many(events).exec_without_returning(&tx.db).await?;

    let deliveries = rows.iter().map(image::to_delivery).collect::<Result<Vec<_>, _>>()?;
    let mut changes = Vec::with_capacity(void.len() + rows.len());
    for draft in void.into_values() {
        changes.extend(draft.save_on(tx).await?);
    }
    changes.extend(rows.iter().zip(&deliveries).map(|(row, delivery)| Change {
        image: Some(delivery.clone()),
        previous_state: None,
        class: row.class,
        opened: i64::from(row.phase != CLOSED),
    }));
    feed::append_on(tx, scope.practice(), changes).await?;
    to_record(row, deliveries)
}

fn notification_row(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    new: &NewNotification,
) -> Result<notification::Model, StoreError> {
    let decisions: Vec<DecisionBody> = new.decisions.iter().map(DecisionBody::write).collect();
    Ok(notification::Model {
        id: new.id.0,
        practice_id: keys.practice().to_owned(),
        patient_id: new.patient.id.as_str().to_owned(),
        kind: new.kind.number(),
        reference: new.reference.clone(),
        request_id: new.request_id.clone(),
        urgent: new.urgent,
        security: new.security,
        requested: new.requested.map_or(0, pack),
        create_time: tx.now,
        schedule_time: new.schedule_time,
        expire_time: new.expire_time,
        cancel_time: None,
        default_expiry: new.default_expiry,
        visit_time: new.visit_time,
        creator_type: scope.author().kind as i16,
        creator_id: scope.author().id.clone(),
        creator_name: scope.author().display_name.clone(),
        broadcast_id: None,
        decisions_ct: keys.seal(DECISIONS, new.id.0.as_bytes(), &decisions)?,
    })
}

/// Channels as one number: the lowest bit says that channels were named at all.
fn pack(channels: ChannelSet) -> i16 {
    channels.iter().fold(1, |bits, channel| bits | 1 << channel.number())
}

/// What [`pack`] made.
pub(super) fn unpack(bits: i16) -> Option<ChannelSet> {
    (bits != 0).then(|| Channel::ALL.into_iter().filter(|channel| bits & 1 << channel.number() != 0).collect())
}

fn delivery_row(
    tx: &Tx,
    keys: &PracticeKeys,
    new: &NewNotification,
    delivery: &NewDelivery,
    decision: &Decision,
) -> delivery::Model {
    // An in-app message that is due meets no provider: stored is delivered.
    let stored = decision.uses() && delivery.channel == Channel::InApp && decision.attempt_time <= tx.now;
    let facts = match (decision.uses(), stored) {
        (false, _) => Facts::SKIPPED,
        (true, true) => Facts::INTENT.and(Facts::DELIVERED),
        (true, false) => Facts::NONE,
    };
    let (source_kind, source_id) = image::from_source(Source::Notification(new.id));
    delivery::Model {
        id: delivery.id.0,
        practice_id: keys.practice().to_owned(),
        patient_id: new.patient.id.as_str().to_owned(),
        source_kind,
        source_id,
        broadcast_id: None,
        kind: new.kind.number(),
        channel: delivery.channel.number(),
        class: i16::from(!new.urgent),
        address_bi: grounds::address_index(keys, delivery.channel, &new.patient),
        address_hint: delivery.address_hint.clone(),
        retry_of: None,
        retried_by: None,
        reference: new.reference.clone(),
        facts: facts.bits(),
        state: shown(delivery.channel, facts).number(),
        revision: 1,
        flags: 0,
        phase: if facts == Facts::NONE { WAITING } else { CLOSED },
        epoch: 0,
        claimed_by: None,
        lease_until: None,
        not_before: decision.attempt_time.max(tx.now),
        give_up_at: decision.attempt_time.max(tx.now) + GIVE_UP_AFTER,
        expires_at: new.expire_time,
        attempts: i32::from(stored),
        crashes: 0,
        looks: 0,
        absences: 0,
        doubt_since: None,
        poll_at: None,
        events: 1,
        skip_reason: decision.skip_reason.map(SkipReason::number),
        failure_reason: None,
        failure_code: String::new(),
        failure_time: None,
        provider: stored.then_some(Provider::Inbox as i16),
        provider_ref: String::new(),
        sms_segments: delivery.content.as_ref().map_or(0, |content| content.sms_segments),
        create_time: tx.now,
        update_time: tx.now,
        send_time: stored.then_some(tx.now),
        deliver_time: stored.then_some(tx.now),
        open_time: None,
    }
}

pub(super) fn inbox_row(row: &delivery::Model, security: bool) -> inbox_item::Model {
    inbox_item::Model {
        delivery_id: row.id,
        practice_id: row.practice_id.clone(),
        patient_id: row.patient_id.clone(),
        kind: row.kind,
        security,
        create_time: row.update_time,
        read_time: None,
    }
}

fn first_event(row: &delivery::Model, author: &Author) -> delivery_event::Model {
    let detail = match DeliveryState::from_number(row.state) {
        Some(DeliveryState::Skipped) => "Accepted, and not sent: see the reason.",
        Some(DeliveryState::Delivered) => "Stored in the patient's inbox.",
        _ => "Accepted for sending.",
    };
    delivery_event::Model {
        delivery_id: row.id,
        n: 1,
        practice_id: row.practice_id.clone(),
        event_time: row.create_time,
        state: row.state,
        provider_status: String::new(),
        provider_code: String::new(),
        detail: detail.to_owned(),
        actor_type: author.kind as i16,
        actor_id: author.id.clone(),
        actor_name: author.display_name.clone(),
        attempt: 0,
        consent_position: 0,
    }
}

/// A text as it is sealed. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ContentBody {
    subject: String,
    text: String,
    html: String,
    sms_segments: i32,
    sms_gsm7: bool,
    template_key: String,
    template_version: i32,
}

pub(super) fn content_row(
    keys: &PracticeKeys,
    id: DeliveryId,
    content: &Content,
) -> Result<content::Model, StoreError> {
    let body = ContentBody {
        subject: content.subject.expose().clone(),
        text: content.text.expose().clone(),
        html: content.html.expose().clone(),
        sms_segments: content.sms_segments,
        sms_gsm7: content.sms_gsm7,
        template_key: content.template_key.clone(),
        template_version: content.template_version,
    };
    let body_ct = keys.seal(BODY, id.0.as_bytes(), &body)?;
    Ok(content::Model { delivery_id: id.0, practice_id: keys.practice().to_owned(), body_ct })
}

/// Opens a text.
pub(super) fn to_content(keys: &PracticeKeys, row: &content::Model) -> Result<Content, StoreError> {
    let body: ContentBody = keys.open(BODY, row.delivery_id.as_bytes(), &row.body_ct)?;
    Ok(Content {
        subject: Phi::new(body.subject),
        text: Phi::new(body.text),
        html: Phi::new(body.html),
        sms_segments: body.sms_segments,
        sms_gsm7: body.sms_gsm7,
        template_key: body.template_key,
        template_version: body.template_version,
    })
}

async fn content_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    id: DeliveryId,
) -> Result<Option<Content>, StoreError> {
    let row = content::Entity::find_by_id(id.0).one(db).await?;
    row.map(|row| to_content(keys, &row)).transpose()
}

#[derive(Serialize, Deserialize)]
struct DecisionBody {
    channel: i16,
    considered: bool,
    skip: Option<i16>,
    at: DateTime<Utc>,
    steps: Vec<(i16, i16, String)>,
}

impl DecisionBody {
    fn write(decision: &Decision) -> Self {
        let steps = decision.steps.iter().map(|step| (step.rule.number(), step.outcome as i16, step.detail.clone()));
        Self {
            channel: decision.channel.number(),
            considered: decision.considered,
            skip: decision.skip_reason.map(SkipReason::number),
            at: decision.attempt_time,
            steps: steps.collect(),
        }
    }

    fn read(self) -> Option<Decision> {
        let steps = self.steps.into_iter().map(|(rule, outcome, detail)| {
            let outcome = match outcome {
                1 => Outcome::Passed,
                2 => Outcome::Held,
                3 => Outcome::Refused,
                _ => return None,
            };
            Some(DecisionStep { rule: SkipReason::from_number(rule)?, outcome, detail })
        });
        Some(Decision {
            channel: Channel::from_number(self.channel)?,
            considered: self.considered,
            skip_reason: self.skip.and_then(SkipReason::from_number),
            attempt_time: self.at,
            steps: steps.collect::<Option<_>>()?,
        })
    }
}

async fn record_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    id: NotificationId,
) -> Result<NotificationRecord, StoreError> {
    let row = notification::Entity::find_by_id(id.0)
        .filter(notification::Column::PracticeId.eq(scope.practice().as_str()))
        .one(db)
        .await?
        .ok_or(StoreError::NotFound("notification"))?;
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
        deliveries,
    })
}
