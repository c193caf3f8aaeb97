//! The keys of practices, unwrapped once and kept in memory, and how the store seals and opens with them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{StoreError, entity::data_key};
use crate::{
    crypto::{BlindIndexKey, ChainKey, DataKey, KeyFile, Place, key_id, open, seal},
    domain::{EmailAddress, PhoneNumber, PracticeId},
};

/// Unwraps data keys.
#[derive(Debug)]
pub(super) struct Vault {
    keys: KeyFile,
    practices: RwLock<HashMap<PracticeId, Arc<PracticeKeys>>>,
}

/// The keys of one practice.
#[derive(Debug)]
pub(super) struct PracticeKeys {
    practice: PracticeId,
    current: DataKey,
    retired: Vec<DataKey>,
    blind: BlindIndexKey,
    consent: ChainKey,
    audit: ChainKey,
}

impl Vault {
    pub(super) fn new(keys: KeyFile) -> Self {
        Self { keys, practices: RwLock::default() }
    }

    /// The keys of `practice`; NotFound when there is no such practice.
    pub(super) async fn practice(
        &self,
        db: &impl ConnectionTrait,
        practice: &PracticeId,
    ) -> Result<Arc<PracticeKeys>, StoreError> {
        let cached = self.practices.read().unwrap_or_else(PoisonError::into_inner).get(practice).cloned();
        if let Some(keys) = cached {
            return Ok(keys);
        }
        let keys = Arc::new(self.load(db, practice).await?);
        self.practices.write().unwrap_or_else(PoisonError::into_inner).insert(practice.clone(), Arc::clone(&keys));
        Ok(keys)
    }

    /// The same, of a practice that `db` may have made and not committed: should it not, nobody may remember its keys.
    pub(super) async fn load(
        &self,
        db: &impl ConnectionTrait,
        practice: &PracticeId,
    ) -> Result<PracticeKeys, StoreError> {
        let rows = data_key::Entity::find()
            .filter(data_key::Column::PracticeId.eq(practice.as_str()))
            .order_by_desc(data_key::Column::CreateTime)
            .all(db)
            .await?;
        let mut keys = rows.iter().map(|row| {
            DataKey::unwrap(*row.id.as_bytes(), &row.wrapped, &self.keys, practice.as_str().as_bytes())
                .map_err(|_| StoreError::Corrupt("data key"))
        });
        let current = keys.next().ok_or(StoreError::NotFound("practice"))??;
        let retired = keys.collect::<Result<_, _>>()?;
        let blind = self.keys.blind_index(practice.as_str());
        let (consent, audit) = (self.consent_chain(practice), self.audit_chain(practice));
        Ok(PracticeKeys { practice: practice.clone(), current, retired, blind, consent, audit })
    }

    /// What chains the consent ledger of `practice`.
    pub(super) fn consent_chain(&self, practice: &PracticeId) -> ChainKey {
        self.keys.chain("consent", practice.as_str())
    }

    /// What chains the audit trail of `practice`.
    pub(super) fn audit_chain(&self, practice: &PracticeId) -> ChainKey {
        self.keys.chain("audit", practice.as_str())
    }

    /// A data key for a practice that has none yet.
    pub(super) fn mint(&self, practice: &PracticeId, now: chrono::DateTime<chrono::Utc>) -> data_key::ActiveModel {
        let key = DataKey::generate();
        data_key::ActiveModel {
            id: Set(Uuid::from_bytes(key.id())),
            practice_id: Set(practice.as_str().to_owned()),
            wrapped: Set(key.wrap(&self.keys, practice.as_str().as_bytes())),
            uses: Set(0),
            create_time: Set(now),
            retire_time: Set(None),
        }
    }
}

/// A column that holds sealed values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sealed {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
}

impl PracticeKeys {
    /// The id of the practice.
    pub(super) fn practice(&self) -> &str {
        self.practice.as_str()
    }

    fn place<'a>(&'a self, column: Sealed, row: &'a [u8]) -> Place<'a> {
        Place { table: column.table, column: column.column, practice: self.practice.as_str(), row }
    }

    /// Seals `value` for one column of one row: it opens nowhere else.
    pub(super) fn seal<T: Serialize>(&self, column: Sealed, row: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| StoreError::Corrupt("value"))?);
        Ok(self.seal_bytes(column, row, &plain))
    }

    /// As [`Self::seal`], for bytes as they are.
    pub(super) fn seal_bytes(&self, column: Sealed, row: &[u8], plain: &[u8]) -> Vec<u8> {
        seal(&self.current, &self.place(column, row), plain)
    }

    /// Opens what [`Self::seal`] made for that place.
    pub(super) fn open<T: DeserializeOwned>(&self, column: Sealed, row: &[u8], blob: &[u8]) -> Result<T, StoreError> {
        let plain = self.open_bytes(column, row, blob)?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(column.table))
    }

    /// Opens what [`Self::seal_bytes`] made for that place.
    pub(super) fn open_bytes(&self, column: Sealed, row: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let corrupt = || StoreError::Corrupt(column.table);
        let id = key_id(blob).ok_or_else(corrupt)?;
        let mut keys = std::iter::once(&self.current).chain(&self.retired);
        let key = keys.find(|key| key.id() == id).ok_or_else(corrupt)?;
        open(key, &self.place(column, row), blob).map_err(|_| corrupt())
    }

    /// Chains the consent ledger.
    pub(super) fn consent_chain(&self) -> &ChainKey {
        &self.consent
    }

    /// Chains the audit trail.
    pub(super) fn audit_chain(&self) -> &ChainKey {
        &self.audit
    }

    /// The blind index of a phone number: equal for equal numbers of this practice, meaningless without the key.
    pub(super) fn phone_index(&self, phone: &PhoneNumber) -> Vec<u8> {
        self.blind.index("phone", phone.e164()).to_vec()
    }

    /// A keyed digest of any other text that is to be found again.
    pub(super) fn digest(&self, kind: &str, text: &str) -> Vec<u8> {
        self.blind.index(kind, text).to_vec()
    }

    /// The blind index of a mailbox.
    pub(super) fn email_index(&self, email: &EmailAddress) -> Vec<u8> {
        self.blind.index("email", &email.canonical()).to_vec()
    }
}
