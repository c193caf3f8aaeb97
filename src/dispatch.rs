//! What talks to providers. A worker claims no more than it can begin at once, commits the claim, calls outside any
//! transaction, and settles what came of it in batches. Whatever dies in between is taken over by the rows.

mod attempt;
mod claims;
mod fairness;
mod limits;
mod media;
mod reconcile;
mod settle;
mod stopwatch;

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    clock::SharedClock,
    domain::Engine,
    providers::Providers,
    store::{Handover, Leave, Store},
};
use claims::Claims;
pub use limits::SmsRate;
use limits::{Gone, Limits};

/// How sending goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Calls under way at most.
    pub slots: usize,
    /// A call begins at most this long after its claim.
    pub start_limit: Duration,
    /// How often due work is looked for though nobody hinted at any.
    pub poll: Duration,
    /// How often unknown outcomes are looked for.
    pub look_poll: Duration,
    /// The pace of a sender of text messages (`HEEDWELL_SMS_RATE`).
    pub sms_rate: SmsRate,
    /// Where providers reach this server, without a slash at the end.
    pub public_url: String,
}

/// A limit is out of its range, so that a promise could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// One by itself.
    #[error("{name} is {value}, but must be from {from} to {to}", from = range.start(), to = range.end())]
    OutOfRange {
        /// Which.
        name: &'static str,
        /// What it is.
        value: u128,
        /// What it may be.
        range: RangeInclusive<u128>,
    },
    /// A claim could end before its call does, and the delivery be taken over in mid-call.
    #[error(
        "a lease of {lease:?} is too short for calls that begin within {start:?} and take {call:?}: it must be a third longer"
    )]
    LeaseTooShort {
        /// How long a claim holds.
        lease: Duration,
        /// When a call may begin.
        start: Duration,
        /// How long it may take.
        call: Duration,
    },
}

impl Settings {
    /// The usual, with callbacks to `public_url`.
    #[must_use]
    pub const fn new(public_url: String) -> Self {
        Self {
            slots: 256,
            start_limit: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            look_poll: Duration::from_secs(1),
            sms_rate: SmsRate::Auto,
            public_url,
        }
    }

    /// Whether the limits are within their ranges and fit together, with a claim that holds for `lease` and calls that take
    /// up to `longest_call`.
    ///
    /// # Errors
    /// [`SettingsError`]: the first that does not.
    pub fn check(&self, lease: Duration, longest_call: Duration) -> Result<(), SettingsError> {
        // Test and chaos runs scale the times down; nobody gains by scaling them up.
        for (name, value, range) in [
            ("the number of slots", self.slots as u128, 8..=4_096),
            ("the start limit in milliseconds", self.start_limit.as_millis(), 100..=15_000),
            ("the longest call in milliseconds", longest_call.as_millis(), 100..=30_000),
            ("the lease in milliseconds", lease.as_millis(), 1_000..=60_000),
            ("the pause between looks for due work in milliseconds", self.poll.as_millis(), 10..=5_000),
            ("the pause between looks for outcomes in milliseconds", self.look_poll.as_millis(), 10..=5_000),
        ] {
            if !range.contains(&value) {
                return Err(SettingsError::OutOfRange { name, value, range });
            }
        }
        if 3 * lease < 4 * (self.start_limit + longest_call) {
            return Err(SettingsError::LeaseTooShort { lease, start: self.start_limit, call: longest_call });
        }
        Ok(())
    }
}

/// Sends what is due.
#[derive(Clone, Debug)]
pub struct Dispatch {
    store: Store,
    engine: Engine,
    providers: Arc<Providers>,
    settings: Settings,
    clock: SharedClock,
    limits: Arc<Mutex<Limits>>,
    worker: Uuid,
    stop: CancellationToken,
}

impl Dispatch {
    /// Over `store`; no further claim begins once `stop` is cancelled.
    #[must_use]
    pub fn new(
        store: Store,
        engine: Engine,
        providers: Arc<Providers>,
        settings: Settings,
        clock: SharedClock,
        stop: CancellationToken,
    ) -> Self {
        let limits = Arc::new(Mutex::new(Limits::new(settings.sms_rate)));
        Self { store, engine, providers, settings, clock, limits, worker: Uuid::new_v4(), stop }
    }

    /// Works until `stop`, then ends the calls under way and settles them.
    pub async fn run(self) {
        let tasks = TaskTracker::new();
        tasks.spawn(self.clone().reconcile());
        tasks.spawn(self.clone().sweep());
        tasks.spawn(self.clone().fetch_media());
        Claims::run(&self, &tasks).await;
        tasks.close();
        tasks.wait().await;
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the limits, within a claim's transaction, and notes whom they let go.
    fn leave(&self, gone: Arc<Mutex<Vec<Gone>>>) -> impl Fn(&Handover<'_>) -> Leave + Send + Sync + 'static {
        let dispatch = self.clone();
        move |handover| {
            let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
            dispatch.limits().leave(handover, &mut gone)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_would_break_a_promise_are_refused() {
        let usual = Settings::new(String::new());
        let seconds = Duration::from_secs;
        assert_eq!(usual.check(seconds(60), seconds(30)), Ok(()));
        // Scaled down for a run with kills.
        let scaled = Settings { start_limit: Duration::from_millis(500), ..usual.clone() };
        assert_eq!(scaled.check(seconds(3), Duration::from_millis(1_500)), Ok(()));

        let short = usual.check(seconds(59), seconds(30));
        assert!(matches!(short, Err(SettingsError::LeaseTooShort { .. })), "{short:?}");
        let name = |settings: Settings, lease, call| match settings.check(lease, call) {
            Err(SettingsError::OutOfRange { name, .. }) => name,
            other => panic!("{other:?}"),
        };
        for (settings, lease, call, expected) in [
            (Settings { slots: 7, ..usual.clone() }, 60, 30, "the number of slots"),
            (Settings { start_limit: seconds(16), ..usual.clone() }, 60, 28, "the start limit in milliseconds"),
            (usual.clone(), 60, 31, "the longest call in milliseconds"),
            (usual.clone(), 61, 30, "the lease in milliseconds"),
            (
                Settings { poll: Duration::ZERO, ..usual.clone() },
                60,
                30,
                "the pause between looks for due work in milliseconds",
            ),
            (
                Settings { look_poll: seconds(6), ..usual.clone() },
                60,
                30,
                "the pause between looks for outcomes in milliseconds",
            ),
        ] {
            assert_eq!(name(settings, seconds(lease), seconds(call)), expected);
        }
    }
}
