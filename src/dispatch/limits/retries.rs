//! How many repeats an account may have that fail: a tenth of what it sends for the first time. A provider that is in trouble
//! is not helped by being asked twice as often; one that takes what it is asked for again is no worse for it.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::Health;
use crate::domain::DeliveryId;

/// Repeats that each first try pays for.
const SHARE: f64 = 0.1;
/// Repeats that may be saved up.
const MOST: f64 = 100.0;
/// Repeats that an account has which sends little; as many are saved up for it, one a minute.
const FLOOR: f64 = 10.0;
const FLOOR_SECONDS: f64 = 60.0;
/// What waits for its repeat is looked at again after this long, since first tries may have paid for it meanwhile, and one
/// after the other.
const PATIENCE: TimeDelta = TimeDelta::seconds(5);
const APART: TimeDelta = TimeDelta::seconds(1);

#[derive(Debug)]
pub(super) struct Retries {
    saved: f64,
    at: DateTime<Utc>,
    line: DateTime<Utc>,
    under_way: HashSet<DeliveryId>,
}

impl Retries {
    pub(super) fn new(now: DateTime<Utc>) -> Self {
        Self { saved: FLOOR, at: now, line: now, under_way: HashSet::new() }
    }

    /// Until when a repeat has to wait, if it has to.
    pub(super) fn park(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let passed = (now - self.at).as_seconds_f64().max(0.0);
        self.at = self.at.max(now);
        if self.saved < FLOOR {
            self.saved = (self.saved + passed / FLOOR_SECONDS).min(FLOOR);
        }
        if self.saved >= 1.0 {
            return None;
        }
        let at = self.line.max(now + PATIENCE);
        self.line = at + APART;
        Some(at)
    }

    /// Counts a call that is let go.
    pub(super) fn count(&mut self, id: DeliveryId, again: bool) {
        self.saved = if again { self.saved - 1.0 } else { (self.saved + SHARE).min(MOST) };
        if again {
            self.under_way.insert(id);
        }
    }

    /// Notes how a call ended. A repeat that found the account in order, or was not made, costs nothing; nor does one that a
    /// provider asks for which is well.
    pub(super) fn ended(&mut self, id: DeliveryId, health: &Health) {
        let repeat = self.under_way.remove(&id);
        let free = match health {
            Health::Well | Health::Unsaid => repeat,
            Health::Deferred => true,
            Health::Ill { .. } => false,
        };
        if free {
            self.saved = (self.saved + 1.0).min(MOST);
        }
    }
}
