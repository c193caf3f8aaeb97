//! Decisions on consent that callers bring, and what is on record of them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::{Instant, timeout_at};

use crate::{
    crypto::FingerprintKey,
    domain::{Channel, ConsentRecord, ConsentSource, ConsentState, Denied, PatientId, Phi, Scope},
    service::{Error, pages::Pages},
    store::{ConsentChange, ConsentPage, ConsentQuery, NewConsent, Recorded, Store, StoreError},
};

/// The list that page tokens of entries are for.
const LIST: &str = "consent";
/// How often is looked whether they have ended, where nobody says so.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a decision waits.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// For attempts under way. A call begins at most 15 s after its claim, so that by then none begins any more.
    pub longest_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { longest_wait: Duration::from_secs(15) }
    }
}

/// A decision as a caller brings it; its fields are valid by themselves.
#[derive(Clone, Debug)]
pub struct ConsentOrder {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// Whose decision.
    pub patient: PatientId,
    /// On what.
    pub channel: Channel,
    /// Agreed or opted out.
    pub state: ConsentState,
    /// How it got here.
    pub source: ConsentSource,
    /// When the patient decided; unset: now.
    pub effective_time: Option<DateTime<Utc>>,
    /// What proves it; may be empty.
    pub evidence: Phi<String>,
}

/// What became of a decision.
#[derive(Clone, Debug)]
pub struct ConsentOutcome {
    /// The entry, and what is in force.
    pub change: ConsentChange,
    /// How many attempts that had begun before were still under way after the wait.
    pub in_flight: u64,
    /// The key had been accepted before.
    pub replayed: bool,
}

/// Which entries a list is asked for.
#[derive(Clone, Debug)]
pub struct ConsentList {
    /// Which; where a page begins is in the token.
    pub query: ConsentQuery,
    /// Empty: at the newest.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of the ledger.
#[derive(Debug)]
pub struct ConsentListPage {
    /// The entries, newest first.
    pub records: Vec<ConsentRecord>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// Keeps the ledger.
#[derive(Clone, Debug)]
pub struct Consents {
    store: Store,
    fingerprints: FingerprintKey,
    pages: Pages,
    settings: Settings,
}

impl Consents {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, fingerprints: FingerprintKey, pages: Pages, settings: Settings) -> Self {
        Self { store, fingerprints, pages, settings }
    }

    /// The time by which a decision lies in the future or does not.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        Ok(self.store.now().await?)
    }

    /// Puts a decision on record. When this returns for an opt-out in force, no attempt begins any more; those that had begun
    /// were waited for. A repeat of the same request yields what the first one did, as it is now.
    ///
    /// # Errors
    /// `NOT_FOUND` (patient), `REQUEST_ID_REUSED`, `STATE_FORBIDS`; for a patient's own token `SCOPE_FORBIDDEN` for any other
    /// patient, and where there is none.
    pub async fn record(&self, scope: &Scope, order: ConsentOrder) -> Result<ConsentOutcome, Error> {
        own(scope, Some(&order.patient))?;
        let (patient, channel) = (order.patient.clone(), order.channel);
        // A patient's keys are their own: nobody takes those of others by guessing.
        let request_id = match scope.patient() {
            Some(own) => format!("{own}\u{1f}{}", order.request_id),
            None => order.request_id,
        };
        let new = NewConsent {
            fingerprint: self.fingerprints.fingerprint(order.canonical.expose()),
            request_id,
            patient: order.patient,
            channel,
            state: order.state,
            source: order.source,
            effective_time: order.effective_time,
            evidence: order.evidence,
        };
        let recorded = self.store.consent_record(scope, new).await;
        failpoint!("F14");
        let (change, replayed) = match recorded {
            Ok(Recorded::New(change)) => (*change, false),
            Ok(Recorded::Replayed(change)) => (*change, true),
            Ok(Recorded::KeyReused(position)) => return Err(Error::request_id_reused("consent", position)),
            Err(StoreError::NotFound("patient")) if scope.patient().is_some() => return Err(Denied::Scope.into()),
            Err(error) => return Err(Error::from(error).named(&patient)),
        };
        let opted_out = change.record.entry.is_opt_out() && change.state == ConsentState::OptedOut;
        // Whoever repeats the call may not have waited the first time.
        let in_flight = if opted_out { self.settled(scope, &patient, channel).await? } else { 0 };
        Ok(ConsentOutcome { change, in_flight: if replayed { 0 } else { in_flight }, replayed })
    }

    /// Waits until no attempt to reach the patient over the channel is under way, for as long as it may. Yields how many are.
    async fn settled(&self, scope: &Scope, patient: &PatientId, channel: Channel) -> Result<u64, Error> {
        let end = Instant::now() + self.settings.longest_wait;
        // Before the first look: what ends after it is heard.
        let mut changes = self.store.wake().listen();
        loop {
            let under_way = self.store.attempts_under_way(scope, patient, channel).await?;
            if under_way == 0 || Instant::now() >= end {
                return Ok(under_way);
            }
            // Without a hint the time comes to look again.
            let next = (Instant::now() + LOOK_EVERY).min(end);
            while let Ok(changed) = timeout_at(next, changes.changed()).await {
                if changed.may_be(scope.practice()) {
                    break;
                }
            }
        }
    }

    /// Lists entries of the ledger, newest first. They hold what somebody wrote as evidence, so the audit trail tells who else than
    /// the patient does.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice, and for a patient's own token for anything but
    /// their own entries.
    pub async fn list(&self, scope: &Scope, list: ConsentList) -> Result<ConsentListPage, Error> {
        let ConsentList { mut query, page_token, canonical } = list;
        own(scope, query.patient.as_ref())?;
        query.before = match self.pages.open(scope, LIST, canonical.expose(), &page_token)? {
            None => None,
            Some(position) => {
                Some(i64::from_be_bytes(position.as_slice().try_into().map_err(|_| Error::PageTokenInvalid)?))
            }
        };
        let ConsentPage { records, next } = self.store.consent_list(scope, &query).await?;
        if scope.patient().is_none() {
            self.store.audit_read(scope, query.patient.as_ref(), "consent").await?;
        }
        let mint = |last: i64| self.pages.mint(scope, LIST, canonical.expose(), &last.to_be_bytes());
        Ok(ConsentListPage { records, next_page_token: next.map(mint).unwrap_or_default() })
    }
}

/// A patient's own token is for what is theirs, and never for everybody's.
fn own(scope: &Scope, patient: Option<&PatientId>) -> Result<(), Denied> {
    match (scope.patient(), patient) {
        (None, _) => Ok(()),
        (Some(own), Some(patient)) if own == patient => Ok(()),
        (Some(_), _) => Err(Denied::Scope),
    }
}
