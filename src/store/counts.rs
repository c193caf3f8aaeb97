//! What a server counts of the evidence that comes in, since it started. An operator wants to hear of each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Store, evidence::Findings};

/// How often each happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// A delivery turned out to have reached its provider twice.
    pub duplicates_proven: u64,
    /// A provider contradicted what it had said before, or what was concluded from its list.
    pub evidence_contradicts: u64,
    /// A signed report was given up, since its attempt did not turn up in three days.
    pub reports_dropped: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    duplicates_proven: AtomicU64,
    evidence_contradicts: AtomicU64,
    reports_dropped: AtomicU64,
}

impl Store {
    /// What was counted since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            duplicates_proven: read(&counters.duplicates_proven),
            evidence_contradicts: read(&counters.evidence_contradicts),
            reports_dropped: read(&counters.reports_dropped),
        }
    }

    /// Counts and names what a transaction found, after its commit.
    pub(super) fn tell(&self, findings: &Findings) {
        let counters = &self.inner.counters;
        for id in &findings.duplicates {
            tracing::error!(delivery.id = %id, "a delivery reached its provider twice");
            counters.duplicates_proven.fetch_add(1, Ordering::Relaxed);
        }
        for id in &findings.contradictions {
            tracing::error!(delivery.id = %id, "evidence contradicts what was known of a delivery");
            counters.evidence_contradicts.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn tell_dropped(&self, reports: u64) {
        if reports > 0 {
            tracing::warn!(reports, "signed reports dropped: their attempts did not turn up");
            self.inner.counters.reports_dropped.fetch_add(reports, Ordering::Relaxed);
        }
    }
}
