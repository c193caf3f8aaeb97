//! What a send begins with: the grounds of its decision, read for several callers at once.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::{PatientId, PracticeId, Scope},
    store::{GroundsRow, OpenDeliveries, Store, StoreError, feed, lane::Job, vault::PracticeKeys},
};

/// What a send begins with.
#[derive(Debug)]
pub struct Basis {
    /// What is known of the patient; unset when the practice has no such patient.
    pub grounds: Option<GroundsRow>,
    /// How much of the practice is open.
    pub open: OpenDeliveries,
}

/// One question for the basis of a send.
#[derive(Debug)]
pub(in crate::store) struct Ask {
    practice: PracticeId,
    keys: Arc<PracticeKeys>,
    patient: PatientId,
}

impl Store {
    /// What a notification to `patient` begins with.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn notification_basis(&self, scope: &Scope, patient: &PatientId) -> Result<Basis, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let ask = Ask { practice: scope.practice().clone(), keys, patient: patient.clone() };
        self.inner.asks.enter(self, ask).await
    }
}

impl Job for Ask {
    type Done = Basis;
    const GROUP: usize = 64;

    fn practice(&self) -> &PracticeId {
        &self.practice
    }

    async fn run(store: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<Basis>, StoreError> {
        let mut practices = BTreeMap::<&PracticeId, Vec<(usize, &Ask)>>::new();
        for (place, job) in jobs.iter().enumerate() {
            practices.entry(&job.practice).or_default().push((place, job));
        }
        let mut done = BTreeMap::new();
        for asks in practices.into_values() {
            done.extend(answer(store, &asks).await?);
        }
        Ok(done.into_values().collect())
    }
}

/// Answers the questions of one practice, each with its place.
async fn answer(store: &Store, asks: &[(usize, &Ask)]) -> Result<Vec<(usize, Basis)>, StoreError> {
    let Some((_, first)) = asks.first() else { return Ok(Vec::new()) };
    let patients = asks.iter().map(|(_, ask)| ask.patient.as_str().to_owned());
    let (open, grounds) = tokio::try_join!(
        feed::open_on(store.across(), first.practice.as_str()),
        store.grounds_of(store.across(), &first.keys, patients)
    )?;
    let basis = |ask: &Ask| Basis { grounds: grounds.get(ask.patient.as_str()).cloned(), open };
    Ok(asks.iter().map(|(place, ask)| (*place, basis(ask))).collect())
}
