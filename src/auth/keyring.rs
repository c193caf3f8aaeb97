//! The keys in force: those of this deployment, and the last set that loaded well. A set is asked for again when a token names a
//! key that nobody knows, at most once a minute, and now and then unasked, so that a key withdrawn by its issuer loses
//! its force here. A set that does not load never takes the place of one that did.

use std::{
    error::Error,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::Algorithm;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::task::TaskTracker;

use super::{
    TokenError,
    jwks::{JwksError, JwksSource, Key, KeySet, Source},
};

/// The least time between two loads while there is a set, and while there is none.
const PAUSE: Duration = Duration::from_mins(1);
const PAUSE_WITHOUT_SET: Duration = Duration::from_secs(5);
/// How old a set grows before it is asked for again unasked.
const MAX_AGE: Duration = Duration::from_mins(10);

#[derive(Debug)]
pub(super) struct Keyring {
    /// The local one, and that for emergencies.
    own: Vec<Arc<Key>>,
    published: Option<Arc<Published>>,
}

#[derive(Debug)]
struct Published {
    source: Source,
    set: RwLock<Option<Arc<KeySet>>>,
    /// Held while loading, so that a set is loaded once however many ask.
    schedule: Mutex<Schedule>,
    loads: TaskTracker,
}

#[derive(Debug)]
struct Schedule {
    /// From when on the set may be loaded again.
    may: Instant,
    /// From when on it should be.
    should: Instant,
}

impl Keyring {
    /// Loads the set once. That a file does not load is an error, since its operator is at hand now; that a URL does
    /// not answer is none, since an issuer may be late.
    pub(super) async fn new(source: Option<JwksSource>, own: impl IntoIterator<Item = Key>) -> Result<Self, JwksError> {
        let published = match source {
            Some(source) => Some(Published::new(Source::new(source)?).await?),
            None => None,
        };
        Ok(Self { own: own.into_iter().map(Arc::new).collect(), published })
    }

    /// The key that a token names, with the algorithm it names. [`TokenError::Unavailable`] if there is a source, but no
    /// set was ever had from it.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Option<Arc<Key>>, TokenError> {
        let named = |key: &&Arc<Key>| key.algorithm == algorithm && key.kid.as_deref() == kid;
        match (self.own.iter().find(named), &self.published) {
            (Some(own), _) => Ok(Some(Arc::clone(own))),
            (None, Some(published)) => published.find(kid, algorithm).await,
            (None, None) => Ok(None),
        }
    }
}

impl Published {
    async fn new(source: Source) -> Result<Arc<Self>, JwksError> {
        let now = Instant::now();
        let published = Arc::new(Self {
            source,
            set: RwLock::new(None),
            schedule: Mutex::new(Schedule { may: now, should: now }),
            loads: TaskTracker::new(),
        });
        match (published.load(&mut *published.schedule.lock().await).await, &published.source) {
            (Err(error), Source::File(_)) => return Err(error),
            (Err(error), Source::Url(..)) => warn(&error),
            (Ok(()), _) => {}
        }
        Ok(published)
    }

    async fn find(self: &Arc<Self>, kid: Option<&str>, algorithm: Algorithm) -> Result<Option<Arc<Key>>, TokenError> {
        let known = |set: Arc<KeySet>| set.find(kid, algorithm);
        if let Some(key) = self.current().and_then(known) {
            if self.schedule.try_lock().is_ok_and(|schedule| Instant::now() >= schedule.should) {
                drop(self.start_load());
            }
            return Ok(Some(key));
        }
        // A lock that is held means a load that is worth waiting for.
        if self.schedule.try_lock().map_or(true, |schedule| Instant::now() >= schedule.may) {
            // A task that failed to load has said so.
            let _ = self.start_load().await;
        }
        self.current().map(known).ok_or(TokenError::Unavailable)
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        self.set.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// On a task of its own: a caller who hangs up must not undo a load that others wait for.
    fn start_load(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
        let published = Arc::clone(self);
        self.loads.spawn(async move {
            let mut schedule = published.schedule.lock().await;
            if Instant::now() >= schedule.may
                && let Err(error) = published.load(&mut schedule).await
            {
                warn(&error);
            }
        })
    }

    async fn load(&self, schedule: &mut Schedule) -> Result<(), JwksError> {
        let loaded = self.source.load().await;
        let now = Instant::now();
        let pause = if loaded.is_ok() || self.current().is_some() { PAUSE } else { PAUSE_WITHOUT_SET };
        schedule.may = now + pause;
        schedule.should = now + if loaded.is_ok() { MAX_AGE } else { pause };
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(loaded?));
        Ok(())
    }
}

fn warn(error: &JwksError) {
    tracing::warn!(error = error as &(dyn Error + 'static), "the key set of the tokens' issuer did not load");
}

#[cfg(test)]
mod tests;
