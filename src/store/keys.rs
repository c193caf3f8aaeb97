//! Data keys, and those of patients, over time: how often each has sealed, one that takes the place of another, and wrapping data keys
//! anew when the operator has added a master.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseConnection, EntityTrait, ExprTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    entity::{data_key, subject_key},
    tx::Tx,
    vault::{PracticeKeys, ReadAnew, TAKES_OVER_AFTER},
};
use crate::{
    crypto::{DataKey, wrapped_by},
    domain::{AuditEvent, Engine, PracticeId},
};

/// A data key as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose.
    pub practice: PracticeId,
    /// Its id, which stands before all that it sealed.
    pub id: Uuid,
    /// The number of the master that wraps it; unset: that cannot be read.
    pub master: Option<u32>,
    /// How often it has sealed, as far as that was counted.
    pub uses: i64,
    /// Since when it is there.
    pub create_time: DateTime<Utc>,
    /// When another took, or takes, its place; it opens what it sealed all the same.
    pub retire_time: Option<DateTime<Utc>>,
}

impl Store {
    /// Writes down how often the data keys have sealed, and begins new ones in the place of those that did so often enough; and the
    /// same of keys of patients, which seal no more then: the next text makes another.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; what was not written down is counted next time.
    pub async fn keys_count(&self, engine: &Engine) -> Result<(), StoreError> {
        for keys in self.inner.vault.held() {
            self.count_subjects(engine, &keys).await?;
            let (id, count) = keys.take_count();
            if count == 0 {
                continue;
            }
            let counted =
                self.write_across(move |tx| Box::pin(async move { count_on(tx, Uuid::from_bytes(id), count).await }));
            let uses = match counted.await {
                Ok(uses) => uses,
                Err(error) => {
                    keys.give_back(count);
                    return Err(error);
                }
            };
            if uses.is_some_and(|uses| uses >= self.inner.key_uses) {
                let practice = keys.practice().parse().map_err(|_| StoreError::Corrupt("data key"))?;
                self.keys_begin(engine, &practice).await?;
            }
        }
        Ok(())
    }

    async fn count_subjects(&self, _: &Engine, keys: &PracticeKeys) -> Result<(), StoreError> {
        let noted = keys.take_sample();
        if noted.is_empty() {
            return Ok(());
        }
        let mut uses = BTreeMap::<Uuid, i64>::new();
        for id in &noted {
            *uses.entry(Uuid::from_bytes(*id)).or_default() += keys.one_in();
        }
        let most = self.inner.key_uses;
        let practice: PracticeId = keys.practice().parse().map_err(|_| StoreError::Corrupt("data key"))?;
        let counted =
            self.write_within(practice, move |tx| Box::pin(async move { count_subjects_on(tx, uses, most).await }));
        counted.await.inspect_err(|_| keys.give_back_sample(noted))
    }

    /// Has the master keys read again by `anew` whenever one is missing that a data key is wrapped by: another replica was started
    /// with it, and goes by it already.
    pub fn masters_anew(&self, anew: ReadAnew) {
        self.inner.vault.read_anew_by(anew);
    }

    /// Begins a new data key, which takes the place of the present one some minutes later, once every replica knows it. False:
    /// one is about to already.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn keys_begin(&self, _: &Engine, practice: &PracticeId) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), practice.clone());
        let begun = self
            .write_within(practice.clone(), move |tx| {
                Box::pin(async move {
                    let present = data_key::Entity::find()
                        .filter(data_key::Column::PracticeId.eq(id.as_str()))
                        .filter(data_key::Column::RetireTime.is_null())
                        .order_by_asc(data_key::Column::Id)
                        .lock_exclusive()
                        .all(&tx.db)
                        .await?;
                    let newest =
                        present.iter().map(|row| row.create_time).max().ok_or(StoreError::NotFound("practice"))?;
                    let waits = data_key::Entity::find()
                        .filter(data_key::Column::PracticeId.eq(id.as_str()))
                        .filter(data_key::Column::RetireTime.gt(tx.now))
                        .one(&tx.db)
                        .await?;
                    if waits.is_some() {
                        return Ok(false);
                    }
                    // Keys are told apart by their age.
                    let born = Ord::max(tx.now, newest + chrono::TimeDelta::microseconds(1));
                    let new = store.inner.vault.mint(&id, born);
                    for row in present {
                        let mut row = row.into_active_model();
                        row.retire_time = Set(Some(tx.now + TAKES_OVER_AFTER));
                        row.update(&tx.db).await?;
                    }
                    data_key::Entity::insert(new).exec_without_returning(&tx.db).await?;
                    tx.note_event(&id, AuditEvent::of_system(AuditEvent::KEY_BEGUN, None, "keys".to_owned()));
                    Ok(true)
                })
            })
            .await?;
        self.inner.vault.forget(practice);
        if begun {
            tracing::info!(practice.id = %practice, "a new data key takes over in some minutes");
        }
        Ok(begun)
    }

    /// Wraps those data keys anew, under the newest master, that an older one wraps. Says how many.
    ///
    /// # Errors
    /// Corrupt when one does not open: the key file lacks its master.
    pub async fn keys_rewrap(&self, _: &Engine) -> Result<usize, StoreError> {
        let keys = self.inner.vault.file();
        let newest = keys.current_master();
        let rows = data_key::Entity::find().order_by_asc(data_key::Column::Id).all(self.across()).await?;
        let mut count = 0;
        for row in rows.into_iter().filter(|row| wrapped_by(&row.wrapped) != Some(newest)) {
            let name = row.practice_id.as_bytes();
            let key = DataKey::unwrap(*row.id.as_bytes(), &row.wrapped, &keys, name);
            let anew = key.map_err(|_| StoreError::Corrupt("data key"))?.wrap(&keys, name);
            let practice: PracticeId = row.practice_id.parse().map_err(|_| StoreError::Corrupt("data key"))?;
            let (id, before) = (row.id, row.wrapped);
            let rewrapped = self.write_within(practice.clone(), move |tx| {
                Box::pin(async move {
                    let done = rewrap_on(tx, id, before, anew).await?;
                    if done > 0 {
                        let resource = format!("keys/master.{newest}");
                        tx.note_event(&practice, AuditEvent::of_system(AuditEvent::KEY_WRAPPED, None, resource));
                    }
                    Ok(done)
                })
            });
            count += rewrapped.await?;
        }
        Ok(count)
    }

    /// The data keys of all practices.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn keys_list(&self, _: &Engine) -> Result<Vec<KeyRecord>, StoreError> {
        records(self.across()).await
    }

    /// Destroys the keys of a practice: nothing that was sealed for it opens any more, here and in what was copied without them.
    /// Whoever serves it refuses it within a minute. Says how many keys there were.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn keys_shred(&self, _: &Engine, practice: &PracticeId) -> Result<u64, StoreError> {
        // Known to whoever writes the entry, which is the last that they seal.
        match self.keys(practice).await {
            Err(StoreError::NotFound(_)) => return Ok(0),
            keys => drop(keys?),
        }
        let (id, of) = (practice.as_str().to_owned(), practice.clone());
        let gone = self
            .write_within(practice.clone(), move |tx| {
                Box::pin(async move {
                    tx.note_event(&of, AuditEvent::of_system(AuditEvent::KEYS_SHREDDED, None, "keys".to_owned()));
                    let own = data_key::Column::PracticeId.eq(id.as_str());
                    let own = data_key::Entity::delete_many().filter(own).exec(&tx.db).await?.rows_affected;
                    let theirs = subject_key::Column::PracticeId.eq(id);
                    let theirs = subject_key::Entity::delete_many().filter(theirs).exec(&tx.db).await?.rows_affected;
                    Ok(own + theirs)
                })
            })
            .await?;
        self.inner.vault.forget(practice);
        Ok(gone)
    }

    /// The masters that a data key is wrapped by: the others in the key file are not needed any more.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn masters_in_use(&self, _: &Engine) -> Result<BTreeSet<u32>, StoreError> {
        let wrapped: Vec<Vec<u8>> = data_key::Entity::find()
            .select_only()
            .column(data_key::Column::Wrapped)
            .into_tuple()
            .all(self.across())
            .await?;
        Ok(wrapped.iter().filter_map(|wrapped| wrapped_by(wrapped)).collect())
    }
}

/// The data keys that `db` shows.
pub(super) async fn records(db: &DatabaseConnection) -> Result<Vec<KeyRecord>, StoreError> {
    let rows = data_key::Entity::find()
        .order_by_asc(data_key::Column::PracticeId)
        .order_by_asc(data_key::Column::CreateTime)
        .all(db)
        .await?;
    let record = |row: data_key::Model| {
        Ok(KeyRecord {
            practice: row.practice_id.parse().map_err(|_| StoreError::Corrupt("data key"))?,
            id: row.id,
            master: wrapped_by(&row.wrapped),
            uses: row.uses,
            create_time: row.create_time,
            retire_time: row.retire_time,
        })
    };
    rows.into_iter().map(record).collect()
}

/// Adds to how often a key has sealed. Yields the sum; unset: there is no such key any more.
async fn count_on(tx: &Tx, id: Uuid, count: i64) -> Result<Option<i64>, StoreError> {
    data_key::Entity::update_many()
        .col_expr(data_key::Column::Uses, Expr::col(data_key::Column::Uses).add(count))
        .filter(data_key::Column::Id.eq(id))
        .exec(&tx.db)
        .await?;
    Ok(data_key::Entity::find_by_id(id).one(&tx.db).await?.map(|row| row.uses))
}

/// Adds to how often keys of subjects have sealed. One of a patient that has done so `most` times seals no more. Of a number that is
/// nobody's there are only the texts that came from it, one a second at most (what carriers let a number send): 2^27 of them would
/// take four years, and the 2^32 of NIST SP 800-38D more than a hundred.
async fn count_subjects_on(tx: &Tx, uses: BTreeMap<Uuid, i64>, most: i64) -> Result<(), StoreError> {
    for (id, count) in uses {
        subject_key::Entity::update_many()
            .col_expr(subject_key::Column::Uses, Expr::col(subject_key::Column::Uses).add(count))
            .filter(subject_key::Column::Id.eq(id))
            .exec(&tx.db)
            .await?;
        subject_key::Entity::update_many()
            .col_expr(subject_key::Column::Owner, Expr::value(None::<String>))
            .filter(subject_key::Column::Id.eq(id))
            .filter(subject_key::Column::PatientId.ne(""))
            .filter(subject_key::Column::Uses.gte(most))
            .exec(&tx.db)
            .await?;
    }
    Ok(())
}

/// Writes a key that was wrapped anew, unless somebody else did meanwhile.
async fn rewrap_on(tx: &Tx, id: Uuid, before: Vec<u8>, anew: Vec<u8>) -> Result<usize, StoreError> {
    let done = data_key::Entity::update_many()
        .col_expr(data_key::Column::Wrapped, Expr::value(anew))
        .filter(data_key::Column::Id.eq(id))
        .filter(data_key::Column::Wrapped.eq(before))
        .exec(&tx.db)
        .await?;
    Ok(usize::try_from(done.rows_affected).unwrap_or_default())
}
