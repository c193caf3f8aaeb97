//! What became of attempts, from whoever knows: how our own calls ended, and what providers report. What comes in at the same
//! time is written together, in one transaction a group.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    Applied, Receipt, Settlement, Store, StoreError,
    evidence::{Findings, Hearing},
    lane::Job,
    queue::settle_on,
    receipts::{named_on, report_on},
    tx::Tx,
};
use crate::{
    domain::{DeliveryId, Engine, PracticeId, Scope, TraceContext},
    telemetry::{KeyValue, SpanKind, Traces},
};

/// News of one attempt.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Our call ended.
    Ended(Settlement, Instant),
    /// The provider reported by callback, which came in then.
    Reported(Scope, Receipt, Instant),
}

impl Job for Outcome {
    type Done = Applied;
    const GROUP: usize = 50;
    /// A report that is turned away may never come again: Twilio repeats it three times within seconds, and is asked for it only
    /// hours later. It waits 15 s for an answer, and the sidecar 10 s.
    const PATIENCE: Duration = Duration::from_secs(8);

    fn practice(&self) -> &PracticeId {
        match self {
            Self::Ended(settlement, _) => &settlement.practice,
            Self::Reported(scope, ..) => scope.practice(),
        }
    }

    async fn run(store: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<Applied>, StoreError> {
        let heard = jobs.clone();
        let (done, traces, findings) =
            store.write_across(move |tx| Box::pin(async move { hear_on(tx, &heard).await })).await?;
        store.tell(&findings);
        for (job, trace) in jobs.iter().zip(traces) {
            job.trace(&store.telemetry().traces, trace);
        }
        Ok(done)
    }
}

impl Outcome {
    fn receipt(&self) -> Option<&Receipt> {
        match self {
            Self::Ended(..) => None,
            Self::Reported(_, receipt, _) => Some(receipt),
        }
    }

    /// The provider's id for the message, as far as it is named.
    fn provider_ref(&self) -> Option<&str> {
        match self {
            Self::Ended(settlement, _) => settlement.verdict.provider_ref(),
            Self::Reported(_, receipt, _) => Some(&receipt.provider_ref),
        }
    }

    /// Writes down that it was heard, in the trace of the call that asked for the delivery.
    fn trace(&self, traces: &Traces, trace: Option<TraceContext>) {
        let practice = KeyValue::new("practice.id", self.practice().as_str().to_owned());
        match self {
            Self::Ended(settlement, since) => {
                let delivery = KeyValue::new("delivery.id", settlement.id.to_string());
                traces.step("settle", SpanKind::Internal, trace, since.elapsed(), || vec![practice, delivery]);
            }
            Self::Reported(scope, receipt, since) => {
                let status = KeyValue::new("provider.status", receipt.status.clone());
                let provider = KeyValue::new("provider", scope.author().id.clone());
                traces.step("callback", SpanKind::Server, trace, since.elapsed(), || vec![practice, provider, status]);
            }
        }
    }
}

async fn hear_on(
    tx: &Tx,
    jobs: &[Arc<Outcome>],
) -> Result<(Vec<Applied>, Vec<Option<TraceContext>>, Findings), StoreError> {
    let receipts = || jobs.iter().filter_map(|job| job.receipt());
    let named = named_on(tx, receipts().map(|receipt| receipt.token.to_vec()).collect()).await?;
    // A delivery is locked before its attempts are read for good: every writer takes them in that order.
    let about = |job: &Outcome| match job {
        Outcome::Ended(settlement, _) => Some(settlement.id),
        Outcome::Reported(_, receipt, _) => named.get(receipt.token.as_slice()).map(|row| DeliveryId(row.delivery_id)),
    };
    let ids = jobs.iter().filter_map(|job| about(job));
    let refs = jobs.iter().filter_map(|job| Some((job.practice(), job.provider_ref()?)));
    let mut hearing = Hearing::open_on(tx, ids, refs).await?;
    let mut done = Vec::with_capacity(jobs.len());
    for job in jobs {
        // Each shows by itself, as if it had come alone.
        hearing.pause(tx.now)?;
        done.push(match &**job {
            Outcome::Ended(settlement, _) => settle_on(tx, &mut hearing, settlement).await.map(|()| Applied::New)?,
            Outcome::Reported(scope, receipt, _) => {
                report_on(tx, &mut hearing, (scope, receipt), named.get(receipt.token.as_slice())).await?
            }
        });
    }
    let trace = |id: DeliveryId| TraceContext::of_bytes(hearing.drafts.get(&id.0)?.row.trace.as_deref()?);
    let traces = jobs.iter().map(|job| about(job).and_then(trace)).collect();
    Ok((done, traces, hearing.close_on(tx).await?))
}

impl Store {
    /// Writes how an attempt ended.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is settled then.
    pub async fn settle(&self, _: &Engine, settlement: Settlement) -> Result<(), StoreError> {
        self.inner.outcomes.enter(self, Outcome::Ended(settlement, Instant::now())).await.map(drop)
    }

    /// Applies a receipt.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is applied then, and the provider must repeat it.
    pub async fn receipt_apply(&self, scope: &Scope, receipt: Receipt) -> Result<Applied, StoreError> {
        self.inner.outcomes.enter(self, Outcome::Reported(scope.clone(), receipt, Instant::now())).await
    }
}
