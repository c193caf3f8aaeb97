//! How fast one caller may call: a token's subject has so many calls a second, and two seconds' worth at once. Counted in memory, and by
//! each replica for itself.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How much may come at once.
const BURST: Duration = Duration::from_secs(2);
/// Callers that are counted at a time. Beyond them nobody is shut out, and memory does not grow.
const CALLERS: usize = 20_000;

/// Counts calls.
#[derive(Debug)]
pub struct Calls {
    /// Between two calls at the steady rate; unset: no limit.
    every: Option<Duration>,
    hasher: RandomState,
    /// Until when each caller has used up its share, by a digest of its name.
    until: Mutex<HashMap<u64, Instant>>,
}

impl Calls {
    /// So many a second for each caller; unset: no limit.
    #[must_use]
    pub fn new(per_second: Option<u32>) -> Self {
        let every = per_second.map(|calls| Duration::from_secs(1) / calls.max(1));
        Self { every, hasher: RandomState::new(), until: Mutex::default() }
    }

    /// Takes one call on.
    ///
    /// # Errors
    /// When there were too many; says how long until there is room for another.
    pub fn take(&self, subject: &str) -> Result<(), Duration> {
        let Some(every) = self.every else { return Ok(()) };
        let (key, now) = (self.hasher.hash_one(subject), Instant::now());
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= CALLERS && !until.contains_key(&key) {
            until.retain(|_, until| *until > now);
            if until.len() >= CALLERS {
                return Ok(());
            }
        }
        let used = until.get(&key).map_or(now, |until| (*until).max(now));
        let wait = (used + every).saturating_duration_since(now + BURST.max(every));
        if !wait.is_zero() {
            return Err(wait);
        }
        until.insert(key, used + every);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(calls: &Calls, subject: &str) -> usize {
        (0..10_000).take_while(|_| calls.take(subject).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_a_burst_and_then_a_rate() {
        let calls = Calls::new(Some(50));
        assert_eq!(taken(&calls, "a"), 100);
        assert_eq!(calls.take("a"), Err(Duration::from_millis(20)));
        assert_eq!(taken(&calls, "b"), 100, "each has its own");
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(taken(&calls, "a"), 25);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(taken(&calls, "a"), 100, "what was not used is not saved up");
        assert_eq!(taken(&Calls::new(None), "a"), 10_000);
        assert_eq!(taken(&Calls::new(Some(1)), "a"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_take_no_memory_without_end_and_shut_nobody_out() {
        let calls = Calls::new(Some(50));
        for n in 0..2 * CALLERS {
            assert_eq!(calls.take(&n.to_string()), Ok(()));
        }
        let held = || calls.until.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert_eq!(held(), CALLERS);
        tokio::time::advance(BURST).await;
        assert_eq!((calls.take("another"), held()), (Ok(()), 1));
    }
}
