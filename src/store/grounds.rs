//! Loads everything that a decision rests on, for sending, for the check at claim and for previews alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder,
    QuerySelect, Select, sea_query::LockType,
};

use super::{
    Store, StoreError,
    choices::stored_choices,
    directory::stored_patient,
    entity::{patient, recipient_gate},
    preferences,
    rows::padded,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::domain::{
    Channel, ChannelSet, Choices, ConsentState, FailureReason, Gates, Grounds, Kind, Patient, PatientId, Practice,
    PracticeSettings, Scope, Stored, template::OwnWording,
};

/// The gate of a patient.
pub(super) const PATIENT: i16 = 1;
/// The gate of an address.
pub(super) const ADDRESS: i16 = 2;
/// So many gates are read by one statement, and so many are made by one: SQLite binds 32,766 values. One address may be that of a
/// whole practice's patients, and 500 patients are read at once.
const READ_AT_ONCE: usize = 4_000;
const MADE_AT_ONCE: usize = 1_000;

/// What is known of a patient and their practice at one moment.
#[derive(Clone, Debug)]
pub struct GroundsRow {
    /// The practice.
    pub practice: Arc<Practice>,
    /// Its settings.
    pub settings: Arc<PracticeSettings>,
    /// What it says in words of its own.
    pub own_wording: Arc<OwnWording>,
    /// The patient.
    pub patient: Patient,
    /// What the patient chose.
    pub choices: Stored<Choices>,
    /// Whether the patient registered a device for push.
    pub has_device: bool,
    /// The gates of each channel.
    pub gates: BTreeMap<Channel, Gates>,
    /// Regions that may be texted.
    pub sms_regions: Arc<[String]>,
    /// The moment.
    pub now: chrono::DateTime<chrono::Utc>,
}

impl GroundsRow {
    /// The grounds of a decision about something of `kind` (none: what staff write in a conversation) that goes to the patient at once, over whatever channels are
    /// effective, and does not expire. Whoever asks for something else says so.
    #[must_use]
    pub fn grounds(&self, kind: impl Into<Option<Kind>>) -> Grounds<'_> {
        Grounds {
            patient: &self.patient,
            choices: &self.choices.value,
            practice_zone: self.practice.time_zone,
            settings: &self.settings,
            has_device: self.has_device,
            kind: kind.into(),
            requested: None,
            urgent: false,
            test: false,
            gates: &self.gates,
            duplicates: ChannelSet::NONE,
            sms_regions: &self.sms_regions,
            not_before: self.now,
            expires_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
            now: self.now,
        }
    }
}

/// A patient, what they chose, and whether they have a device for push.
#[derive(Debug)]
pub(super) struct Recipient {
    pub(super) patient: Patient,
    pub(super) choices: Stored<Choices>,
    pub(super) has_device: bool,
}

impl Store {
    /// Loads the grounds of a decision about `patient`.
    ///
    /// # Errors
    /// NotFound when there is no such practice or no such patient in it.
    pub async fn grounds(&self, scope: &Scope, patient: &PatientId) -> Result<GroundsRow, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let mut rows = self.grounds_of(&self.within(scope), &keys, [patient.as_str().to_owned()]).await?;
        rows.remove(patient.as_str()).ok_or(StoreError::NotFound("patient"))
    }

    /// Loads the grounds of decisions about several patients, by id, in as many queries as for one; those that the practice
    /// does not have are left out.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn grounds_of_all(
        &self,
        scope: &Scope,
        patients: &[PatientId],
    ) -> Result<BTreeMap<String, GroundsRow>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        self.grounds_of(&self.within(scope), &keys, patients.iter().map(|id| id.as_str().to_owned())).await
    }

    /// The grounds of decisions about several patients of one practice; those that it does not have are left out.
    pub(super) async fn grounds_of(
        &self,
        db: &impl ConnectionTrait,
        keys: &PracticeKeys,
        patients: impl IntoIterator<Item = String>,
    ) -> Result<BTreeMap<String, GroundsRow>, StoreError> {
        self.grounds_for(db, keys, patients_on(db, keys, patients, false)).await
    }

    /// The grounds of decisions about whoever `readers` yields, each by the id that they have there.
    pub(super) async fn grounds_for(
        &self,
        db: &impl ConnectionTrait,
        keys: &PracticeKeys,
        readers: impl Future<Output = Result<BTreeMap<String, Recipient>, StoreError>>,
    ) -> Result<BTreeMap<String, GroundsRow>, StoreError> {
        let (home, patients, now) = tokio::try_join!(preferences::home_and_wording_on(db, keys), readers, self.now())?;
        let (practice, settings) = (Arc::new(home.0), Arc::new(home.1));
        let own_wording = self.own_wording(keys, home.2).await?;
        let gate_keys: Vec<GateKey> = patients
            .values()
            .flat_map(|one| Channel::ALL.into_iter().flat_map(|channel| gate_keys(keys, channel, &one.patient)))
            .collect();
        let gates = gates_on(db, keys.practice(), &gate_keys, false).await?;
        let row = |(id, Recipient { patient, choices, has_device })| {
            let gates = Channel::ALL.map(|channel| (channel, gates_of(&gates, keys, channel, &patient)));
            let row = GroundsRow {
                practice: Arc::clone(&practice),
                settings: Arc::clone(&settings),
                own_wording: Arc::clone(&own_wording),
                patient,
                choices,
                has_device,
                gates: gates.into(),
                sms_regions: Arc::clone(&self.inner.sms_regions),
                now,
            };
            (id, row)
        };
        Ok(patients.into_iter().map(row).collect())
    }
}

/// The key of a gate within a practice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GateKey {
    pub(super) channel: i16,
    pub(super) kind: i16,
    pub(super) subject: Vec<u8>,
}

/// The blind index of the address that `channel` would use; unset where it has none.
pub(super) fn address_index(keys: &PracticeKeys, channel: Channel, patient: &Patient) -> Option<Vec<u8>> {
    match channel {
        Channel::Email => patient.email.as_ref().map(|email| keys.email_index(email)),
        Channel::Sms => patient.mobile_phone.as_ref().map(|phone| keys.phone_index(phone)),
        Channel::InApp | Channel::Push => None,
    }
}

/// The gate of an address, named by its blind index.
pub(super) fn address_gate(channel: Channel, address: &[u8]) -> GateKey {
    GateKey { channel: channel.number(), kind: ADDRESS, subject: address.to_vec() }
}

/// The gate of a patient, named by their id.
pub(super) fn patient_gate(channel: Channel, patient: &str) -> GateKey {
    GateKey { channel: channel.number(), kind: PATIENT, subject: patient.as_bytes().to_vec() }
}

/// The patients of the practice who have an address.
pub(super) async fn holders_on(
    tx: &Tx,
    practice: &str,
    channel: Channel,
    address: &[u8],
) -> Result<BTreeSet<String>, StoreError> {
    let column = if channel == Channel::Sms { patient::Column::PhoneBi } else { patient::Column::EmailBi };
    let ids = patient::Entity::find()
        .select_only()
        .column(patient::Column::PatientId)
        .filter(patient::Column::PracticeId.eq(practice))
        .filter(column.eq(address.to_vec()))
        .into_tuple::<String>()
        .all(&tx.db)
        .await?;
    Ok(ids.into_iter().collect())
}

/// The gates that a message to `patient` over `channel` passes.
pub(super) fn gate_keys(keys: &PracticeKeys, channel: Channel, patient: &Patient) -> Vec<GateKey> {
    let address = address_index(keys, channel, patient);
    let address = address.map(|subject| GateKey { channel: channel.number(), kind: ADDRESS, subject });
    std::iter::once(patient_gate(channel, patient.id.as_str())).chain(address).collect()
}

/// Makes sure that each gate of each practice has a row, since only a row can be locked.
pub(super) async fn gates_insert_on(tx: &Tx, gates: BTreeSet<(String, GateKey)>) -> Result<(), StoreError> {
    let gates: Vec<_> = gates.into_iter().collect();
    for part in gates.chunks(MADE_AT_ONCE) {
        let rows = padded(part.iter().cloned()).into_iter().map(|(practice, gate)| recipient_gate::ActiveModel {
            practice_id: Set(practice),
            channel: Set(gate.channel),
            subject_kind: Set(gate.kind),
            subject: Set(gate.subject),
            consent: Set(0),
            consent_seq: Set(0),
            blocked_at: Set(None),
            block_reason: Set(None),
        });
        recipient_gate::Entity::insert_many(rows)
            .on_conflict_do_nothing_on([
                recipient_gate::Column::PracticeId,
                recipient_gate::Column::Channel,
                recipient_gate::Column::SubjectKind,
                recipient_gate::Column::Subject,
            ])
            .exec_without_returning(&tx.db)
            .await?;
    }
    Ok(())
}

/// Reads the gates in the order of their keys, with a shared lock if wanted: it waits for an opt-out that is committing.
pub(super) async fn gates_on(
    db: &impl ConnectionTrait,
    practice: &str,
    gates: &[GateKey],
    lock: bool,
) -> Result<Vec<recipient_gate::Model>, StoreError> {
    let gates: Vec<_> = gates.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let mut rows = Vec::new();
    for part in gates.chunks(READ_AT_ONCE) {
        let query = gates_query(practice, part);
        let query = if lock { query.lock(LockType::Share) } else { query };
        rows.extend(query.all(db).await?);
    }
    Ok(rows)
}

/// Takes the gates in the order of their keys, each with its row, for whoever changes what they say. A claim that holds one of
/// them is waited for, and what is yielded is as of then.
pub(super) async fn gates_take_on(
    tx: &Tx,
    practice: &str,
    gates: &[GateKey],
) -> Result<Vec<recipient_gate::Model>, StoreError> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    gates_insert_on(tx, gates.iter().map(|gate| (practice.to_owned(), gate.clone())).collect()).await?;
    Ok(gates_query(practice, gates).lock(LockType::Update).all(&tx.db).await?)
}

fn gates_query(practice: &str, gates: &[GateKey]) -> Select<recipient_gate::Entity> {
    use recipient_gate::Column::{Channel, Subject, SubjectKind};
    // Channel by channel: those of another are none of this caller's business, and whoever holds them is not waited for.
    let mut subjects = BTreeMap::<_, BTreeSet<_>>::new();
    for gate in gates {
        subjects.entry((gate.channel, gate.kind)).or_default().insert(gate.subject.clone());
    }
    // What all arms have together is said beside them. By the arms alone SQLite would walk over all gates of the practice.
    let channels: BTreeSet<_> = subjects.keys().map(|(channel, _)| *channel).collect();
    let kinds: BTreeSet<_> = subjects.keys().map(|(_, kind)| *kind).collect();
    let all: BTreeSet<_> = gates.iter().map(|gate| gate.subject.clone()).collect();
    let arms = subjects.into_iter().fold(Condition::any(), |any, ((channel, kind), subjects)| {
        any.add(Channel.eq(channel).and(SubjectKind.eq(kind)).and(Subject.is_in(padded(subjects))))
    });
    recipient_gate::Entity::find()
        .filter(recipient_gate::Column::PracticeId.eq(practice))
        .filter(Channel.is_in(channels))
        .filter(SubjectKind.is_in(kinds))
        .filter(Subject.is_in(padded(all)))
        .filter(arms)
        .order_by_asc(recipient_gate::Column::Channel)
        .order_by_asc(recipient_gate::Column::SubjectKind)
        .order_by_asc(recipient_gate::Column::Subject)
}

fn consent(row: &recipient_gate::Model) -> ConsentState {
    match row.consent {
        1 => ConsentState::OptedIn,
        2 => ConsentState::OptedOut,
        _ => ConsentState::Unknown,
    }
}

/// Whether a gate was opted out.
pub(super) fn is_opted_out(row: &recipient_gate::Model) -> bool {
    consent(row) == ConsentState::OptedOut
}

/// Whether a gate lets nothing through.
pub(super) fn is_shut(row: &recipient_gate::Model) -> bool {
    is_opted_out(row) || row.blocked_at.is_some()
}

/// What the rows, in the order of their keys, say about one patient and channel.
pub(super) fn gates_of(
    rows: &[recipient_gate::Model],
    keys: &PracticeKeys,
    channel: Channel,
    patient: &Patient,
) -> Gates {
    let find = |kind: i16, subject: &[u8]| row_of(rows, (channel.number(), kind, subject));
    let address = address_index(keys, channel, patient);
    let address = address.as_deref().and_then(|subject| find(ADDRESS, subject));
    Gates {
        patient: find(PATIENT, patient.id.as_str().as_bytes()).map(consent).unwrap_or_default(),
        address: address.map(consent).unwrap_or_default(),
        suppressed: address.and_then(suppressed),
    }
}

/// Whether one of the gates is opted out, by the rows in the order of their keys.
pub(super) fn any_opted_out<'a>(rows: &[recipient_gate::Model], mut gates: impl Iterator<Item = &'a GateKey>) -> bool {
    gates.any(|gate| row_of(rows, (gate.channel, gate.kind, &gate.subject)).is_some_and(is_opted_out))
}

/// The row of a gate, among rows in the order of their keys.
fn row_of<'a>(rows: &'a [recipient_gate::Model], key: (i16, i16, &[u8])) -> Option<&'a recipient_gate::Model> {
    let place = rows.binary_search_by(|row| (row.channel, row.subject_kind, row.subject.as_slice()).cmp(&key));
    place.ok().and_then(|place| rows.get(place))
}

/// Why nothing goes to the address any more.
fn suppressed(row: &recipient_gate::Model) -> Option<FailureReason> {
    row.blocked_at.map(|_| row.block_reason.and_then(FailureReason::from_number).unwrap_or(FailureReason::Other))
}

/// Loads the patients with these ids and what they chose, in their order; those that are gone are left out. With a shared lock,
/// if wanted, they stay as they are until COMMIT.
pub(super) async fn patients_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    ids: impl IntoIterator<Item = String>,
    lock: bool,
) -> Result<BTreeMap<String, Recipient>, StoreError> {
    let mut query = patient::Entity::find()
        .filter(patient::Column::PracticeId.eq(keys.practice()))
        .filter(patient::Column::PatientId.is_in(padded(ids)))
        .order_by_asc(patient::Column::PatientId);
    if lock {
        query = query.lock(LockType::Share);
    }
    let rows = query.all(db).await?;
    rows.into_iter()
        .map(|row| {
            let patient = stored_patient(keys, &row, BTreeSet::new())?.value;
            let choices = stored_choices(&row)?;
            let has_device = row.push_devices > 0;
            Ok((row.patient_id, Recipient { patient, choices, has_device }))
        })
        .collect()
}
