//! "Something of this practice changed", inside the process. A hint carries nothing and may be lost: whoever is woken
//! reads the rows again, and whoever waits also polls.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::domain::PracticeId;

/// How many hints may wait for a slow listener before it is told only that it missed some.
const BACKLOG: usize = 1024;

/// Where hints are given and heard.
#[derive(Clone, Debug)]
pub struct Wake(Arc<broadcast::Sender<PracticeId>>);

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(broadcast::channel(BACKLOG).0))
    }
}

impl Wake {
    /// Hints that `practice` changed.
    pub fn practice(&self, practice: &PracticeId) {
        // Nobody listening is no error.
        let _ = self.0.send(practice.clone());
    }

    /// Registers interest from now on. Register first, then read the rows, then wait: another order loses hints.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

/// Hears hints.
#[derive(Debug)]
pub struct Listener(broadcast::Receiver<PracticeId>);

impl Listener {
    /// The next practice that changed; unset when hints were missed, so that any may have. Cancel safe. Never returns once
    /// the server is gone.
    pub async fn any(&mut self) -> Option<PracticeId> {
        match self.0.recv().await {
            Ok(practice) => Some(practice),
            Err(broadcast::error::RecvError::Lagged(_)) => None,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits until `practice` may have changed. Cancel safe.
    pub async fn practice(&mut self, practice: &PracticeId) {
        loop {
            match self.any().await {
                Some(other) if other != *practice => {}
                _ => return,
            }
        }
    }
}
