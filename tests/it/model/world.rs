//! The system, and beside it what is true: what the provider took, what its workers heard, what was stopped. Steps are taken
//! here, and what the store answers to each is checked at once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use heedwell::{
    domain::{Delivery, DeliveryFilter, DeliveryId, Facts, NotificationId, Scope},
    store::{CLASSES, Store, Time},
};
use proptest::sample::Index;

use super::{
    feed::{Reader, Seen},
    looks::Sighting,
    plan::{Gate, PATIENTS, Plan, REPLICAS, Step},
    reports::Waiting,
    work::Call,
};
use crate::{
    store::given::{patient, ready_practice},
    support::{Backend, TestStore},
};

pub(super) struct World {
    pub(super) t: TestStore,
    pub(super) replicas: Vec<Store>,
    pub(super) scope: Scope,
    /// What was known without asking the store before this step.
    pub(super) before: Plan,
    /// What each order made.
    pub(super) made: Vec<NotificationId>,
    /// Every delivery as it was after the last step.
    pub(super) known: BTreeMap<DeliveryId, Delivery>,
    pub(super) calls: Vec<Call>,
    /// What replicas saw at the provider and have not told yet.
    pub(super) sightings: Vec<Sighting>,
    /// Reports that the store keeps to be applied later.
    pub(super) waiting: Waiting,
    /// What reached the store about each delivery, put together without regard to order.
    pub(super) evidence: BTreeMap<DeliveryId, Facts>,
    /// Nothing begins for these any more.
    pub(super) stopped: BTreeSet<DeliveryId>,
    /// Put aside until then, and not let go since.
    pub(super) parked: BTreeMap<DeliveryId, DateTime<Utc>>,
    /// Where the next claim of each replica and class may begin.
    pub(super) marks: [[Option<DateTime<Utc>>; CLASSES]; REPLICAS],
    /// Addresses that are known not to exist.
    pub(super) dead: BTreeSet<Gate>,
    /// Addresses of which a provider ever said so.
    pub(super) maybe_dead: BTreeSet<Gate>,
    /// Keys of retries, with what each is for and made.
    pub(super) retries: Vec<(String, DeliveryId, DeliveryId)>,
    readers: [Reader; REPLICAS],
    pub(super) seen: Seen,
    pub(super) steps: usize,
}

impl World {
    pub(super) async fn open(backend: Backend) -> Self {
        let t = TestStore::open(backend).await.unwrap();
        let scope = ready_practice(&t, "north").await;
        t.store.patients_put(&scope, PATIENTS.map(patient).to_vec()).await.unwrap();
        let mut replicas = vec![t.store.clone()];
        while replicas.len() < REPLICAS {
            // One process holds an SQLite file: there, three workers share it.
            replicas.push(match backend {
                Backend::Sqlite => t.store.clone(),
                Backend::Postgres => t.home.open(Time::Injected(t.clock.clone())).await.unwrap(),
            });
        }
        Self {
            t,
            replicas,
            scope,
            before: Plan::default(),
            made: Vec::new(),
            known: BTreeMap::new(),
            calls: Vec::new(),
            sightings: Vec::new(),
            waiting: Waiting::default(),
            evidence: BTreeMap::new(),
            stopped: BTreeSet::new(),
            parked: BTreeMap::new(),
            marks: Default::default(),
            dead: BTreeSet::new(),
            maybe_dead: BTreeSet::new(),
            retries: Vec::new(),
            readers: [Reader::default(); REPLICAS],
            seen: Seen::default(),
            steps: 0,
        }
    }

    /// Takes one step; `plan` knows of it already.
    pub(super) async fn take(mut self, plan: &Plan, step: &Step) -> Self {
        self.steps += 1;
        match step {
            Step::Restart { replica } => self = self.restart(*replica).await,
            Step::Send { .. } | Step::Twins { .. } | Step::Cancel { .. } | Step::Retry { .. } => {
                self.take_of_people(plan, step).await;
            }
            Step::Patient { which, claiming, .. } => self.patient(plan, *which, *claiming).await,
            Step::Consent { subject, channel, out, claiming } => {
                self.consent(plan, (*subject, *channel), *out, *claiming).await;
            }
            Step::Read { reader, limit } => {
                let store = &self.replicas[*reader];
                self.readers[*reader].read(&mut self.seen, store, &self.scope, *limit).await;
            }
            Step::Reconnect { reader, replica } => {
                let store = &self.replicas[*replica];
                self.readers[*reader].reconnect(&mut self.seen, &self.t, store, &self.scope).await;
            }
            step => self.take_of_workers(plan, step).await,
        }
        self
    }

    async fn take_of_people(&mut self, plan: &Plan, step: &Step) {
        match step {
            Step::Send { wishes, twins, one_door } => self.send(plan, wishes, *twins, *one_door).await,
            Step::Twins { order, other } => self.twins(plan, order.index(plan.orders.len()), *other).await,
            Step::Cancel { order, replica, claiming } => {
                self.cancel(plan, order.index(plan.orders.len()), *replica, *claiming).await;
            }
            Step::Retry { which, lost, twins, old_key } => self.retry(plan, which, (*lost, *twins, *old_key)).await,
            other => unreachable!("{other:?}"),
        }
    }

    async fn take_of_workers(&mut self, plan: &Plan, step: &Step) {
        match step {
            Step::Claim { replica, limit, hold, marked } => self.claim(plan, *replica, *limit, *hold, *marked).await,
            Step::ClaimTogether { limit } => self.claim_together(plan, *limit).await,
            Step::Work { replica, fate, arrives } => self.work(plan, *replica, *fate, *arrives).await,
            Step::Call { which, fate, arrives } => self.call_one(which, *fate, *arrives),
            Step::Settle { which, word } => self.settle_one(which, *word).await,
            Step::SettleTogether => self.settle_together().await,
            Step::Repeat { which } => self.repeat(which).await,
            Step::Report { which, word, replica, times, parks } => {
                self.report(which, *word, (*replica, *times), *parks).await;
            }
            Step::Stray { replica } => self.stray(*replica).await,
            Step::RetryParked { replica } => self.retry_parked(*replica).await,
            Step::Poll { replica, limit, ended } => self.poll(*replica, *limit, *ended).await,
            Step::Crash { replica } => self.crash(*replica),
            Step::Advance { seconds } => self.t.advance(*seconds),
            Step::Rescue { replica } => self.rescue(*replica).await,
            Step::Recover { replica } => self.recover(*replica).await,
            Step::LookInto { replica, sights } => self.look_into(*replica, *sights).await,
            Step::Look { replica, limit, sight, later } => self.look(*replica, *limit, *sight, *later).await,
            Step::TellSeen { which } => self.tell_seen(which).await,
            other => unreachable!("{other:?}"),
        }
    }

    /// Every delivery as it is now.
    pub(super) async fn deliveries(&self) -> BTreeMap<DeliveryId, Delivery> {
        let store = &self.replicas[self.steps % REPLICAS];
        let all = DeliveryFilter::default();
        let page = store.deliveries_list(&self.scope, &all, (None, None), None, 100_000).await.unwrap();
        page.deliveries.into_iter().map(|delivery| (delivery.id, delivery)).collect()
    }

    /// Lets all who watch catch up.
    pub(super) async fn catch_up(&mut self) {
        for (reader, store) in self.readers.iter_mut().zip(&self.replicas) {
            while reader.read(&mut self.seen, store, &self.scope, 100).await {}
            assert_eq!(reader.position(), store.feed_head(&self.scope).await.unwrap());
        }
    }
}

/// Which patient a delivery is for.
pub(super) fn patient_of(delivery: &Delivery) -> usize {
    let patient = delivery.patient.as_ref().map(|id| id.as_str());
    PATIENTS.iter().position(|id| Some(*id) == patient).unwrap()
}

/// One of these, if there is any.
pub(super) fn pick<T: Copy>(which: &Index, from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { Some(from[which.index(from.len())]) }
}
