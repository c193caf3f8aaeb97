//! What senders and staff do: order, repeat, cancel, send again, and say who may not be written to.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{Channel, Delivery, DeliveryId, DeliveryState, Kind, Patient, Source},
    store::{Accepted, NewNotification, NewRetry, Retried, StoreError},
};
use proptest::sample::Index;

use super::{
    plan::{PATIENTS, Plan, REPLICAS, Topic, Wish},
    world::{World, claim, pick},
};
use crate::store::given::{Order, patient};

impl World {
    async fn prepare(&self, number: usize, wish: &Wish) -> NewNotification {
        let (kind, channels) = match (wish.topic, wish.both_channels) {
            (Topic::Reminder, false) => (Kind::AppointmentReminder, vec![Channel::Sms]),
            (Topic::Reminder, true) => (Kind::AppointmentReminder, vec![Channel::Sms, Channel::Email]),
            (Topic::VisitCancelled, _) => (Kind::AppointmentCancelled, vec![Channel::Email]),
            (Topic::Message, false) => (Kind::MessageReceived, vec![Channel::InApp]),
            (Topic::Message, true) => (Kind::MessageReceived, vec![Channel::InApp, Channel::Email]),
        };
        let order = Order {
            kind,
            patient: PATIENTS[wish.patient],
            reference: if wish.reference == 0 { String::new() } else { format!("visit-{}", wish.reference) },
            urgent: wish.urgent,
            schedule_time: (wish.delay > 0).then(|| self.t.now() + TimeDelta::seconds(wish.delay.into())),
            lasts: TimeDelta::minutes(wish.lasts.into()),
            ..Order::new(&format!("r{number}"), &channels)
        };
        order.prepare(&self.t, &self.scope).await
    }

    pub(super) async fn send(&mut self, wishes: &[Wish], twins: bool) {
        let before: Vec<_> = self.known.values().cloned().collect();
        let mut sends = Vec::new();
        for (place, wish) in wishes.iter().enumerate() {
            for twin in 0..=usize::from(twins) {
                let new = self.prepare(self.made.len() + place, wish).await;
                let store = &self.replicas[(place + twin) % REPLICAS];
                let scope = &self.scope;
                sends.push(async move { (place, new.id, store.notification_accept(scope, new).await.unwrap()) });
            }
        }
        let done = join_all(sends).await;
        for place in 0..wishes.len() {
            let answers: Vec<_> = done.iter().filter(|(of, ..)| *of == place).collect();
            let mut made = BTreeSet::new();
            for (_, own, answer) in &answers {
                match answer {
                    Accepted::New(record) => assert_eq!(record.id, *own),
                    Accepted::Replayed(record) => drop(made.insert(record.id)),
                    Accepted::KeyReused(id) => panic!("a twin is another request: {id}"),
                }
                if let Accepted::New(record) = answer {
                    made.insert(record.id);
                }
            }
            let new = answers.iter().filter(|(.., answer)| matches!(answer, Accepted::New(_))).count();
            assert_eq!((new, made.len()), (1, 1), "one key makes one thing");
            self.made.push(*made.first().unwrap());
        }
        for wish in wishes.iter().filter(|wish| wish.topic == Topic::VisitCancelled && wish.reference > 0) {
            let reference = format!("visit-{}", wish.reference);
            let pointless = before.iter().filter(|delivery| {
                delivery.reference == reference
                    && delivery.kind == Some(Kind::AppointmentReminder)
                    && delivery.patient.as_ref().map(|id| id.as_str()) == Some(PATIENTS[wish.patient])
            });
            self.stopped.extend(pointless.map(|delivery| delivery.id));
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
        let other = (replica + 1) % REPLICAS;
        let cancel = async { store.notification_cancel(&self.scope, id).await.unwrap() };
        let claims = async {
            if claiming { claim(&self.replicas[other], &self.t, &self.scope, other, 3).await } else { Vec::new() }
        };
        let (done, claimed) = join(cancel, claims).await;
        self.begin(plan, other, claimed).await;
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

    pub(super) async fn retry(&mut self, which: &Index, lost: bool, twins: bool, old_key: bool) {
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
                Ok(Retried::New(delivery) | Retried::Replayed(delivery)) => drop(made.insert(delivery.id)),
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

    pub(super) async fn patient(&mut self, plan: &Plan, which: usize, inactive: bool, claiming: bool) {
        let changed = vec![Patient { inactive, ..patient(PATIENTS[which]) }];
        let change = async { self.replicas[0].patients_put(&self.scope, changed).await.unwrap() };
        let claims =
            async { if claiming { claim(&self.replicas[1], &self.t, &self.scope, 1, 3).await } else { Vec::new() } };
        let (_, claimed) = join(change, claims).await;
        // Those were claimed before or after the change.
        let either = Plan { inactive: [false; PATIENTS.len()], ..plan.clone() };
        self.begin(&either, 1, claimed).await;
    }
}

/// Stands for the fingerprint of a request to send that delivery again.
fn digest(id: DeliveryId) -> [u8; 32] {
    let mut digest = [0; 32];
    digest[..16].copy_from_slice(id.0.as_bytes());
    digest
}
