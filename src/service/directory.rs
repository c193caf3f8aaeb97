//! Practices and patients: a copy of what the practice's own system says.

use crate::{
    domain::{Patient, PatientId, Phi, Practice, Scope, Stored},
    service::{Error, admission::Admission, pages::Pages},
    store::{PatientPage, PatientQuery, Store, StoreError},
};

/// The list that page tokens of patients are for.
const LIST: &str = "patients";

/// Which patients a list is asked for.
#[derive(Clone, Debug)]
pub struct PatientList {
    /// Which; where the page begins is in the token.
    pub query: PatientQuery,
    /// Empty: at the first.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of patients.
#[derive(Debug)]
pub struct PatientListPage {
    /// The patients, by id.
    pub patients: Vec<Stored<Patient>>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// Keeps the directory.
#[derive(Clone, Debug)]
pub struct Directory {
    store: Store,
    admission: Admission,
    pages: Pages,
}

impl Directory {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, admission: Admission, pages: Pages) -> Self {
        Self { store, admission, pages }
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
        self.admission.room()?;
        // Two writers may bring the same new patient at the same moment: the second then finds it there.
        let put = match self.store.patients_put(scope, patients.clone()).await {
            Err(StoreError::Conflict { .. }) => self.store.patients_put(scope, patients).await,
            put => put,
        };
        failpoint!("F14");
        Ok(put?)
    }

    /// Reads a patient, which the audit trail tells.
    ///
    /// # Errors
    /// `NOT_FOUND`; for a patient's own token also `SCOPE_FORBIDDEN` for any other patient.
    pub async fn patient_get(&self, scope: &Scope, id: &PatientId) -> Result<Stored<Patient>, Error> {
        if !scope.covers(id) {
            return Err(crate::domain::Denied::Scope.into());
        }
        let patient = self.store.patient_get(scope, id).await.map_err(|error| Error::from(error).named(id))?;
        self.store.audit_read(scope, Some(id), format!("patient/{id}")).await?;
        Ok(patient)
    }

    /// Erases a patient: what was said to and by them goes with their record. A repeat changes nothing.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub async fn patient_erase(&self, scope: &Scope, id: &PatientId) -> Result<(), Error> {
        let erased = self.store.patient_erase(scope, id).await;
        failpoint!("F14");
        erased.map_err(|error| Error::from(error).named(id))
    }

    /// Finds patients, by id. The audit trail tells that somebody looked, and who was shown if that is one patient: an entry for
    /// each of a page would drown what else it says.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn patients_list(&self, scope: &Scope, list: PatientList) -> Result<PatientListPage, Error> {
        let PatientList { mut query, page_token, canonical } = list;
        let after = self.pages.open(scope, LIST, canonical.expose(), &page_token)?;
        query.after = match after {
            None => None,
            Some(id) => {
                let id = String::from_utf8(id).ok().and_then(|id| id.parse().ok());
                Some(id.ok_or(Error::PageTokenInvalid)?)
            }
        };
        let PatientPage { patients, next } = self.store.patients_list(scope, query).await?;
        let one = match patients.as_slice() {
            [one] => Some(&one.value.id),
            _ => None,
        };
        self.store.audit_read(scope, one, "patients").await?;
        let mint = |last: PatientId| self.pages.mint(scope, LIST, canonical.expose(), last.as_str().as_bytes());
        Ok(PatientListPage { patients, next_page_token: next.map(mint).unwrap_or_default() })
    }
}
