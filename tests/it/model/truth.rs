//! The promises, as they are checked after each step and at the end.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use heedwell::domain::{Channel, Delivery, DeliveryId, DeliveryState, Facts, SkipReason, shown};

use super::{feed::rank, plan::Plan, work::Call, world::World, world::patient_of};
use crate::support::invariants;

/// How often everything that the rows can tell is checked, which takes its time.
const THOROUGHLY: usize = 10;

/// Whoever says that a message was lost says that it was taken before.
const LOST: Facts = Facts::UNDELIVERED.and(Facts::BOUNCED);

impl World {
    /// After each step.
    pub(super) async fn keeps_its_promises(&mut self, plan: &Plan) {
        let now = self.deliveries().await;
        // Each key made one thing, and all of it is there.
        assert_eq!(self.made.len(), plan.orders.len());
        let count = self.t.number("SELECT count(*) FROM notification").await;
        assert_eq!(usize::try_from(count).unwrap(), plan.orders.len(), "creates are distinct keys");
        for id in self.known.keys() {
            assert!(now.contains_key(id), "an accepted delivery is missing");
        }
        // No state goes back, and a revision means a change.
        for (id, delivery) in &now {
            if let Some(before) = self.known.get(id) {
                assert!(rank(delivery) >= rank(before), "{before:?} became {delivery:?}");
                assert!(delivery.revision >= before.revision);
                assert_eq!(delivery.revision == before.revision, delivery == before, "{before:?} became {delivery:?}");
            }
            self.is_skipped_for_a_reason(plan, delivery);
        }
        self.evidence_counts(&now);
        // One change in the feed for each revision.
        let changes: i64 = now.values().map(|delivery| delivery.revision).sum();
        assert_eq!(self.t.store.feed_head(&self.scope).await.unwrap(), changes);
        (self.known, self.before) = (now, plan.clone());
        if self.steps.is_multiple_of(THOROUGHLY) {
            self.catch_up().await;
            invariants::check(&self.t).await;
            self.attempts_are_judged_rightly().await;
        }
    }

    /// What was accepted is not dropped without cause.
    fn is_skipped_for_a_reason(&self, plan: &Plan, delivery: &Delivery) {
        let known = self.known.get(&delivery.id).is_some_and(|before| before.state == DeliveryState::Skipped);
        if delivery.state != DeliveryState::Skipped || known {
            return;
        }
        let patient = patient_of(delivery);
        let said = |no: &dyn Fn(&Plan) -> bool| no(plan) || no(&self.before);
        let right = match delivery.skip_reason {
            Some(SkipReason::PatientInactive) => said(&|plan| plan.people[patient].inactive),
            Some(SkipReason::OptedOut) => said(&|plan| !plan.lets(patient, delivery.channel)),
            Some(SkipReason::AddressSuppressed) => !self.maybe_dead.is_empty(),
            // No order lasts less than a minute, and no text is begun in its last seconds.
            Some(SkipReason::Expired) => {
                let wish = self
                    .made
                    .iter()
                    .zip(&plan.orders)
                    .find(|(id, _)| delivery.source == heedwell::domain::Source::Notification(**id));
                let wish = wish.unwrap().1;
                let lasts = TimeDelta::minutes(wish.lasts.min(720).into()) - TimeDelta::seconds(5);
                self.t.now() >= delivery.create_time + lasts
            }
            _ => false,
        };
        assert!(right, "skipped without cause: {delivery:?}");
    }

    /// What was reported, answered or found is shown, in whatever order it came, and flags what was sent since.
    fn evidence_counts(&self, now: &BTreeMap<DeliveryId, Delivery>) {
        for (id, facts) in &self.evidence {
            let delivery = &now[id];
            let proved = Delivery { state: shown(delivery.channel, *facts), ..delivery.clone() };
            assert!(rank(delivery) >= rank(&proved), "{:?} is known of {delivery:?}", proved.state);
            let on_its_way = Facts::ACCEPTED.and(Facts::QUEUED).and(Facts::SENT_TO_CARRIER).and(Facts::DEFERRED);
            let may_have_it = facts.any(Facts::DELIVERED) || (facts.any(on_its_way) && !facts.any(LOST));
            let mut next = delivery.retried_by;
            while let (true, Some(repeat)) = (may_have_it, next) {
                assert!(now[&repeat].possible_duplicate, "a repeat of what is known to have left: {:?}", now[&repeat]);
                next = now[&repeat].retried_by;
            }
        }
    }

    /// No attempt is called a definite no, or absent, that the provider took, and none is called taken that it did not.
    async fn attempts_are_judged_rightly(&self) {
        let rows = self.t.rows("SELECT token, verdict, provider_ref FROM attempt").await;
        let verdicts: BTreeMap<Vec<u8>, (Option<i16>, String)> = rows
            .iter()
            .map(|row| {
                let column = |n| row.try_get_by_index(n).unwrap();
                (row.try_get_by_index(0).unwrap(), (column(1), row.try_get_by_index(2).unwrap()))
            })
            .collect();
        for call in &self.calls {
            let Some((verdict, provider_ref)) = verdicts.get(call.claimed.token.as_slice()) else {
                assert!(!call.taken, "an attempt that was made is forgotten: {call:?}");
                continue;
            };
            // Accepted and reconciled against no and absent.
            let (yes, no) = (matches!(verdict, Some(1 | 4)), matches!(verdict, Some(2 | 5)));
            assert!(if call.taken { !no } else { !yes }, "verdict {verdict:?} on {call:?}");
            assert!(provider_ref.is_empty() || *provider_ref == call.provider_ref(), "the id of another: {call:?}");
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
        self.attempts_are_judged_rightly().await;
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
        let lost = self.evidence.get(&delivery.id).is_some_and(|facts| facts.any(LOST));
        match delivery.state {
            DeliveryState::Sent => assert!(taken > 0, "called sent, and nobody has it: {delivery:?}"),
            DeliveryState::Delivered => assert!(taken > 0 || delivery.channel == Channel::InApp, "{delivery:?}"),
            DeliveryState::Failed if lost => assert!(taken > 0, "{delivery:?}"),
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
            let arrives = |call: &&Call| call.taken && call.arrives;
            let mut before = delivery.retry_of;
            while let Some(id) = before {
                let arrived = self.calls.iter().filter(arrives).any(|call| call.claimed.id == id);
                assert!(!arrived || delivery.possible_duplicate, "it arrived before, unflagged: {delivery:?}");
                before = self.known[&id].retry_of;
            }
        }
    }
}
