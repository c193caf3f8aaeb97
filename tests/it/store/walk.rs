//! Random walks through the life of deliveries, against a provider that knows the truth: what it took and lost, and what
//! it reports and when. However workers die, settle late, repeat themselves or race with reports, a text message is never
//! taken twice, nothing that was taken is called failed or skipped, and all of it comes to an end.

use std::env;

use chrono::TimeDelta;
use heedwell::{
    domain::{
        Channel, Delivery, DeliveryFilter, DeliveryState, Facts, FailureReason, Kind, Look, Patient, Scope, Verdict,
    },
    store::{Applied, Claimed, Receipt},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    given::{Order, accepted, claim, patient, ready_practice, settle, unknown},
    *,
};
use crate::support::invariants;

/// One call to the provider.
struct Call {
    claimed: Claimed,
    /// Whether the provider has the message, whatever the worker heard.
    taken: bool,
    /// What the worker will say, unless it died.
    verdict: Option<Verdict>,
    /// How it ends at the carrier.
    arrives: bool,
}

impl Call {
    fn provider_ref(&self) -> String {
        self.claimed.token.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

struct Walk<'t> {
    t: &'t TestStore,
    scope: Scope,
    random: StdRng,
    calls: Vec<Call>,
    /// Calls whose workers have not said yet how they ended.
    unsettled: Vec<usize>,
    orders: usize,
}

/// Says which walk it was when a test fails in the midst of it.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr, reason = "without the seed a failure cannot be repeated")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the walk with seed {} failed: repeat it with HEEDWELL_TEST_SEED={0}", self.0);
        }
    }
}

impl<'t> Walk<'t> {
    async fn begin(t: &'t TestStore, seed: u64) -> Self {
        let scope = ready_practice(t, &format!("walk-{seed}")).await;
        Self { t, scope, random: StdRng::seed_from_u64(seed), calls: Vec::new(), unsettled: Vec::new(), orders: 0 }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn pick(&mut self, len: usize) -> usize {
        self.random.random_range(0..len)
    }

    async fn step(&mut self) {
        match self.random.random_range(0..24) {
            0..4 => self.order().await,
            4..9 => self.work(3).await,
            9..13 => self.settle().await,
            13 => self.repeat().await,
            14..18 => self.report().await,
            18..20 => self.look(2).await,
            20 => drop(self.t.store.rescue(&self.t.engine, false).await.unwrap()),
            21 => self.deactivate_or_activate().await,
            _ => self.t.advance(self.random.random_range(1..90)),
        }
    }

    async fn order(&mut self) {
        self.orders += 1;
        let all = [Channel::Sms, Channel::Email, Channel::InApp];
        let channels: Vec<_> = all.into_iter().filter(|_| self.chance(60)).collect();
        let channels = if channels.is_empty() { vec![Channel::Sms] } else { channels };
        let order = Order {
            kind: if self.chance(80) { Kind::AppointmentReminder } else { Kind::System },
            urgent: self.chance(20),
            schedule_time: self.chance(20).then(|| self.t.now() + TimeDelta::seconds(100)),
            lasts: if self.chance(30) { TimeDelta::minutes(3) } else { TimeDelta::hours(12) },
            ..Order::new(&format!("r{}", self.orders), &channels)
        };
        order.accept(self.t, &self.scope).await;
    }

    /// Claims and calls. What the provider does is settled here; what the worker says comes later, or never.
    async fn work(&mut self, limit: u64) {
        for claimed in claim(self.t, &self.scope, limit).await {
            self.nothing_was_taken_before(&claimed).await;
            let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
            let busy = Verdict::NotTaken { retry_after: None, code: "20429".into() };
            let (taken, verdict) = match self.random.random_range(0..10) {
                0..4 => (true, None),
                4 => (true, Some(unknown())),
                5 => (false, Some(unknown())),
                6 => (false, Some(busy)),
                7 => (false, Some(refused)),
                8 => (false, Some(Verdict::Misconfigured { code: "20003".into() })),
                _ => (false, Some(Verdict::NotStarted)),
            };
            let (arrives, dies) = (self.chance(70), self.chance(15));
            let mut call = Call { claimed, taken, verdict: None, arrives };
            if !dies {
                call.verdict = Some(verdict.unwrap_or_else(|| accepted(&call.provider_ref())));
                self.unsettled.push(self.calls.len());
            }
            self.calls.push(call);
        }
    }

    /// The promise: a text message goes out again only if the provider never had it, mail only with a flag.
    async fn nothing_was_taken_before(&self, claimed: &Claimed) {
        let taken = self.calls.iter().any(|call| call.claimed.id == claimed.id && call.taken);
        if taken {
            assert_eq!(claimed.channel, Channel::Email, "a text message is sent twice");
            let page = self.deliveries().await;
            assert!(page.iter().any(|delivery| delivery.id == claimed.id && delivery.possible_duplicate));
        }
    }

    async fn settle(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let call = self.unsettled.swap_remove(self.random.random_range(0..self.unsettled.len()));
        self.say(call).await;
    }

    /// A settlement that is sent again, since its reply was lost.
    async fn repeat(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.pick(self.calls.len());
        if !self.unsettled.contains(&call) {
            self.say(call).await;
        }
    }

    async fn say(&self, call: usize) {
        let call = &self.calls[call];
        if let Some(verdict) = &call.verdict {
            settle(self.t, &call.claimed, verdict.clone()).await;
        }
    }

    /// A callback about any text message that the provider has, at any time.
    async fn report(&mut self) {
        let calls: Vec<_> = (0..self.calls.len())
            .filter(|call| self.calls[*call].taken && self.calls[*call].claimed.channel == Channel::Sms)
            .collect();
        if calls.is_empty() {
            return;
        }
        let call = &self.calls[calls[self.random.random_range(0..calls.len())]];
        let end = if call.arrives {
            (Facts::DELIVERED, "delivered", None)
        } else {
            (Facts::UNDELIVERED, "undelivered", Some(FailureReason::Unreachable))
        };
        let all = [(Facts::QUEUED, "queued", None), (Facts::SENT_TO_CARRIER, "sent", None), end];
        let (facts, status, failure) = all[self.random.random_range(0..3)];
        let receipt = Receipt {
            token: call.claimed.token,
            provider_ref: call.provider_ref(),
            facts,
            status: status.into(),
            code: String::new(),
            failure,
        };
        assert_ne!(self.t.store.receipt_apply(&self.scope, receipt).await.unwrap(), Applied::UnknownToken);
    }

    /// Looks at the provider, which tells the truth or nothing.
    async fn look(&mut self, limit: u64) {
        for doubt in self.t.store.doubts_due(&self.t.engine, limit).await.unwrap() {
            let same = |call: &&Call| call.claimed.id == doubt.id && call.claimed.attempt == doubt.attempt;
            let Some(call) = self.calls.iter().rfind(same) else { continue };
            let (look, facts) = match (doubt.inquiry.channel, self.random.random_range(0..10)) {
                (Channel::Email, _) => (Look::NoList, Facts::NONE),
                (_, 0) => (Look::Unreadable, Facts::NONE),
                (_, 1) => (Look::Several, Facts::NONE),
                (_, 2) => (Look::Contested, Facts::NONE),
                // Whoever asked has died.
                (_, 3) => continue,
                _ if call.taken => {
                    let found = Look::Found {
                        provider_ref: call.provider_ref(),
                        status: "sent".into(),
                        code: String::new(),
                        failure: None,
                    };
                    (found, Facts::SENT_TO_CARRIER)
                }
                _ => (Look::Absent, Facts::NONE),
            };
            self.t.store.doubt_settle(&self.t.engine, &doubt, look, facts, 0.5).await.unwrap();
        }
    }

    async fn deactivate_or_activate(&mut self) {
        let inactive = self.chance(40);
        self.t.store.patients_put(&self.scope, vec![Patient { inactive, ..patient("maria") }]).await.unwrap();
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        let all = DeliveryFilter::default();
        self.t.store.deliveries_list(&self.scope, &all, (None, None), None, 10_000).await.unwrap().deliveries
    }

    /// Goes on without surprises until nothing is left to do, which takes two days at most.
    async fn finish(&mut self) {
        for _ in 0..48 * 4 {
            for call in std::mem::take(&mut self.unsettled) {
                self.say(call).await;
            }
            self.t.advance(900);
            self.t.store.rescue(&self.t.engine, false).await.unwrap();
            self.look(1000).await;
            self.work(1000).await;
            if self.t.store.open_deliveries(&self.t.engine).await.unwrap() == 0 {
                break;
            }
        }
        assert_eq!(self.t.store.open_deliveries(&self.t.engine).await.unwrap(), 0, "it never ends");
        for delivery in self.deliveries().await {
            self.the_end_is_true(&delivery);
        }
    }

    fn the_end_is_true(&self, delivery: &Delivery) {
        let taken = self.calls.iter().filter(|call| call.claimed.id == delivery.id && call.taken).count();
        let undelivered = delivery.failure.as_ref().is_some_and(|failure| failure.reason == FailureReason::Unreachable);
        match delivery.state {
            DeliveryState::Sent => assert!(taken > 0, "called sent, and nobody has it: {delivery:?}"),
            DeliveryState::Delivered => assert!(taken > 0 || delivery.channel == Channel::InApp, "{delivery:?}"),
            DeliveryState::Failed if undelivered => assert!(taken > 0, "{delivery:?}"),
            DeliveryState::Failed | DeliveryState::Skipped => {
                assert_eq!(taken, 0, "called lost, and the provider has it: {delivery:?}");
            }
            DeliveryState::Unconfirmed => assert_eq!(delivery.next_action_time, None),
            DeliveryState::Pending | DeliveryState::Cancelled => panic!("not finished: {delivery:?}"),
        }
        assert!(taken <= 1 || delivery.possible_duplicate, "it arrived twice, unflagged: {delivery:?}");
    }
}

on_both! {
    async fn no_walk_leads_to_a_lie_a_silent_duplicate_or_a_delivery_that_never_ends(t: &TestStore) {
        let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
        let seeds = match number("HEEDWELL_TEST_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..number("HEEDWELL_TEST_WALKS").unwrap_or(6),
        };
        for seed in seeds {
            let _seed = Seed(seed);
            let mut walk = Walk::begin(t, seed).await;
            for step in 0..80 {
                walk.step().await;
                if step % 16 == 15 {
                    invariants::check(t).await;
                }
            }
            walk.finish().await;
            invariants::check(t).await;
        }
    }
}
