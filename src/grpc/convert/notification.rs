//! Notifications: what a sender asks for, and what is shown of it.

use prost::Message;

use super::{
    author,
    check::{Check, request_id},
    delivery, payload, timestamp,
};
use crate::{
    domain::{
        Channel, ChannelSet, Content, Decision, Delivery, DeliveryEvent, NotificationId, PatientId, Phi, Priority,
    },
    grpc::{
        proto::{
            self, batch_send_notifications_response as batch, notification_input::Priority as Urgency,
            preview_notification_response as preview,
        },
        status,
    },
    service::{
        Error, NotificationDetail, NotificationRecord,
        notify::{ChannelPreview, Input, Order, Sent, Stopped},
    },
};

/// Longest batch.
const LONGEST_BATCH: usize = 500;

/// The order in a single request.
pub(crate) fn order(request: proto::SendNotificationRequest) -> Result<Order, Error> {
    keyed_order(request.request_id, request.notification)
}

/// The orders in a batch, each good or bad for itself; the paths of its violations begin at the item.
pub(crate) fn orders(request: proto::BatchSendNotificationsRequest) -> Result<Vec<Result<Order, Error>>, Error> {
    let mut check = Check::default();
    check.count("items", request.items.len(), 1..=LONGEST_BATCH);
    let items = check.finish(Some(request.items))?;
    Ok(items.into_iter().map(|item| keyed_order(item.request_id, item.notification)).collect())
}

fn keyed_order(id: String, input: Option<proto::NotificationInput>) -> Result<Order, Error> {
    let mut check = Check::default();
    let id = request_id(&mut check, id);
    // Maps are encoded in the order of their keys, so that equal requests give equal bytes. The key is not in it.
    let canonical = Phi::new(input.as_ref().map(Message::encode_to_vec).unwrap_or_default());
    let input = check.required("notification", input, read);
    check.finish(input.map(|input| Order { request_id: id, canonical, input }))
}

/// What a preview is asked for.
pub(crate) fn to_preview(request: proto::PreviewNotificationRequest) -> Result<Input, Error> {
    let mut check = Check::default();
    let input = check.required("notification", request.notification, read);
    check.finish(input)
}

fn read(check: &mut Check, input: proto::NotificationInput) -> Option<Input> {
    let patient = check.parsed("patient_id", &input.patient_id, str::parse::<PatientId>);
    let payload = payload::payload(check, input.payload);
    let custom_content = check.lines("custom_content", input.custom_content, 1_000);
    let channels: ChannelSet = check.choices("channels", input.channels, Channel::from_number).into_iter().collect();
    let schedule_time = check.time("schedule_time", input.schedule_time);
    let expire_time = check.time("expire_time", input.expire_time);
    let reference = check.line("reference", input.reference, 128);
    let priority = check.at("priority", |check| priority(check, input.priority));
    Some(Input {
        patient: patient?,
        payload: payload?,
        custom_content: Some(custom_content).filter(|text| !text.is_empty()).map(Phi::new),
        channels: Some(channels).filter(|channels| !channels.is_empty()),
        schedule_time,
        expire_time,
        reference,
        priority: priority?,
    })
}

fn priority(check: &mut Check, number: i32) -> Option<Priority> {
    match Urgency::try_from(number) {
        Ok(Urgency::Unspecified | Urgency::Normal) => Some(Priority::Normal),
        Ok(Urgency::Urgent) => Some(Priority::Urgent),
        Err(_) => check.fail("is not a value that this server knows"),
    }
}

/// Which notification is asked for, and whether all of it.
pub(crate) fn wanted(request: &proto::GetNotificationRequest) -> Result<NotificationId, Error> {
    let mut check = Check::default();
    let id = check.id("notification_id", &request.notification_id);
    let known = proto::NotificationView::try_from(request.view).is_ok();
    check.expect("view", known, "is not a value that this server knows");
    check.finish(id)
}

/// Which notification is to be cancelled.
pub(crate) fn to_cancel(request: &proto::CancelNotificationRequest) -> Result<NotificationId, Error> {
    let mut check = Check::default();
    let id = check.id("notification_id", &request.notification_id);
    check.finish(id)
}

/// What a single send answers.
pub(crate) fn sent(sent: Sent) -> proto::SendNotificationResponse {
    proto::SendNotificationResponse { notification: Some(shown(sent.notification)), replayed: sent.replayed }
}

/// What a preview answers.
pub(crate) fn previewed(channels: Vec<ChannelPreview>) -> proto::PreviewNotificationResponse {
    let channels = channels.into_iter().map(|channel| preview::ChannelPreview {
        decision: Some(decision(channel.decision)),
        address_hint: channel.address_hint,
        content: channel.content.map(rendered),
        warnings: channel.warnings,
    });
    proto::PreviewNotificationResponse { channels: channels.collect() }
}

/// What a cancel answers.
pub(crate) fn cancelled(stopped: Stopped) -> proto::CancelNotificationResponse {
    proto::CancelNotificationResponse {
        notification: Some(shown(stopped.notification)),
        cancelled_deliveries: stopped.done.deliveries,
        revoked_links: stopped.done.links,
    }
}

/// What a batch answers.
pub(crate) fn all_sent(results: Vec<Result<Sent, Error>>) -> proto::BatchSendNotificationsResponse {
    let results = results.into_iter().map(|result| match result {
        Ok(sent) => batch::BatchResult {
            outcome: Some(batch::batch_result::Outcome::Notification(shown(sent.notification))),
            replayed: sent.replayed,
        },
        Err(error) => batch::BatchResult {
            outcome: Some(batch::batch_result::Outcome::Error(status::item(&error))),
            replayed: false,
        },
    });
    proto::BatchSendNotificationsResponse { results: results.collect() }
}

/// A notification with its timelines.
pub(crate) fn detailed(detail: NotificationDetail) -> proto::GetNotificationResponse {
    let NotificationDetail { record, details, decisions } = detail;
    let details =
        record.deliveries.iter().zip(details).map(|(delivery, (events, content))| history(delivery, events, content));
    proto::GetNotificationResponse {
        details: details.collect(),
        decisions: decisions.into_iter().map(decision).collect(),
        notification: Some(shown(record)),
    }
}

fn shown(record: NotificationRecord) -> proto::Notification {
    proto::Notification {
        notification_id: record.id.to_string(),
        patient_id: record.patient.to_string(),
        kind: record.kind.number().into(),
        reference: record.reference,
        create_time: Some(timestamp(record.create_time)),
        schedule_time: record.schedule_time.map(timestamp),
        expire_time: Some(timestamp(record.expire_time)),
        cancel_time: record.cancel_time.map(timestamp),
        creator: Some(author(record.creator)),
        broadcast_id: record.broadcast.map(|id| id.to_string()).unwrap_or_default(),
        request_id: record.request_id,
        deliveries: record.deliveries.into_iter().map(delivery::shown).collect(),
    }
}

fn history(delivery: &Delivery, events: Vec<DeliveryEvent>, content: Option<Content>) -> proto::DeliveryDetail {
    proto::DeliveryDetail {
        delivery_id: delivery.id.to_string(),
        events: events.into_iter().map(event).collect(),
        content: content.map(rendered),
    }
}

fn event(event: DeliveryEvent) -> proto::DeliveryEvent {
    proto::DeliveryEvent {
        event_time: Some(timestamp(event.event_time)),
        state: event.state.number().into(),
        provider_status: event.provider_status,
        provider_code: event.provider_code,
        detail: event.detail,
        actor: Some(author(event.actor)),
        attempt: event.attempt,
        consent_position: event.consent_position,
    }
}

/// A text as it is shown.
pub(super) fn rendered(content: Content) -> proto::RenderedContent {
    proto::RenderedContent {
        subject: content.subject.into_inner(),
        text: content.text.into_inner(),
        html: content.html.into_inner(),
        sms_segments: content.sms_segments,
        sms_gsm7: content.sms_gsm7,
        template_key: content.template_key,
        template_version: content.template_version,
    }
}

fn decision(decision: Decision) -> proto::ChannelDecision {
    let attempt_time = decision.skip_reason.is_none().then(|| timestamp(decision.attempt_time));
    let steps = decision.steps.into_iter().map(|step| proto::DecisionStep {
        rule: step.rule.number().into(),
        outcome: step.outcome as i32,
        detail: step.detail,
    });
    proto::ChannelDecision {
        channel: decision.channel.number().into(),
        considered: decision.considered,
        skip_reason: decision.skip_reason.map_or(0, |reason| reason.number().into()),
        attempt_time,
        steps: steps.collect(),
    }
}

#[cfg(test)]
mod tests;
