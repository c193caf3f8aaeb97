//! What workers do: call and settle.

use chrono::{DateTime, Utc};
use futures::future::{join, join_all};
use heedwell::{
    domain::{DeliveryId, Facts, FailureReason, Verdict},
    store::{Applied, Claimed, Settlement},
};
use proptest::sample::Index;

use super::{
    claims::address_of,
    plan::{Fate, Hold, Plan, Word},
    world::{World, pick},
};
use crate::store::given::{accepted, settlement, unknown};

/// A call must begin within this many seconds after its claim.
const START_LIMIT: i64 = 15;
/// A claim holds for this many.
const LEASE: i64 = 60;

/// A claim and what became of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) claimed: Claimed,
    pub(super) replica: usize,
    /// When it was made, or claimed if it was not.
    pub(super) called_at: DateTime<Utc>,
    /// What the worker heard, once it did.
    pub(super) heard: Option<Verdict>,
    /// It told the store.
    pub(super) said: bool,
    /// Its worker is gone.
    pub(super) dead: bool,
    /// The process that claimed it was the only one, and has started anew since.
    pub(super) taken_over: bool,
    /// Whether the provider has the message, whatever the worker heard.
    pub(super) taken: bool,
    /// How it ends at the carrier.
    pub(super) arrives: bool,
}

impl Call {
    pub(super) fn new(claimed: Claimed, replica: usize) -> Self {
        let (called_at, heard, arrives) = (claimed.claimed_at, None, false);
        Self { claimed, replica, called_at, heard, said: false, dead: false, taken_over: false, taken: false, arrives }
    }

    /// What the provider calls it.
    pub(super) fn provider_ref(&self) -> String {
        self.claimed.callback_token()
    }

    fn settlement(&self) -> Option<Settlement> {
        self.heard.clone().map(|verdict| settlement(&self.claimed, verdict))
    }

    fn waits_to_be_said(&self) -> bool {
        self.heard.is_some() && !self.said && !self.dead
    }

    /// Whether others may have its delivery.
    pub(super) fn is_over(&self, now: DateTime<Utc>) -> bool {
        self.said || self.taken_over || (now - self.claimed.claimed_at).num_seconds() > LEASE
    }

    /// The provider takes it, as it should.
    pub(super) fn goes_well(&mut self) {
        (self.taken, self.arrives, self.heard) = (true, true, Some(accepted(&self.provider_ref())));
    }
}

impl World {
    pub(super) async fn work(&mut self, plan: &Plan, replica: usize, fate: Fate, arrives: bool) {
        let first = self.calls.len();
        self.claim(plan, replica, 2, Hold::Nobody, false).await;
        let places: Vec<_> = (first..self.calls.len()).collect();
        places.iter().for_each(|place| self.call(*place, fate, arrives));
        self.say(places).await;
    }

    pub(super) fn call_one(&mut self, which: &Index, fate: Fate, arrives: bool) {
        let ready = self.places(|call| call.heard.is_none() && !call.dead);
        if let Some(place) = pick(which, &ready) {
            self.call(place, fate, arrives);
        }
    }

    pub(super) async fn settle_one(&mut self, which: &Index, word: Option<Word>) {
        let ready = self.places(Call::waits_to_be_said);
        let Some(place) = pick(which, &ready) else { return };
        let Some(word) = word.filter(|_| self.calls[place].taken) else { return self.say(vec![place]).await };
        let receipt = self.calls[place].reported(word);
        let (call, facts) = (&self.calls[place], receipt.facts);
        let store = &self.replicas[call.replica];
        let settle = store.settle(&self.t.engine, call.settlement().unwrap());
        let (settled, applied) = join(settle, store.receipt_apply(&self.scope, receipt)).await;
        settled.unwrap();
        assert_ne!(applied.unwrap(), Applied::UnknownToken);
        self.said(place).await;
        self.know(self.calls[place].claimed.id, facts);
    }

    pub(super) async fn settle_together(&mut self) {
        let ready = self.places(Call::waits_to_be_said);
        self.say(ready).await;
    }

    pub(super) async fn repeat(&mut self, which: &Index) {
        let said = self.places(|call| call.said);
        let stale: Vec<_> = said.iter().copied().filter(|place| self.is_stale(*place)).collect();
        if let Some(place) = pick(which, if stale.is_empty() { &said } else { &stale }) {
            self.say(vec![place]).await;
        }
    }

    pub(super) fn places(&self, wanted: impl Fn(&Call) -> bool) -> Vec<usize> {
        (0..self.calls.len()).filter(|place| wanted(&self.calls[*place])).collect()
    }

    /// Whether the delivery of that call has been claimed since, by somebody who has not said yet how it went.
    fn is_stale(&self, place: usize) -> bool {
        let id = self.calls[place].claimed.id;
        self.calls[place + 1..].iter().any(|later| later.claimed.id == id && !later.said)
    }

    fn call(&mut self, place: usize, fate: Fate, arrives: bool) {
        let now = self.t.now();
        let call = &mut self.calls[place];
        let late = (now - call.claimed.claimed_at).num_seconds() >= START_LIMIT;
        let refused = |reason, code: &str| Verdict::Refused { reason, code: code.into() };
        let (taken, verdict) = match fate {
            _ if late => (false, Verdict::NotStarted),
            Fate::Taken => (true, accepted(&call.provider_ref())),
            Fate::Unanswered => (true, unknown()),
            Fate::LostOnTheWay => (false, unknown()),
            Fate::Busy => (false, Verdict::NotTaken { retry_after: None, code: "20429".into() }),
            Fate::Refused => (false, refused(FailureReason::Blocked, "30004")),
            Fate::NoSuchAddress => (false, refused(FailureReason::InvalidAddress, "21211")),
            Fate::Misconfigured => (false, Verdict::Misconfigured { code: "20003".into(), account: true }),
            Fate::GivenBack => (false, Verdict::NotStarted),
        };
        (call.called_at, call.taken, call.arrives, call.heard) = (now, taken, arrives, Some(verdict));
    }

    /// Settles these, each by the replica that heard it, all at once.
    async fn say(&mut self, places: Vec<usize>) {
        let settlements = places.iter().filter_map(|place| {
            let call = &self.calls[*place];
            Some(self.replicas[call.replica].settle(&self.t.engine, call.settlement()?))
        });
        for settled in join_all(settlements).await {
            settled.unwrap();
        }
        for place in places {
            self.said(place).await;
        }
    }

    async fn said(&mut self, place: usize) {
        let call = &mut self.calls[place];
        call.said = true;
        let id = call.claimed.id;
        match call.heard {
            Some(Verdict::Accepted { .. }) => self.know(id, Facts::ACCEPTED),
            Some(Verdict::Refused { reason: FailureReason::InvalidAddress, .. }) => {
                let address = address_of(&call.claimed);
                self.maybe_dead.insert(address);
                let failure = self.deliveries().await.remove(&id).unwrap().failure;
                if failure.is_some_and(|failure| failure.reason == FailureReason::InvalidAddress) {
                    self.dead.insert(address);
                }
            }
            _ => {}
        }
    }

    pub(super) fn know(&mut self, id: DeliveryId, facts: Facts) {
        let known = self.evidence.entry(id).or_default();
        *known = known.and(facts);
    }
}
