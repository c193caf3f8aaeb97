//! The consent ledger of a practice: numbered without gaps, and chained, so that no entry can be changed, moved or left out
//! unseen. The head row that numbers it is locked until COMMIT. What is chained is the ciphertext of names and evidence: when
//! the key to those is destroyed, the chain still holds.

use std::{collections::BTreeMap, fmt, mem};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError,
    chain::{framed, mac_of, micros, seal},
    entity::{consent_head, consent_ledger},
    rows::padded,
    subjects,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::{
    crypto::{base64url, from_base64url},
    domain::{
        ActorType, Author, Channel, ConsentEntry, ConsentRecord, ConsentSource, ConsentState, PatientId, Phi, Scope,
    },
};

const TABLE: &str = "consent_ledger";
const BODY: Sealed = Sealed { table: TABLE, column: "body_ct" };
const PERSONAL: Sealed = Sealed { table: TABLE, column: "personal" };

/// What of an entry is sealed: who decided stays with the ledger, as long as the practice does.
#[derive(Serialize, Deserialize)]
struct Body {
    author_type: i16,
    author_id: String,
    /// Empty where it is the patient's.
    author_name: String,
    address_hint: String,
    evidence: String,
    /// What goes with the patient: [`Personal`], sealed with their key; empty where it is nobody's, and then it is above.
    #[serde(default)]
    personal: String,
}

/// What of an entry tells of the patient.
#[derive(Default, Serialize, Deserialize)]
struct Personal {
    author_name: String,
    address_hint: String,
    evidence: String,
}

/// An entry before it has its place.
#[derive(Clone)]
pub(super) struct NewEntry {
    pub(super) id: Uuid,
    pub(super) patient: Option<PatientId>,
    pub(super) channel: Channel,
    pub(super) state: ConsentState,
    pub(super) source: ConsentSource,
    pub(super) address: Option<Vec<u8>>,
    pub(super) address_hint: String,
    pub(super) effective_time: DateTime<Utc>,
    pub(super) evidence: Phi<String>,
}

impl fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEntry").field("channel", &self.channel).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Locks the head of the practice's ledger.
pub(super) async fn head_on(tx: &Tx, practice: &str) -> Result<consent_head::Model, StoreError> {
    let head = consent_head::Entity::find_by_id(practice).lock_exclusive().one(&tx.db).await?;
    head.ok_or(StoreError::NotFound("practice"))
}

/// Adds entries in their order. Comes after the gates, and before the feed.
pub(super) async fn append_on(
    tx: &Tx,
    keys: &PracticeKeys,
    author: &Author,
    entries: Vec<NewEntry>,
) -> Result<Vec<ConsentRecord>, StoreError> {
    let head = head_on(tx, keys.practice()).await?;
    let (mut seq, mut mac) = (head.seq, mac_of(TABLE, &head.mac)?);
    let owners = entries.iter().filter_map(|entry| entry.patient.as_ref());
    let keys = subjects::take_on(tx, keys, owners.map(|id| subjects::of_patient(id.as_str()))).await?;
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        seq += 1;
        let mut row = row(&keys, author, entry, seq, tx.now)?;
        mac = keys.consent_chain().link(&mac, &chained(&row));
        row.mac = mac.to_vec();
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let records = records_on(&tx.db, &keys, &rows).await?;
    tx.insert_all(rows).await?;
    let mut head = head.into_active_model();
    head.seq = Set(seq);
    head.mac = Set(mac.to_vec());
    head.seal = Set(Some(seal(keys.consent_chain(), seq, &mac)));
    head.update(&tx.db).await?;
    Ok(records)
}

fn row(
    keys: &PracticeKeys,
    author: &Author,
    entry: NewEntry,
    seq: i64,
    now: DateTime<Utc>,
) -> Result<consent_ledger::Model, StoreError> {
    let own_name = author.kind == ActorType::Patient;
    let mut body = Body {
        author_type: author.kind as i16,
        author_id: author.id.clone(),
        author_name: author.display_name.clone(),
        address_hint: entry.address_hint,
        evidence: entry.evidence.expose().clone(),
        personal: String::new(),
    };
    // Of a number that is nobody's, and of somebody who is erased at this moment, there is no key.
    let owner = entry.patient.as_ref().map(|id| subjects::of_patient(id.as_str()));
    if let Some(owner) = owner.filter(|owner| keys.has(owner)) {
        let personal = Personal {
            author_name: if own_name { mem::take(&mut body.author_name) } else { String::new() },
            address_hint: mem::take(&mut body.address_hint),
            evidence: mem::take(&mut body.evidence),
        };
        body.personal = base64url(&keys.seal_of(&owner, PERSONAL, entry.id.as_bytes(), &personal)?);
    }
    let body_ct = keys.seal(BODY, entry.id.as_bytes(), &body)?;
    Ok(consent_ledger::Model {
        practice_id: keys.practice().to_owned(),
        seq,
        patient_id: entry.patient.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        channel: entry.channel.number(),
        address_bi: entry.address,
        state: state_number(entry.state),
        source: entry.source.number(),
        effective_at: entry.effective_time,
        at: now,
        body_ct,
        mac: Vec::new(),
        id: entry.id,
    })
}

/// Everything of a row that its MAC covers: all but the MAC itself.
pub(super) fn chained(row: &consent_ledger::Model) -> Vec<u8> {
    let consent_ledger::Model {
        practice_id,
        seq,
        patient_id,
        channel,
        address_bi,
        state,
        source,
        effective_at,
        at,
        body_ct,
        id,
        mac: _,
    } = row;
    let parts: [&[u8]; 11] = [
        practice_id.as_bytes(),
        &seq.to_be_bytes(),
        id.as_bytes(),
        patient_id.as_bytes(),
        &channel.to_be_bytes(),
        address_bi.as_deref().unwrap_or_default(),
        &state.to_be_bytes(),
        &source.to_be_bytes(),
        &micros(*effective_at),
        &micros(*at),
        body_ct,
    ];
    framed(u8::from(address_bi.is_some()), &parts)
}

pub(super) const fn state_number(state: ConsentState) -> i16 {
    match state {
        ConsentState::Unknown => 0,
        ConsentState::OptedIn => 1,
        ConsentState::OptedOut => 2,
    }
}

/// What of an entry decides.
pub(super) fn to_entry(row: &consent_ledger::Model) -> Result<ConsentEntry, StoreError> {
    let corrupt = || StoreError::Corrupt(TABLE);
    let state = match row.state {
        1 => ConsentState::OptedIn,
        2 => ConsentState::OptedOut,
        _ => return Err(corrupt()),
    };
    let patient = (!row.patient_id.is_empty()).then(|| row.patient_id.parse().map_err(|_| corrupt())).transpose()?;
    Ok(ConsentEntry {
        position: row.seq,
        patient,
        channel: Channel::from_number(row.channel).ok_or_else(corrupt)?,
        state,
        source: ConsentSource::from_number(row.source).ok_or_else(corrupt)?,
        address: row.address_bi.clone(),
        effective_time: row.effective_at,
    })
}

/// All that is on record of an entry.
pub(super) async fn record_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    row: &consent_ledger::Model,
) -> Result<ConsentRecord, StoreError> {
    let record = records_on(db, keys, std::slice::from_ref(row)).await?.pop();
    record.ok_or(StoreError::Corrupt(TABLE))
}

/// All that is on record of entries, in their order. What tells of a patient is gone with one who was erased.
async fn records_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    rows: &[consent_ledger::Model],
) -> Result<Vec<ConsentRecord>, StoreError> {
    let mut bodies = Vec::with_capacity(rows.len());
    for row in rows {
        let body: Body = keys.open(BODY, row.id.as_bytes(), &row.body_ct)?;
        let personal = from_base64url(&body.personal).ok_or(StoreError::Corrupt(TABLE))?;
        bodies.push((body, personal));
    }
    let keys = subjects::opening(db, keys, bodies.iter().map(|(_, personal)| personal.as_slice())).await?;
    let records = rows.iter().zip(bodies).map(|(row, (mut body, personal))| {
        if !personal.is_empty() {
            let told: Option<Personal> = keys.open_if_kept(PERSONAL, row.id.as_bytes(), &personal)?;
            let Personal { author_name, address_hint, evidence } = told.unwrap_or_default();
            body.author_name += &author_name;
            (body.address_hint, body.evidence) = (address_hint, evidence);
        }
        to_record(row, body)
    });
    records.collect()
}

fn to_record(row: &consent_ledger::Model, body: Body) -> Result<ConsentRecord, StoreError> {
    Ok(ConsentRecord {
        entry: to_entry(row)?,
        record_time: row.at,
        author: Author {
            kind: ActorType::from_number(body.author_type).ok_or(StoreError::Corrupt(TABLE))?,
            id: body.author_id,
            display_name: body.author_name,
        },
        address_hint: body.address_hint,
        evidence: Phi::new(body.evidence),
        hash: mac_of(TABLE, &row.mac)?,
    })
}

/// The entries of patients for one channel, by patient.
pub(super) async fn entries_on(
    db: &impl ConnectionTrait,
    practice: &str,
    channel: Channel,
    patients: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, Vec<ConsentEntry>>, StoreError> {
    let rows = consent_ledger::Entity::find()
        .filter(consent_ledger::Column::PracticeId.eq(practice))
        .filter(consent_ledger::Column::PatientId.is_in(padded(patients)))
        .filter(consent_ledger::Column::Channel.eq(channel.number()))
        .all(db)
        .await?;
    let mut entries = BTreeMap::<String, Vec<ConsentEntry>>::new();
    for row in rows {
        let entry = to_entry(&row)?;
        entries.entry(row.patient_id).or_default().push(entry);
    }
    Ok(entries)
}

/// All entries of a patient.
pub(super) async fn rows_of_on(
    db: &impl ConnectionTrait,
    practice: &str,
    patient: &PatientId,
) -> Result<Vec<consent_ledger::Model>, StoreError> {
    let rows = consent_ledger::Entity::find()
        .filter(consent_ledger::Column::PracticeId.eq(practice))
        .filter(consent_ledger::Column::PatientId.eq(patient.as_str()))
        .all(db)
        .await?;
    Ok(rows)
}

/// The entry at a position.
pub(super) async fn row_at_on(
    db: &impl ConnectionTrait,
    practice: &str,
    position: i64,
) -> Result<Option<consent_ledger::Model>, StoreError> {
    Ok(consent_ledger::Entity::find_by_id((practice.to_owned(), position)).one(db).await?)
}

/// The entry with that id.
pub(super) async fn row_of_on(
    db: &impl ConnectionTrait,
    practice: &str,
    id: Uuid,
) -> Result<Option<consent_ledger::Model>, StoreError> {
    let row = consent_ledger::Entity::find()
        .filter(consent_ledger::Column::Id.eq(id))
        .filter(consent_ledger::Column::PracticeId.eq(practice))
        .one(db)
        .await?;
    Ok(row)
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct ConsentQuery {
    /// Of this patient; unset: the whole ledger.
    pub patient: Option<PatientId>,
    /// Of these channels; empty: of all.
    pub channels: Vec<Channel>,
    /// Before this position; unset: from the newest.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u64,
}

/// A page of entries, newest first.
#[derive(Debug)]
pub struct ConsentPage {
    /// The entries.
    pub records: Vec<ConsentRecord>,
    /// Set when there may be more.
    pub next: Option<i64>,
}

impl Store {
    /// Lists entries of the ledger, newest first.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn consent_list(&self, scope: &Scope, query: &ConsentQuery) -> Result<ConsentPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let mut rows = consent_ledger::Entity::find()
            .filter(consent_ledger::Column::PracticeId.eq(keys.practice()))
            .order_by_desc(consent_ledger::Column::Seq)
            .limit(query.limit + 1);
        if let Some(patient) = &query.patient {
            rows = rows.filter(consent_ledger::Column::PatientId.eq(patient.as_str()));
        }
        if !query.channels.is_empty() {
            let channels = query.channels.iter().map(|channel| channel.number());
            rows = rows.filter(consent_ledger::Column::Channel.is_in(channels));
        }
        if let Some(before) = query.before {
            rows = rows.filter(consent_ledger::Column::Seq.lt(before));
        }
        let mut rows = rows.all(&self.within(scope)).await?;
        let more = rows.len() as u64 > query.limit;
        rows.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        let next = if more { rows.last().map(|row| row.seq) } else { None };
        let records = records_on(&self.within(scope), &keys, &rows).await?;
        Ok(ConsentPage { records, next })
    }
}
