//! Keys of subjects. Whatever is said to or by a patient, or somebody whose number is nobody's, is sealed with a key of their own,
//! made with the first text. To destroy it makes all of that unreadable at once, what cannot be deleted included: the ledger is
//! chained. Contacts, settings and wording are sealed with the key of the practice.

use std::collections::BTreeSet;

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};
use uuid::Uuid;

use super::{
    StoreError,
    entity::{patient, subject_key},
    rows::{padded, these},
    tx::Tx,
    vault::{PracticeKeys, Sealed, Subject},
};
use crate::{
    crypto::{DataKey, key_id},
    domain::PatientId,
};

const WRAPPED: Sealed = Sealed { table: "subject_key", column: "wrapped" };
const PATIENT: &str = "p:";

/// How the owner of a patient's key, and of their conversation, is written.
pub(super) fn of_patient(id: &str) -> String {
    format!("{PATIENT}{id}")
}

/// `keys`, with those with which texts of `owners` are sealed; keys that are missing are made. A patient who is not in the directory
/// gets none.
pub(super) async fn take_on(
    tx: &Tx,
    keys: &PracticeKeys,
    owners: impl IntoIterator<Item = String>,
) -> Result<PracticeKeys, StoreError> {
    let owners: BTreeSet<String> = owners.into_iter().collect();
    let known = found_on(tx, keys, &owners).await?;
    let mut missing = owners;
    missing.retain(|owner| known.iter().all(|subject| subject.owner.as_ref() != Some(owner)));
    let keys = keys.with(known);
    if missing.is_empty() {
        return Ok(keys);
    }
    let present = present_on(tx, &keys, &missing).await?;
    missing.retain(|owner| owner.strip_prefix(PATIENT).is_none_or(|id| present.contains(id)));
    let made = missing.iter().map(|owner| {
        let key = DataKey::generate();
        subject_key::ActiveModel {
            id: Set(Uuid::from_bytes(key.id())),
            practice_id: Set(keys.practice().to_owned()),
            patient_id: Set(owner.strip_prefix(PATIENT).unwrap_or_default().to_owned()),
            owner: Set(Some(owner.clone())),
            wrapped: Set(keys.wrap(WRAPPED, &key)),
            create_time: Set(tx.now),
            uses: Set(0),
        }
    });
    let made: Vec<_> = made.collect();
    if !made.is_empty() {
        // Whoever makes the same one at this moment is waited for, and theirs is found next.
        subject_key::Entity::insert_many(made)
            .on_conflict_do_nothing_on([subject_key::Column::PracticeId, subject_key::Column::Owner])
            .exec_without_returning(&tx.db)
            .await?;
    }
    Ok(keys.with(found_on(tx, &keys, &missing).await?))
}

async fn found_on(tx: &Tx, keys: &PracticeKeys, owners: &BTreeSet<String>) -> Result<Vec<Subject>, StoreError> {
    if owners.is_empty() {
        return Ok(Vec::new());
    }
    let rows = subject_key::Entity::find()
        .filter(subject_key::Column::PracticeId.eq(keys.practice()))
        .filter(subject_key::Column::Owner.is_in(padded(owners.iter().cloned())));
    rows.all(&tx.db).await?.into_iter().map(|row| opened(keys, row)).collect()
}

fn opened(keys: &PracticeKeys, row: subject_key::Model) -> Result<Subject, StoreError> {
    let key = keys.unwrap(WRAPPED, *row.id.as_bytes(), &row.wrapped)?;
    Ok(Subject { owner: row.owner, key })
}

/// Those of the patients among `owners` who are in the directory.
async fn present_on(tx: &Tx, keys: &PracticeKeys, owners: &BTreeSet<String>) -> Result<BTreeSet<String>, StoreError> {
    let ids: Vec<_> = owners.iter().filter_map(|owner| owner.strip_prefix(PATIENT)).map(str::to_owned).collect();
    if ids.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows: Vec<String> = patient::Entity::find()
        .select_only()
        .column(patient::Column::PatientId)
        .filter(patient::Column::PracticeId.eq(keys.practice()))
        .filter(patient::Column::PatientId.is_in(padded(ids)))
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(rows.into_iter().collect())
}

/// `keys`, with those that open `blobs`, as far as they are there.
pub(super) async fn opening(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    blobs: impl IntoIterator<Item = &[u8]>,
) -> Result<PracticeKeys, StoreError> {
    let ids: BTreeSet<[u8; 16]> = blobs.into_iter().filter_map(key_id).filter(|id| !keys.is_own(*id)).collect();
    if ids.is_empty() {
        return Ok(keys.clone());
    }
    use subject_key::Column::{Id, PracticeId};
    let rows = subject_key::Entity::find()
        .filter(these(Id, ids.into_iter().map(Uuid::from_bytes), PracticeId, keys.practice()))
        .all(db)
        .await?;
    Ok(keys.with(rows.into_iter().map(|row| opened(keys, row)).collect::<Result<Vec<_>, _>>()?))
}

/// Gives the key of whose conversation became a patient's to that patient.
pub(super) async fn give_on(tx: &Tx, practice: &str, owner: &str, patient: &PatientId) -> Result<(), StoreError> {
    subject_key::Entity::update_many()
        .col_expr(subject_key::Column::PatientId, Expr::value(patient.as_str()))
        .col_expr(subject_key::Column::Owner, Expr::value(None::<String>))
        .filter(subject_key::Column::PracticeId.eq(practice))
        .filter(subject_key::Column::Owner.eq(owner))
        .exec(&tx.db)
        .await?;
    Ok(())
}
