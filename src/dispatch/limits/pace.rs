//! The pace of a sender: a bucket that fills with tokens, one for each segment.
//!
//! Guarantee: within any span no more leaves than the bucket holds and what the span adds, but for one message that is longer
//! than the bucket.

use chrono::{DateTime, Utc};

use super::{Lines, Rank, seconds};

/// Seconds' worth of tokens that the bucket holds.
const BURST_SECONDS: f64 = 10.0;
/// Shares of a token are added up, which is not exact.
const NEARLY: f64 = 1e-6;

#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens a second.
    rate: f64,
    tokens: f64,
    at: DateTime<Utc>,
    lines: Lines,
}

impl Pace {
    pub(super) fn new(rate: f64, now: DateTime<Utc>) -> Self {
        Self { rate, tokens: rate * BURST_SECONDS, at: now, lines: Lines::new(now) }
    }

    /// Takes the tokens of a message of `cost` segments.
    ///
    /// # Errors
    /// When it has to wait until, if there are too few, or if others come first.
    pub(super) fn leave(&mut self, rank: Rank, cost: f64, now: DateTime<Utc>) -> Result<(), DateTime<Utc>> {
        let full = self.rate * BURST_SECONDS;
        let passed = (now - self.at).as_seconds_f64().max(0.0);
        self.tokens = (self.tokens + passed * self.rate).min(full);
        self.at = self.at.max(now);

        // What is longer than the bucket leaves when it is full, and those behind it wait the longer.
        let missing = cost.min(full) - self.tokens;
        let ahead = self.lines.ahead(rank);
        if missing <= NEARLY && ahead <= now {
            self.tokens -= cost;
            return Ok(());
        }
        let earliest = now + seconds(missing.max(0.0) / self.rate);
        Err(self.lines.join(rank, earliest.max(ahead), seconds(cost / self.rate)))
    }
}
