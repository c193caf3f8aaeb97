//! Deliveries: which are asked for, and how one is shown.

use std::time::Duration;

use chrono::TimeDelta;
use prost::Message;
use tokio::time::Instant;

use super::{
    check::{Check, page_size, request_id},
    timestamp,
};
use crate::{
    domain::{
        Channel, Delivery, DeliveryChange, DeliveryFilter, DeliveryState, DeliveryStats, Failure, Hours, Kind,
        PatientId, Phi, Provider, Source, StateCounts,
    },
    grpc::proto::{
        self,
        get_delivery_stats_response::{ChannelStats, FailureCount},
        watch_deliveries_request::Start as Beginning,
    },
    service::{
        Error,
        notify::{ListPage, ListQuery, Resent, RetryOrder, StatsQuery},
        watch::{Request, Start, Step, Subject},
    },
};

/// How long a watch may be quiet unless the caller says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a list is asked for.
pub(crate) fn list(mut request: proto::ListDeliveriesRequest) -> Result<ListQuery, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 50, 500);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let filter = check.at("filter", |check| filter(check, request.filter.unwrap_or_default()));
    let start_time = check.time("start_time", request.start_time);
    let end_time = check.time("end_time", request.end_time);
    check.finish(Some(ListQuery { filter, start_time, end_time, page_size, page_token, canonical }))
}

/// What statistics are asked for.
pub(crate) fn stats_wanted(request: proto::GetDeliveryStatsRequest) -> Result<StatsQuery, Error> {
    let mut check = Check::default();
    let start_time = check.required_time("start_time", request.start_time);
    let end_time = check.time("end_time", request.end_time);
    let kinds = check.choices("kinds", request.kinds, Kind::from_number);
    check.finish(start_time.map(|start_time| StatsQuery { start_time, end_time, kinds }))
}

/// Statistics as the contract shows them: every channel, and the reasons for which something failed.
pub(crate) fn stats_shown((hours, stats): (Hours, DeliveryStats)) -> proto::GetDeliveryStatsResponse {
    let of = |channel| stats.states.get(channel).copied().unwrap_or_default();
    let channels = Channel::ALL
        .iter()
        .map(|channel| ChannelStats { channel: channel.number().into(), counts: Some(counts(&of(channel))) });
    let failures = stats.failures.iter().map(|((channel, reason), count)| FailureCount {
        channel: channel.number().into(),
        reason: reason.number().into(),
        count: *count,
    });
    proto::GetDeliveryStatsResponse {
        channels: channels.collect(),
        failures: failures.collect(),
        start_time: Some(timestamp(hours.start_time())),
        end_time: Some(timestamp(hours.end_time())),
    }
}

/// How many deliveries are in each state, as the contract shows it.
pub(super) fn counts(counts: &StateCounts) -> proto::DeliveryCounts {
    proto::DeliveryCounts {
        pending: counts.of(DeliveryState::Pending),
        unconfirmed: counts.of(DeliveryState::Unconfirmed),
        sent: counts.of(DeliveryState::Sent),
        delivered: counts.of(DeliveryState::Delivered),
        failed: counts.of(DeliveryState::Failed),
        skipped: counts.of(DeliveryState::Skipped),
        cancelled: counts.of(DeliveryState::Cancelled),
    }
}

/// What a watch is asked for, by a caller who waits until `deadline`.
pub(crate) fn watch(request: proto::WatchDeliveriesRequest, deadline: Option<Instant>) -> Result<Request, Error> {
    let mut check = Check::default();
    let filter = check.at("filter", |check| filter(check, request.filter.unwrap_or_default()));
    let start = match request.start {
        None => Some(Start::Now),
        Some(Beginning::Cursor(cursor)) => Some(Start::Cursor(cursor)),
        Some(Beginning::StartTime(time)) => check.required_time("start_time", Some(time)).map(Start::Time),
    };
    let heartbeat = heartbeat(&mut check, request.heartbeat_interval);
    let subject = Subject::Deliveries(filter);
    check.finish(start.map(|start| Request { subject, start, heartbeat, deadline, cut: None }))
}

/// How long a watch may be quiet.
pub(super) fn heartbeat(check: &mut Check, interval: Option<prost_types::Duration>) -> Duration {
    let allowed = TimeDelta::seconds(5)..=TimeDelta::seconds(60);
    let heartbeat = check.length("heartbeat_interval", interval, allowed, "must be 5 to 60 s");
    heartbeat.and_then(|heartbeat| heartbeat.to_std().ok()).unwrap_or(HEARTBEAT)
}

fn filter(check: &mut Check, filter: proto::DeliveryFilter) -> DeliveryFilter {
    check.count("patient_ids", filter.patient_ids.len(), 0..=100);
    let patients = filter.patient_ids.into_iter().take(100).enumerate();
    DeliveryFilter {
        patients: patients
            .filter_map(|(place, id)| check.parsed(&format!("patient_ids[{place}]"), &id, str::parse::<PatientId>))
            .collect(),
        channels: check.choices("channels", filter.channels, Channel::from_number),
        kinds: check.choices("kinds", filter.kinds, Kind::from_number),
        states: check.choices("states", filter.states, DeliveryState::from_number),
        notification: check.id_if_set("notification_id", &filter.notification_id),
        broadcast: check.id_if_set("broadcast_id", &filter.broadcast_id),
        reference: check.line("reference", filter.reference, 128),
    }
}

/// What is to be sent again.
pub(crate) fn to_retry(request: proto::RetryDeliveryRequest) -> Result<RetryOrder, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, request.request_id);
    let delivery = check.id("delivery_id", &request.delivery_id);
    check.finish(delivery.map(|delivery| RetryOrder { request_id, delivery }))
}

/// What a retry answers.
pub(crate) fn resent(resent: Resent) -> proto::RetryDeliveryResponse {
    proto::RetryDeliveryResponse { delivery: Some(shown(resent.delivery)), replayed: resent.replayed }
}

/// A page of a list.
pub(crate) fn page(page: ListPage) -> proto::ListDeliveriesResponse {
    proto::ListDeliveriesResponse {
        deliveries: page.deliveries.into_iter().map(shown).collect(),
        next_page_token: page.next_page_token,
        watch_cursor: page.watch_cursor,
    }
}

/// A step of a watch.
pub(crate) fn step(step: &Step) -> proto::WatchDeliveriesResponse {
    proto::WatchDeliveriesResponse {
        cursor: step.cursor.clone(),
        changes: step.changes().map(change).collect(),
        server_time: Some(timestamp(step.server_time)),
    }
}

fn change(change: &DeliveryChange) -> proto::DeliveryChange {
    proto::DeliveryChange {
        // Other watches share it.
        delivery: Some(shown(change.delivery.clone())),
        previous_state: change.previous_state.map_or(0, |state| state.number().into()),
    }
}

/// A delivery as the contract shows it.
pub(super) fn shown(delivery: Delivery) -> proto::Delivery {
    proto::Delivery {
        delivery_id: delivery.id.to_string(),
        patient_id: text(delivery.patient),
        revision: delivery.revision,
        kind: delivery.kind.map_or(0, |kind| kind.number().into()),
        channel: delivery.channel.number().into(),
        state: delivery.state.number().into(),
        skip_reason: delivery.skip_reason.map_or(0, |reason| reason.number().into()),
        failure: delivery.failure.map(failure),
        address_hint: delivery.address_hint,
        provider: delivery.provider.map(Provider::name).unwrap_or_default().to_owned(),
        provider_message_id: delivery.provider_message_id,
        attempts: delivery.attempts,
        next_action_time: delivery.next_action_time.map(timestamp),
        possible_duplicate: delivery.possible_duplicate,
        create_time: Some(timestamp(delivery.create_time)),
        send_time: delivery.send_time.map(timestamp),
        deliver_time: delivery.deliver_time.map(timestamp),
        update_time: Some(timestamp(delivery.update_time)),
        open_time: delivery.open_time.map(timestamp),
        sms_segments: delivery.sms_segments,
        source: match delivery.source {
            Source::Notification(id) => Some(proto::delivery::Source::NotificationId(id.to_string())),
            Source::ConversationMessage(id) => Some(proto::delivery::Source::ConversationMessageId(id.to_string())),
            Source::Test => None,
        },
        broadcast_id: text(delivery.broadcast),
        reference: delivery.reference,
        retry_of_delivery_id: text(delivery.retry_of),
        retry_delivery_id: text(delivery.retried_by),
    }
}

pub(super) fn failure(failure: Failure) -> proto::DeliveryFailure {
    proto::DeliveryFailure {
        reason: failure.reason.number().into(),
        provider_code: failure.provider_code,
        message: failure.reason.message().to_owned(),
        fail_time: Some(timestamp(failure.fail_time)),
    }
}

/// An id, or nothing.
fn text(id: Option<impl ToString>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
