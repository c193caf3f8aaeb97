//! The only BEGIN. A transaction runs on a task of its own, so that a caller who goes away cannot leave a pooled
//! connection in the middle of one. After COMMIT the practices that it touched are woken.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sea_orm::{DatabaseTransaction, TransactionTrait};

use super::{Store, StoreError, dialect::Dialect, vault::PracticeKeys};
use crate::domain::PracticeId;

/// An open transaction, and what must happen after it.
#[derive(Debug)]
pub(super) struct Tx {
    pub(super) db: DatabaseTransaction,
    /// The time of the transaction, by the clock that leases and schedules go by.
    pub(super) now: DateTime<Utc>,
    pub(super) dialect: Dialect,
    store: Store,
    touched: Mutex<BTreeSet<PracticeId>>,
    /// Outside of the transaction, for a planted bug.
    #[cfg(feature = "mutants")]
    pub(super) aside: sea_orm::DatabaseConnection,
}

impl Tx {
    /// The keys of a practice, for work that learns only on the way whose rows it touches.
    pub(super) async fn keys(&self, practice: &PracticeId) -> Result<Arc<PracticeKeys>, StoreError> {
        self.store.inner.vault.practice(&self.db, practice).await
    }

    /// Notes that something of `practice` changed: whoever waits for it is woken after COMMIT.
    pub(super) fn touch(&self, practice: &PracticeId) {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).insert(practice.clone());
    }
}

impl Store {
    /// Runs `work` for one practice in a transaction of its own, and commits what it did, or nothing. Rows of others are not there
    /// for it.
    pub(super) async fn write_within<T, F>(&self, practice: PracticeId, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        self.write(Some(practice), work).await
    }

    /// The same for the engine, whose work spans practices.
    pub(super) async fn write_across<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        self.write(None, work).await
    }

    async fn write<T, F>(&self, practice: Option<PracticeId>, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let store = self.clone();
        let task = self.inner.tasks.spawn(async move {
            let done = store.transact(practice, work).await;
            if let (Err(error), Some(disk)) = (&done, &store.inner.connections.disk)
                && error.is_for_want_of_room()
            {
                // For the next one: whoever must write tries again.
                disk.let_go();
            }
            done
        });
        task.await.map_err(|_| StoreError::Abandoned)?
    }

    /// Runs `work` for one practice on the database as it is at one moment, and changes nothing.
    pub(super) async fn snapshot_within<T, F>(&self, practice: PracticeId, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t DatabaseTransaction) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let store = self.clone();
        let task = self.inner.tasks.spawn(async move {
            let connections = &store.inner.connections;
            let db = connections.read.begin_with_options(connections.dialect.snapshot()).await?;
            connections.dialect.enter(&db, &store.inner.time, practice.as_str()).await?;
            let value = work(&db).await?;
            db.commit().await?;
            Ok(value)
        });
        task.await.map_err(|_| StoreError::Abandoned)?
    }

    async fn transact<T, F>(&self, practice: Option<PracticeId>, work: F) -> Result<T, StoreError>
    where
        F: for<'t> FnOnce(&'t Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send,
    {
        let inner = &self.inner;
        let dialect = inner.connections.dialect;
        let db = inner.connections.write.begin_with_options(dialect.transaction()).await?;
        let now = match practice {
            Some(practice) => dialect.enter(&db, &inner.time, practice.as_str()).await?,
            None => dialect.now(&db, &inner.time).await?,
        };
        let tx = Tx {
            db,
            now,
            dialect,
            store: self.clone(),
            touched: Mutex::default(),
            #[cfg(feature = "mutants")]
            aside: inner.connections.write.clone(),
        };
        let value = match work(&tx).await {
            Ok(value) => value,
            Err(error) => {
                // Dropped, it would be rolled back some time later: whoever hears of the error finds nothing locked by it.
                // Where this fails, its connection is gone, and with it the transaction.
                drop(tx.db.rollback().await);
                return Err(error);
            }
        };
        tx.db.commit().await?;
        failpoint!("F11");
        for practice in tx.touched.into_inner().unwrap_or_else(PoisonError::into_inner) {
            inner.wake.practice(&practice);
        }
        Ok(value)
    }
}
