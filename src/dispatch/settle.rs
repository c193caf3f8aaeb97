//! Gathers how attempts ended and writes them in batches, one transaction a practice: many small commits would wait for the
//! disk one after the other.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::Ended;
use crate::{
    domain::Engine,
    store::{Store, StoreError},
    telemetry,
};

/// Settlements in one transaction at most.
const BATCH: usize = 50;
/// Tries before the verdicts are given up; the leases then end, and the outcomes are looked for like those of a crash.
const TRIES: u32 = 6;

/// Settles until every sender is gone.
pub(super) async fn run(store: Store, engine: Engine, mut ended: mpsc::Receiver<Ended>) {
    let mut batch = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut batch, BATCH).await > 0 {
        let mut practices = BTreeMap::<_, Vec<_>>::new();
        for one in &batch {
            practices.entry(one.settlement.practice.clone()).or_default().push(one.settlement.clone());
        }
        for (practice, settlements) in practices {
            for tried in 1..=TRIES {
                match store.settle(&engine, &practice, settlements.clone()).await {
                    Ok(()) => break,
                    Err(StoreError::Busy(_)) if tried < TRIES => {
                        sleep(Duration::from_millis(50 << tried)).await;
                    }
                    Err(error) => {
                        tracing::error!(
                            practice.id = %practice, count = settlements.len(), error = %telemetry::chain(&error),
                            "attempts could not be settled"
                        );
                        break;
                    }
                }
            }
        }
        // The slots are free again only now.
        batch.clear();
    }
}
