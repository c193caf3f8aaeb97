//! Decisions on consent, from wherever they come. Each is one transaction: the gates are taken, the ledger is added to, the
//! gates say what it amounts to, what waits is skipped, the feed tells. A claim takes the same gates, so that no attempt begins
//! once a decision is committed.

mod mail;
mod standing;
mod text;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    GroundsRow, Store, StoreError, conversations,
    draft::write_all_on,
    feed, grounds,
    idem::{self, Prior},
    ledger::{self, NewEntry},
    tx::Tx,
    vault::PracticeKeys,
};
use crate::{
    crypto,
    domain::{
        ActorType, Channel, Closure, ConsentEntry, ConsentRecord, ConsentSource, ConsentState, Patient, PatientId, Phi,
        Scope, effective_now, in_force, unanswered_stops,
    },
};
pub use mail::Subscription;
use standing::Standing;
pub(super) use text::{Report, inherit_on, report_on, start_on, take_all_on};

/// A decision to put on record.
#[derive(Clone, Debug)]
pub struct NewConsent {
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// Whose decision.
    pub patient: PatientId,
    /// On what.
    pub channel: Channel,
    /// Agreed or opted out.
    pub state: ConsentState,
    /// How it got here.
    pub source: ConsentSource,
    /// When the patient decided; unset: now.
    pub effective_time: Option<DateTime<Utc>>,
    /// What proves it; may be empty.
    pub evidence: Phi<String>,
}

/// A decision on record, and what is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentChange {
    /// The entry.
    pub record: ConsentRecord,
    /// What is in force on the channel now.
    pub state: ConsentState,
    /// The entry that this rests on; unset: none.
    pub rests_on: Option<ConsentRecord>,
    /// How many deliveries were skipped by it.
    pub skipped: i32,
}

/// What became of a request to put a decision on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is on record.
    New(Box<ConsentChange>),
    /// The key did this before, by the same request.
    Replayed(Box<ConsentChange>),
    /// The key was used for another request, which made the entry at this position.
    KeyReused(i64),
}

impl Store {
    /// Puts a decision of a patient on record.
    ///
    /// # Errors
    /// NotFound when the practice has no such patient; StateForbids for an opt-in by staff after STOP.
    pub async fn consent_record(&self, scope: &Scope, new: NewConsent) -> Result<Recorded, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let id = crypto::new_id(tx.now);
                let key = idem::Key {
                    practice: keys.practice(),
                    resource: idem::CONSENTS,
                    request_id: &new.request_id,
                    fingerprint: &new.fingerprint,
                    makes: id,
                };
                if !idem::take_on(tx, vec![key]).await?.is_empty() {
                    return Ok(Recorded::New(Box::new(record_on(tx, &keys, &scope, id, &new).await?)));
                }
                let corrupt = || StoreError::Corrupt("idem");
                let (id, same) = match key.prior_on(&tx.db).await? {
                    Prior::Same(id) => (id, true),
                    Prior::Other(id) => (id, false),
                    Prior::None => return Err(corrupt()),
                };
                let row = ledger::row_of_on(&tx.db, keys.practice(), id).await?.ok_or_else(corrupt)?;
                if !same {
                    return Ok(Recorded::KeyReused(row.seq));
                }
                let record = ledger::record_on(&tx.db, &keys, &row).await?;
                let patient = patient_on(tx, &keys, &new.patient).await?;
                let standing = standing_on(tx, &keys, &patient, new.channel).await?;
                let (state, rests_on) = shown_on(&tx.db, &standing, &patient).await?;
                Ok(Recorded::Replayed(Box::new(ConsentChange { record, state, rests_on, skipped: 0 })))
            })
        })
        .await
    }
}

impl Store {
    /// The entries on which the consent in force of a patient rests, by channel; none where nothing was decided.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn consents_rest_on(
        &self,
        scope: &Scope,
        row: &GroundsRow,
    ) -> Result<BTreeMap<Channel, ConsentRecord>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let rows = ledger::rows_of_on(&self.within(scope), keys.practice(), &row.patient.id).await?;
        let mut entries = BTreeMap::<Channel, Vec<ConsentEntry>>::new();
        for entry in rows.iter().map(ledger::to_entry) {
            let entry = entry?;
            entries.entry(entry.channel).or_default().push(entry);
        }
        let mut records = BTreeMap::new();
        for (channel, entries) in entries {
            let gates = row.gates.get(&channel).copied().unwrap_or_default();
            let number = grounds::address_index(&keys, channel, &row.patient);
            let closed = number.filter(|_| gates.address == ConsentState::OptedOut);
            let Some(entry) = rests_on(&entries, closed.as_deref()) else { continue };
            if let Some(row) = rows.iter().find(|row| row.seq == entry.position) {
                records.insert(channel, ledger::record_on(&self.within(scope), &keys, row).await?);
            }
        }
        Ok(records)
    }
}

async fn record_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    id: Uuid,
    new: &NewConsent,
) -> Result<ConsentChange, StoreError> {
    let patient = patient_on(tx, keys, &new.patient).await?;
    let mut standing = standing_on(tx, keys, &patient, new.channel).await?;
    let now = effective_now(new.state, standing.in_force(patient.id.as_str()), tx.now);
    let effective_time = new.effective_time.unwrap_or(now);
    if new.state == ConsentState::OptedIn && new.source.is_of_staff() {
        may_be_lifted(tx, &standing, &patient, effective_time).await?;
    }
    let entry = NewEntry {
        id,
        patient: Some(patient.id.clone()),
        channel: new.channel,
        state: new.state,
        source: new.source,
        address: grounds::address_index(keys, new.channel, &patient),
        address_hint: patient.address_hint(new.channel),
        effective_time,
        evidence: new.evidence.clone(),
    };
    let record = standing.append_on(tx, scope.author(), vec![entry]).await?.into_iter().next();
    let record = record.ok_or(StoreError::Corrupt("consent_ledger"))?;
    tx.note(scope, Some(&patient.id), format_args!("consent/{}", record.entry.position));
    let (state, rests_on) = shown_on(&tx.db, &standing, &patient).await?;
    let out = state == ConsentState::OptedOut && new.state == ConsentState::OptedOut;
    let patients = if out { standing.patients().clone() } else { BTreeSet::new() };
    let drafts =
        waiting::skip_on(tx, keys.practice(), new.channel, &patients, scope.author(), &BTreeSet::new()).await?;
    let skipped = waiting::skipped(&drafts);
    let mut changes = write_all_on(tx, drafts).await?;
    if new.channel == Channel::Sms && scope.author().kind == ActorType::Staff {
        changes.extend(conversations::answer_stop_request_on(tx, keys.practice(), &patient.id).await?);
    }
    feed::append_on(tx, changes).await?;
    Ok(ConsentChange { record, state, rests_on, skipped })
}

/// The patient, who keeps their addresses until COMMIT.
async fn patient_on(tx: &Tx, keys: &PracticeKeys, id: &PatientId) -> Result<Patient, StoreError> {
    let mut patients = grounds::patients_on(&tx.db, keys, [id.as_str().to_owned()], true).await?;
    let found = patients.remove(id.as_str()).ok_or(StoreError::NotFound("patient"))?;
    Ok(found.patient)
}

/// Where the patient and their present number stand.
async fn standing_on<'a>(
    tx: &Tx,
    keys: &'a PracticeKeys,
    patient: &Patient,
    channel: Channel,
) -> Result<Standing<'a>, StoreError> {
    let number = grounds::address_index(keys, channel, patient).filter(|_| channel == Channel::Sms);
    let patients = BTreeSet::from([patient.id.as_str().to_owned()]);
    Standing::take_on(tx, keys, channel, patients, number.into_iter().collect()).await
}

/// Staff opt nobody in again who texted STOP: the provider blocks them too. One that was decided before is only put on record.
async fn may_be_lifted(
    tx: &Tx,
    standing: &Standing<'_>,
    patient: &Patient,
    effective_time: DateTime<Utc>,
) -> Result<(), StoreError> {
    let address = grounds::address_index(standing.keys, standing.channel, patient);
    let number = address.map(|number| standing.number(&number)).unwrap_or_default();
    let mut stops = vec![(number.closure == Closure::ByStop, number.since)];
    for entry in unanswered_stops(standing.entries(patient.id.as_str())) {
        stops.push((is_closed_on(tx, standing, entry).await?, entry.effective_time));
    }
    if stops.into_iter().any(|(closed, since)| closed && effective_time >= since) {
        return Err(StoreError::StateForbids {
            state: "opted_out_by_text",
            message: "the patient texted STOP: only START from that number, or the patient in the portal, opts in again",
        });
    }
    Ok(())
}

/// Whether the number that `stop` came from is still closed; the patient may have another one by now.
async fn is_closed_on(tx: &Tx, standing: &Standing<'_>, stop: &ConsentEntry) -> Result<bool, StoreError> {
    let Some(number) = &stop.address else { return Ok(false) };
    let gate = grounds::address_gate(standing.channel, number);
    let rows = grounds::gates_on(&tx.db, standing.keys.practice(), &[gate], false).await?;
    Ok(rows.iter().any(grounds::is_opted_out))
}

/// Of a patient's entries for a channel the one that decides: a number that is closed is closed by what came from it, whatever
/// the patient decided since.
fn rests_on<'e>(entries: &'e [ConsentEntry], closed: Option<&[u8]>) -> Option<&'e ConsentEntry> {
    let stops = entries.iter().filter(|entry| closed.is_some_and(|number| entry.is_stop_from(number)));
    stops.max_by_key(|entry| entry.position).or_else(|| in_force(entries))
}

/// What is in force for a patient, and the entry that it rests on. A number that is closed closes the channel, whatever the
/// patient decided since.
async fn shown_on(
    db: &impl ConnectionTrait,
    standing: &Standing<'_>,
    patient: &Patient,
) -> Result<(ConsentState, Option<ConsentRecord>), StoreError> {
    let id = patient.id.as_str();
    let number = grounds::address_index(standing.keys, standing.channel, patient)
        .filter(|number| standing.number(number).closure != Closure::Open);
    let entry = rests_on(standing.entries(id), number.as_deref());
    let state = match (&number, entry) {
        (Some(_), _) => ConsentState::OptedOut,
        (None, Some(entry)) => entry.state,
        (None, None) => ConsentState::Unknown,
    };
    let record = match entry {
        Some(entry) => {
            let row = ledger::row_at_on(db, standing.keys.practice(), entry.position).await?;
            match row {
                Some(row) => Some(ledger::record_on(db, standing.keys, &row).await?),
                None => None,
            }
        }
        None => None,
    };
    Ok((state, record))
}
