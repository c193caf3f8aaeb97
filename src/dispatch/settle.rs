//! Writes how attempts ended. The store writes those that end at the same time together.

use std::time::Duration;

use tokio::time::sleep;

use super::Dispatch;
use crate::{
    store::{Settlement, StoreError},
    telemetry,
};

/// The first pause before another try, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Dispatch {
    /// Writes how an attempt ended. While the database is away it is tried again and again: a verdict is proof that nobody else
    /// has, and whoever waits for it keeps the slot.
    pub(super) async fn settle(&self, settlement: Settlement) {
        let (mut pause, longest) = PAUSES;
        loop {
            let error = match self.store.settle(&self.engine, settlement.clone()).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let (practice, id) = (&settlement.practice, settlement.id);
            if !matches!(error, StoreError::Busy(_) | StoreError::Overloaded) {
                tracing::error!(
                    practice.id = %practice, delivery.id = %id, error = %telemetry::chain(&error),
                    "an attempt could not be settled; its outcome will be looked for"
                );
                return;
            }
            tracing::warn!(
                practice.id = %practice, delivery.id = %id, error = %telemetry::chain(&error), "settling is tried again"
            );
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}
