//! The only BEGIN. A transaction runs on a task of its own, so that a caller who goes away cannot leave a pooled
//! connection in the middle of one. After COMMIT the practices that it touched are woken.

use std::{
    collections::BTreeSet,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sea_orm::{DatabaseTransaction, TransactionTrait};

use super::{Store, StoreError, audit, dialect::Dialect, vault::PracticeKeys};
use crate::domain::{AuditEvent, AuditNote, Channel, DeliveryState, PatientId, PracticeId, Scope};

/// An open transaction, and what must happen after it.
#[derive(Debug)]
pub(super) struct Tx {
    pub(super) db: DatabaseTransaction,
    /// The time of the transaction, by the clock that leases and schedules go by.
    pub(super) now: DateTime<Utc>,
    pub(super) dialect: Dialect,
    store: Store,
    touched: Mutex<BTreeSet<PracticeId>>,
    /// Over which channel deliveries came to which state, to be counted after COMMIT.
    settled: Mutex<Vec<(Channel, DeliveryState)>>,
    /// What goes on audit trails before this ends, and whether the feed was appended to already.
    noted: Mutex<Noted>,
    /// Outside of the transaction, for a planted bug.
    #[cfg(feature = "mutants")]
    pub(super) aside: sea_orm::DatabaseConnection,
}

/// What a transaction has to put on audit trails.
#[derive(Debug, Default)]
struct Noted {
    notes: Vec<AuditNote>,
    /// Their heads are locked before that of the feed, so that nothing may be noted any more.
    too_late: bool,
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

    /// Notes that a delivery came to another state.
    pub(super) fn settled(&self, channel: Channel, state: DeliveryState) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push((channel, state));
    }

    /// Puts on the trail that the call behind `scope` changes something, or lets somebody see it: about `patient` and `resource`,
    /// such as `notification/0198...`. It is written with all that this transaction notes, before the feed. Noted after the feed, it
    /// would be a lock out of order.
    pub(super) fn note(&self, scope: &Scope, patient: Option<&PatientId>, resource: impl fmt::Display) {
        if let Some(event) = scope.audit(patient, resource.to_string()) {
            self.note_event(scope.practice(), event);
        }
    }

    /// As [`Self::note`], of something else than a call.
    pub(super) fn note_event(&self, practice: &PracticeId, event: AuditEvent) {
        let mut noted = self.noted();
        debug_assert!(!noted.too_late, "{}: noted after the feed", event.action);
        noted.notes.push(AuditNote { practice: practice.clone(), event });
    }

    /// Takes what was noted; from now on it is too late where that is `last`.
    pub(super) fn take_notes(&self, last: bool) -> Vec<AuditNote> {
        let mut noted = self.noted();
        noted.too_late |= last;
        mem::take(&mut noted.notes)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest entries of audit trails that this process knows of.
    pub(super) fn trails(&self) -> &audit::Trails {
        &self.store.inner.trails
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
            settled: Mutex::default(),
            noted: Mutex::default(),
            #[cfg(feature = "mutants")]
            aside: inner.connections.write.clone(),
        };
        let done = async {
            let value = work(&tx).await?;
            // Of what has no change in the feed.
            audit::append_noted_on(&tx, false).await?;
            Ok(value)
        };
        let value = match done.await {
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
        for (channel, state) in tx.settled.into_inner().unwrap_or_else(PoisonError::into_inner) {
            inner.telemetry.metrics.settled(channel, state, 1);
        }
        for practice in tx.touched.into_inner().unwrap_or_else(PoisonError::into_inner) {
            inner.wake.practice(&practice);
        }
        Ok(value)
    }
}
