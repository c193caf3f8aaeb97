//! What becomes of claims whose worker is gone, and of calls whose outcome is unknown.

use chrono::TimeDelta;
use heedwell::{
    domain::{Channel, DeliveryState, Facts, Look},
    store::{Doubt, Time},
};
use proptest::sample::Index;

use super::{
    plan::{Hold, Plan, REPLICAS, Sight},
    work::Call,
    world::World,
};
use crate::support::Backend;

/// How long it may take until the provider's list holds a message.
const LAG: TimeDelta = TimeDelta::seconds(60);

/// What a replica saw at the provider.
#[derive(Debug)]
pub(super) struct Sighting {
    replica: usize,
    doubt: Doubt,
    look: Look,
    facts: Facts,
}

impl World {
    pub(super) fn crash(&mut self, replica: usize) {
        let lost = self.calls.iter_mut().filter(|call| call.replica == replica && !call.said);
        lost.for_each(|call| call.dead = true);
        self.sightings.retain(|sighting| sighting.replica != replica);
        self.marks[replica] = Default::default();
    }

    pub(super) async fn restart(mut self, replica: usize) -> Self {
        if self.t.home.backend == Backend::Postgres {
            self.crash(replica);
            self.replicas[replica].close().await;
            self.replicas[replica] = self.t.home.open(Time::Injected(self.t.clock.clone())).await.unwrap();
            self.t.store = self.replicas[0].clone();
            return self;
        }
        // It is the only one: whatever is claimed is taken over at once.
        (0..REPLICAS).for_each(|replica| self.crash(replica));
        self.replicas.clear();
        self.t = self.t.reopened().await;
        self.replicas = vec![self.t.store.clone(); REPLICAS];
        self.t.store.rescue(&self.t.engine, true).await.unwrap();
        self.calls.iter_mut().filter(|call| !call.said).for_each(|call| call.taken_over = true);
        self.nothing_is_left_behind(|call| call.taken_over).await;
        self
    }

    pub(super) async fn rescue(&mut self, replica: usize) {
        self.replicas[replica].rescue(&self.t.engine, false).await.unwrap();
        // Beside that, the dispatcher looks below its marks for what they passed over.
        self.marks[replica] = Default::default();
        let now = self.t.now();
        self.nothing_is_left_behind(|call| call.is_over(now)).await;
    }

    /// What a worker did not tell of before its time was over is not waiting for it any more.
    async fn nothing_is_left_behind(&self, is_over: impl Fn(&Call) -> bool) {
        let now = self.deliveries().await;
        for call in self.calls.iter().filter(|call| !call.said && is_over(call)) {
            let delivery = &now[&call.claimed.id];
            assert_ne!(delivery.state, DeliveryState::Pending, "a claim that nobody took over: {call:?} {delivery:?}");
        }
    }

    pub(super) async fn recover(&mut self, replica: usize) {
        self.t.advance(61);
        self.rescue(replica).await;
        self.look_into(replica, [Sight::Truth; 2]).await;
    }

    pub(super) async fn look_into(&mut self, replica: usize, sights: [Sight; 2]) {
        for (sight, wait) in sights.into_iter().zip([17, 120]) {
            self.t.advance(wait);
            self.look(replica, 100, sight, false).await;
        }
    }

    pub(super) async fn look(&mut self, replica: usize, limit: u64, sight: Sight, later: bool) {
        let store = self.replicas[replica].clone();
        for doubt in store.doubts_due(&self.t.engine, limit).await.unwrap() {
            let (look, facts) = match (sight, doubt.inquiry.channel) {
                (Sight::Dies, _) => continue,
                (_, Channel::Email) => (Look::NoList, Facts::NONE),
                (Sight::Unreadable, _) => (Look::Unreadable, Facts::NONE),
                (Sight::Several, _) => (Look::Several, Facts::NONE),
                (Sight::Contested, _) => (Look::Contested, Facts::NONE),
                (Sight::Truth, _) => self.listed(&doubt, TimeDelta::zero()),
                (Sight::Lagging, _) => self.listed(&doubt, LAG),
            };
            let id = doubt.id;
            self.sightings.push(Sighting { replica, doubt, look, facts });
            if !later {
                self.tell(self.sightings.len() - 1).await;
                self.know(id, facts);
            }
        }
    }

    /// By then somebody else may have looked, or a report have come: whether it still counts is the store's affair.
    pub(super) async fn tell_seen(&mut self, which: &Index) {
        if !self.sightings.is_empty() {
            self.tell(which.index(self.sightings.len())).await;
        }
    }

    async fn tell(&mut self, place: usize) {
        let Sighting { replica, doubt, look, facts } = self.sightings.remove(place);
        self.replicas[replica].doubt_settle(&self.t.engine, &doubt, look, facts, 0.5).await.unwrap();
    }

    /// What the provider's list holds of an attempt, if it shows nothing younger than that.
    fn listed(&self, doubt: &Doubt, lag: TimeDelta) -> (Look, Facts) {
        let same = |call: &&Call| call.claimed.id == doubt.id && call.claimed.attempt == doubt.attempt;
        match self.calls.iter().rfind(same) {
            Some(call) if call.taken && call.called_at + lag <= self.t.now() => {
                let (status, code) = ("sent".into(), String::new());
                let look = Look::Found { provider_ref: call.provider_ref(), status, code, failure: None };
                (look, Facts::ACCEPTED.and(Facts::SENT_TO_CARRIER))
            }
            _ => (Look::Absent, Facts::NONE),
        }
    }

    /// Goes on without surprises until nothing is left to do, which takes little more than two days at most.
    pub(super) async fn finish(&mut self, plan: &Plan) {
        while !self.sightings.is_empty() {
            self.tell(0).await;
        }
        for _ in 0..53 * 4 {
            self.settle_together().await;
            self.t.advance(900);
            self.rescue(0).await;
            self.look(1, 1_000, Sight::Truth, false).await;
            self.retry_parked(1).await;
            let first = self.calls.len();
            self.claim(plan, 2, 1_000, Hold::Nobody, false).await;
            self.calls[first..].iter_mut().for_each(Call::goes_well);
            if self.t.store.open_deliveries(&self.t.engine).await.unwrap() == 0 {
                return;
            }
        }
        panic!("it never ends");
    }
}
