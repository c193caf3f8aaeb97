//! The promises, as they are checked after each step and at the end.

use heedwell::domain::{Channel, Delivery, DeliveryId, DeliveryState, Facts, FailureReason, shown};

use super::{feed::rank, plan::Plan, world::World};
use crate::support::invariants;

/// How often everything that the rows can tell is checked, which takes its time.
const THOROUGHLY: usize = 10;

impl World {
    /// After each step.
    pub(super) async fn keeps_its_promises(&mut self, plan: &Plan) {
        let now = self.deliveries().await;
        // P1, P2: each key made one thing, and all of it is there.
        assert_eq!(self.made.len(), plan.orders.len());
        let count = self.t.number("SELECT count(*) FROM notification").await;
        assert_eq!(usize::try_from(count).unwrap(), plan.orders.len(), "creates are distinct keys");
        for id in self.known.keys() {
            assert!(now.contains_key(id), "an accepted delivery is missing");
        }
        // P5: no state goes back, and a revision means a change.
        for (id, delivery) in &now {
            if let Some(before) = self.known.get(id) {
                assert!(rank(delivery) >= rank(before), "{before:?} became {delivery:?}");
                assert!(delivery.revision >= before.revision);
                assert_eq!(delivery.revision == before.revision, delivery == before, "{before:?} became {delivery:?}");
            }
        }
        self.evidence_counts(&now);
        // P7: one change in the feed for each revision.
        let changes: i64 = now.values().map(|delivery| delivery.revision).sum();
        assert_eq!(self.t.store.feed_head(&self.scope).await.unwrap(), changes);
        self.known = now;
        if self.steps.is_multiple_of(THOROUGHLY) {
            self.catch_up().await;
            invariants::check(&self.t).await;
        }
    }

    /// P3, P6: what was reported, answered or found is shown, in whatever order it came, and flags what was sent since.
    fn evidence_counts(&self, now: &std::collections::BTreeMap<DeliveryId, Delivery>) {
        for (id, facts) in &self.evidence {
            let delivery = &now[id];
            let proved = Delivery { state: shown(delivery.channel, *facts), ..delivery.clone() };
            assert!(rank(delivery) >= rank(&proved), "{:?} is known of {delivery:?}", proved.state);
            let on_its_way = facts.any(Facts::ACCEPTED.and(Facts::QUEUED).and(Facts::SENT_TO_CARRIER));
            let may_have_it = facts.any(Facts::DELIVERED) || (on_its_way && !facts.any(Facts::UNDELIVERED));
            let mut next = delivery.retried_by;
            while let (true, Some(repeat)) = (may_have_it, next) {
                assert!(now[&repeat].possible_duplicate, "a repeat of what is known to have left: {:?}", now[&repeat]);
                next = now[&repeat].retried_by;
            }
        }
    }

    /// At the end of a case.
    pub(super) async fn end(mut self, plan: &Plan) {
        // Whoever was not to be written to stays so: what is open ends all the same.
        self.finish(plan).await;
        self.keeps_its_promises(plan).await;
        self.catch_up().await;
        assert_eq!(self.seen.last(), &self.known, "the feed told everything");
        for delivery in self.known.values() {
            self.the_end_is_true(delivery);
        }
        self.nothing_was_doubled_in_silence();
        invariants::check(&self.t).await;
        self.t.raw.close().await.unwrap();
        for store in &self.replicas {
            store.close().await;
        }
        self.t.home.leave().await;
    }

    fn taken(&self, id: DeliveryId) -> usize {
        self.calls.iter().filter(|call| call.claimed.id == id && call.taken).count()
    }

    fn the_end_is_true(&self, delivery: &Delivery) {
        let taken = self.taken(delivery.id);
        let reported = delivery.failure.as_ref().is_some_and(|failure| failure.reason == FailureReason::Unreachable);
        match delivery.state {
            DeliveryState::Sent => assert!(taken > 0, "called sent, and nobody has it: {delivery:?}"),
            DeliveryState::Delivered => assert!(taken > 0 || delivery.channel == Channel::InApp, "{delivery:?}"),
            DeliveryState::Failed if reported => assert!(taken > 0, "{delivery:?}"),
            DeliveryState::Failed | DeliveryState::Skipped | DeliveryState::Cancelled => {
                assert_eq!(taken, 0, "called lost, and the provider has it: {delivery:?}");
            }
            DeliveryState::Unconfirmed => assert_eq!(delivery.next_action_time, None),
            DeliveryState::Pending => panic!("not finished: {delivery:?}"),
        }
        assert!(taken <= 1 || delivery.possible_duplicate, "it arrived twice, unflagged: {delivery:?}");
    }

    /// A retry of what had arrived carries the flag.
    fn nothing_was_doubled_in_silence(&self) {
        for delivery in self.known.values().filter(|delivery| self.taken(delivery.id) > 0) {
            let arrives = |call: &&super::work::Call| call.taken && call.arrives;
            let mut before = delivery.retry_of;
            while let Some(id) = before {
                let arrived = self.calls.iter().filter(arrives).any(|call| call.claimed.id == id);
                assert!(!arrived || delivery.possible_duplicate, "it arrived before, unflagged: {delivery:?}");
                before = self.known[&id].retry_of;
            }
        }
    }
}
