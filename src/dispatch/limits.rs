//! How much a sender and an account are asked to do: the sender's pace, a breaker for an account that is out of order, and a
//! budget for repeats. Asked in the transaction of a claim, once every other rule lets a delivery go; whom it does not let go
//! is parked there and takes no slot.
//!
//! It is kept in memory, each replica for itself: what is forgotten at a restart is learnt again from the next few answers.

mod breaker;
mod lines;
mod pace;
mod retries;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::Semaphore;

use crate::{
    domain::{Account, DeliveryId, PracticeId, SmsSender},
    store::{Claimed, Failing, Handover, Leave},
};
use breaker::{Breaker, Gate};
use lines::{Lines, Rank};
use pace::Pace;
use retries::Retries;

/// Segments a second that leave from one sender of text messages (`HEEDWELL_SMS_RATE`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SmsRate {
    /// What Twilio lets through by the kind of sender.
    #[default]
    Auto,
    /// This many, whatever the kind.
    Segments(f64),
    /// As many as there are.
    Unlimited,
}

/// A long code's pace, toll-free's, and that of short codes and messaging services.
const LONG_CODE: f64 = 1.0;
const TOLL_FREE: f64 = 3.0;
const FAST: f64 = 10.0;
/// Area codes of North America that are free to call.
const TOLL_FREE_CODES: [&str; 7] = ["800", "833", "844", "855", "866", "877", "888"];
/// What an account without a pace of its own is taken to do in a second when all is well.
const STEADY: f64 = 100.0;

impl SmsRate {
    fn of(self, account: &Account) -> Option<f64> {
        let Account::Twilio(account) = account else { return None };
        match (self, &account.sender, &account.pool_number) {
            (Self::Unlimited, ..) => None,
            (Self::Segments(rate), ..) => Some(rate),
            (Self::Auto, SmsSender::MessagingService(_), None) => Some(FAST),
            (Self::Auto, SmsSender::MessagingService(_), Some(number)) | (Self::Auto, SmsSender::Number(number), _) => {
                Some(of_number(number.e164()))
            }
        }
    }
}

/// Calls to one account that are under way at once, at most. A relay counts connections: Postfix gives a client 50
/// (`smtpd_client_connection_count_limit`). Twilio counts requests (error 20429).
const fn most_calls(account: &Account) -> usize {
    match account {
        Account::Twilio(_) | Account::SendGrid(_) | Account::Fcm(_) => 64,
        Account::Smtp(_) => 32,
    }
}

fn of_number(number: &str) -> f64 {
    let digits = number.trim_start_matches('+');
    let area = digits.strip_prefix('1').filter(|national| national.len() == 10).and_then(|national| national.get(..3));
    match area {
        _ if matches!(digits.len(), 5 | 6) => FAST,
        Some(area) if TOLL_FREE_CODES.contains(&area) => TOLL_FREE,
        _ => LONG_CODE,
    }
}

/// What an answer tells of its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It is in order, whatever became of the message.
    Well,
    /// It is in order, and asks for the message again: servers that greylist do.
    Deferred,
    /// No message would have been taken.
    Ill {
        /// Why.
        failing: Failing,
        /// How long the provider wants to be left alone.
        wait: Option<Duration>,
    },
    /// Nothing: it was not asked, or did not come to answer.
    Unsaid,
}

/// Whom a claim let go, until it is committed.
#[derive(Debug)]
pub(super) struct Gone {
    account: (PracticeId, String),
    id: DeliveryId,
    now: DateTime<Utc>,
}

/// The limits of every account and sender that this process has met.
#[derive(Debug)]
pub(super) struct Limits {
    rate: SmsRate,
    /// By practice too: whose password is wrong must not stop those who know it.
    accounts: HashMap<(PracticeId, String), State>,
    senders: HashMap<String, Pace>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    retries: Retries,
    calls: Arc<Semaphore>,
}

impl State {
    fn new(account: &Account, now: DateTime<Utc>) -> Self {
        let calls = Arc::new(Semaphore::new(most_calls(account)));
        Self { breaker: Breaker::new(now), retries: Retries::new(now), calls }
    }
}

impl Limits {
    pub(super) fn new(rate: SmsRate) -> Self {
        Self { rate, accounts: HashMap::new(), senders: HashMap::new() }
    }

    /// What a call of a claimed delivery has to wait for: there is room for it at its account.
    pub(super) fn calls(&mut self, claimed: &Claimed) -> Arc<Semaphore> {
        let key = (claimed.practice.clone(), claimed.account.name());
        let fresh = || State::new(&claimed.account, claimed.claimed_at);
        Arc::clone(&self.accounts.entry(key).or_insert_with(fresh).calls)
    }

    /// Whether the account of a claimed delivery fell out of order since it was let go.
    pub(super) fn hold_back(&self, claimed: &Claimed) -> bool {
        let key = (claimed.practice.clone(), claimed.account.name());
        self.accounts.get(&key).is_some_and(|state| state.breaker.holds_back(claimed.id))
    }

    /// Whether a delivery leaves now. If it does, it is counted, and noted in `gone`.
    pub(super) fn leave(&mut self, handover: &Handover<'_>, gone: &mut Vec<Gone>) -> Leave {
        let (account, now) = (handover.account, handover.now);
        let rank = Rank { class: handover.class, parked: handover.parked };
        let rate = self.rate.of(account);
        let (cost, steady) = rate.map_or((1.0, STEADY), |rate| (f64::from(handover.segments), rate));

        let key = (handover.practice.clone(), account.name());
        let fresh = || State::new(account, now);
        let State { breaker, retries, .. } = self.accounts.entry(key.clone()).or_insert_with(fresh);
        let gate = breaker.gate(now, steady);
        if let Gate::Shut(until) = gate {
            let at = breaker.park(rank, until, seconds(cost / steady));
            return Leave::Later { at, failing: breaker.failing() };
        }
        if handover.again
            && gate == Gate::Free
            && let Some(at) = retries.park(now)
        {
            return Leave::Later { at, failing: None };
        }
        if let Some(rate) = rate {
            let pace = self.senders.entry(account.sender()).or_insert_with(|| Pace::new(rate, now));
            if let Err(at) = pace.leave(rank, cost, now) {
                return Leave::Later { at, failing: None };
            }
        }
        retries.count(handover.id, handover.again);
        breaker.pass(gate, handover.id, now);
        gone.push(Gone { account: key, id: handover.id, now });
        Leave::Now
    }

    /// Notes that a claim failed after it had let these go: nobody calls. Were one of them the probe of its account, the account
    /// would be left alone until that is taken for lost.
    pub(super) fn came_back(&mut self, gone: Vec<Gone>) {
        for Gone { account, id, now } in gone {
            self.ended_of(account, id, Health::Unsaid, now);
        }
    }

    /// Notes how the call of a claimed delivery ended.
    pub(super) fn ended(&mut self, claimed: &Claimed, health: Health, now: DateTime<Utc>) {
        let key = (claimed.practice.clone(), claimed.account.name());
        if let Some(shut) = self.ended_of(key, claimed.id, health, now) {
            tracing::warn!(
                practice.id = %claimed.practice, provider = claimed.account.provider().name(), shut,
                "an account is out of order, or in order again"
            );
        }
    }

    /// Whether nothing is sent by the account any more, if that changed.
    fn ended_of(
        &mut self,
        account: (PracticeId, String),
        id: DeliveryId,
        health: Health,
        now: DateTime<Utc>,
    ) -> Option<bool> {
        let State { breaker, retries, .. } = self.accounts.get_mut(&account)?;
        retries.ended(id, &health);
        let before = breaker.is_shut();
        breaker.ended(id, health, now);
        (breaker.is_shut() != before).then(|| breaker.is_shut())
    }
}

/// Seconds as a span, in microseconds, since the databases keep no more; rounded up, so that a wait is never none.
fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::microseconds((seconds * 1e6).ceil() as i64)
}

#[cfg(test)]
mod tests;
