//! Whoever reads a watch: they get one step after the other, each once they have taken the one before, for as long as the token
//! behind the watch holds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Watch;
use crate::{clock::SharedClock, domain::Scope, service::Error};

/// The way to a reader.
pub(super) struct Reader<T> {
    steps: mpsc::Sender<T>,
    clock: SharedClock,
    /// When the token behind the watch ends; unset: never.
    expire_time: Option<DateTime<Utc>>,
    stall: Duration,
    stop: CancellationToken,
}

/// Why a watch is over.
pub(super) enum Over {
    /// As planned.
    Planned,
    /// The token behind it has ended.
    Expired,
    /// Its reader left, who needs no answer.
    Gone,
}

impl<T> Reader<T> {
    pub(super) fn new(watch: &Watch, scope: &Scope, steps: mpsc::Sender<T>) -> Self {
        Self {
            steps,
            clock: watch.clock.clone(),
            expire_time: scope.expire_time(),
            stall: watch.settings.stall,
            stop: watch.stop.clone(),
        }
    }

    /// Waits until the watch is over: at `end`, or before that.
    pub(super) async fn over(&self, end: Instant) -> Over {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Over::Planned,
            () = self.steps.closed() => Over::Gone,
            () = self.expired() => Over::Expired,
            () = sleep_until(end) => Over::Planned,
        }
    }

    /// Hands over what `step` makes, once the reader has taken the one before.
    pub(super) async fn send(&self, step: impl FnOnce() -> T) -> Result<(), Error> {
        self.taken().await?;
        // There is room for it, unless the reader left, who needs no answer.
        let _ = self.steps.try_send(step());
        Ok(())
    }

    /// Waits until the reader has taken the step before, or left. Nothing goes out once the token has ended: the clock may
    /// have jumped since that was waited for.
    pub(super) async fn taken(&self) -> Result<(), Error> {
        if self.left().is_some_and(|left| left.is_zero()) {
            return Err(Error::TokenInvalid);
        }
        tokio::select! {
            biased;
            taken = timeout(self.stall, self.steps.reserve()) => match taken {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::WatchStalled),
            },
            () = self.expired() => Err(Error::TokenInvalid),
        }
    }

    /// Resolves when the token behind the watch ends.
    async fn expired(&self) {
        match self.left() {
            Some(left) => sleep(left).await,
            None => std::future::pending().await,
        }
    }

    /// How long the token behind the watch still holds; unset: for ever.
    fn left(&self) -> Option<Duration> {
        let left = self.expire_time? - self.clock.now();
        Some(left.to_std().unwrap_or_default())
    }
}
