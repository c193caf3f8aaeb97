//! Faults by lot, for runs of many messages: how often each comes, and which message meets it. Guarantee: pure; what a
//! message meets follows from the seed, from the message and from how often it was handed over, so that one seed is one plan.

use serde::Deserialize;

use super::magic::{ARRIVED, Answer, BOUNCED, DELIVERED, End, MailPlan, Reports, SendGridPlan, SmsPlan};

/// How often what happens to recipients without magic or rule. Shares are of 1; all are 0 at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Odds {
    /// Chooses the plan.
    pub seed: u64,
    /// Creates that are taken, and then the connection is cut.
    pub dropped: f64,
    /// Creates that are taken and answered 500.
    pub failed: f64,
    /// Creates that are taken and answered after `stall_ms`.
    pub stalled: f64,
    /// Creates that are refused with 429.
    pub limited: f64,
    /// Messages that end undelivered.
    pub undelivered: f64,
    /// Messages of which no callback tells.
    pub silent: f64,
    /// Messages whose callbacks come in any order, each up to `repeats` times.
    pub shuffled: f64,
    /// See `shuffled`.
    pub repeats: u32,
    /// See `stalled`.
    pub stall_ms: u64,
    /// How long a message may be missing from lists.
    pub list_lag_ms: u64,
    /// How long an answer takes, half of it before the message is taken.
    pub reply_ms: u64,
    /// Mails that are stored, and then the connection is cut.
    pub mail_dropped: f64,
    /// Mails that are answered 452.
    pub mail_full: f64,
}

impl Odds {
    /// What a text message meets when it is handed over for the `tries`th time.
    pub(super) fn sms(&self, to: &str, body: &str, tries: u32) -> SmsPlan {
        let mut lot = Lot::new(self.seed, &[to, body, &tries.to_string()]);
        let answer = self.answer(&mut lot);
        let end = if lot.is(self.undelivered) { End::Undelivered(30003) } else { End::Delivered };
        let reports = self.reports(&mut lot);
        SmsPlan { answer, end, reports, list_lag_ms: lot.below(self.list_lag_ms + 1), ..DELIVERED }
    }

    /// What the `tries`th mail to a mailbox meets at SendGrid.
    pub(super) fn sendgrid(&self, address: &str, tries: u32) -> SendGridPlan {
        let mut lot = Lot::new(self.seed, &["sendgrid", address, &tries.to_string()]);
        let answer = self.answer(&mut lot);
        let SendGridPlan { events, .. } = if lot.is(self.undelivered) { BOUNCED } else { ARRIVED };
        SendGridPlan { answer, events, reports: self.reports(&mut lot) }
    }

    fn answer(&self, lot: &mut Lot) -> Answer {
        let answers = [
            (self.dropped, Answer::Dropped),
            (self.failed, Answer::Failed),
            (self.stalled, Answer::Stalled(self.stall_ms)),
            (self.limited, Answer::Limited),
        ];
        lot.one_of(&answers).unwrap_or(Answer::Created)
    }

    fn reports(&self, lot: &mut Lot) -> Reports {
        let reports = [
            (self.silent, Reports::Never),
            (self.shuffled, Reports::Shuffled { repeats: self.repeats.max(1), lot: lot.next() }),
        ];
        lot.one_of(&reports).unwrap_or(Reports::InOrder)
    }

    /// What the `tries`th mail to a mailbox meets at the relay.
    pub(super) fn mail(&self, address: &str, tries: u32) -> MailPlan {
        let mut lot = Lot::new(self.seed, &[address, &tries.to_string()]);
        let plans = [(self.mail_dropped, MailPlan::DroppedAfterDotOnce), (self.mail_full, MailPlan::Full)];
        lot.one_of(&plans).unwrap_or(MailPlan::Accepted)
    }
}

/// Numbers that look random and follow from their seed (SplitMix64, from an FNV-1a hash).
pub(super) struct Lot(u64);

impl Lot {
    pub(super) fn new(seed: u64, words: &[&str]) -> Self {
        let bytes = words.iter().flat_map(|word| word.bytes().chain([0xff]));
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(seed ^ hash)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn share(&mut self) -> f64 {
        // 32 bits are exact in a double.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) / 4_294_967_296.0
    }

    fn is(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// At most one of several that exclude each other.
    fn one_of<T: Copy>(&mut self, shares: &[(f64, T)]) -> Option<T> {
        let mut left = self.share();
        shares.iter().find_map(|(share, value)| {
            left -= share;
            (left < 0.0).then_some(*value)
        })
    }

    /// Any order of `items`, all being as likely.
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or(last);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODDS: Odds = Odds {
        seed: 7,
        dropped: 0.05,
        failed: 0.02,
        stalled: 0.02,
        limited: 0.10,
        undelivered: 0.10,
        silent: 0.20,
        shuffled: 0.30,
        repeats: 46,
        stall_ms: 3_000,
        list_lag_ms: 1_000,
        reply_ms: 0,
        mail_dropped: 0.05,
        mail_full: 0.05,
    };

    #[test]
    fn every_fault_comes_as_often_as_it_was_asked_for() {
        let plans: Vec<_> = (0..20_000).map(|n| ODDS.sms("+12025550142", &format!("text {n}"), 1)).collect();
        let share = |holds: fn(&SmsPlan) -> bool| {
            let count = plans.iter().filter(|plan| holds(plan)).count();
            f64::from(u32::try_from(count).unwrap_or_default()) / 20_000.0
        };
        for (expect, share) in [
            (ODDS.dropped, share(|plan| plan.answer == Answer::Dropped)),
            (ODDS.failed, share(|plan| plan.answer == Answer::Failed)),
            (ODDS.stalled, share(|plan| plan.answer == Answer::Stalled(3_000))),
            (ODDS.limited, share(|plan| plan.answer == Answer::Limited)),
            (ODDS.undelivered, share(|plan| plan.end != End::Delivered)),
            (ODDS.silent, share(|plan| plan.reports == Reports::Never)),
            (ODDS.shuffled, share(|plan| matches!(plan.reports, Reports::Shuffled { .. }))),
            (0.5, share(|plan| plan.list_lag_ms > 500)),
        ] {
            assert!((expect - share).abs() < 0.015, "{share} for {expect}");
        }
    }

    #[test]
    fn mail_by_sendgrid_meets_the_same_faults() {
        let plans: Vec<_> = (0..20_000).map(|n| ODDS.sendgrid(&format!("p{n}@example.test"), 1)).collect();
        let share = |holds: fn(&SendGridPlan) -> bool| {
            let count = plans.iter().filter(|plan| holds(plan)).count();
            f64::from(u32::try_from(count).unwrap_or_default()) / 20_000.0
        };
        for (expect, share) in [
            (ODDS.dropped, share(|plan| plan.answer == Answer::Dropped)),
            (ODDS.limited, share(|plan| plan.answer == Answer::Limited)),
            (ODDS.undelivered, share(|plan| plan.events == BOUNCED.events)),
            (ODDS.silent, share(|plan| plan.reports == Reports::Never)),
            (ODDS.shuffled, share(|plan| matches!(plan.reports, Reports::Shuffled { .. }))),
        ] {
            assert!((expect - share).abs() < 0.015, "{share} for {expect}");
        }
        let plans = |tries| (0..100).map(|n| ODDS.sendgrid(&n.to_string(), tries)).collect::<Vec<_>>();
        assert!(plans(1) == plans(1) && plans(1) != plans(2));
    }

    #[test]
    fn one_seed_is_one_plan_and_another_try_meets_another_fate() {
        let plan = |odds: Odds, tries| (0..100).map(|n| odds.sms("+1", &n.to_string(), tries)).collect::<Vec<_>>();
        assert_eq!(plan(ODDS, 1), plan(ODDS, 1));
        assert_ne!(plan(ODDS, 1), plan(ODDS, 2));
        assert_ne!(plan(ODDS, 1), plan(Odds { seed: 8, ..ODDS }, 1));
    }

    #[test]
    fn a_shuffle_keeps_everything_and_reaches_every_order() {
        let mut lot = Lot::new(1, &[]);
        let mut orders = std::collections::HashSet::new();
        for _ in 0..200 {
            let mut items = [1, 2, 3];
            lot.shuffle(&mut items);
            orders.insert(items);
        }
        assert_eq!(orders.len(), 6);
    }
}
