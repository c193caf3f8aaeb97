//! Looks whether this database may send, says so for as long as it may not, and has a copy of a SQLite file told from it.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::Engine,
    store::{Quiet, Reason, Standing, Store},
    telemetry,
};

/// How often it is said that nothing is sent.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How often the token of a SQLite file changes. A copy that is younger than two of them when its original dies is not told from
/// it by them.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// What was seen and done last.
#[derive(Debug, Default)]
pub(super) struct Watchman(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    quiet: Option<(Quiet, Instant)>,
    renewed: Option<Instant>,
}

impl Watchman {
    pub(super) async fn run_once(&self, store: &Store, engine: &Engine) {
        match store.standing(engine).await {
            Ok(standing) => self.tell(standing),
            Err(error) => {
                tracing::error!(error = %telemetry::chain(&error), "whether this database may send is not known");
            }
        }
        let due = self.last(|last| last.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEW_EVERY));
        if due {
            match store.instance_tend(engine).await {
                Ok(()) => self.last(|last| last.renewed = Some(Instant::now())),
                Err(error) => {
                    tracing::error!(error = %telemetry::chain(&error), "a copy of this database could not be told from it");
                }
            }
        }
    }

    fn last<T>(&self, change: impl FnOnce(&mut Last) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says it when it changes, and then once in a while.
    fn tell(&self, standing: Standing) {
        let now = Instant::now();
        let told = self.last(|last| last.quiet.clone());
        let Standing::Quiet(quiet) = standing else {
            if told.is_some() {
                self.last(|last| last.quiet = None);
                tracing::info!("the database is live again: what waits is sent");
            }
            return;
        };
        if told.is_some_and(|(known, at)| known == quiet && now - at < SAY_EVERY) {
            return;
        }
        let since = quiet.since.to_rfc3339();
        match quiet.reason {
            Reason::Held => tracing::warn!(since, "NOTHING IS SENT: the database is held; `heedwell resume` ends that"),
            Reason::Copy => tracing::warn!(
                since,
                "NOTHING IS SENT: this database is a copy of another, which may have sent what waits here; see to it that the \
                 other never runs again, then run `heedwell resume`"
            ),
            Reason::Moved => tracing::warn!(since, "NOTHING IS SENT: this database was moved, and another one sends"),
        }
        self.last(|last| last.quiet = Some((quiet, now)));
    }
}
