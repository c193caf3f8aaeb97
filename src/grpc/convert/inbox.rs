//! Inboxes and devices: what is asked for, and how an item is shown.

use prost::Message;
use tokio::time::Instant;

use super::{
    check::{Check, page_size},
    delivery::heartbeat,
    timestamp,
};
use crate::{
    domain::{DeviceId, InboxItem, PatientId, Phi, ReadState, Selection},
    grpc::proto::{self, mark_inbox_items_request::Selection as Selected},
    service::{
        Error,
        inbox::{ListPage, ListQuery, NewDevice},
        watch::{Request, Start, Step, Subject},
    },
};

/// Most items that are marked by their ids in one call.
const MOST_IDS: usize = 100;

fn patient(check: &mut Check, id: &str) -> Option<PatientId> {
    check.parsed("patient_id", id, str::parse)
}

/// What a list is asked for.
pub(crate) fn list(mut request: proto::ListInboxItemsRequest) -> Result<ListQuery, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 20, 100);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let patient = patient(&mut check, &request.patient_id);
    let unread_only = request.unread_only;
    check.finish(patient.map(|patient| ListQuery { patient, unread_only, page_size, page_token, canonical }))
}

/// Which items are marked as what.
pub(crate) fn to_mark(request: proto::MarkInboxItemsRequest) -> Result<(PatientId, Selection, ReadState), Error> {
    let mut check = Check::default();
    let patient = patient(&mut check, &request.patient_id);
    let selection = match request.selection {
        None => check.required("selection", None::<()>, |_, ()| None),
        Some(Selected::ItemIds(ids)) => check.at("item_ids", |check| {
            check.count("values", ids.values.len(), 1..=MOST_IDS);
            let ids = ids.values.iter().take(MOST_IDS).enumerate();
            let ids = ids.filter_map(|(place, id)| check.id(&format!("values[{place}]"), id));
            Some(Selection::Items(ids.collect()))
        }),
        Some(Selected::ThroughTime(time)) => check.required_time("through_time", Some(time)).map(Selection::Through),
    };
    let state = check.choice("read_state", request.read_state, ReadState::from_number);
    let all = patient.zip(selection).zip(state);
    check.finish(all.map(|((patient, selection), state)| (patient, selection, state)))
}

/// What a watch is asked for, by a caller who waits until `deadline`.
pub(crate) fn watch(request: proto::WatchInboxRequest, deadline: Option<Instant>) -> Result<Request, Error> {
    let mut check = Check::default();
    let patient = patient(&mut check, &request.patient_id);
    let start = if request.cursor.is_empty() { Start::Now } else { Start::Cursor(request.cursor) };
    let heartbeat = heartbeat(&mut check, request.heartbeat_interval);
    check.finish(patient.map(|patient| Request {
        subject: Subject::Inbox(patient),
        start,
        heartbeat,
        deadline,
        cut: None,
    }))
}

/// The device that is to be registered.
pub(crate) fn to_register(request: proto::RegisterPushDeviceRequest) -> Result<NewDevice, Error> {
    let mut check = Check::default();
    let patient = patient(&mut check, &request.patient_id);
    let token = check.parsed("fcm_token", &request.fcm_token, str::parse);
    let name = Phi::new(check.line("device_name", request.device_name, 100));
    check.finish(patient.zip(token).map(|(patient, token)| NewDevice { patient, token, name }))
}

/// The device that is to be forgotten.
pub(crate) fn to_delete(request: &proto::DeletePushDeviceRequest) -> Result<(PatientId, DeviceId), Error> {
    let mut check = Check::default();
    let patient = patient(&mut check, &request.patient_id);
    let device = check.id("device_id", &request.device_id);
    check.finish(patient.zip(device))
}

/// A page of a list.
pub(crate) fn page(page: ListPage) -> proto::ListInboxItemsResponse {
    proto::ListInboxItemsResponse {
        items: page.items.into_iter().map(shown).collect(),
        next_page_token: page.next_page_token,
        unread_count: page.unread,
        watch_cursor: page.watch_cursor,
    }
}

/// A step of a watch.
pub(crate) fn step(step: &Step) -> proto::WatchInboxResponse {
    let (items, unread_count) = step.inbox();
    let items = items.iter().cloned().map(shown).collect();
    proto::WatchInboxResponse { cursor: step.cursor.clone(), items, unread_count }
}

fn shown(item: InboxItem) -> proto::InboxItem {
    proto::InboxItem {
        item_id: item.id.to_string(),
        notification_id: item.notification.to_string(),
        title: item.title.into_inner(),
        body: item.body.into_inner(),
        link_url: item.link.into_inner(),
        create_time: Some(timestamp(item.create_time)),
        read_time: item.read_time.map(timestamp),
        security: item.security,
    }
}
