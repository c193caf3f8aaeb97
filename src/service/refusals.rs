//! Calls and callbacks that were refused, on their way to the audit trails. Whoever is refused is answered at once, and nobody
//! waits for them: they are written by a task of their own, a few for each practice and actor in a minute one by one, and the
//! rest as a number. So a flood fills neither a trail nor the memory, and still stands there.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{AuditEvent, AuditNote, Author, Engine, PracticeId, Scope},
    store::{Store, StoreError},
    telemetry,
};

/// How many refusals of one actor are told one by one in a [`PERIOD`].
const SINGLY: u32 = 10;
/// How long further ones are counted until one entry tells how many there were.
const PERIOD: Duration = Duration::from_secs(60);
/// Refusals that wait to be written one by one; beyond them all are counted.
const MOST_WAITING: usize = 1_024;
/// Actors who are told from one another, and then again as many practices whose other actors are counted together.
const MOST_TALLIES: usize = 4_096;
/// Entries of one transaction.
const GROUP: usize = 64;
/// How often is looked whether a period is over, and whether the database is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Puts refusals on the trails.
#[derive(Clone, Debug)]
pub struct Refusals {
    store: Store,
    engine: Engine,
    kept: Arc<(Mutex<Kept>, Notify)>,
}

impl Refusals {
    /// Over `store`. Nothing is written before [`Self::run`].
    #[must_use]
    pub fn new(store: Store, engine: Engine) -> Self {
        Self { store, engine, kept: Arc::default() }
    }

    /// Takes a refusal, and returns at once.
    pub fn take(&self, refusal: AuditNote) {
        self.is_told_singly(refusal);
    }

    fn is_told_singly(&self, refusal: AuditNote) -> bool {
        let singly = self.kept().take(refusal, Instant::now());
        self.kept.1.notify_one();
        singly
    }

    /// Takes that somebody could not show to be the provider that they said they were. Nothing is known of them but the address.
    /// Whether it is among those that are told one by one.
    pub(super) fn take_stranger(&self, scope: &Scope, action: &'static str, source: Option<IpAddr>) -> bool {
        /// PERMISSION_DENIED of google.rpc.Code.
        const DENIED: i32 = 7;
        let source_address = source.map(|source| source.to_string()).unwrap_or_default();
        let event = AuditEvent { code: DENIED, source_address, ..AuditEvent::of_system(action, None, String::new()) };
        self.is_told_singly(AuditNote { practice: scope.practice().clone(), event })
    }

    /// Takes that somebody came for a practice that is not there, which has no trail. Whether it is worth a line of the log.
    pub(super) fn take_nobodys(&self) -> bool {
        self.kept().take_nobodys(Instant::now())
    }

    /// Writes what was taken until `stop`; what comes later is for [`Self::flush`].
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.kept().end(Instant::now(), false);
            let all = self.write().await;
            let look = async {
                let taken = timeout(LOOK_EVERY, self.kept.1.notified()).await;
                // While the database is away, whatever else is taken has to wait as well.
                if !all && taken.is_ok() {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            };
            stop.run_until_cancelled(look).await;
        }
    }

    /// Writes all that was taken, also what is still being counted.
    pub async fn flush(&self) {
        self.kept().end(Instant::now(), true);
        if !self.write().await {
            tracing::error!("refused calls are lost to the audit trails: the database is out of reach");
        }
    }

    /// Writes what waits. False: the database is out of reach, and the rest waits on.
    async fn write(&self) -> bool {
        let lost = mem::take(&mut self.kept().lost);
        if lost > 0 {
            tracing::error!(lost, "too many refuse calls at once: these are on no audit trail");
        }
        loop {
            let Some((practice, events)) = self.kept().group() else { return true };
            match self.store.audit_append(&self.engine, practice.clone(), events.clone()).await {
                // A practice that is not there has no trail.
                Ok(()) | Err(StoreError::NotFound(_)) => {}
                Err(error @ (StoreError::Busy(_) | StoreError::Overloaded)) => {
                    tracing::warn!(error = %telemetry::chain(&error), "refused calls wait to be put on the audit trail");
                    self.kept().give_back(practice, events);
                    return false;
                }
                Err(error) => {
                    tracing::error!(
                        practice.id = %practice,
                        count = events.len(),
                        error = %telemetry::chain(&error),
                        "refused calls could not be put on the audit trail"
                    );
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose refusals are counted together: those of an actor, or of everybody else of a practice.
type Who = (PracticeId, Option<String>);

/// What is known of the refusals of one actor.
#[derive(Debug)]
struct Tally {
    since: Instant,
    singly: u32,
    more: u64,
    /// The last of those that are counted only.
    last: AuditEvent,
}

/// What is not written yet.
#[derive(Debug, Default)]
struct Kept {
    waiting: VecDeque<AuditNote>,
    tallies: HashMap<Who, Tally>,
    /// For which there is no room at all.
    lost: u64,
    /// What was for practices that are not there, since then.
    nobodys: Option<(Instant, u64)>,
}

impl Kept {
    fn take(&mut self, refusal: AuditNote, now: Instant) -> bool {
        let Some(who) = self.who(&refusal) else {
            self.lost += 1;
            return false;
        };
        let AuditNote { practice, mut event } = refusal;
        let shared = who.1.is_none();
        if shared {
            event.actor = Author::system();
        }
        let tally = self.tallies.entry(who);
        let tally = tally.or_insert_with(|| Tally { since: now, singly: 0, more: 0, last: event.clone() });
        let singly = tally.singly < SINGLY && self.waiting.len() < MOST_WAITING && !shared;
        if singly {
            tally.singly += 1;
            self.waiting.push_back(AuditNote { practice, event });
        } else {
            tally.more += 1;
            tally.last = event;
        }
        singly
    }

    fn take_nobodys(&mut self, now: Instant) -> bool {
        let (_, count) = self.nobodys.get_or_insert((now, 0));
        *count += 1;
        *count <= u64::from(SINGLY)
    }

    fn who(&self, AuditNote { practice, event }: &AuditNote) -> Option<Who> {
        let own = (practice.clone(), Some(event.actor.id.clone()));
        if self.tallies.contains_key(&own) || self.tallies.len() < MOST_TALLIES {
            return Some(own);
        }
        let shared = (practice.clone(), None);
        (self.tallies.contains_key(&shared) || self.tallies.len() < 2 * MOST_TALLIES).then_some(shared)
    }

    /// Ends the periods that are over, or `all`, each with an entry that tells how many more there were.
    fn end(&mut self, now: Instant, all: bool) {
        let waiting = &mut self.waiting;
        self.tallies.retain(|(practice, _), tally| {
            let over = all || now.duration_since(tally.since) >= PERIOD;
            if over && tally.more > 0 {
                tracing::warn!(practice.id = %practice, count = tally.more, "refused so often that only the number is told");
                let event = AuditEvent {
                    action: AuditEvent::REFUSALS.into(),
                    resource: format!("calls/{}", tally.more),
                    ..tally.last.clone()
                };
                waiting.push_back(AuditNote { practice: practice.clone(), event });
            }
            !over
        });
        if let Some((_, count)) = self.nobodys.take_if(|(since, _)| all || now.duration_since(*since) >= PERIOD)
            && count > u64::from(SINGLY)
        {
            tracing::warn!(count, "callbacks refused: there are no such practices");
        }
    }

    /// Takes out what one transaction writes: of the practice whose turn it is.
    fn group(&mut self) -> Option<(PracticeId, Vec<AuditEvent>)> {
        let practice = self.waiting.front()?.practice.clone();
        let (mut events, mut others) = (Vec::new(), VecDeque::new());
        for note in mem::take(&mut self.waiting) {
            if note.practice == practice && events.len() < GROUP {
                events.push(note.event);
            } else {
                others.push_back(note);
            }
        }
        self.waiting = others;
        Some((practice, events))
    }

    fn give_back(&mut self, practice: PracticeId, events: Vec<AuditEvent>) {
        for event in events.into_iter().rev() {
            self.waiting.push_front(AuditNote { practice: practice.clone(), event });
        }
    }
}

#[cfg(test)]
mod tests;
