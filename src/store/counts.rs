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
        findings.log();
        let Findings { duplicates, contradictions, both_ends } = findings;
        let add = |counter: &AtomicU64, found: usize| counter.fetch_add(found as u64, Ordering::Relaxed);
        add(&self.inner.counters.duplicates_proven, duplicates.len());
        self.telemetry().metrics.duplicates(duplicates.len() as u64);
        add(&self.inner.counters.evidence_contradicts, contradictions.len() + both_ends.len());
    }

    pub(super) fn tell_dropped(&self, reports: u64) {
        if reports > 0 {
            tracing::warn!(reports, "signed reports dropped: their attempts did not turn up");
            self.inner.counters.reports_dropped.fetch_add(reports, Ordering::Relaxed);
        }
    }
}

impl Findings {
    fn log(&self) {
        for id in &self.duplicates {
            tracing::error!(delivery.id = %id, "a delivery reached its provider twice");
        }
        for id in &self.contradictions {
            tracing::error!(delivery.id = %id, "evidence contradicts what was known of a delivery");
        }
        for id in &self.both_ends {
            tracing::info!(delivery.id = %id, "a delivery is reported to have arrived, and not to have");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex, PoisonError},
    };

    use uuid::Uuid;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn that_a_message_arrived_and_came_back_is_no_error() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let [ordinary, odd] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        let findings = Findings { both_ends: vec![ordinary], contradictions: vec![odd], ..Findings::default() };
        tracing::subscriber::with_default(log, || findings.log());
        let written = written.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = String::from_utf8_lossy(&written);
        let level = |id: Uuid| lines.lines().find(|line| line.contains(&id.to_string())).unwrap_or_default().to_owned();
        assert!(level(ordinary).contains(" INFO ") && level(odd).contains(" ERROR "), "{lines}");
    }
}
