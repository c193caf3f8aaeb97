//! Calls with a token for an emergency (45 CFR 164.312(a)(2)(ii)): somebody is told at once, and each leaves an entry on the audit
//! trail, those that leave none otherwise included.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{PracticeId, Scope},
    service::Error,
    store::Store,
};

/// How often the log tells of the same practice.
const TOLD: Duration = Duration::from_secs(3_600);
/// What the alarm is called.
const ALARM: &str = "emergency";

/// Tells of emergencies.
#[derive(Clone, Debug)]
pub struct Emergencies {
    store: Store,
    told: Arc<Mutex<HashMap<PracticeId, Instant>>>,
}

impl Emergencies {
    /// Over `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, told: Arc::default() }
    }

    /// Tells that the call behind `scope` is made in one. Its answer waits for this.
    ///
    /// # Errors
    /// As where a read is put on the trail: what nobody could write down nobody sees.
    pub async fn tell(&self, scope: &Scope) -> Result<(), Error> {
        self.store.telemetry().metrics.alarm(ALARM, 1);
        if self.is_news(scope.practice()) {
            // The reason is on the trail: whoever typed it may have named a patient.
            tracing::error!(practice.id = %scope.practice(), "a token for an emergency is used: its reason is on the audit trail");
        }
        if scope.is_told() { Ok(()) } else { Ok(self.store.audit_read(scope, None, "").await?) }
    }

    fn is_news(&self, practice: &PracticeId) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < TOLD);
        if told.contains_key(practice) {
            return false;
        }
        told.insert(practice.clone(), now);
        true
    }
}
