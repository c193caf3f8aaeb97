//! How old a claim is, by two clocks that need not agree: after a pause of the whole machine one of them may not know of it,
//! and a lease that is taken for fresh may have ended.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::clock::SharedClock;

/// How far the clocks may have drifted apart since the claim.
const DRIFT: TimeDelta = TimeDelta::seconds(5);

/// Started just before a claim.
#[derive(Clone, Debug)]
pub(super) struct Stopwatch {
    clock: SharedClock,
    wall: DateTime<Utc>,
    started: Instant,
}

impl Stopwatch {
    pub(super) fn start(clock: &SharedClock) -> Self {
        Self { clock: clock.clone(), wall: clock.now(), started: Instant::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether a call may still begin: no more than `limit` has passed, and nothing speaks against that.
    pub(super) fn allows(&self, limit: Duration) -> bool {
        let passed = self.elapsed();
        let by_wall = self.clock.now() - self.wall;
        let drift = TimeDelta::from_std(passed).map(|passed| (by_wall - passed).abs());
        passed <= limit && drift.is_ok_and(|drift| drift <= DRIFT)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;

    const LIMIT: Duration = Duration::from_secs(15);

    fn started() -> (Arc<ManualClock>, Stopwatch) {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH + TimeDelta::days(1)));
        let shared: SharedClock = clock.clone();
        (clock, Stopwatch::start(&shared))
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_good_for_the_limit() {
        let (clock, watch) = started();
        tokio::time::advance(LIMIT).await;
        clock.advance(LIMIT);
        assert!(watch.allows(LIMIT));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!watch.allows(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_only_one_clock_noticed_ends_it() {
        let (clock, watch) = started();
        clock.advance(Duration::from_secs(5));
        assert!(watch.allows(LIMIT));
        clock.advance(Duration::from_millis(1));
        assert!(!watch.allows(LIMIT), "the wall clock ran ahead");

        let (_clock, watch) = started();
        tokio::time::advance(Duration::from_millis(5_001)).await;
        assert!(!watch.allows(LIMIT), "the wall clock stood still");
    }
}
