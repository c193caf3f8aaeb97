//! Practices and patients.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, TryInsertResult,
};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError, audit, chain, consent,
    draft::{Draft, save_all_on},
    entity::{audit_head, consent_head, feed_head, patient, patient_tag, practice, recipient_gate},
    tx::Tx,
    vault::{PracticeKeys, Sealed, Vault},
};
use crate::{
    crypto::{ChainKey, GENESIS},
    domain::{
        Author, Channel, EmailAddress, Patient, PatientId, Phi, PhoneNumber, Practice, PracticeId, Scope, Stored,
    },
};

/// Names and addresses of a patient, as they are sealed.
#[derive(Serialize, Deserialize, PartialEq, Eq)]
struct Contact {
    first_name: String,
    last_name: String,
    email: String,
    phone: String,
}

const CONTACT: Sealed = Sealed { table: "patient", column: "contact_ct" };
/// Searching by name opens each patient of the practice; beyond this many it stops.
const NAME_SEARCH_LIMIT: u64 = 20_000;

/// Which patients are asked for.
#[derive(Clone, Debug, Default)]
pub struct PatientQuery {
    /// Exact id, email or phone, or the beginning of a name; empty: any.
    pub text: Phi<String>,
    /// The text as a mailbox, if it is one.
    pub email: Option<EmailAddress>,
    /// The text as a number, if it is one.
    pub phone: Option<PhoneNumber>,
    /// Has all of these.
    pub tags: BTreeSet<String>,
    /// After this patient.
    pub after: Option<PatientId>,
    /// At most this many.
    pub limit: u64,
}

/// A page of patients, by id.
#[derive(Debug)]
pub struct PatientPage {
    /// The patients.
    pub patients: Vec<Stored<Patient>>,
    /// Set when there may be more.
    pub next: Option<PatientId>,
}

impl Store {
    /// Stores a practice, replacing what was there. `expected` refuses when the stored revision differs.
    ///
    /// # Errors
    /// Conflict when `expected` differs, or when another writer brings the same new practice at the same moment.
    pub async fn practice_put(
        &self,
        scope: &Scope,
        value: Practice,
        expected: Option<i64>,
    ) -> Result<Stored<Practice>, StoreError> {
        let (scope, id) = (scope.clone(), scope.practice().clone());
        let store = self.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let known = practice::Entity::find_by_id(id.as_str()).lock_exclusive().one(&tx.db).await?;
                let current = known.as_ref().map_or(0, |row| row.revision);
                if expected.is_some_and(|expected| expected != current) {
                    return Err(StoreError::Conflict { current });
                }
                let row = practice::Model {
                    practice_id: id.as_str().to_owned(),
                    legal_name: value.legal_name.clone(),
                    display_name: value.display_name.clone(),
                    phone: value.phone.as_ref().map(|phone| phone.e164().to_owned()).unwrap_or_default(),
                    time_zone: value.time_zone.name().to_owned(),
                    locale: value.locale.clone(),
                    portal_url: value.portal_url.clone().unwrap_or_default(),
                    postal_address: value.postal_address.clone(),
                    update_time: tx.now,
                    revision: current + 1,
                    wording_revision: known.as_ref().map_or(0, |row| row.wording_revision),
                };
                match known {
                    // A repeat changes nothing, its etag included.
                    Some(known) if same_practice(&known, &row) => return stored_practice(known),
                    Some(_) => {
                        row.clone().into_active_model().reset_all().update(&tx.db).await?;
                        tx.note(&scope, None, "practice");
                    }
                    None => {
                        let taken = practice::Entity::insert(row.clone().into_active_model())
                            .on_conflict_do_nothing_on([practice::Column::PracticeId])
                            .exec_without_returning(&tx.db)
                            .await?;
                        if !matches!(taken, TryInsertResult::Inserted(1..)) {
                            // Another writer brought the same new practice at this very moment.
                            return Err(StoreError::Conflict { current: 1 });
                        }
                        let key = store.inner.vault.mint(&id, tx.now);
                        super::entity::data_key::Entity::insert(key).exec_without_returning(&tx.db).await?;
                        insert_heads_on(tx, &store.inner.vault, &id).await?;
                        let keys = store.inner.vault.load(&tx.db, &id).await?;
                        audit::begin_on(tx, &keys, &id, scope.audit(None, "practice".to_owned())).await?;
                    }
                }
                Ok(Stored { value, update_time: row.update_time, revision: row.revision })
            })
        })
        .await
    }

    /// Reads a practice.
    ///
    /// # Errors
    /// NotFound when there is none.
    pub async fn practice_get(&self, scope: &Scope) -> Result<Stored<Practice>, StoreError> {
        let row = practice::Entity::find_by_id(scope.practice().as_str()).one(&self.within(scope)).await?;
        stored_practice(row.ok_or(StoreError::NotFound("practice"))?)
    }

    /// Stores patients, replacing what was there: all or none. Says how many were new and how many differed.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn patients_put(&self, scope: &Scope, mut patients: Vec<Patient>) -> Result<(i32, i32), StoreError> {
        // New rows are inserted in one order too, so that two imports of the same patients cannot wait for each other.
        patients.sort_by(|one, other| one.id.cmp(&other.id));
        let (scope, id) = (scope.clone(), scope.practice().clone());
        let keys = self.keys(&id).await?;
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let ids = patients.iter().map(|patient| patient.id.as_str());
                // Locked in one order, so that two writers of the same patients cannot wait for each other.
                let known = patient::Entity::find()
                    .filter(patient::Column::PracticeId.eq(id.as_str()))
                    .filter(patient::Column::PatientId.is_in(ids.clone()))
                    .order_by_asc(patient::Column::PatientId)
                    .lock_exclusive()
                    .all(&tx.db)
                    .await?;
                let tags = patient_tag::Entity::find()
                    .filter(patient_tag::Column::PracticeId.eq(id.as_str()))
                    .filter(patient_tag::Column::PatientId.is_in(ids))
                    .all(&tx.db)
                    .await?;
                let mut known_tags = BTreeMap::<String, BTreeSet<String>>::new();
                for tag in tags {
                    known_tags.entry(tag.patient_id).or_default().insert(tag.tag);
                }
                let known: BTreeMap<_, _> = known.into_iter().map(|row| (row.patient_id.clone(), row)).collect();
                let (mut created, mut updated) = (0, 0);
                let (mut entered, mut given) = (BTreeSet::new(), Vec::new());
                for patient in &patients {
                    let before = known.get(patient.id.as_str());
                    let tags = known_tags.remove(patient.id.as_str()).unwrap_or_default();
                    match before {
                        None => created += 1,
                        Some(row) if to_patient(&keys, row, tags.clone())? == *patient => continue,
                        Some(_) => updated += 1,
                    }
                    tx.note(&scope, Some(&patient.id), format_args!("patient/{}", patient.id));
                    let addresses = patient_put_on(tx, &keys, patient, before).await?;
                    if let Some(number) = &patient.mobile_phone
                        && addresses.iter().any(|(channel, _)| *channel == Channel::Sms.number())
                    {
                        given.push((patient.id.clone(), number.clone()));
                    }
                    entered.extend(addresses);
                    if tags != patient.tags {
                        tags_put_on(tx, id.as_str(), patient).await?;
                    }
                }
                // Gates are locked in the order of their keys, as a claim does that covers the same patients.
                let texted = entered.split_off(&(Channel::Sms.number(), Vec::new()));
                unblock_on(tx, id.as_str(), entered).await?;
                let skipped = consent::inherit_on(tx, &keys, scope.author(), &given).await?;
                unblock_on(tx, id.as_str(), texted).await?;
                save_all_on(tx, skipped).await?;
                Ok((created, updated))
            })
        })
        .await
    }

    /// Reads a patient.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn patient_get(&self, scope: &Scope, id: &PatientId) -> Result<Stored<Patient>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let key = (scope.practice().as_str().to_owned(), id.as_str().to_owned());
        let row =
            patient::Entity::find_by_id(key).one(&self.within(scope)).await?.ok_or(StoreError::NotFound("patient"))?;
        let tags = self.tags(scope, [row.patient_id.clone()]).await?.remove(id.as_str()).unwrap_or_default();
        stored_patient(&keys, &row, tags)
    }

    /// Finds patients, by id.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn patients_list(&self, scope: &Scope, query: PatientQuery) -> Result<PatientPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let mut rows = patient::Entity::find()
            .filter(patient::Column::PracticeId.eq(scope.practice().as_str()))
            .order_by_asc(patient::Column::PatientId);
        for tag in &query.tags {
            let tagged = patient_tag::Entity::find()
                .select_only()
                .column(patient_tag::Column::PatientId)
                .filter(patient_tag::Column::PracticeId.eq(scope.practice().as_str()))
                .filter(patient_tag::Column::Tag.eq(tag));
            rows = rows.filter(patient::Column::PatientId.in_subquery(sea_orm::QueryTrait::into_query(tagged)));
        }
        if let Some(after) = &query.after {
            rows = rows.filter(patient::Column::PatientId.gt(after.as_str()));
        }
        let text = query.text.expose().trim();
        let by_name = !text.is_empty() && query.email.is_none() && query.phone.is_none();
        if let Some(email) = &query.email {
            rows = rows.filter(patient::Column::EmailBi.eq(keys.email_index(email)));
        } else if let Some(phone) = &query.phone {
            rows = rows.filter(patient::Column::PhoneBi.eq(keys.phone_index(phone)));
        }
        let rows =
            rows.limit(if by_name { NAME_SEARCH_LIMIT } else { query.limit + 1 }).all(&self.within(scope)).await?;
        let start = text.to_lowercase();
        let mut found = Vec::new();
        for row in rows {
            let patient = stored_patient(&keys, &row, BTreeSet::new())?;
            if !by_name || row.patient_id == text || has_name(&patient.value, &start) {
                found.push(patient);
            }
            if found.len() as u64 > query.limit {
                break;
            }
        }
        let more = found.len() as u64 > query.limit;
        found.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        let mut tags = self.tags(scope, found.iter().map(|patient| patient.value.id.as_str().to_owned())).await?;
        for patient in &mut found {
            patient.value.tags = tags.remove(patient.value.id.as_str()).unwrap_or_default();
        }
        let next = if more { found.last().map(|patient| patient.value.id.clone()) } else { None };
        Ok(PatientPage { patients: found, next })
    }

    async fn tags(
        &self,
        scope: &Scope,
        ids: impl IntoIterator<Item = String>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, StoreError> {
        let rows = patient_tag::Entity::find()
            .filter(patient_tag::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(patient_tag::Column::PatientId.is_in(ids))
            .all(&self.within(scope))
            .await?;
        let mut tags = BTreeMap::<String, BTreeSet<String>>::new();
        for row in rows {
            tags.entry(row.patient_id).or_default().insert(row.tag);
        }
        Ok(tags)
    }
}

/// Locks a patient, and puts a number into their record, with the opt-out that it may carry. Yields what that stopped.
pub(super) async fn number_put_on(
    tx: &Tx,
    keys: &PracticeKeys,
    author: &Author,
    id: &PatientId,
    number: Option<PhoneNumber>,
) -> Result<Vec<Draft>, StoreError> {
    let key = (keys.practice().to_owned(), id.as_str().to_owned());
    let row = patient::Entity::find_by_id(key).lock_exclusive().one(&tx.db).await?;
    let row = row.ok_or(StoreError::NotFound("patient"))?;
    let Some(number) = number else { return Ok(Vec::new()) };
    // Tags are kept beside the record, and are not written here.
    let mut patient = to_patient(keys, &row, BTreeSet::new())?;
    if patient.mobile_phone.as_ref() == Some(&number) {
        return Ok(Vec::new());
    }
    patient.mobile_phone = Some(number.clone());
    let entered = patient_put_on(tx, keys, &patient, Some(&row)).await?;
    let skipped = consent::inherit_on(tx, keys, author, &[(id.clone(), number)]).await?;
    unblock_on(tx, keys.practice(), entered.into_iter().collect()).await?;
    Ok(skipped)
}

fn has_name(patient: &Patient, start: &str) -> bool {
    let begins = |name: &Phi<String>| name.expose().to_lowercase().starts_with(start);
    begins(&patient.first_name) || begins(&patient.last_name)
}

/// The rows on which a practice's feed, ledger and trail are numbered exist before anything is numbered.
async fn insert_heads_on(tx: &Tx, vault: &Vault, practice: &PracticeId) -> Result<(), StoreError> {
    let id = || Set(practice.as_str().to_owned());
    let seal = |chain: &ChainKey| Set(Some(chain::seal(chain, 0, &GENESIS)));
    let feed = feed_head::ActiveModel {
        practice_id: id(),
        seq: Set(0),
        open0: Set(0),
        open1: Set(0),
        open2: Set(0),
        text_day: Set(0),
        text_segments: Set(0),
    };
    feed_head::Entity::insert(feed).exec_without_returning(&tx.db).await?;
    let chains = vault.chains(practice);
    let (mac, sealed) = (|| Set(Vec::new()), seal(&chains.consent));
    let consent = consent_head::ActiveModel { practice_id: id(), seq: Set(0), mac: mac(), seal: sealed };
    consent_head::Entity::insert(consent).exec_without_returning(&tx.db).await?;
    let sealed = seal(&chains.audit);
    let audit = audit_head::ActiveModel { practice_id: id(), seq: Set(0), mac: mac(), seal: sealed };
    audit_head::Entity::insert(audit).exec_without_returning(&tx.db).await?;
    Ok(())
}

fn same_practice(known: &practice::Model, new: &practice::Model) -> bool {
    practice::Model { update_time: known.update_time, revision: known.revision, ..new.clone() } == *known
}

pub(super) fn stored_practice(row: practice::Model) -> Result<Stored<Practice>, StoreError> {
    let value = Practice {
        legal_name: row.legal_name,
        display_name: row.display_name,
        phone: (!row.phone.is_empty()).then(|| PhoneNumber::from_trusted(row.phone)),
        time_zone: row.time_zone.parse().map_err(|_| StoreError::Corrupt("practice"))?,
        locale: row.locale,
        portal_url: (!row.portal_url.is_empty()).then_some(row.portal_url),
        postal_address: row.postal_address,
    };
    Ok(Stored { value, update_time: row.update_time, revision: row.revision })
}

pub(super) fn stored_patient(
    keys: &PracticeKeys,
    row: &patient::Model,
    tags: BTreeSet<String>,
) -> Result<Stored<Patient>, StoreError> {
    Ok(Stored { value: to_patient(keys, row, tags)?, update_time: row.update_time, revision: row.revision })
}

fn to_patient(keys: &PracticeKeys, row: &patient::Model, tags: BTreeSet<String>) -> Result<Patient, StoreError> {
    let corrupt = || StoreError::Corrupt("patient");
    let contact: Contact = keys.open(CONTACT, row.patient_id.as_bytes(), &row.contact_ct)?;
    let zone = |name: &str| name.parse::<Tz>().map_err(|_| corrupt());
    Ok(Patient {
        id: row.patient_id.parse().map_err(|_| corrupt())?,
        first_name: Phi::new(contact.first_name),
        last_name: Phi::new(contact.last_name),
        email: (!contact.email.is_empty()).then(|| EmailAddress::from_trusted(contact.email)),
        mobile_phone: (!contact.phone.is_empty()).then(|| PhoneNumber::from_trusted(contact.phone)),
        locale: (!row.locale.is_empty()).then(|| row.locale.clone()),
        time_zone: if row.time_zone.is_empty() { None } else { Some(zone(&row.time_zone)?) },
        portal_enabled: row.portal_enabled,
        inactive: row.inactive,
        tags,
    })
}

/// Writes a patient. Yields the addresses that were entered anew, by channel.
async fn patient_put_on(
    tx: &Tx,
    keys: &PracticeKeys,
    patient: &Patient,
    before: Option<&patient::Model>,
) -> Result<Vec<(i16, Vec<u8>)>, StoreError> {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let contact = Contact {
        first_name: patient.first_name.expose().clone(),
        last_name: patient.last_name.expose().clone(),
        email: text(patient.email.as_ref().map(EmailAddress::as_str)),
        phone: text(patient.mobile_phone.as_ref().map(PhoneNumber::e164)),
    };
    let row = patient::Model {
        practice_id: keys.practice().to_owned(),
        patient_id: patient.id.as_str().to_owned(),
        contact_ct: keys.seal(CONTACT, patient.id.as_str().as_bytes(), &contact)?,
        email_bi: patient.email.as_ref().map(|email| keys.email_index(email)),
        phone_bi: patient.mobile_phone.as_ref().map(|phone| keys.phone_index(phone)),
        locale: text(patient.locale.as_deref()),
        time_zone: text(patient.time_zone.map(Tz::name)),
        portal_enabled: patient.portal_enabled,
        inactive: patient.inactive,
        update_time: tx.now,
        revision: before.map_or(0, |row| row.revision) + 1,
        // The directory describes the patient; what they chose and registered is theirs, and stays.
        choices: before.map(|row| row.choices.clone()).unwrap_or_default(),
        choices_time: before.and_then(|row| row.choices_time),
        choices_revision: before.map_or(0, |row| row.choices_revision),
        push_devices: before.map_or(0, |row| row.push_devices),
    };
    let addresses = [
        (Channel::Email, &row.email_bi, before.and_then(|row| row.email_bi.as_ref())),
        (Channel::Sms, &row.phone_bi, before.and_then(|row| row.phone_bi.as_ref())),
    ];
    let entered = addresses.into_iter().filter_map(|(channel, address, before)| {
        let address = address.as_ref().filter(|address| Some(*address) != before)?;
        Some((channel.number(), address.clone()))
    });
    let entered = entered.collect();
    let row = row.into_active_model();
    match before {
        Some(_) => drop(row.reset_all().update(&tx.db).await?),
        None => {
            let key = [patient::Column::PracticeId, patient::Column::PatientId];
            let taken =
                patient::Entity::insert(row).on_conflict_do_nothing_on(key).exec_without_returning(&tx.db).await?;
            if !matches!(taken, TryInsertResult::Inserted(1..)) {
                // Another writer brought the same new patient at this very moment.
                return Err(StoreError::Conflict { current: 1 });
            }
        }
    }
    Ok(entered)
}

async fn tags_put_on(tx: &Tx, practice: &str, patient: &Patient) -> Result<(), StoreError> {
    patient_tag::Entity::delete_many()
        .filter(patient_tag::Column::PracticeId.eq(practice))
        .filter(patient_tag::Column::PatientId.eq(patient.id.as_str()))
        .exec(&tx.db)
        .await?;
    let rows = patient.tags.iter().map(|tag| patient_tag::ActiveModel {
        practice_id: Set(practice.to_owned()),
        tag: Set(tag.clone()),
        patient_id: Set(patient.id.as_str().to_owned()),
    });
    patient_tag::Entity::insert_many(rows).exec_without_returning(&tx.db).await?;
    Ok(())
}

/// Addresses that were entered anew are tried again, though they failed for good before. No opt-out is lifted by this.
async fn unblock_on(tx: &Tx, practice: &str, addresses: BTreeSet<(i16, Vec<u8>)>) -> Result<(), StoreError> {
    for (channel, address) in addresses {
        unblock_one_on(tx, practice, channel, address).await?;
    }
    Ok(())
}

async fn unblock_one_on(tx: &Tx, practice: &str, channel: i16, address: Vec<u8>) -> Result<(), StoreError> {
    recipient_gate::Entity::update_many()
        .set(recipient_gate::ActiveModel { blocked_at: Set(None), block_reason: Set(None), ..Default::default() })
        .filter(recipient_gate::Column::PracticeId.eq(practice))
        .filter(recipient_gate::Column::Channel.eq(channel))
        .filter(recipient_gate::Column::SubjectKind.eq(super::grounds::ADDRESS))
        .filter(recipient_gate::Column::Subject.eq(address))
        .filter(recipient_gate::Column::BlockReason.is_not_null())
        .exec(&tx.db)
        .await?;
    Ok(())
}
