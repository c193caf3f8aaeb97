//! What a send begins with: what its key made before, or else the grounds of the decision; read for several callers at once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    domain::{NotificationId, PatientId, PracticeId, Scope},
    store::{
        GroundsRow, OpenDeliveries, Store, StoreError, feed,
        idem::{self, Prior},
        lane::Job,
        vault::PracticeKeys,
    },
};

/// What a send begins with.
#[derive(Debug)]
pub enum Basis {
    /// The key made this before, by the same request.
    Same(NotificationId),
    /// The key made this before, by another request.
    Other(NotificationId),
    /// The key is new.
    Grounds {
        /// What is known of the patient.
        grounds: Box<GroundsRow>,
        /// How much of the practice is open.
        open: OpenDeliveries,
    },
    /// The key is new, and the practice has no such patient.
    NoPatient,
}

/// One question for the basis of a send.
#[derive(Debug)]
pub(in crate::store) struct Ask {
    practice: PracticeId,
    keys: Arc<PracticeKeys>,
    request_id: String,
    fingerprint: [u8; 32],
    patient: PatientId,
}

impl Store {
    /// What a notification to `patient` under the key `request_id` begins with.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn notification_basis(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
        patient: &PatientId,
    ) -> Result<Basis, StoreError> {
        let ask = Ask {
            practice: scope.practice().clone(),
            keys: self.keys(scope.practice()).await?,
            request_id: request_id.to_owned(),
            fingerprint: *fingerprint,
            patient: patient.clone(),
        };
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
    let request_ids = asks.iter().map(|(_, ask)| ask.request_id.as_str());
    let patients = asks.iter().map(|(_, ask)| ask.patient.as_str().to_owned());
    // Most keys are new: the one is not waited for before the other is asked.
    let (known, open, grounds) = tokio::join!(
        idem::rows_on(store.read(), first.practice.as_str(), idem::NOTIFICATIONS, request_ids),
        feed::open_on(store.read(), first.practice.as_str()),
        store.grounds_of(&first.keys, patients)
    );
    let known: HashMap<String, _> = known?.into_iter().map(|row| (row.request_id.clone(), row)).collect();
    let all_known = asks.iter().all(|(_, ask)| known.contains_key(&ask.request_id));
    let (open, grounds) = if all_known { (OpenDeliveries::default(), BTreeMap::new()) } else { (open?, grounds?) };
    let basis = |ask: &Ask| match idem::judge(known.get(&ask.request_id), &ask.fingerprint) {
        Prior::Same(id) => Basis::Same(NotificationId(id)),
        Prior::Other(id) => Basis::Other(NotificationId(id)),
        Prior::None => match grounds.get(ask.patient.as_str()) {
            Some(row) => Basis::Grounds { grounds: Box::new(row.clone()), open },
            None => Basis::NoPatient,
        },
    };
    Ok(asks.iter().map(|(place, ask)| (*place, basis(ask))).collect())
}
