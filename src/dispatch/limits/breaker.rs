//! A breaker for one account: after some failures in a row nothing more is sent by it but one message at a time to see
//! whether it is in order again, and then it is not asked for everything at once. As many failures in a row open it again
//! while it begins anew: a provider that refuses every tenth request would never be let begin if one were enough.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Health, Lines, Rank, seconds};
use crate::{
    domain::{DeliveryId, FailureReason},
    store::Failing,
};

/// Failures in a row after which it opens, once they go on for this long or say that the account is set up wrong.
const STRIKES: u32 = 5;
const STRIKING: TimeDelta = TimeDelta::seconds(1);
/// Failures in a row after which it opens whatever the time. Where hundreds of calls end in a second and some of them fail, five
/// come in a row every few seconds by chance.
const MOST_STRIKES: u32 = 20;
/// How long it stays open at first, and at most, unless the provider wants to be left alone for longer. Somebody who put the
/// account right shall not wait for long.
const FIRST_WAIT: TimeDelta = TimeDelta::seconds(2);
const LONGEST_WAIT: TimeDelta = TimeDelta::seconds(60);
/// A provider's own wish counts up to here.
const LONGEST_WISH: Duration = Duration::from_secs(15 * 60);
/// A probe that was heard of no more: it was given back, or its claim failed. Longer than a claim and its call can take.
const PROBE_LIMIT: TimeDelta = TimeDelta::seconds(60);
/// While a probe is under way, the others wait for at least this long.
const PROBE_TIME: TimeDelta = TimeDelta::seconds(1);
/// The share of the steady rate with which it begins again. It doubles each second.
const RISE_FROM: f64 = 0.1;

/// Whether it lets somebody through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Gate {
    /// Yes.
    Free,
    /// As the one by whom it sees whether the account is in order again.
    Probe,
    /// Not before then.
    Shut(DateTime<Utc>),
}

#[derive(Debug)]
enum State {
    Closed,
    Open { until: DateTime<Utc> },
    Probing { id: DeliveryId, until: DateTime<Utc> },
    Rising { since: DateTime<Utc>, tokens: f64, at: DateTime<Utc> },
}

#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// Failures since the last success, and when the first of them came.
    strikes: u32,
    struck: DateTime<Utc>,
    /// How long it stays open the next time.
    wait: TimeDelta,
    /// The last failure.
    failing: Option<Failing>,
    lines: Lines,
}

impl Breaker {
    pub(super) const fn new(now: DateTime<Utc>) -> Self {
        Self { state: State::Closed, strikes: 0, struck: now, wait: FIRST_WAIT, failing: None, lines: Lines::new(now) }
    }

    /// Whether nothing is sent but probes.
    pub(super) const fn is_shut(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Probing { .. })
    }

    /// Whether a call that was let go before must not begin any more: nothing but the probe does.
    pub(super) fn holds_back(&self, call: DeliveryId) -> bool {
        match &self.state {
            State::Open { .. } => true,
            State::Probing { id, .. } => *id != call,
            State::Closed | State::Rising { .. } => false,
        }
    }

    /// Why nothing is sent, while nothing is.
    pub(super) fn failing(&self) -> Option<Failing> {
        if self.is_shut() { self.failing.clone() } else { None }
    }

    /// Whether somebody may pass. `steady` is the account's usual rate in a second.
    pub(super) fn gate(&mut self, now: DateTime<Utc>, steady: f64) -> Gate {
        match &mut self.state {
            State::Closed => Gate::Free,
            State::Open { until } | State::Probing { until, .. } if now >= *until => Gate::Probe,
            State::Open { until } => Gate::Shut(*until),
            State::Probing { .. } => Gate::Shut(now + PROBE_TIME),
            State::Rising { since, tokens, at } => {
                let rate = steady * RISE_FROM * (now - *since).as_seconds_f64().max(0.0).exp2();
                if rate >= steady {
                    (self.state, self.wait) = (State::Closed, FIRST_WAIT);
                    return Gate::Free;
                }
                *tokens = (*tokens + rate * (now - *at).as_seconds_f64().max(0.0)).min(rate.max(1.0));
                *at = now;
                if *tokens >= 1.0 { Gate::Free } else { Gate::Shut(now + seconds((1.0 - *tokens) / rate)) }
            }
        }
    }

    /// Gives somebody who may not pass a place in the line.
    pub(super) fn park(&mut self, rank: Rank, until: DateTime<Utc>, apart: TimeDelta) -> DateTime<Utc> {
        self.lines.join(rank, until, apart)
    }

    /// Somebody whom the gate let pass does pass.
    pub(super) fn pass(&mut self, gate: Gate, id: DeliveryId, now: DateTime<Utc>) {
        match (&mut self.state, gate) {
            (state, Gate::Probe) => *state = State::Probing { id, until: now + PROBE_LIMIT },
            (State::Rising { tokens, .. }, _) => *tokens -= 1.0,
            _ => {}
        }
    }

    /// Notes how a call ended. Only the probe's end tells anything while it is under way: the others began before.
    pub(super) fn ended(&mut self, by: DeliveryId, health: Health, now: DateTime<Utc>) {
        match (&mut self.state, health) {
            (State::Closed | State::Rising { .. }, Health::Well | Health::Deferred) => self.strikes = 0,
            (State::Closed | State::Rising { .. }, Health::Ill { failing, wait }) => {
                if self.strikes == 0 {
                    self.struck = now;
                }
                self.strikes += 1;
                // A wrong password does not come by chance, and too many of them lock the account.
                let certain = failing.reason == FailureReason::ProviderConfig || now - self.struck >= STRIKING;
                if certain && self.strikes >= STRIKES || self.strikes >= MOST_STRIKES {
                    self.open(failing, wait, now);
                }
            }
            (State::Probing { id, .. }, health) if *id == by => match health {
                Health::Well | Health::Deferred => self.state = State::Rising { since: now, tokens: 1.0, at: now },
                Health::Ill { failing, wait } => self.open(failing, wait, now),
                Health::Unsaid => self.state = State::Open { until: now },
            },
            _ => {}
        }
    }

    fn open(&mut self, failing: Failing, wish: Option<Duration>, now: DateTime<Utc>) {
        let wish = TimeDelta::from_std(wish.unwrap_or_default().min(LONGEST_WISH)).unwrap_or_default();
        self.state = State::Open { until: now + self.wait.max(wish) };
        self.strikes = 0;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.failing = Some(failing);
    }
}
