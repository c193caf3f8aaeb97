//! What senders and staff do: order, repeat, cancel, send again.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{Delivery, DeliveryId, DeliveryState, Kind, NotificationId, SkipReason, Source},
    store::{Accepted, NewNotification, NewRetry, Retried, StoreError},
};
use proptest::sample::Index;

use super::{
    claims::text_of,
    plan::{Gate, PATIENTS, Plan, REPLICAS, Topic, Wish},
    world::{World, patient_of, pick},
};
use crate::store::given::Order;

impl World {
    async fn prepare(&self, number: usize, wish: &Wish) -> NewNotification {
        let order = Order {
            kind: wish.kind(),
            patient: PATIENTS[wish.patient],
            reference: wish.reference(),
            text: text_of(number),
            urgent: wish.urgent,
            schedule_time: (wish.delay > 0).then(|| self.t.now() + TimeDelta::seconds(wish.delay.into())),
            lasts: TimeDelta::minutes(wish.lasts.into()),
            ..Order::new(&format!("r{number}"), &wish.channels())
        };
        order.prepare(&self.t, &self.scope).await
    }

    pub(super) async fn send(&mut self, plan: &Plan, wishes: &[Wish], twins: bool, one_door: bool) {
        let before: Vec<_> = self.known.values().cloned().collect();
        let mut sends = Vec::new();
        for (place, wish) in wishes.iter().enumerate() {
            for twin in 0..=usize::from(twins) {
                let new = self.prepare(self.made.len() + place, wish).await;
                let store = &self.replicas[if one_door { 0 } else { (place + twin) % REPLICAS }];
                let scope = &self.scope;
                sends.push(async move { (place, new.id, store.notification_accept(scope, new).await.unwrap()) });
            }
        }
        let done = join_all(sends).await;
        for (place, wish) in wishes.iter().enumerate() {
            let answers = done.iter().filter(|(of, ..)| *of == place).map(|(_, own, answer)| (*own, answer));
            self.made.push(makes_one_thing(answers));
            let record = self.t.store.notification_get(&self.scope, *self.made.last().unwrap()).await.unwrap();
            assert_eq!(record.deliveries.len(), wish.channels().len());
            record.deliveries.iter().for_each(|delivery| self.is_decided_rightly(plan, delivery));
        }
        for wish in wishes.iter().filter(|wish| wish.topic == Topic::VisitCancelled && wish.reference > 0) {
            let pointless = before.iter().filter(|delivery| {
                delivery.reference == wish.reference()
                    && delivery.kind == Some(Kind::AppointmentReminder)
                    && patient_of(delivery) == wish.patient
            });
            self.stopped.extend(pointless.map(|delivery| delivery.id));
        }
    }

    /// A new delivery is skipped when its patient is not to be written to, and only then.
    fn is_decided_rightly(&self, plan: &Plan, delivery: &Delivery) {
        let patient = patient_of(delivery);
        let address = match delivery.channel {
            heedwell::domain::Channel::Sms => Some(Gate::Phone(plan.people[patient].phone)),
            heedwell::domain::Channel::Email => Some(Gate::Mailbox(patient)),
            _ => None,
        };
        let is = |dead: &BTreeSet<Gate>| address.is_some_and(|address| dead.contains(&address));
        let skipped = delivery.state == DeliveryState::Skipped;
        if !plan.lets(patient, delivery.channel) || is(&self.dead) {
            assert!(skipped, "not to be written to: {delivery:?}");
        } else {
            let late = delivery.skip_reason == Some(SkipReason::Expired);
            assert!(!skipped || late || is(&self.maybe_dead), "skipped for no reason: {delivery:?}");
        }
    }

    pub(super) async fn twins(&self, plan: &Plan, number: usize, other: bool) {
        let mut sends = Vec::new();
        for store in &self.replicas {
            let mut new = self.prepare(number, &plan.orders[number]).await;
            if other {
                new.fingerprint = [8; 32];
            }
            sends.push(store.notification_accept(&self.scope, new));
        }
        for answer in join_all(sends).await {
            match answer.unwrap() {
                Accepted::Replayed(record) if !other => assert_eq!(record.id, self.made[number]),
                Accepted::KeyReused(id) if other => assert_eq!(id, self.made[number]),
                answer => panic!("{answer:?}"),
            }
        }
    }

    pub(super) async fn cancel(&mut self, plan: &Plan, number: usize, replica: usize, claiming: bool) {
        let (id, store) = (self.made[number], self.replicas[replica].clone());
        let cancel = async { store.notification_cancel(&self.scope, id).await.unwrap() };
        let claims = async { if claiming { self.claim_meanwhile().await } else { Vec::new() } };
        let (done, hauls) = join(cancel, claims).await;
        for haul in hauls {
            self.begin(&[plan], haul).await;
        }
        let again = store.notification_cancel(&self.scope, id).await.unwrap();
        assert_eq!((again.deliveries, again.links), (0, 0), "nothing is stopped twice");
        let record = store.notification_get(&self.scope, id).await.unwrap();
        let cancelled = record.deliveries.iter().filter(|it| it.state == DeliveryState::Cancelled).count();
        let before = self.known.values().filter(|it| it.state == DeliveryState::Cancelled);
        let before = before.filter(|old| record.deliveries.iter().any(|it| it.id == old.id)).count();
        assert_eq!(usize::try_from(done.deliveries).unwrap(), cancelled - before);
        assert!(done.deliveries == 0 || record.cancel_time.is_some());
        self.stopped.extend(record.deliveries.iter().map(|delivery| delivery.id));
    }

    pub(super) async fn retry(&mut self, plan: &Plan, which: &Index, (lost, twins, old_key): (bool, bool, bool)) {
        let seems_lost = |it: &&Delivery| matches!(it.state, DeliveryState::Failed | DeliveryState::Unconfirmed);
        let ids: Vec<_> = self.known.values().filter(|it| !lost || seems_lost(it)).map(|it| it.id).collect();
        let Some(id) = pick(which, &ids) else { return };
        let known = self.retries.get(which.index(self.retries.len().max(1))).cloned().filter(|_| old_key);
        let key = known.as_ref().map_or_else(|| format!("again-{}", self.steps), |(key, ..)| key.clone());
        let wish = NewRetry { request_id: key.clone(), fingerprint: digest(id), delivery: id };
        let stores = (0..=usize::from(twins)).map(|n| &self.replicas[(self.steps + n) % REPLICAS]);
        let answers = join_all(stores.map(|store| store.delivery_retry(&self.scope, wish.clone()))).await;
        if let Some((_, old, new)) = known {
            for answer in answers {
                match answer.unwrap() {
                    Retried::Replayed(delivery) if old == id => assert_eq!(delivery.id, new),
                    Retried::KeyReused(made) if old != id => assert_eq!(made, new),
                    answer => panic!("{answer:?}"),
                }
            }
            return;
        }
        let mut made = BTreeSet::new();
        for answer in &answers {
            match answer {
                Ok(Retried::New(delivery) | Retried::Replayed(delivery)) => {
                    self.is_decided_rightly(plan, delivery);
                    made.insert(delivery.id);
                }
                Err(StoreError::StateForbids { .. }) => {}
                answer => panic!("{answer:?}"),
            }
        }
        let new = answers.iter().filter(|answer| matches!(answer, Ok(Retried::New(_)))).count();
        let may = usize::from(self.may_be_retried(id).await);
        assert_eq!((new, made.len()), (may, may), "{:?}: {answers:?}", self.known[&id]);
        if let Some(new) = made.first() {
            self.retries.push((key, id, *new));
        }
    }

    /// Whether the contract lets staff have it sent again, going by what is shown of it.
    async fn may_be_retried(&self, id: DeliveryId) -> bool {
        let delivery = &self.known[&id];
        let Source::Notification(source) = delivery.source else { panic!("no notification") };
        let over = match delivery.state {
            DeliveryState::Failed => true,
            DeliveryState::Unconfirmed => delivery.next_action_time.is_none(),
            _ => false,
        };
        let source = self.t.store.notification_get(&self.scope, source).await.unwrap();
        over && delivery.retried_by.is_none() && source.cancel_time.is_none()
    }
}

/// What one key made, which is one thing, made by one of those who asked.
fn makes_one_thing<'a>(answers: impl Iterator<Item = (NotificationId, &'a Accepted)>) -> NotificationId {
    let (mut new, mut made) = (0, BTreeSet::new());
    for (own, answer) in answers {
        match answer {
            Accepted::New(record) => {
                assert_eq!(record.id, own);
                new += 1;
                made.insert(record.id);
            }
            Accepted::Replayed(record) => drop(made.insert(record.id)),
            Accepted::KeyReused(id) => panic!("a twin is another request: {id}"),
        }
    }
    assert_eq!((new, made.len()), (1, 1), "one key makes one thing");
    *made.first().unwrap()
}

/// Stands for the fingerprint of a request to send that delivery again.
fn digest(id: DeliveryId) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(id.0.as_bytes());
    digest
}
