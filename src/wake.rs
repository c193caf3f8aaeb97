//! "Something of this practice changed". A hint carries nothing more and may be lost: whoever is woken reads the rows again,
//! and whoever waits also looks from time to time.

use std::{collections::BTreeSet, future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::broadcast::{self, error::TryRecvError},
    time::{Instant, sleep_until},
};

use crate::domain::PracticeId;

/// How many hints may wait for a slow listener before it is told only that it missed some.
const BACKLOG: usize = 1024;
/// How often those who look for work are woken at most by commits elsewhere, since whoever committed is likely to do the
/// work as well.
const ELSEWHERE_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
enum Hint {
    /// This process committed a change of the practice.
    Here(PracticeId),
    /// Another one committed some change.
    Elsewhere,
}

/// Where hints are given and heard.
#[derive(Clone, Debug)]
pub struct Wake(Arc<broadcast::Sender<Hint>>);

impl Default for Wake {
    fn default() -> Self {
        Self(Arc::new(broadcast::channel(BACKLOG).0))
    }
}

impl Wake {
    /// Hints that this process changed something of `practice`.
    pub fn practice(&self, practice: &PracticeId) {
        // Nobody listening is no error.
        let _ = self.0.send(Hint::Here(practice.clone()));
    }

    /// Hints that another process may have changed something of any practice.
    pub fn elsewhere(&self) {
        let _ = self.0.send(Hint::Elsewhere);
    }

    /// Registers interest from now on. Register first, then read the rows, then wait: another order loses hints.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { hints: self.0.subscribe(), elsewhere: None, quiet_until: Instant::now() }
    }
}

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These.
    Practices(BTreeSet<PracticeId>),
    /// Any of all.
    Any,
}

impl Changed {
    /// Whether `practice` may be among them.
    #[must_use]
    pub fn may_be(&self, practice: &PracticeId) -> bool {
        match self {
            Self::Practices(practices) => practices.contains(practice),
            Self::Any => true,
        }
    }
}

/// Hears hints. All waits are cancel safe, and never end once the server is gone.
#[derive(Debug)]
pub struct Listener {
    hints: broadcast::Receiver<Hint>,
    /// When a change elsewhere is to be passed on to those who look for work.
    elsewhere: Option<Instant>,
    quiet_until: Instant,
}

impl Listener {
    /// For those who look for work: the next practice that changed; unset when any may have. Commits elsewhere wake at most
    /// once every 100 ms.
    pub async fn any(&mut self) -> Option<PracticeId> {
        loop {
            let due = async {
                match self.elsewhere {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = due => {
                    self.elsewhere = None;
                    self.quiet_until = Instant::now() + ELSEWHERE_EVERY;
                    return None;
                }
                hint = self.hints.recv() => match hint {
                    Ok(Hint::Here(practice)) => return Some(practice),
                    Ok(Hint::Elsewhere) => {
                        self.elsewhere.get_or_insert(self.quiet_until);
                    }
                    Err(broadcast::error::RecvError::Lagged(_)) => return None,
                    Err(broadcast::error::RecvError::Closed) => pending().await,
                },
            }
        }
    }

    /// For those who show what changed: everything that changed since the last time, here or elsewhere.
    pub async fn changed(&mut self) -> Changed {
        let mut changed = Changed::Practices(BTreeSet::new());
        match self.hints.recv().await {
            Ok(hint) => changed.add(hint),
            Err(broadcast::error::RecvError::Lagged(_)) => changed = Changed::Any,
            Err(broadcast::error::RecvError::Closed) => pending().await,
        }
        loop {
            match self.hints.try_recv() {
                Ok(hint) => changed.add(hint),
                Err(TryRecvError::Lagged(_)) => changed = Changed::Any,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return changed,
            }
        }
    }

    /// For those who tell others: waits until this process changed anything since the last time.
    pub async fn here(&mut self) {
        loop {
            match self.hints.recv().await {
                Ok(Hint::Elsewhere) => continue,
                Ok(Hint::Here(_)) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => pending().await,
            }
            // One word stands for all of them.
            while !matches!(self.hints.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
            return;
        }
    }
}

impl Changed {
    fn add(&mut self, hint: Hint) {
        match (hint, &mut *self) {
            (Hint::Here(practice), Self::Practices(practices)) => {
                practices.insert(practice);
            }
            (Hint::Here(_), Self::Any) => {}
            (Hint::Elsewhere, _) => *self = Self::Any,
        }
    }
}

#[cfg(test)]
mod tests;
