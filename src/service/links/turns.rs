//! How often a link may be looked at and pressed, so that nobody can have the database read without end by one address. Counted
//! in memory, and by each replica for itself: nothing is written for it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A patient looks and presses a few times, and the dozen scanners of a mail system fetch a link a few times each.
const MOST: u32 = 200;
/// Within so long.
const SPAN: Duration = Duration::from_secs(60);
/// Links that are counted within it. Whatever made-up addresses are tried beyond them, memory does not grow.
const LINKS: usize = 20_000;

/// The count of the present span.
#[derive(Debug)]
pub(super) struct Turns(Mutex<Span>);

#[derive(Debug)]
struct Span {
    start: Instant,
    taken: HashMap<[u8; 32], u32>,
}

impl Default for Turns {
    fn default() -> Self {
        Self(Mutex::new(Span { start: Instant::now(), taken: HashMap::new() }))
    }
}

impl Turns {
    /// Takes a turn for the link with that digest.
    ///
    /// # Errors
    /// When there are no more; says how long until there are.
    pub(super) fn take(&self, digest: [u8; 32]) -> Result<(), Duration> {
        let mut span = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = span.start.elapsed();
        if passed >= SPAN {
            *span = Span { start: Instant::now(), taken: HashMap::new() };
        }
        let full = span.taken.len() >= LINKS;
        match span.taken.get_mut(&digest) {
            Some(taken) if *taken >= MOST => return Err(SPAN.saturating_sub(passed)),
            Some(taken) => *taken += 1,
            None if full => {}
            None => drop(span.taken.insert(digest, 1)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_link_has_so_many_turns_and_more_when_the_span_is_over() {
        let turns = Turns::default();
        for _ in 0..MOST {
            assert_eq!(turns.take([1; 32]), Ok(()));
        }
        tokio::time::advance(SPAN / 4).await;
        assert_eq!(turns.take([1; 32]), Err(SPAN / 4 * 3));
        assert_eq!(turns.take([2; 32]), Ok(()));
        tokio::time::advance(SPAN / 4 * 3).await;
        assert_eq!(turns.take([1; 32]), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn made_up_addresses_take_no_memory_without_end_and_shut_nobody_out() {
        let turns = Turns::default();
        for n in 0..u32::try_from(LINKS).unwrap_or_default() + 10 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&n.to_be_bytes());
            assert_eq!(turns.take(digest), Ok(()));
        }
        for _ in 0..2 * MOST {
            assert_eq!(turns.take([0xff; 32]), Ok(()));
        }
        assert_eq!(turns.0.lock().unwrap_or_else(PoisonError::into_inner).taken.len(), LINKS);
    }
}
