//! Whoever comes to the sidecar without a token of the API. What they ask of the database waits for its turn, so that calls never
//! stand behind more than a few of them, however many come at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument;

use crate::store::StoreError;

/// How many of them ask at once: as many as SQLite has readers, and fewer than connections to PostgreSQL.
const AT_ONCE: usize = 4;

/// The turns of strangers of one sort, of one process.
#[derive(Clone, Debug)]
pub struct Strangers(Arc<Semaphore>);

impl Default for Strangers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Strangers {
    /// Waits for a turn, first come, first served. It ends when what this yields is dropped.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // Unset where the turns were closed, which nobody does.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }

    /// Does `work` in a turn, to its end even if whoever asked for it goes away: what it has begun at the database goes on as well, and
    /// whoever comes and goes would else have as many under way as they like.
    ///
    /// # Errors
    /// Those of `work`.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.turn().await;
        let in_turn = async move {
            let _turn = turn;
            work.await
        };
        tokio::spawn(in_turn.in_current_span()).await.map_err(|_| StoreError::Abandoned)?
    }
}

#[cfg(test)]
mod tests;
