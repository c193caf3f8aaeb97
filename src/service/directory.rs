//! Practices and patients: a copy of what the practice's own system says.

use crate::{
    domain::{Patient, PatientId, Practice, Scope, Stored},
    service::Error,
    store::{PatientPage, PatientQuery, Store, StoreError},
};

/// Keeps the directory.
#[derive(Clone, Debug)]
pub struct Directory {
    store: Store,
}

impl Directory {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Stores a practice, replacing what was there. `etag`, if given, must match.
    ///
    /// # Errors
    /// `ETAG_MISMATCH`.
    pub async fn practice_put(
        &self,
        scope: &Scope,
        practice: Practice,
        etag: Option<i64>,
    ) -> Result<Stored<Practice>, Error> {
        Ok(self.store.practice_put(scope, practice, etag).await?)
    }

    /// Reads a practice.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is none.
    pub async fn practice_get(&self, scope: &Scope) -> Result<Stored<Practice>, Error> {
        Ok(self.store.practice_get(scope).await?)
    }

    /// Stores patients, all or none. Says how many were new and how many differed.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn patients_put(&self, scope: &Scope, patients: Vec<Patient>) -> Result<(i32, i32), Error> {
        // Two writers may bring the same new patient at the same moment: the second then finds it there.
        match self.store.patients_put(scope, patients.clone()).await {
            Err(StoreError::Conflict { .. }) => Ok(self.store.patients_put(scope, patients).await?),
            done => Ok(done?),
        }
    }

    /// Reads a patient.
    ///
    /// # Errors
    /// `NOT_FOUND`; for a patient's own token also `SCOPE_FORBIDDEN` for any other patient.
    pub async fn patient_get(&self, scope: &Scope, id: &PatientId) -> Result<Stored<Patient>, Error> {
        if !scope.covers(id) {
            return Err(crate::domain::Denied::Scope.into());
        }
        self.store.patient_get(scope, id).await.map_err(|error| Error::from(error).named(id))
    }

    /// Finds patients.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn patients_list(&self, scope: &Scope, query: PatientQuery) -> Result<PatientPage, Error> {
        Ok(self.store.patients_list(scope, query).await?)
    }
}
