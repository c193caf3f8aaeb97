//! What patients want and how they can be reached: what is asked, and what is shown.

use std::collections::BTreeSet;

use super::{
    check::{Check, MOST_VIOLATIONS},
    consent, etag, revision,
    settings::numbers,
    timestamp,
};
use crate::{
    domain::{Channel, ChannelSet, Choices, ConsentRecord, ConsentState, Kind, PatientId},
    grpc::proto::{self, batch_get_reachability_response as reachability},
    service::{
        Error,
        preferences::{ChannelReach, NewChoice, PatientView, Reachability},
    },
};

/// Most patients in one call.
const LONGEST_BATCH: usize = 500;

/// A change of what a patient chose.
pub(crate) struct Update {
    pub(crate) patient: PatientId,
    /// The revision that the choices must have; unset: any.
    pub(crate) revision: Option<i64>,
    pub(crate) changes: Vec<NewChoice>,
}

/// What a patient's choices are to become.
pub(crate) fn update(request: proto::UpdatePatientPreferencesRequest) -> Result<Update, Error> {
    let mut check = Check::default();
    let patient = check.parsed("patient_id", &request.patient_id, str::parse::<PatientId>);
    check.count("choices", request.choices.len(), 1..=Kind::ALL.len());
    let mut kinds = BTreeSet::new();
    let choices = request.choices.into_iter().take(Kind::ALL.len() + MOST_VIOLATIONS);
    let changes = check.each("choices", choices, |check, choice| {
        let kind = check.choice("kind", choice.kind, Kind::from_number);
        check.expect("kind", kind.is_none_or(|kind| kinds.insert(kind)), "is there twice");
        let channels = choice
            .channels
            .map(|set| check.at("channels", |check| check.choices("values", set.values, Channel::from_number)));
        Some(NewChoice { kind: kind?, channels })
    });
    let changes: Option<Vec<_>> = changes.into_iter().collect();
    let revision = revision(&request.etag);
    let update = patient.zip(changes).map(|(patient, changes)| Update { patient, revision, changes });
    check.finish(update)
}

/// What a patient wants.
pub(crate) fn shown(view: PatientView) -> proto::PatientPreferences {
    let PatientView { patient, choices, consents, effective } = view;
    let effective = effective.into_iter().map(|(kind, channels)| proto::KindChannels {
        kind: kind.number().into(),
        channels: numbers(channels.channels),
        offered_channels: channels.offered.map(numbers).unwrap_or_default(),
    });
    proto::PatientPreferences {
        patient_id: patient.to_string(),
        choices: shown_choices(&choices.value),
        consents: consents.into_iter().map(shown_consent).collect(),
        effective: effective.collect(),
        update_time: (choices.revision > 0).then(|| timestamp(choices.update_time)),
        etag: etag(choices.revision),
    }
}

fn shown_choices(choices: &Choices) -> Vec<proto::KindChoice> {
    let set = |channels: ChannelSet| proto::ChannelSet { values: numbers(channels) };
    choices
        .iter()
        .map(|(kind, channels)| proto::KindChoice { kind: kind.number().into(), channels: Some(set(channels)) })
        .collect()
}

fn shown_consent((channel, state, record): (Channel, ConsentState, Option<ConsentRecord>)) -> proto::ChannelConsent {
    proto::ChannelConsent {
        channel: channel.number().into(),
        state: consent::shown_state(state).into(),
        record: record.map(consent::shown),
    }
}

/// Whose reachability is asked for, and for what.
pub(crate) fn to_reach(request: proto::BatchGetReachabilityRequest) -> Result<(Kind, Vec<PatientId>), Error> {
    let mut check = Check::default();
    check.count("patient_ids", request.patient_ids.len(), 1..=LONGEST_BATCH);
    let ids = request.patient_ids.iter().take(LONGEST_BATCH).enumerate();
    let patients: Vec<_> =
        ids.map(|(place, id)| check.parsed(&format!("patient_ids[{place}]"), id, str::parse::<PatientId>)).collect();
    let kind = check.choice("kind", request.kind, Kind::from_number);
    let patients: Option<Vec<_>> = patients.into_iter().collect();
    check.finish(kind.zip(patients))
}

/// Who can be reached how.
pub(crate) fn reachable(answer: Reachability) -> proto::BatchGetReachabilityResponse {
    let patients = answer.patients.into_iter().map(|(patient, channels)| reachability::PatientReachability {
        patient_id: patient.to_string(),
        channels: channels.into_iter().map(shown_reach).collect(),
    });
    proto::BatchGetReachabilityResponse {
        patients: patients.collect(),
        missing_patient_ids: answer.missing.iter().map(PatientId::to_string).collect(),
    }
}

fn shown_reach(reach: ChannelReach) -> reachability::ChannelReachability {
    reachability::ChannelReachability {
        channel: reach.channel.number().into(),
        skip_reason: reach.skip_reason.map_or(0, |reason| reason.number().into()),
        address_hint: reach.address_hint,
        consent: consent::shown_state(reach.consent).into(),
    }
}
