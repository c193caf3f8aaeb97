//! How far the feeds of the practices that are watched have come. One look serves all their watches, however many there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Engine, PracticeId},
    store::Store,
    telemetry,
    wake::Changed,
};

/// The practices that are watched, each with its newest position as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads(Arc<Mutex<HashMap<PracticeId, Weak<watch::Sender<i64>>>>>);

impl Heads {
    /// Registers interest from now on: whatever is committed after this moves the head that is returned.
    pub(super) fn of(&self, practice: &PracticeId) -> Head {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = watched.get(practice).and_then(Weak::upgrade);
        let sender = known.unwrap_or_else(|| {
            let sender = Arc::new(watch::channel(0).0);
            watched.insert(practice.clone(), Arc::downgrade(&sender));
            sender
        });
        Head { newest: sender.subscribe(), keep: sender }
    }

    /// Keeps the heads up to date until `stop`: on hints, and every `poll` since hints may be lost.
    pub(super) async fn follow(self, store: Store, engine: Engine, poll: Duration, stop: CancellationToken) {
        let mut wake = store.wake().listen();
        let mut poll = interval(poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut well = true;
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = wake.changed() => changed,
                _ = poll.tick() => Changed::Any,
            };
            let watched = self.watched(&changed);
            if watched.is_empty() {
                continue;
            }
            match store.feed_heads(&engine, &watched).await {
                Ok(heads) => {
                    well = true;
                    self.note(heads);
                }
                // Said once: it is tried again at once or soon, for as long as it takes.
                Err(error) if well => {
                    well = false;
                    tracing::warn!(error = %telemetry::chain(&error), "watches wait for the database");
                }
                Err(_) => {}
            }
        }
    }

    fn watched(&self, changed: &Changed) -> Vec<PracticeId> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match changed {
            Changed::Practices(practices) => {
                practices.iter().filter(|practice| watched.contains_key(practice)).cloned().collect()
            }
            Changed::Any => {
                watched.retain(|_, sender| sender.strong_count() > 0);
                watched.keys().cloned().collect()
            }
        }
    }

    fn note(&self, heads: Vec<(PracticeId, i64)>) {
        let watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (practice, newest) in heads {
            if let Some(sender) = watched.get(&practice).and_then(Weak::upgrade) {
                sender.send_if_modified(|known| std::mem::replace(known, newest) != newest);
            }
        }
    }
}

/// The head of one practice, for as long as somebody watches it.
#[derive(Debug)]
pub(super) struct Head {
    newest: watch::Receiver<i64>,
    keep: Arc<watch::Sender<i64>>,
}

impl Head {
    /// Notes that the head has come that far, as whoever begins to watch has just seen.
    pub(super) fn is_at_least(&self, newest: i64) {
        self.keep.send_if_modified(|known| {
            let later = *known < newest;
            *known = newest.max(*known);
            later
        });
    }

    /// The newest position that is known.
    pub(super) fn newest(&self) -> i64 {
        *self.newest.borrow()
    }

    /// Waits until there is something after `position`. Cancel safe.
    pub(super) async fn beyond(&mut self, position: i64) {
        // The sender lives as long as this does.
        let _ = self.newest.wait_for(|newest| *newest > position).await;
    }
}
