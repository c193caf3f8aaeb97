//! The keys of practices, unwrapped once and kept in memory, and how the store seals and opens with them.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{StoreError, dialect::Time, entity::data_key};
use crate::{
    crypto::{BlindIndexKey, ChainKey, DataKey, KeyFile, Place, UnwrapError, key_id, open, seal},
    domain::{EmailAddress, PhoneNumber, PracticeId},
};

/// When the keys of a practice are read again: what others rotated, or destroyed, is known by then.
const FRESH: TimeDelta = TimeDelta::seconds(60);
/// When a new key begins to seal. All know it by then, and can open what it sealed.
pub(super) const TAKES_OVER_AFTER: TimeDelta = TimeDelta::minutes(3);

/// Reads the master keys once more from where they are kept; unset: that failed, which was said.
pub type ReadAnew = Box<dyn Fn() -> BoxFuture<'static, Option<KeyFile>> + Send + Sync>;

/// How often they are read at most.
const ANEW_EVERY: Duration = Duration::from_secs(5);

/// Unwraps data keys.
pub(super) struct Vault {
    keys: RwLock<Arc<KeyFile>>,
    anew: OnceLock<ReadAnew>,
    /// When they were last read.
    read_at: tokio::sync::Mutex<Option<Instant>>,
    time: Time,
    /// Of so many seals with keys of subjects one is noted.
    one_in: u32,
    practices: RwLock<HashMap<PracticeId, Held>>,
}

/// The keys of a practice, and when they were read.
type Held = (DateTime<Utc>, Arc<PracticeKeys>);

/// The keys of one practice, and of those of its subjects that were looked up: see `subjects`.
#[derive(Clone, Debug)]
pub(super) struct PracticeKeys {
    own: Arc<OwnKeys>,
    subjects: Arc<[Subject]>,
}

/// What chains the ledgers of a practice. It derives from the key file alone, and proves also what cannot be read any more.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) practice: PracticeId,
    pub(super) consent: ChainKey,
    pub(super) audit: ChainKey,
}

#[derive(Debug)]
struct OwnKeys {
    chains: Chains,
    current: DataKey,
    others: Vec<DataKey>,
    /// How often `current` has sealed since that was last counted.
    sealed: AtomicI64,
    /// How often keys of subjects have.
    sample: Sample,
    blind: BlindIndexKey,
}

/// How often keys of subjects have sealed, by a sample: there are as many as there are patients, so that to count each use would be
/// a write more for each text. One seal in so many is noted instead, by chance, and stands for all of them. Where a key may seal
/// [`crate::crypto::DATA_KEY_USES`] times, that is one in 65,536: the sum is then off by 2 %, and by a fifth not once in 10^15 keys.
#[derive(Debug)]
struct Sample {
    one_in: u32,
    noted: Mutex<Vec<[u8; 16]>>,
}

/// Notes of a sample by the time that a key is used up.
const NOTES: i64 = 2_048;

impl Sample {
    fn note(&self, key: &DataKey) {
        if rand::random_range(0..self.one_in) == 0 {
            self.noted().push(key.id());
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<[u8; 16]>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of somebody whose texts can be made unreadable by themselves.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// Who, while something of theirs may still be sealed with it.
    pub(super) owner: Option<String>,
    pub(super) key: DataKey,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

impl Vault {
    /// `key_uses`: how often a key may seal.
    pub(super) fn new(keys: KeyFile, time: Time, key_uses: i64) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys)),
            anew: OnceLock::new(),
            read_at: tokio::sync::Mutex::default(),
            time,
            one_in: u32::try_from(key_uses / NOTES).unwrap_or(u32::MAX).max(1),
            practices: RwLock::default(),
        }
    }

    /// The master keys.
    pub(super) fn file(&self) -> Arc<KeyFile> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where they are read again when one is missing.
    pub(super) fn read_anew_by(&self, anew: ReadAnew) {
        // Once for each store: whoever opened it says it.
        let _ = self.anew.set(anew);
    }

    /// Reads the master keys again, since one is missing: another replica was started with it. True: it is there now.
    async fn has_anew(&self, master: u32) -> bool {
        let Some(anew) = self.anew.get() else { return false };
        // One reads, and whoever comes meanwhile waits for it.
        let mut read_at = self.read_at.lock().await;
        let known = self.file();
        if known.master_check(master).is_some() {
            return true;
        }
        if read_at.is_some_and(|at| at.elapsed() < ANEW_EVERY) {
            return false;
        }
        *read_at = Some(Instant::now());
        // Other keys of this name would not find what is kept.
        let found = anew().await.filter(|found| found.key_check() == known.key_check());
        let found = found.filter(|found| found.master_check(master).is_some());
        let Some(found) = found else { return false };
        tracing::info!(master, "another master key is there");
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        true
    }

    /// What is held of practices.
    pub(super) fn held(&self) -> Vec<Arc<PracticeKeys>> {
        let held = self.practices.read().unwrap_or_else(PoisonError::into_inner);
        held.values().map(|(_, keys)| Arc::clone(keys)).collect()
    }

    /// Has the keys of a practice read again by whoever wants them next.
    pub(super) fn forget(&self, practice: &PracticeId) {
        self.practices.write().unwrap_or_else(PoisonError::into_inner).remove(practice);
    }

    /// The keys of `practice`; NotFound when there is no such practice.
    pub(super) async fn practice(
        &self,
        db: &impl ConnectionTrait,
        practice: &PracticeId,
    ) -> Result<Arc<PracticeKeys>, StoreError> {
        let now = self.time.clock().now();
        let cached = self.practices.read().unwrap_or_else(PoisonError::into_inner).get(practice).cloned();
        match cached {
            Some((read, keys)) if now - read < FRESH && read <= now => Ok(keys),
            Some((_, keys)) => {
                let anew = self.read(db, practice, now).await;
                if let Err(StoreError::Corrupt(_)) = anew {
                    // A master that this process was not started with, most likely; what it has goes on.
                    tracing::error!(practice.id = %practice, "a data key does not open: is the key file the newest?");
                    return Ok(keys);
                }
                // Counted with the others, not lost.
                anew.inspect(|anew| anew.count_on(&keys))
            }
            None => self.read(db, practice, now).await,
        }
    }

    async fn read(
        &self,
        db: &impl ConnectionTrait,
        practice: &PracticeId,
        now: DateTime<Utc>,
    ) -> Result<Arc<PracticeKeys>, StoreError> {
        let keys = self.load(db, practice).await;
        if matches!(keys, Err(StoreError::NotFound(_))) {
            self.forget(practice);
        }
        let keys = Arc::new(keys?);
        let mut practices = self.practices.write().unwrap_or_else(PoisonError::into_inner);
        practices.insert(practice.clone(), (now, Arc::clone(&keys)));
        Ok(keys)
    }

    /// The same, of a practice that `db` may have made and not committed: should it not, nobody may remember its keys.
    pub(super) async fn load(
        &self,
        db: &impl ConnectionTrait,
        practice: &PracticeId,
    ) -> Result<PracticeKeys, StoreError> {
        let now = self.time.clock().now();
        let rows = data_key::Entity::find()
            .filter(data_key::Column::PracticeId.eq(practice.as_str()))
            .order_by_asc(data_key::Column::CreateTime)
            .order_by_asc(data_key::Column::Id)
            .all(db)
            .await?;
        let seals = rows.iter().position(|row| row.retire_time.is_none_or(|retired| now < retired));
        let mut keys = Vec::with_capacity(rows.len());
        for row in &rows {
            let unwrap =
                || DataKey::unwrap(*row.id.as_bytes(), &row.wrapped, &self.file(), practice.as_str().as_bytes());
            let key = match unwrap() {
                Err(UnwrapError::UnknownMaster(master)) if self.has_anew(master).await => unwrap(),
                key => key,
            };
            keys.push(key.map_err(|_| StoreError::Corrupt("data key"))?);
        }
        if keys.is_empty() {
            return Err(StoreError::NotFound("practice"));
        }
        let current = keys.swap_remove(seals.unwrap_or(keys.len() - 1));
        let blind = self.file().blind_index(practice.as_str());
        let sample = Sample { one_in: self.one_in, noted: Mutex::default() };
        let (chains, sealed) = (self.chains(practice), AtomicI64::new(0));
        let own = OwnKeys { chains, current, others: keys, sealed, sample, blind };
        Ok(PracticeKeys { own: Arc::new(own), subjects: Arc::new([]) })
    }

    /// What chains the ledgers of `practice`, whether its data keys are there or not.
    pub(super) fn chains(&self, practice: &PracticeId) -> Chains {
        let chain = |ledger| self.file().chain(ledger, practice.as_str());
        Chains { practice: practice.clone(), consent: chain("consent"), audit: chain("audit") }
    }

    /// A data key for a practice that has none yet.
    pub(super) fn mint(&self, practice: &PracticeId, now: chrono::DateTime<chrono::Utc>) -> data_key::ActiveModel {
        let key = DataKey::generate();
        data_key::ActiveModel {
            id: Set(Uuid::from_bytes(key.id())),
            practice_id: Set(practice.as_str().to_owned()),
            wrapped: Set(key.wrap(&self.file(), practice.as_str().as_bytes())),
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
        self.own.chains.practice.as_str()
    }

    fn place<'a>(&'a self, column: Sealed, row: &'a [u8]) -> Place<'a> {
        Place { table: column.table, column: column.column, practice: self.own.chains.practice.as_str(), row }
    }

    /// The id of the key that seals, and how often it has since this was last asked.
    pub(super) fn take_count(&self) -> ([u8; 16], i64) {
        (self.own.current.id(), self.own.sealed.swap(0, Ordering::Relaxed))
    }

    /// Gives a count back that could not be written down.
    pub(super) fn give_back(&self, count: i64) {
        self.own.sealed.fetch_add(count, Ordering::Relaxed);
    }

    /// The keys of subjects of which a seal was noted since this was last asked, as often as one was.
    pub(super) fn take_sample(&self) -> Vec<[u8; 16]> {
        mem::take(&mut *self.own.sample.noted())
    }

    /// For how many seals one stands that was noted.
    pub(super) fn one_in(&self) -> i64 {
        i64::from(self.own.sample.one_in)
    }

    /// Gives notes back that could not be written down.
    pub(super) fn give_back_sample(&self, noted: Vec<[u8; 16]>) {
        self.own.sample.noted().extend(noted);
    }

    fn count_on(&self, before: &Self) {
        self.give_back_sample(before.take_sample());
        if before.own.current.id() == self.own.current.id() {
            self.give_back(before.take_count().1);
        }
    }

    /// These keys, with those of subjects.
    pub(super) fn with(&self, subjects: impl IntoIterator<Item = Subject>) -> Self {
        Self { own: Arc::clone(&self.own), subjects: self.subjects.iter().cloned().chain(subjects).collect() }
    }

    /// Whether the key of that subject was looked up, and is there.
    pub(super) fn has(&self, owner: &str) -> bool {
        self.subjects.iter().any(|subject| subject.owner.as_deref() == Some(owner))
    }

    /// Whether that is the id of a key of the practice itself.
    pub(super) fn is_own(&self, id: [u8; 16]) -> bool {
        std::iter::once(&self.own.current).chain(&self.own.others).any(|key| key.id() == id)
    }

    /// Seals the key of a subject for its row.
    pub(super) fn wrap(&self, column: Sealed, key: &DataKey) -> Vec<u8> {
        self.own.sealed.fetch_add(1, Ordering::Relaxed);
        key.seal_under(&self.own.current, &self.place(column, &key.id()))
    }

    /// Opens what [`Self::wrap`] made.
    pub(super) fn unwrap(&self, column: Sealed, id: [u8; 16], wrapped: &[u8]) -> Result<DataKey, StoreError> {
        let corrupt = || StoreError::Corrupt(column.table);
        let outer = self.key(key_id(wrapped).ok_or_else(corrupt)?).ok_or_else(corrupt)?;
        DataKey::open_under(id, wrapped, outer, &self.place(column, &id)).map_err(|_| corrupt())
    }

    fn key(&self, id: [u8; 16]) -> Option<&DataKey> {
        let own = std::iter::once(&self.own.current).chain(&self.own.others);
        own.chain(self.subjects.iter().map(|subject| &subject.key)).find(|key| key.id() == id)
    }

    /// Seals `value` for one column of one row: it opens nowhere else.
    pub(super) fn seal<T: Serialize>(&self, column: Sealed, row: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
        Ok(self.seal_bytes(column, row, &plain(value)?))
    }

    /// As [`Self::seal`], with the key of a subject, which must have been looked up: NotFound when there is no such patient.
    pub(super) fn seal_of<T: Serialize>(
        &self,
        owner: &str,
        column: Sealed,
        row: &[u8],
        value: &T,
    ) -> Result<Vec<u8>, StoreError> {
        let subject = self.subjects.iter().find(|subject| subject.owner.as_deref() == Some(owner));
        let subject = subject.ok_or(StoreError::NotFound("patient"))?;
        Ok(self.seal_by(&subject.key, column, row, &plain(value)?))
    }

    /// Seals `value` with the key that sealed `like`.
    pub(super) fn seal_like<T: Serialize>(
        &self,
        like: &[u8],
        column: Sealed,
        row: &[u8],
        value: &T,
    ) -> Result<Vec<u8>, StoreError> {
        let key = key_id(like).and_then(|id| self.key(id)).ok_or(StoreError::Corrupt(column.table))?;
        Ok(self.seal_by(key, column, row, &plain(value)?))
    }

    /// As [`Self::seal`], for bytes as they are.
    pub(super) fn seal_bytes(&self, column: Sealed, row: &[u8], plain: &[u8]) -> Vec<u8> {
        self.seal_by(&self.own.current, column, row, plain)
    }

    /// Every seal, which counts as a use of its key.
    fn seal_by(&self, key: &DataKey, column: Sealed, row: &[u8], plain: &[u8]) -> Vec<u8> {
        if key.id() == self.own.current.id() {
            self.own.sealed.fetch_add(1, Ordering::Relaxed);
        } else {
            // One that seals no more by itself is counted as little as it is used.
            self.own.sample.note(key);
        }
        seal(key, &self.place(column, row), plain)
    }

    /// Opens what [`Self::seal`] made for that place.
    pub(super) fn open<T: DeserializeOwned>(&self, column: Sealed, row: &[u8], blob: &[u8]) -> Result<T, StoreError> {
        let plain = self.open_bytes(column, row, blob)?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(column.table))
    }

    /// As [`Self::open`]; unset when the key is not there any more, as it was destroyed with its subject.
    pub(super) fn open_if_kept<T: DeserializeOwned>(
        &self,
        column: Sealed,
        row: &[u8],
        blob: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let gone = key_id(blob).is_some_and(|id| self.key(id).is_none());
        if gone { Ok(None) } else { self.open(column, row, blob).map(Some) }
    }

    /// Opens what [`Self::seal_bytes`] made for that place.
    pub(super) fn open_bytes(&self, column: Sealed, row: &[u8], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let corrupt = || StoreError::Corrupt(column.table);
        let key = key_id(blob).and_then(|id| self.key(id)).ok_or_else(corrupt)?;
        open(key, &self.place(column, row), blob).map_err(|_| corrupt())
    }

    /// Chains the consent ledger.
    pub(super) fn consent_chain(&self) -> &ChainKey {
        &self.own.chains.consent
    }

    /// Chains the audit trail.
    pub(super) fn audit_chain(&self) -> &ChainKey {
        &self.own.chains.audit
    }

    /// The blind index of a phone number: equal for equal numbers of this practice, meaningless without the key.
    pub(super) fn phone_index(&self, phone: &PhoneNumber) -> Vec<u8> {
        self.own.blind.index("phone", phone.e164()).to_vec()
    }

    /// A keyed digest of any other text that is to be found again.
    pub(super) fn digest(&self, kind: &str, text: &str) -> Vec<u8> {
        self.own.blind.index(kind, text).to_vec()
    }

    /// The blind index of a mailbox.
    pub(super) fn email_index(&self, email: &EmailAddress) -> Vec<u8> {
        self.own.blind.index("email", &email.canonical()).to_vec()
    }
}

fn plain<T: Serialize>(value: &T) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    serde_json::to_vec(value).map(Zeroizing::new).map_err(|_| StoreError::Corrupt("value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::DATA_KEY_USES;

    #[test]
    fn a_sample_tells_how_often_a_key_has_sealed() {
        let (one_in, key) = (64, DataKey::generate());
        let sample = Sample { one_in, noted: Mutex::default() };
        let seals = i64::from(one_in) * NOTES;
        for _ in 0..seals {
            sample.note(&key);
        }
        let told = i64::try_from(sample.noted().len()).unwrap_or_default() * i64::from(one_in);
        // A fifth is nine times the deviation that is usual.
        assert!((told - seals).abs() < seals / 5, "{told} of {seals}");
        assert!(sample.noted().iter().all(|id| *id == key.id()));
        const { assert!(DATA_KEY_USES % NOTES == 0 && DATA_KEY_USES / NOTES == 65_536) };
    }
}
