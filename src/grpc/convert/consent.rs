//! Decisions on consent: what a caller brings, and what is on record.

use chrono::{DateTime, Utc};
use prost::Message;

use super::{
    author,
    check::{Check, page_size, request_id},
    timestamp,
};
use crate::{
    domain::{ActorType, Channel, ConsentRecord, ConsentSource, ConsentState, PatientId, Phi, Scope},
    grpc::proto,
    service::{
        ConsentChange, ConsentQuery, Error,
        consent::{ConsentList, ConsentListPage, ConsentOrder, ConsentOutcome},
    },
};

/// Longest evidence, in characters.
const LONGEST_EVIDENCE: usize = 500;

/// The decision in a request.
pub(crate) fn order(
    scope: &Scope,
    mut request: proto::RecordConsentRequest,
    now: DateTime<Utc>,
) -> Result<ConsentOrder, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, std::mem::take(&mut request.request_id));
    // Without the key: what a repeat must equal.
    let canonical = Phi::new(request.encode_to_vec());
    let order = read(&mut check, scope, request, now);
    check.finish(order.map(|order| ConsentOrder { request_id, canonical, ..order }))
}

fn read(
    check: &mut Check,
    scope: &Scope,
    request: proto::RecordConsentRequest,
    now: DateTime<Utc>,
) -> Option<ConsentOrder> {
    let patient = check.parsed("patient_id", &request.patient_id, str::parse::<PatientId>);
    let channel = check.choice("channel", request.channel, Channel::from_number);
    let state = check.choice("state", request.state, decided);
    let source = source(check, scope, request.source);
    let effective_time = check.time("effective_time", request.effective_time);
    let past = effective_time.is_none_or(|time| time <= now);
    check.expect("effective_time", past, "must not be in the future");
    let evidence = if source.is_some_and(ConsentSource::is_of_staff) {
        check.required_lines("evidence", request.evidence, LONGEST_EVIDENCE)
    } else {
        check.lines("evidence", request.evidence, LONGEST_EVIDENCE)
    };
    Some(ConsentOrder {
        request_id: String::new(),
        canonical: Phi::default(),
        patient: patient?,
        channel: channel?,
        state: state?,
        source: source?,
        effective_time,
        evidence: Phi::new(evidence),
    })
}

/// What can be decided; that nothing is known is no decision.
fn decided(number: i16) -> Option<ConsentState> {
    match number {
        2 => Some(ConsentState::OptedIn),
        3 => Some(ConsentState::OptedOut),
        _ => None,
    }
}

/// The source, if it is one that this caller may name.
fn source(check: &mut Check, scope: &Scope, number: i32) -> Option<ConsentSource> {
    let source = check.choice("source", number, ConsentSource::from_number)?;
    let staff = scope.author().kind == ActorType::Staff;
    let good = if staff { source.is_of_staff() } else { source == ConsentSource::Portal };
    let description = if staff { "must be STAFF, IMPORT or FORM for staff" } else { "must be PORTAL for a patient" };
    check.expect("source", good, description);
    good.then_some(source)
}

/// What a record answers.
pub(crate) fn recorded(outcome: ConsentOutcome) -> proto::RecordConsentResponse {
    let ConsentOutcome { change: ConsentChange { record, state, rests_on, skipped }, in_flight, replayed } = outcome;
    let channel = record.entry.channel.number().into();
    proto::RecordConsentResponse {
        consent: Some(proto::ChannelConsent { channel, state: shown_state(state).into(), record: rests_on.map(shown) }),
        record: Some(shown(record)),
        skipped_deliveries: skipped,
        in_flight_attempts: i32::try_from(in_flight).unwrap_or(i32::MAX),
        replayed,
    }
}

/// Which entries are asked for.
pub(crate) fn list(scope: &Scope, mut request: proto::ListConsentRecordsRequest) -> Result<ConsentList, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let limit = page_size(std::mem::take(&mut request.page_size), 50, 500);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let everybody = request.patient_id.is_empty();
    check.expect("patient_id", !everybody || scope.patient().is_none(), "is required for a patient");
    let patient = check.parsed_if_set("patient_id", &request.patient_id, str::parse::<PatientId>);
    let channels = check.choices("channels", request.channels, Channel::from_number);
    let query = ConsentQuery { patient, channels, before: None, limit };
    check.finish(Some(ConsentList { query, page_token, canonical }))
}

/// A page of the ledger.
pub(crate) fn listed(page: ConsentListPage) -> proto::ListConsentRecordsResponse {
    let records = page.records.into_iter().map(shown).collect();
    proto::ListConsentRecordsResponse { records, next_page_token: page.next_page_token }
}

/// A state as the contract has it.
pub(crate) const fn shown_state(state: ConsentState) -> proto::ConsentState {
    match state {
        ConsentState::Unknown => proto::ConsentState::Unknown,
        ConsentState::OptedIn => proto::ConsentState::OptedIn,
        ConsentState::OptedOut => proto::ConsentState::OptedOut,
    }
}

/// An entry as the contract has it.
pub(crate) fn shown(record: ConsentRecord) -> proto::ConsentRecord {
    let ConsentRecord { entry, record_time, author: by, address_hint, evidence, hash } = record;
    proto::ConsentRecord {
        position: entry.position,
        patient_id: entry.patient.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        channel: entry.channel.number().into(),
        state: shown_state(entry.state).into(),
        source: entry.source.number().into(),
        effective_time: Some(timestamp(entry.effective_time)),
        record_time: Some(timestamp(record_time)),
        actor: Some(author(by)),
        address_hint,
        evidence: evidence.into_inner(),
        hash: hash.to_vec().into(),
    }
}
