//! What workers and the provider do: claim, call, settle, report, take over and look.

use futures::future::join_all;
use heedwell::{
    domain::{Channel, DeliveryId, DeliveryState, Facts, FailureReason, Look, Verdict},
    store::{Applied, Claimed, Doubt, Receipt, Settlement},
};
use proptest::sample::Index;

use super::{
    plan::{Fate, PATIENTS, Plan, REPLICAS, Sight, Word},
    world::{World, claim, pick},
};
use crate::store::given::{accepted, receipt, settlement, unknown};

/// A call must begin within this many seconds after its claim.
const START_LIMIT: i64 = 15;
/// A claim holds for this many.
const LEASE: i64 = 60;

/// A claim and what became of it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) claimed: Claimed,
    replica: usize,
    /// What the worker heard, once it did.
    heard: Option<Verdict>,
    /// It told the store.
    said: bool,
    /// Its worker is gone.
    dead: bool,
    /// Whether the provider has the message, whatever the worker heard.
    pub(super) taken: bool,
    /// How it ends at the carrier.
    pub(super) arrives: bool,
}

impl Call {
    fn provider_ref(&self) -> String {
        self.claimed.callback_token()
    }

    fn settlement(&self) -> Option<Settlement> {
        self.heard.clone().map(|verdict| settlement(&self.claimed, verdict))
    }

    fn waits_to_be_said(&self) -> bool {
        self.heard.is_some() && !self.said && !self.dead
    }
}

impl World {
    pub(super) async fn claim(&mut self, plan: &Plan, replica: usize, limit: u64) {
        let claimed = claim(&self.replicas[replica], &self.t, &self.scope, replica, limit).await;
        self.begin(plan, replica, claimed).await;
    }

    pub(super) async fn work(&mut self, plan: &Plan, replica: usize, fate: Fate, arrives: bool) {
        let first = self.calls.len();
        self.claim(plan, replica, 2).await;
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

    pub(super) async fn settle_one(&mut self, which: &Index) {
        let ready = self.places(Call::waits_to_be_said);
        if let Some(place) = pick(which, &ready) {
            self.say(vec![place]).await;
        }
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

    pub(super) fn crash(&mut self, replica: usize) {
        let lost = self.calls.iter_mut().filter(|call| call.replica == replica && !call.said);
        lost.for_each(|call| call.dead = true);
    }

    pub(super) async fn recover(&mut self, replica: usize) {
        self.t.advance(61);
        self.rescue(replica).await;
        for _ in 0..2 {
            self.t.advance(150);
            self.look(replica, 100, Sight::Truth).await;
        }
    }

    fn places(&self, wanted: impl Fn(&Call) -> bool) -> Vec<usize> {
        (0..self.calls.len()).filter(|place| wanted(&self.calls[*place])).collect()
    }

    /// Whether the delivery of that call has been claimed since, by somebody who has not said yet how it went.
    fn is_stale(&self, place: usize) -> bool {
        let id = self.calls[place].claimed.id;
        self.calls[place + 1..].iter().any(|later| later.claimed.id == id && !later.said)
    }

    pub(super) async fn claim_together(&mut self, plan: &Plan, limit: u64) {
        let claims = self.replicas.iter().enumerate();
        let claims = claims.map(|(place, store)| claim(store, &self.t, &self.scope, place, limit));
        for (replica, claimed) in join_all(claims).await.into_iter().enumerate() {
            self.begin(plan, replica, claimed).await;
        }
    }

    /// Notes intents, each of which must be one that may be.
    pub(super) async fn begin(&mut self, plan: &Plan, replica: usize, claimed: Vec<Claimed>) {
        let now = self.deliveries().await;
        for claimed in claimed {
            let delivery = &now[&claimed.id];
            assert!(!self.stopped.contains(&claimed.id), "an intent after it was stopped: {delivery:?}");
            let patient = delivery.patient.as_ref().map(|id| id.as_str());
            let place = PATIENTS.iter().position(|id| Some(*id) == patient).unwrap();
            assert!(!plan.inactive[place], "an intent for somebody who is not to be written to: {delivery:?}");
            for call in self.calls.iter().filter(|call| call.claimed.id == claimed.id) {
                let given_up = call.said || (self.t.now() - call.claimed.claimed_at).num_seconds() > LEASE;
                assert!(given_up, "somebody else has it: {delivery:?}");
                if call.taken {
                    assert_eq!(claimed.channel, Channel::Email, "a text message is sent twice: {delivery:?}");
                    assert!(delivery.possible_duplicate, "mail is sent twice without a flag: {delivery:?}");
                }
            }
            let (heard, taken, arrives) = (None, false, false);
            self.calls.push(Call { claimed, replica, heard, said: false, dead: false, taken, arrives });
        }
    }

    fn call(&mut self, place: usize, fate: Fate, arrives: bool) {
        let late = (self.t.now() - self.calls[place].claimed.claimed_at).num_seconds() >= START_LIMIT;
        let call = &mut self.calls[place];
        let (taken, verdict) = match fate {
            _ if late => (false, Verdict::NotStarted),
            Fate::Taken => (true, accepted(&call.provider_ref())),
            Fate::Unanswered => (true, unknown()),
            Fate::LostOnTheWay => (false, unknown()),
            Fate::Busy => (false, Verdict::NotTaken { retry_after: None, code: "20429".into() }),
            Fate::Refused => (false, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }),
            Fate::Misconfigured => (false, Verdict::Misconfigured { code: "20003".into() }),
            Fate::GivenBack => (false, Verdict::NotStarted),
        };
        (call.taken, call.arrives, call.heard) = (taken, arrives, Some(verdict));
    }

    /// Settles these, each by the replica that heard it, all at once.
    async fn say(&mut self, places: Vec<usize>) {
        let settlements = (0..REPLICAS).filter_map(|replica| {
            let own = places.iter().filter(|place| self.calls[**place].replica == replica);
            let ended: Vec<_> = own.filter_map(|place| self.calls[*place].settlement()).collect();
            if ended.is_empty() { None } else { Some((&self.replicas[replica], ended)) }
        });
        let settlements = settlements.map(|(store, ended)| store.settle(&self.t.engine, self.scope.practice(), ended));
        for settled in join_all(settlements).await {
            settled.unwrap();
        }
        for place in places {
            let call = &mut self.calls[place];
            call.said = true;
            if matches!(call.heard, Some(Verdict::Accepted { .. })) {
                let id = call.claimed.id;
                self.know(id, Facts::ACCEPTED);
            }
        }
    }

    fn know(&mut self, id: DeliveryId, facts: Facts) {
        let known = self.evidence.entry(id).or_default();
        *known = known.and(facts);
    }

    pub(super) async fn report(&mut self, which: &Index, word: Word, replica: usize, times: usize) {
        let ready = self.places(|call| call.taken && call.claimed.channel == Channel::Sms);
        let ready = match word {
            Word::AfterAll => self.rather_repeated(ready),
            Word::Queued | Word::Sent | Word::End => ready,
        };
        let Some(place) = pick(which, &ready) else { return };
        let call = &mut self.calls[place];
        call.arrives |= matches!(word, Word::AfterAll);
        let facts = match word {
            Word::Queued => Facts::QUEUED,
            Word::Sent => Facts::SENT_TO_CARRIER,
            Word::End if !call.arrives => Facts::UNDELIVERED,
            Word::End | Word::AfterAll => Facts::DELIVERED,
        };
        let receipt = Receipt { provider_ref: call.provider_ref(), ..receipt(&call.claimed, facts) };
        let id = call.claimed.id;
        for n in 0..times {
            let store = &self.replicas[(replica + n) % REPLICAS];
            let applied = store.receipt_apply(&self.scope, receipt.clone()).await.unwrap();
            assert!(applied == Applied::Repeat || (applied == Applied::New && n == 0), "{applied:?}, time {n}");
        }
        self.know(id, facts);
    }

    /// Those that count as lost; only those that were sent again since, if there are any.
    fn rather_repeated(&self, calls: Vec<usize>) -> Vec<usize> {
        let of = |place: &usize| &self.known[&self.calls[*place].claimed.id];
        let lost: Vec<_> = calls.into_iter().filter(|place| of(place).state == DeliveryState::Failed).collect();
        let repeated: Vec<_> = lost.iter().copied().filter(|place| of(place).retried_by.is_some()).collect();
        if repeated.is_empty() { lost } else { repeated }
    }

    pub(super) async fn rescue(&mut self, replica: usize) {
        self.replicas[replica].rescue(&self.t.engine, false).await.unwrap();
        let now = self.deliveries().await;
        for call in self.calls.iter().filter(|call| !call.said) {
            let expired = (self.t.now() - call.claimed.claimed_at).num_seconds() > LEASE;
            let state = now[&call.claimed.id].state;
            assert!(!expired || state != DeliveryState::Pending, "a claim that nobody took over: {call:?}");
        }
    }

    pub(super) async fn look(&mut self, replica: usize, limit: u64, sight: Sight) {
        let store = self.replicas[replica].clone();
        for doubt in store.doubts_due(&self.t.engine, limit).await.unwrap() {
            let (look, facts) = match (sight, doubt.inquiry.channel) {
                (Sight::Dies, _) => continue,
                (_, Channel::Email) => (Look::NoList, Facts::NONE),
                (Sight::Unreadable, _) => (Look::Unreadable, Facts::NONE),
                (Sight::Several, _) => (Look::Several, Facts::NONE),
                (Sight::Truth, _) => self.listed(&doubt),
            };
            store.doubt_settle(&self.t.engine, &doubt, look, facts, 0.5).await.unwrap();
            self.know(doubt.id, facts);
        }
    }

    /// What the provider's list holds of an attempt.
    fn listed(&self, doubt: &Doubt) -> (Look, Facts) {
        let same = |call: &&Call| call.claimed.id == doubt.id && call.claimed.attempt == doubt.attempt;
        match self.calls.iter().rfind(same) {
            Some(call) if call.taken => {
                let look =
                    Look::Found { provider_ref: call.provider_ref(), status: "sent".into(), code: String::new() };
                (look, Facts::ACCEPTED.and(Facts::SENT_TO_CARRIER))
            }
            _ => (Look::Absent, Facts::NONE),
        }
    }

    /// Goes on without surprises until nothing is left to do, which takes two days at most.
    pub(super) async fn finish(&mut self, plan: &Plan) {
        for _ in 0..48 * 4 {
            self.settle_together().await;
            self.t.advance(900);
            self.rescue(0).await;
            self.look(1, 1_000, Sight::Truth).await;
            let first = self.calls.len();
            self.claim(plan, 2, 1_000).await;
            for call in &mut self.calls[first..] {
                let verdict = accepted(&call.provider_ref());
                (call.taken, call.arrives, call.heard) = (true, true, Some(verdict));
            }
            if self.t.store.open_deliveries(&self.t.engine).await.unwrap() == 0 {
                return;
            }
        }
        panic!("it never ends");
    }
}
