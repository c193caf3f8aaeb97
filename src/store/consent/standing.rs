//! Where patients and numbers stand on one channel, under the locks of their gates: what a new decision is weighed against.
//! Guarantee: the gates say what the ledger says, since both are written here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use crate::{
    domain::{Author, Channel, Closure, ConsentEntry, ConsentRecord, ConsentState, NumberState, in_force},
    store::{
        StoreError,
        entity::recipient_gate,
        grounds::{self, GateKey},
        ledger::{self, NewEntry, entries_on, state_number},
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// Patients by id, and numbers by their blind index.
pub(in crate::store) struct Standing<'a> {
    pub(super) keys: &'a PracticeKeys,
    pub(super) channel: Channel,
    patients: BTreeSet<String>,
    entries: BTreeMap<String, Vec<ConsentEntry>>,
    numbers: BTreeMap<Vec<u8>, NumberState>,
}

impl<'a> Standing<'a> {
    /// Takes the gates of these patients and numbers, and reads what the ledger says of them.
    pub(in crate::store) async fn take_on(
        tx: &Tx,
        keys: &'a PracticeKeys,
        channel: Channel,
        patients: BTreeSet<String>,
        numbers: BTreeSet<Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let gates: Vec<GateKey> = patients
            .iter()
            .map(|patient| grounds::patient_gate(channel, patient))
            .chain(numbers.iter().map(|number| grounds::address_gate(channel, number)))
            .collect();
        let rows = grounds::gates_take_on(tx, keys.practice(), &gates).await?;
        let mut states = BTreeMap::new();
        for row in rows.into_iter().filter(|row| row.subject_kind == grounds::ADDRESS) {
            states.insert(row.subject.clone(), number_on(tx, &row).await?);
        }
        let entries = entries_on(&tx.db, keys.practice(), channel, patients.iter().cloned()).await?;
        Ok(Self { keys, channel, patients, entries, numbers: states })
    }

    /// Takes further patients, whose number has become known to be theirs.
    pub(super) async fn add_on(&mut self, tx: &Tx, patients: BTreeSet<String>) -> Result<(), StoreError> {
        let more = Self::take_on(tx, self.keys, self.channel, patients, BTreeSet::new()).await?;
        self.entries.extend(more.entries);
        self.patients.extend(more.patients);
        Ok(())
    }

    pub(super) fn patients(&self) -> &BTreeSet<String> {
        &self.patients
    }

    pub(super) fn entries(&self, patient: &str) -> &[ConsentEntry] {
        self.entries.get(patient).map_or(&[], Vec::as_slice)
    }

    /// The patient's decision in force.
    pub(super) fn in_force(&self, patient: &str) -> Option<&ConsentEntry> {
        in_force(self.entries(patient))
    }

    pub(super) fn number(&self, number: &[u8]) -> NumberState {
        self.numbers.get(number).copied().unwrap_or_default()
    }

    /// Puts entries on record, and has the gates say what they amount to.
    pub(super) async fn append_on(
        &mut self,
        tx: &Tx,
        author: &Author,
        entries: Vec<NewEntry>,
    ) -> Result<Vec<ConsentRecord>, StoreError> {
        let records = ledger::append_on(tx, self.keys, author, entries).await?;
        let mut patients = BTreeSet::new();
        let before = self.numbers.clone();
        for ConsentRecord { entry, .. } in &records {
            if let Some(patient) = &entry.patient {
                patients.insert(patient.as_str().to_owned());
                self.entries.entry(patient.as_str().to_owned()).or_default().push(entry.clone());
            }
            if let Some(number) = entry.address.as_ref().and_then(|number| self.numbers.get_mut(number)) {
                *number = number.after(entry);
            }
        }
        for patient in patients {
            let (state, position) =
                self.in_force(&patient).map_or_else(Default::default, |entry| (entry.state, entry.position));
            let gate = grounds::patient_gate(self.channel, &patient);
            say_on(tx, self.keys.practice(), gate, state, position).await?;
        }
        for (number, state) in self.numbers.iter().filter(|(number, state)| before.get(*number) != Some(*state)) {
            let closed = state.closure != Closure::Open;
            let consent = if closed { ConsentState::OptedOut } else { ConsentState::Unknown };
            let gate = grounds::address_gate(self.channel, number);
            say_on(tx, self.keys.practice(), gate, consent, state.position).await?;
        }
        Ok(records)
    }
}

/// What the gate of a number says. One that is closed without an entry that tells why stays so until START.
async fn number_on(tx: &Tx, gate: &recipient_gate::Model) -> Result<NumberState, StoreError> {
    if gate.consent != state_number(ConsentState::OptedOut) {
        return Ok(NumberState { position: gate.consent_seq, ..NumberState::default() });
    }
    let row = ledger::row_at_on(&tx.db, &gate.practice_id, gate.consent_seq).await?;
    let entry = row.as_ref().map(ledger::to_entry).transpose()?;
    let closed = entry.map(|entry| NumberState::default().after(&entry));
    let unknown = NumberState { closure: Closure::ByStop, position: gate.consent_seq, ..NumberState::default() };
    Ok(closed.filter(|state| state.closure != Closure::Open).unwrap_or(unknown))
}

/// Has a gate say what the entry at `position` says.
async fn say_on(
    tx: &Tx,
    practice: &str,
    gate: GateKey,
    consent: ConsentState,
    position: i64,
) -> Result<(), StoreError> {
    recipient_gate::Entity::update_many()
        .set(recipient_gate::ActiveModel {
            consent: Set(state_number(consent)),
            consent_seq: Set(position),
            ..Default::default()
        })
        .filter(recipient_gate::Column::PracticeId.eq(practice))
        .filter(recipient_gate::Column::Channel.eq(gate.channel))
        .filter(recipient_gate::Column::SubjectKind.eq(gate.kind))
        .filter(recipient_gate::Column::Subject.eq(gate.subject))
        .exec(&tx.db)
        .await?;
    Ok(())
}
