//! The system, and beside it what is true: what the provider took, what its workers heard, what was stopped. Steps are taken
//! here, and what the store answers to each is checked at once.

use std::collections::{BTreeMap, BTreeSet};

use heedwell::{
    domain::{Delivery, DeliveryFilter, DeliveryId, Facts, NotificationId, Scope},
    store::{Claimed, Store, Time},
};
use proptest::sample::Index;
use uuid::Uuid;

use super::{
    feed::{Reader, Seen},
    plan::{PATIENTS, Plan, REPLICAS, Step},
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
    /// What each order made.
    pub(super) made: Vec<NotificationId>,
    /// Every delivery as it was after the last step.
    pub(super) known: BTreeMap<DeliveryId, Delivery>,
    pub(super) calls: Vec<Call>,
    /// What reached the store about each delivery, put together without regard to order.
    pub(super) evidence: BTreeMap<DeliveryId, Facts>,
    /// Nothing begins for these any more.
    pub(super) stopped: BTreeSet<DeliveryId>,
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
            made: Vec::new(),
            known: BTreeMap::new(),
            calls: Vec::new(),
            evidence: BTreeMap::new(),
            stopped: BTreeSet::new(),
            retries: Vec::new(),
            readers: [Reader::default(); REPLICAS],
            seen: Seen::default(),
            steps: 0,
        }
    }

    /// Takes one step; `plan` knows of it already.
    pub(super) async fn take(&mut self, plan: &Plan, step: &Step) {
        self.steps += 1;
        match step {
            Step::Send { wishes, twins } => self.send(wishes, *twins).await,
            Step::Twins { order, other } => self.twins(plan, order.index(plan.orders.len()), *other).await,
            Step::Claim { replica, limit } => self.claim(plan, *replica, *limit).await,
            Step::ClaimTogether { limit } => self.claim_together(plan, *limit).await,
            Step::Work { replica, fate, arrives } => self.work(plan, *replica, *fate, *arrives).await,
            Step::Call { which, fate, arrives } => self.call_one(which, *fate, *arrives),
            Step::Settle { which } => self.settle_one(which).await,
            Step::SettleTogether => self.settle_together().await,
            Step::Repeat { which } => self.repeat(which).await,
            Step::Report { which, word, replica, times } => self.report(which, *word, *replica, *times).await,
            Step::Crash { replica } => self.crash(*replica),
            Step::Advance { seconds } => self.t.advance(*seconds),
            Step::Rescue { replica } => self.rescue(*replica).await,
            Step::Recover { replica } => self.recover(*replica).await,
            Step::Look { replica, limit, sight } => self.look(*replica, *limit, *sight).await,
            Step::Cancel { order, replica, claiming } => {
                self.cancel(plan, order.index(plan.orders.len()), *replica, *claiming).await;
            }
            Step::Retry { which, lost, twins, old_key } => self.retry(which, *lost, *twins, *old_key).await,
            Step::Patient { which, inactive, claiming } => self.patient(plan, *which, *inactive, *claiming).await,
            Step::Read { reader, limit } => {
                let store = &self.replicas[*reader];
                self.readers[*reader].read(&mut self.seen, store, &self.scope, *limit).await;
            }
            Step::Reconnect { reader } => self.readers[*reader].reconnect(),
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

/// What one replica claims.
pub(super) async fn claim(store: &Store, t: &TestStore, scope: &Scope, replica: usize, limit: u64) -> Vec<Claimed> {
    let worker = Uuid::from_u128(replica as u128 + 1);
    store.claim(&t.engine, worker, scope.practice(), limit).await.unwrap().0
}

/// One of these, if there is any.
pub(super) fn pick<T: Copy>(which: &Index, from: &[T]) -> Option<T> {
    if from.is_empty() { None } else { Some(from[which.index(from.len())]) }
}
