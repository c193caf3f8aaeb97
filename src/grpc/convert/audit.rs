//! The audit trail: what is asked of it, and what it shows.

use prost::Message;

use super::{
    author,
    check::{Check, page_size},
    timestamp,
};
use crate::{
    domain::{AuditEvent, AuditRecord, PatientId, Phi},
    grpc::proto,
    service::{
        AuditQuery, Error,
        audit::{AuditList, AuditListPage},
    },
};

/// Longest id of an actor and longest beginning of an action, in characters.
const LONGEST_ACTOR: usize = 128;
const LONGEST_PREFIX: usize = 128;

/// The entries that a request asks for.
pub(crate) fn list(mut request: proto::ListAuditEventsRequest) -> Result<AuditList, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let limit = page_size(std::mem::take(&mut request.page_size), 100, 1_000);
    // Without size and token: what a page token is bound to.
    let canonical = request.encode_to_vec();
    let mut check = Check::default();
    let start = check.time("start_time", request.start_time);
    let end = check.time("end_time", request.end_time);
    let forwards = start.zip(end).is_none_or(|(start, end)| start < end);
    check.expect("end_time", forwards, "must be after start_time");
    let patient = check.parsed_if_set("patient_id", &request.patient_id, str::parse::<PatientId>);
    let actor = check.line("actor_id", request.actor_id, LONGEST_ACTOR);
    let action_prefix = check.line("action_prefix", request.action_prefix, LONGEST_PREFIX);
    let actor = (!actor.is_empty()).then_some(actor);
    let query = AuditQuery { start, end, patient, actor, action_prefix, before: None, limit };
    check.finish(Some(AuditList { query, page_token, canonical }))
}

/// A page of the trail.
pub(crate) fn listed(page: AuditListPage) -> proto::ListAuditEventsResponse {
    let events = page.records.into_iter().map(shown).collect();
    proto::ListAuditEventsResponse { events, next_page_token: page.next_page_token }
}

fn shown(record: AuditRecord) -> proto::AuditEvent {
    let AuditRecord { position, event_time, event, hash } = record;
    let AuditEvent { actor, action, patient, resource, code, trace_id, source_address, emergency } = event;
    proto::AuditEvent {
        position,
        event_time: Some(timestamp(event_time)),
        actor: Some(author(actor)),
        action: action.into_owned(),
        patient_id: patient.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        resource,
        code,
        trace_id,
        source_address,
        hash: hash.to_vec().into(),
        emergency_reason: emergency.map(Phi::into_inner).unwrap_or_default(),
    }
}
