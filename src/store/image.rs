//! A delivery between its row, its image in the feed, and the domain. The image is what a watch sends: the delivery as it
//! was after the change, without text.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    StoreError,
    entity::{delivery, delivery_event},
};
use crate::domain::{
    ActorType, Author, Channel, Delivery, DeliveryEvent, DeliveryId, DeliveryState, Facts, Failure, FailureReason,
    Kind, MessageId, NotificationId, PatientId, Provider, SkipReason, Source, TraceContext,
};

/// Waiting for its time.
pub(super) const WAITING: i16 = 0;
/// Claimed; a call may be under way.
pub(super) const IN_FLIGHT: i16 = 1;
/// Its outcome is being looked into.
pub(super) const RECONCILING: i16 = 2;
/// Nothing more is done by itself.
pub(super) const CLOSED: i16 = 3;

/// It may have arrived twice.
pub(super) const POSSIBLE_DUPLICATE: i32 = 1;
/// Its worker died too often.
pub(super) const QUARANTINED: i32 = 4;
/// Somebody asked to stop it while more could not be done: no further try follows.
pub(super) const STOP_ASKED: i32 = 8;

pub(super) const NOTIFICATION: i16 = 1;
/// A message of staff that goes by text. Where its conversation is linked to no patient, neither is it.
pub(super) const CONVERSATION_MESSAGE: i16 = 2;
/// A test: it has no patient, and neither lists nor the feed have it.
pub(super) const TEST: i16 = 3;

pub(super) fn corrupt() -> StoreError {
    StoreError::Corrupt("delivery")
}

/// The delivery as the API shows it.
pub(super) fn to_delivery(row: &delivery::Model) -> Result<Delivery, StoreError> {
    let state = DeliveryState::from_number(row.state).ok_or_else(corrupt)?;
    // A claim shows nothing by itself: the attempt is counted when it has ended, or when evidence of it came in before.
    let under_way = row.phase == IN_FLIGHT && !Facts::from_bits(row.facts).left_us();
    let attempts = row.attempts - i32::from(under_way);
    let acts = row.phase != CLOSED && matches!(state, DeliveryState::Pending | DeliveryState::Unconfirmed);
    let failure = match (state, row.failure_reason) {
        (DeliveryState::Failed, Some(reason)) => Some(Failure {
            reason: FailureReason::from_number(reason).ok_or_else(corrupt)?,
            provider_code: row.failure_code.clone(),
            fail_time: row.failure_time.unwrap_or(row.update_time),
        }),
        _ => None,
    };
    Ok(Delivery {
        id: DeliveryId(row.id),
        patient: if row.patient_id.is_empty() { None } else { Some(row.patient_id.parse().map_err(|_| corrupt())?) },
        revision: row.revision,
        kind: Kind::from_number(row.kind),
        channel: Channel::from_number(row.channel).ok_or_else(corrupt)?,
        state,
        skip_reason: match state {
            DeliveryState::Skipped => row.skip_reason.and_then(SkipReason::from_number),
            _ => None,
        },
        failure,
        address_hint: row.address_hint.clone(),
        provider: row.provider.filter(|_| attempts > 0).and_then(Provider::from_number),
        provider_message_id: row.provider_ref.clone(),
        attempts,
        next_action_time: acts.then_some(row.not_before),
        possible_duplicate: row.flags & POSSIBLE_DUPLICATE != 0,
        create_time: row.create_time,
        send_time: row.send_time,
        deliver_time: row.deliver_time,
        update_time: row.update_time,
        open_time: row.open_time,
        sms_segments: row.sms_segments,
        source: to_source(row.source_kind, row.source_id)?,
        broadcast: row.broadcast_id,
        reference: row.reference.clone(),
        retry_of: row.retry_of.map(DeliveryId),
        retried_by: row.retried_by.map(DeliveryId),
        trace: row.trace.as_deref().and_then(TraceContext::of_bytes),
    })
}

fn to_source(kind: i16, id: Uuid) -> Result<Source, StoreError> {
    match kind {
        NOTIFICATION => Ok(Source::Notification(NotificationId(id))),
        CONVERSATION_MESSAGE => Ok(Source::ConversationMessage(MessageId(id))),
        TEST => Ok(Source::Test),
        _ => Err(corrupt()),
    }
}

pub(super) const fn from_source(source: Source) -> (i16, Uuid) {
    match source {
        Source::Notification(id) => (NOTIFICATION, id.0),
        Source::ConversationMessage(id) => (CONVERSATION_MESSAGE, id.0),
        Source::Test => (TEST, Uuid::nil()),
    }
}

/// What a delivery is about: a kind, but for a message of a conversation, which has none.
pub(super) fn kind(row: &delivery::Model) -> Result<Option<Kind>, StoreError> {
    if row.source_kind == CONVERSATION_MESSAGE {
        return Ok(None);
    }
    Kind::from_number(row.kind).map(Some).ok_or_else(corrupt)
}

pub(super) fn to_event(row: delivery_event::Model) -> Result<DeliveryEvent, StoreError> {
    let corrupt = || StoreError::Corrupt("delivery_event");
    Ok(DeliveryEvent {
        event_time: row.event_time,
        state: DeliveryState::from_number(row.state).ok_or_else(corrupt)?,
        provider_status: row.provider_status,
        provider_code: row.provider_code,
        detail: row.detail,
        actor: Author {
            kind: ActorType::from_number(row.actor_type).ok_or_else(corrupt)?,
            id: row.actor_id,
            display_name: row.actor_name,
        },
        attempt: row.attempt,
        consent_position: row.consent_position,
    })
}

/// A delivery in the feed. Fields are only ever added, each with a default, so that older images stay readable.
#[derive(Serialize, Deserialize)]
#[serde(default)]
struct Image {
    patient: String,
    kind: i16,
    channel: i16,
    skip: i16,
    failure: i16,
    failure_code: String,
    failure_time: Option<DateTime<Utc>>,
    hint: String,
    provider: i16,
    provider_ref: String,
    attempts: i32,
    next: Option<DateTime<Utc>>,
    duplicate: bool,
    created: DateTime<Utc>,
    sent: Option<DateTime<Utc>>,
    delivered: Option<DateTime<Utc>>,
    updated: DateTime<Utc>,
    opened: Option<DateTime<Utc>>,
    segments: i32,
    source_kind: i16,
    source: Uuid,
    broadcast: Option<Uuid>,
    reference: String,
    retry_of: Option<Uuid>,
    retried_by: Option<Uuid>,
    #[serde(skip_serializing_if = "String::is_empty")]
    trace: String,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            patient: String::new(),
            kind: 0,
            channel: 0,
            skip: 0,
            failure: 0,
            failure_code: String::new(),
            failure_time: None,
            hint: String::new(),
            provider: 0,
            provider_ref: String::new(),
            attempts: 0,
            next: None,
            duplicate: false,
            created: DateTime::UNIX_EPOCH,
            sent: None,
            delivered: None,
            updated: DateTime::UNIX_EPOCH,
            opened: None,
            segments: 0,
            source_kind: NOTIFICATION,
            source: Uuid::nil(),
            broadcast: None,
            reference: String::new(),
            retry_of: None,
            retried_by: None,
            trace: String::new(),
        }
    }
}

/// Writes an image.
pub(super) fn encode(delivery: &Delivery) -> Result<Vec<u8>, StoreError> {
    let (source_kind, source) = from_source(delivery.source);
    let failure = delivery.failure.as_ref();
    let image = Image {
        patient: delivery.patient.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        kind: delivery.kind.map_or(0, Kind::number),
        channel: delivery.channel.number(),
        skip: delivery.skip_reason.map_or(0, SkipReason::number),
        failure: failure.map_or(0, |failure| failure.reason.number()),
        failure_code: failure.map(|failure| failure.provider_code.clone()).unwrap_or_default(),
        failure_time: failure.map(|failure| failure.fail_time),
        hint: delivery.address_hint.clone(),
        provider: delivery.provider.map_or(0, |provider| provider as i16),
        provider_ref: delivery.provider_message_id.clone(),
        attempts: delivery.attempts,
        next: delivery.next_action_time,
        duplicate: delivery.possible_duplicate,
        created: delivery.create_time,
        sent: delivery.send_time,
        delivered: delivery.deliver_time,
        updated: delivery.update_time,
        opened: delivery.open_time,
        segments: delivery.sms_segments,
        source_kind,
        source,
        broadcast: delivery.broadcast,
        reference: delivery.reference.clone(),
        retry_of: delivery.retry_of.map(|id| id.0),
        retried_by: delivery.retried_by.map(|id| id.0),
        trace: delivery.trace.map(|trace| trace.to_string()).unwrap_or_default(),
    };
    serde_json::to_vec(&image).map_err(|_| corrupt())
}

/// Reads an image. Id, revision and state stand beside it in the feed.
pub(super) fn decode(id: Uuid, revision: i64, state: i16, bytes: &[u8]) -> Result<Delivery, StoreError> {
    let image: Image = serde_json::from_slice(bytes).map_err(|_| StoreError::Corrupt("feed"))?;
    let failure = FailureReason::from_number(image.failure).map(|reason| Failure {
        reason,
        provider_code: image.failure_code,
        fail_time: image.failure_time.unwrap_or(image.updated),
    });
    Ok(Delivery {
        id: DeliveryId(id),
        patient: image.patient.parse::<PatientId>().ok(),
        revision,
        kind: Kind::from_number(image.kind),
        channel: Channel::from_number(image.channel).ok_or_else(corrupt)?,
        state: DeliveryState::from_number(state).ok_or_else(corrupt)?,
        skip_reason: SkipReason::from_number(image.skip),
        failure,
        address_hint: image.hint,
        provider: Provider::from_number(image.provider),
        provider_message_id: image.provider_ref,
        attempts: image.attempts,
        next_action_time: image.next,
        possible_duplicate: image.duplicate,
        create_time: image.created,
        send_time: image.sent,
        deliver_time: image.delivered,
        update_time: image.updated,
        open_time: image.opened,
        sms_segments: image.segments,
        source: to_source(image.source_kind, image.source)?,
        broadcast: image.broadcast,
        reference: image.reference,
        retry_of: image.retry_of.map(DeliveryId),
        retried_by: image.retried_by.map(DeliveryId),
        trace: TraceContext::of_header(&image.trace),
    })
}
