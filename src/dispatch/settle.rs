//! Gathers how attempts ended and writes them in batches, one transaction a practice: many small commits would wait for the
//! disk one after the other.

use std::{collections::BTreeMap, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use super::Ended;
use crate::{
    domain::{Engine, Verdict},
    store::{Settlement, Store, StoreError},
    telemetry,
};

/// Settlements in one transaction at most.
const BATCH: usize = 50;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Settles until every sender is gone.
pub(super) async fn run(store: Store, engine: Engine, mut ended: mpsc::Receiver<Ended>) {
    let mut batch = Vec::with_capacity(BATCH);
    while ended.recv_many(&mut batch, BATCH).await > 0 {
        let mut practices = BTreeMap::<_, Vec<_>>::new();
        for one in &batch {
            practices.entry(one.settlement.practice.clone()).or_default().push(one.settlement.clone());
        }
        for settlements in practices.into_values() {
            if !write(&store, &engine, &settlements).await {
                // One that cannot be written must not take the others with it.
                for one in settlements.chunks(1) {
                    write(&store, &engine, one).await;
                }
            }
        }
        // The slots are free again only now.
        for mut one in batch.drain(..) {
            if one.settlement.verdict == Verdict::NotStarted {
                one.slot.give_back();
            }
        }
    }
}

/// Writes settlements of one practice. While the database is away it is tried again and again: a verdict is proof that
/// nobody else has, and whoever waits for it claims nothing meanwhile. False when the database refuses them for good.
async fn write(store: &Store, engine: &Engine, settlements: &[Settlement]) -> bool {
    let Some(practice) = settlements.first().map(|first| first.practice.clone()) else { return true };
    let mut pause = Duration::from_millis(50);
    loop {
        match store.settle(engine, &practice, settlements.to_vec()).await {
            Ok(()) => return true,
            Err(StoreError::Busy(error)) => {
                tracing::warn!(practice.id = %practice, error = %telemetry::chain(&error), "settling is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(error) => {
                tracing::error!(
                    practice.id = %practice, count = settlements.len(), error = %telemetry::chain(&error),
                    "attempts could not be settled; their outcomes will be looked for"
                );
                return false;
            }
        }
    }
}
