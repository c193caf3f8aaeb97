//! What became of attempts, from whoever knows: how our own calls ended, and what providers report. What comes in at the same
//! time is written together, in one transaction a group.

use std::{sync::Arc, time::Duration};

use super::{
    Applied, Receipt, Settlement, Store, StoreError,
    evidence::{Findings, Hearing},
    lane::Job,
    queue::settle_on,
    receipts::{named_on, report_on},
    tx::Tx,
};
use crate::domain::{DeliveryId, Engine, PracticeId, Scope};

/// News of one attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Our call ended.
    Ended(Settlement),
    /// The provider reported by callback.
    Reported(Scope, Receipt),
}

impl Job for Outcome {
    type Done = Applied;
    const GROUP: usize = 50;
    /// A report that is turned away may never come again: Twilio repeats it three times within seconds, and is asked for it only
    /// hours later. It waits 15 s for an answer, and the sidecar 10 s.
    const PATIENCE: Duration = Duration::from_secs(8);

    fn practice(&self) -> &PracticeId {
        match self {
            Self::Ended(settlement) => &settlement.practice,
            Self::Reported(scope, _) => scope.practice(),
        }
    }

    async fn run(store: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<Applied>, StoreError> {
        let (done, findings) = store.write_across(move |tx| Box::pin(async move { hear_on(tx, &jobs).await })).await?;
        store.tell(&findings);
        Ok(done)
    }
}

impl Outcome {
    fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Ended(_) => None,
            Self::Reported(_, receipt) => Some(receipt),
        }
    }

    /// The provider's id for the message, as far as it is named.
    fn provider_ref(&self) -> Option<&str> {
        match self {
            Self::Ended(settlement) => settlement.verdict.provider_ref(),
            Self::Reported(_, receipt) => Some(&receipt.provider_ref),
        }
    }
}

async fn hear_on(tx: &Tx, jobs: &[Arc<Outcome>]) -> Result<(Vec<Applied>, Findings), StoreError> {
    let receipts = || jobs.iter().filter_map(|job| job.receipt());
    let named = named_on(tx, receipts().map(|receipt| receipt.token.to_vec()).collect()).await?;
    // A delivery is locked before its attempts are read for good: every writer takes them in that order.
    let ids = jobs.iter().filter_map(|job| match &**job {
        Outcome::Ended(settlement) => Some(settlement.id),
        Outcome::Reported(_, receipt) => named.get(receipt.token.as_slice()).map(|row| DeliveryId(row.delivery_id)),
    });
    let refs = jobs.iter().filter_map(|job| Some((job.practice(), job.provider_ref()?)));
    let mut hearing = Hearing::open_on(tx, ids, refs).await?;
    let mut done = Vec::with_capacity(jobs.len());
    for job in jobs {
        // Each shows by itself, as if it had come alone.
        hearing.pause(tx.now)?;
        done.push(match &**job {
            Outcome::Ended(settlement) => settle_on(tx, &mut hearing, settlement).await.map(|()| Applied::New)?,
            Outcome::Reported(scope, receipt) => {
                report_on(tx, &mut hearing, (scope, receipt), named.get(receipt.token.as_slice())).await?
            }
        });
    }
    Ok((done, hearing.close_on(tx).await?))
}

impl Store {
    /// Writes how an attempt ended.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is settled then.
    pub async fn settle(&self, _: &Engine, settlement: Settlement) -> Result<(), StoreError> {
        self.inner.outcomes.enter(self, Outcome::Ended(settlement)).await.map(drop)
    }

    /// Applies a receipt.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is applied then, and the provider must repeat it.
    pub async fn receipt_apply(&self, scope: &Scope, receipt: Receipt) -> Result<Applied, StoreError> {
        self.inner.outcomes.enter(self, Outcome::Reported(scope.clone(), receipt)).await
    }
}
