//! Text messages cost money, and whoever has stolen a key can make some of it theirs, by texting numbers that they are paid for: one
//! after the other in a block, or one again and again. A practice that does such a thing is stopped, and somebody is told.
//! Counted in memory, and by each replica for itself; what a practice texts in a day is counted in the database.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{PhoneNumber, PracticeId};

/// How long is counted together.
const SPAN: Duration = Duration::from_secs(10 * 60);
/// Numbers and blocks that are counted within it. Beyond them nobody is shut out, and memory does not grow.
const COUNTED: usize = 200_000;
/// The digits at the end in which the numbers of a block differ: there are a thousand of them.
const BLOCK: usize = 3;
/// A single number gets this part of what its block may get.
const ONE_OF: u32 = 10;
/// Sends to numbers that may not be texted, of one practice in a span. A few are mistakes.
const ODD: u32 = 50;
/// The same is told once in so long.
const TOLD: Duration = Duration::from_secs(60 * 60);

/// What somebody has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Alarm {
    /// Four fifths of a day's segments are gone.
    MostOfTheDay,
    /// All of them are.
    Day,
    /// Too much to one number or block.
    Velocity,
    /// Many numbers that may not be texted: abroad, premium rate.
    OddNumbers,
}

impl Alarm {
    /// As metrics have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MostOfTheDay => "most_of_the_day",
            Self::Day => "day",
            Self::Velocity => "velocity",
            Self::OddNumbers => "odd_numbers",
        }
    }
}

/// Counts texts.
#[derive(Debug)]
pub(super) struct Texts {
    /// To one block within the span; unset: no limit.
    most: Option<u32>,
    hasher: RandomState,
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    start: Instant,
    taken: HashMap<u64, u32>,
    odd: HashMap<PracticeId, u32>,
    told: HashMap<(PracticeId, Alarm), Instant>,
}

impl Texts {
    pub(super) fn new(most: Option<u32>) -> Self {
        let (taken, odd, told) = Default::default();
        let counts = Counts { start: Instant::now(), taken, odd, told };
        Self { most, hasher: RandomState::new(), counts: Mutex::new(counts) }
    }

    /// Takes one text to that number on.
    ///
    /// # Errors
    /// When there were too many; says how long until there may be more, and what there were too many to.
    pub(super) fn take(&self, practice: &PracticeId, number: &PhoneNumber) -> Result<(), (Duration, &'static str)> {
        let Some(most) = self.most else { return Ok(()) };
        let whole = number.e164();
        let block = &whole[..whole.len().saturating_sub(BLOCK)];
        let mut counts = self.current();
        let rest = SPAN.saturating_sub(counts.start.elapsed());
        let limits = [("sms_to_number", whole, (most / ONE_OF).max(1)), ("sms_to_block", block, most)];
        let limits = limits.map(|(limit, what, most)| (limit, self.hasher.hash_one((practice, what)), most));
        for (limit, key, most) in limits {
            if counts.taken.get(&key).is_some_and(|taken| *taken >= most) {
                return Err((rest, limit));
            }
        }
        for (_, key, _) in limits {
            if counts.taken.len() < COUNTED || counts.taken.contains_key(&key) {
                *counts.taken.entry(key).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Notes a send to a number that may not be texted. True: there are so many that somebody must be told.
    pub(super) fn odd(&self, practice: &PracticeId) -> bool {
        let mut counts = self.current();
        let odd = counts.odd.entry(practice.clone()).or_default();
        *odd += 1;
        *odd >= ODD
    }

    /// Whether it is time to tell of that: true once in an hour.
    pub(super) fn is_news(&self, practice: &PracticeId, alarm: Alarm) -> bool {
        let now = Instant::now();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.told.retain(|_, told| now.duration_since(*told) < TOLD);
        let key = (practice.clone(), alarm);
        let news = !counts.told.contains_key(&key);
        if news {
            counts.told.insert(key, now);
        }
        news
    }

    /// The counts of the present span.
    fn current(&self) -> std::sync::MutexGuard<'_, Counts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.start.elapsed() >= SPAN {
            counts.start = Instant::now();
            counts.taken.clear();
            counts.odd.clear();
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn number(line: u32) -> PhoneNumber {
        PhoneNumber::parse(&format!("+1202555{line:04}"), "").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_and_a_block_of_numbers_get_so_many_and_others_what_is_theirs() {
        let (texts, acme, other) = (Texts::new(Some(100)), "acme".parse().unwrap(), "other".parse().unwrap());
        for _ in 0..10 {
            assert_eq!(texts.take(&acme, &number(100)), Ok(()));
        }
        tokio::time::advance(SPAN / 4).await;
        assert_eq!(texts.take(&acme, &number(100)), Err((SPAN / 4 * 3, "sms_to_number")));
        assert_eq!(texts.take(&other, &number(100)), Ok(()));
        for line in 101..191 {
            assert_eq!(texts.take(&acme, &number(line)), Ok(()), "{line}");
        }
        assert_eq!(texts.take(&acme, &number(191)), Err((SPAN / 4 * 3, "sms_to_block")));
        let elsewhere = PhoneNumber::parse("+13125550142", "").unwrap();
        assert_eq!(texts.take(&acme, &elsewhere), Ok(()));
        tokio::time::advance(SPAN / 4 * 3).await;
        assert_eq!(texts.take(&acme, &number(191)), Ok(()));
        let unlimited = Texts::new(None);
        assert!((0..10_000).all(|_| unlimited.take(&acme, &number(100)).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_is_told_of_many_odd_numbers_and_once_in_an_hour() {
        let (texts, acme, other) = (Texts::new(None), "acme".parse().unwrap(), "other".parse().unwrap());
        assert_eq!((1..ODD).filter(|_| texts.odd(&acme)).count(), 0, "a few are mistakes");
        assert!(texts.odd(&acme) && !texts.odd(&other));
        assert!(texts.is_news(&acme, Alarm::OddNumbers) && !texts.is_news(&acme, Alarm::OddNumbers));
        assert!(texts.is_news(&acme, Alarm::Day) && texts.is_news(&other, Alarm::OddNumbers));
        tokio::time::advance(TOLD).await;
        assert!(texts.is_news(&acme, Alarm::OddNumbers));
        assert!(!texts.odd(&acme), "a span later it begins anew");
    }
}
