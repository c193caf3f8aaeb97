//! What patients want: their choice for each kind, and what follows from it.

use super::Preferences;
use crate::{
    domain::{
        Channel, Choices, ConsentRecord, ConsentState, Denied, Kind, KindChannels, PatientId, PracticeSettings, Scope,
        Stored,
    },
    service::{Error, Violation},
    store::{GroundsRow, StoreError},
};

/// What is to become of the choice for one kind.
#[derive(Clone, Debug)]
pub struct NewChoice {
    /// The kind.
    pub kind: Kind,
    /// The channels chosen, in the order of the request; unset: the practice's apply again.
    pub channels: Option<Vec<Channel>>,
}

/// What a patient wants, and what follows from it.
#[derive(Clone, Debug)]
pub struct PatientView {
    /// The patient.
    pub patient: PatientId,
    /// Their choices, as they were made.
    pub choices: Stored<Choices>,
    /// One per channel: what is in force, and the entry of the ledger that it rests on.
    pub consents: Vec<(Channel, ConsentState, Option<ConsentRecord>)>,
    /// One per kind: what is effective before consent, and what the patient may choose from.
    pub effective: Vec<(Kind, KindChannels)>,
}

impl Preferences {
    /// Reads what a patient wants. Where that shows what somebody wrote as evidence, the audit trail tells who else than the
    /// patient does.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice, and for a patient's own token also for any other patient.
    pub async fn patient_get(&self, scope: &Scope, patient: &PatientId) -> Result<PatientView, Error> {
        let row = self.row(scope, patient).await?;
        let view = self.patient_view(scope, row).await?;
        let has_evidence = |(_, _, record): &(_, _, Option<ConsentRecord>)| {
            record.as_ref().is_some_and(|record| !record.evidence.expose().is_empty())
        };
        if scope.patient().is_none() && view.consents.iter().any(has_evidence) {
            self.store.audit_read(scope, Some(patient), "preferences").await?;
        }
        Ok(view)
    }

    /// Changes what a patient chose for some kinds. `etag`, if given, must match. A repeat changes nothing, its etag included.
    ///
    /// # Errors
    /// As [`Self::patient_get`]; `ETAG_MISMATCH`; `FIELD_INVALID` for channels that the practice does not offer for the kind.
    pub async fn patient_update(
        &self,
        scope: &Scope,
        patient: &PatientId,
        etag: Option<i64>,
        changes: &[NewChoice],
    ) -> Result<PatientView, Error> {
        loop {
            let row = self.row(scope, patient).await?;
            let before = &row.choices;
            if etag.is_some_and(|etag| etag != before.revision) {
                return Err(Error::EtagMismatch { current: before.revision.to_string() });
            }
            let after = changed(before.value.clone(), changes, &row.settings)?;
            if after == before.value {
                return self.patient_view(scope, row).await;
            }
            match self.store.choices_put(scope, patient, after, before.revision).await {
                Ok(choices) => return self.patient_view(scope, GroundsRow { choices, ..row }).await,
                // Somebody else was quicker. Their choices stay; ours are made beside them.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(Error::from(error).named(patient)),
            }
        }
    }

    async fn row(&self, scope: &Scope, patient: &PatientId) -> Result<GroundsRow, Error> {
        if !scope.covers(patient) {
            return Err(Denied::Scope.into());
        }
        self.store.grounds(scope, patient).await.map_err(|error| Error::from(error).named(patient))
    }

    async fn patient_view(&self, scope: &Scope, row: GroundsRow) -> Result<PatientView, Error> {
        let effective = Kind::ALL.map(|kind| {
            let channels = row.settings.effective(kind, &row.choices.value).channels();
            (kind, KindChannels { channels, offered: Some(row.settings.offered(kind)) })
        });
        let mut records = self.store.consents_rest_on(scope, &row).await?;
        let consent = |channel| row.gates.get(&channel).copied().unwrap_or_default().consent();
        let consents = Channel::ALL.map(|channel| match consent(channel) {
            ConsentState::Unknown => (channel, ConsentState::Unknown, None),
            state => (channel, state, records.remove(&channel)),
        });
        Ok(PatientView {
            patient: row.patient.id,
            choices: row.choices,
            consents: consents.into(),
            effective: effective.into(),
        })
    }
}

/// The choices after the changes, if the practice offers all of them.
fn changed(mut choices: Choices, changes: &[NewChoice], settings: &PracticeSettings) -> Result<Choices, Error> {
    let mut violations = Vec::new();
    for (place, change) in changes.iter().enumerate() {
        let offered = settings.offered(change.kind);
        for (index, channel) in change.channels.iter().flatten().enumerate() {
            if !offered.contains(*channel) {
                let field = format!("choices[{place}].channels.values[{index}]");
                violations.push(Violation::new(field, "is not offered by the practice for this kind"));
            }
        }
        choices.set(change.kind, change.channels.as_ref().map(|channels| channels.iter().copied().collect()));
    }
    if violations.is_empty() { Ok(choices) } else { Err(Error::FieldInvalid(violations)) }
}
