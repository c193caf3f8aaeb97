//! The rows of a new notification.

use chrono::{DateTime, Utc};

use super::{NewDelivery, NewNotification, Over, sealed};
use crate::{
    domain::{
        Channel, ChannelSet, Class, Decision, DeliveryState, Facts, FailureReason, GIVE_UP_AFTER, Provider, Scope,
        SkipReason, Source,
    },
    store::{
        StoreError, draft,
        entity::{delivery, inbox_item, notification},
        grounds, image, subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

pub(super) fn notification_row(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    new: &NewNotification,
) -> Result<notification::Model, StoreError> {
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
        broadcast_id: new.broadcast.map(|id| id.0),
        decisions_ct: sealed::seal_decisions(
            keys,
            (&subjects::of_patient(new.patient.id.as_str()), new.id.0),
            &new.decisions,
        )?,
    })
}

/// Channels as one number: the lowest bit says that channels were named at all.
pub(in crate::store) fn pack(channels: ChannelSet) -> i16 {
    channels.iter().fold(1, |bits, channel| bits | 1 << channel.number())
}

/// What [`pack`] made.
pub(in crate::store) fn unpack(bits: i16) -> Option<ChannelSet> {
    (bits != 0).then(|| Channel::ALL.into_iter().filter(|channel| bits & 1 << channel.number() != 0).collect())
}

/// Whether a delivery is done by being stored: an in-app message that is due meets no provider.
pub(super) fn is_filed(decision: &Decision, now: DateTime<Utc>) -> bool {
    decision.uses() && decision.channel == Channel::InApp && decision.attempt_time <= now
}

/// The row of a delivery; `stored` says that it is in the patient's inbox with this.
pub(super) fn delivery_row(
    tx: &Tx,
    keys: &PracticeKeys,
    new: &NewNotification,
    (delivery, decision): (&NewDelivery, &Decision),
    stored: bool,
) -> delivery::Model {
    let over = delivery.over.filter(|_| decision.uses());
    let facts = match (decision.uses(), over, stored) {
        (false, _, _) => Facts::SKIPPED,
        (true, Some(Over::Cancelled), _) => Facts::CANCELLED,
        (true, Some(Over::NoText), _) => Facts::GAVE_UP,
        (true, None, true) => Facts::INTENT.and(Facts::DELIVERED),
        (true, None, false) => Facts::NONE,
    };
    let failed = over == Some(Over::NoText);
    let (source_kind, source_id) = image::from_source(Source::Notification(new.id));
    let not_before = decision.attempt_time.max(tx.now);
    delivery::Model {
        practice_id: keys.practice().to_owned(),
        patient_id: new.patient.id.as_str().to_owned(),
        source_kind,
        source_id,
        kind: new.kind.number(),
        broadcast_id: new.broadcast.map(|id| id.0),
        class: if new.broadcast.is_some() { Class::Bulk } else { Class::of_one(new.urgent) }.number(),
        address_bi: grounds::address_index(keys, delivery.channel, &new.patient),
        address_hint: new.patient.address_hint(delivery.channel),
        reference: new.reference.clone(),
        not_before,
        give_up_at: not_before + GIVE_UP_AFTER,
        expires_at: new.expire_time,
        attempts: i32::from(stored),
        skip_reason: decision.skip_reason.map(SkipReason::number),
        failure_reason: failed.then_some(FailureReason::Internal.number()),
        failure_time: failed.then_some(tx.now),
        provider: stored.then_some(Provider::Inbox as i16),
        sms_segments: delivery.content.as_ref().map_or(0, |content| content.sms_segments),
        send_time: stored.then_some(tx.now),
        deliver_time: stored.then_some(tx.now),
        ..draft::fresh(delivery.id.0, facts, delivery.channel, tx.now)
    }
}

pub(in crate::store) fn inbox_row(row: &delivery::Model, security: bool) -> inbox_item::Model {
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

/// What the first line of its timeline says.
pub(super) fn first_line(row: &delivery::Model) -> &'static str {
    match DeliveryState::from_number(row.state) {
        Some(DeliveryState::Skipped) => "Accepted, and not sent: see the reason.",
        Some(DeliveryState::Delivered) => "Stored in the patient's inbox.",
        Some(DeliveryState::Cancelled) => "Cancelled before it was sent.",
        Some(DeliveryState::Failed) => "There is no text for this patient; nothing was sent.",
        _ => "Accepted for sending.",
    }
}
