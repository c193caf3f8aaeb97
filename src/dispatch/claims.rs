//! Finds what is due and claims it: hears hints, looks by itself now and then, and asks the queue whose turn it is whenever a
//! slot may be free. Several claims may be under way, never two of one practice and class.
//!
//! It is the only writer of the queue; everything that happens elsewhere reaches it as a message.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use super::{
    Dispatch,
    fairness::{Grant, Queue},
    stopwatch::Stopwatch,
};
use crate::{
    domain::{Class, PracticeId, Verdict},
    store::{Asked, CLASSES, Claimed, StoreError, Taken, Turn, place},
    telemetry,
};

/// Claims under way at once, where the database has more than one writer.
const WIDTH: usize = 4;
/// Practices that one look asks about.
const ASKED: usize = 64;
/// How often the look does not begin at the mark: a claim that was given back or a slow writer may have left something below.
const BELOW_EVERY: Duration = Duration::from_secs(5);

/// A slot that a claimed delivery has until it is settled. Dropped, it is free, whatever became of its task.
#[derive(Debug)]
struct Slot {
    practice: PracticeId,
    class: Class,
    /// Its delivery is due again, as old as it was.
    given_back: bool,
    freed: mpsc::UnboundedSender<Freed>,
}

#[derive(Debug)]
struct Freed {
    practice: PracticeId,
    class: Class,
    given_back: bool,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (practice, class, given_back) = (self.practice.clone(), self.class, self.given_back);
        // Nobody counts slots any more once claiming has ended.
        let _ = self.freed.send(Freed { practice, class, given_back });
    }
}

/// What came of a question to the database.
enum Step {
    Claimed { grant: Grant, marked: bool, watch: Stopwatch, taken: Result<Taken, StoreError> },
    Page(Result<Vec<PracticeId>, StoreError>),
    Due { below: bool, due: Result<Vec<(PracticeId, Class)>, StoreError> },
}

/// A walk over all practices that have something open.
struct Sweep {
    after: Option<PracticeId>,
    below: bool,
}

pub(super) struct Claims<'a> {
    dispatch: &'a Dispatch,
    tasks: &'a TaskTracker,
    queue: Queue,
    /// Before this nothing is left that is due, practice by practice and class by class. Whatever is finished lies before it.
    marks: HashMap<PracticeId, [Option<DateTime<Utc>>; CLASSES]>,
    below_last: Instant,
    hints: BTreeSet<PracticeId>,
    sweep: Option<Sweep>,
    /// The last look was at those who gave a hint.
    hinted: bool,
    looking: bool,
    claiming: usize,
    work: FuturesUnordered<BoxFuture<'a, Step>>,
    freed: mpsc::UnboundedSender<Freed>,
}

impl<'a> Claims<'a> {
    /// Claims until it is time to stop, then ends the claims under way: whoever they took is begun, and given back.
    pub(super) async fn run(dispatch: &'a Dispatch, tasks: &'a TaskTracker) {
        let (freed, mut slots) = mpsc::unbounded_channel();
        let mut claims = Self {
            dispatch,
            tasks,
            queue: Queue::new(if mutant!("prefetched") { 700 } else { dispatch.settings.slots }),
            marks: HashMap::new(),
            below_last: Instant::now(),
            hints: BTreeSet::new(),
            sweep: None,
            hinted: false,
            looking: false,
            claiming: 0,
            work: FuturesUnordered::new(),
            freed,
        };
        let mut wake = dispatch.store.wake().listen();
        let mut poll = interval(dispatch.settings.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            claims.claim();
            claims.look();
            tokio::select! {
                () = dispatch.stop.cancelled() => break,
                Some(step) = claims.work.next() => claims.step(step),
                Some(freed) = slots.recv() => claims.freed(freed),
                practice = wake.any() => match practice {
                    Some(practice) => drop(claims.hints.insert(practice)),
                    None => claims.sweep(),
                },
                _ = poll.tick() => claims.sweep(),
            }
        }
        while let Some(step) = claims.work.next().await {
            if let Step::Claimed { grant, watch, taken: Ok(taken), .. } = step {
                claims.begin(&grant, &watch, taken.claimed);
            }
        }
    }

    /// Begins the claims that are due a turn.
    fn claim(&mut self) {
        let store = &self.dispatch.store;
        let (width, brief) = if store.is_alone() { (1, store.is_asked()) } else { (WIDTH, false) };
        while self.claiming < width
            && let Some(grant) = self.queue.next(brief)
        {
            self.claiming += 1;
            let turn = Turn {
                worker: self.dispatch.worker,
                practice: grant.practice.clone(),
                class: grant.class,
                limit: grant.limit as u64,
                mark: self.marks.get(&grant.practice).and_then(|marks| marks[place(grant.class)]),
            };
            let (dispatch, marked) = (self.dispatch, turn.mark.is_some());
            let claim = async move {
                // It runs from before the first statement: the lease begins with one of them.
                let watch = Stopwatch::start(&dispatch.clock);
                let gone = Arc::default();
                let taken = dispatch.store.claim(&dispatch.engine, turn, dispatch.leave(Arc::clone(&gone))).await;
                if taken.is_err() {
                    let gone = mem::take(&mut *gone.lock().unwrap_or_else(PoisonError::into_inner));
                    dispatch.limits().came_back(gone);
                }
                Step::Claimed { grant, marked, watch, taken }
            };
            self.work.push(claim.boxed());
        }
    }

    /// Begins the next look, if none is under way: at those who gave a hint, and at the next page of all, in turn, since a busy
    /// server has hints without end.
    fn look(&mut self) {
        if self.looking {
            return;
        }
        if let Some(sweep) = self.sweep.as_ref().filter(|_| self.hinted || self.hints.is_empty()) {
            let (dispatch, after) = (self.dispatch, sweep.after.clone());
            let page = async move { Step::Page(dispatch.store.practices_open(&dispatch.engine, after.as_ref()).await) };
            (self.looking, self.hinted) = (true, false);
            self.work.push(page.boxed());
        } else if !self.hints.is_empty() {
            let practices = std::iter::from_fn(|| self.hints.pop_first()).take(ASKED).collect();
            self.hinted = true;
            self.ask(practices, false);
        }
    }

    fn ask(&mut self, practices: Vec<PracticeId>, below: bool) {
        let marks = |practice: &PracticeId| {
            let marks = self.marks.get(practice).filter(|_| !below);
            marks.copied().unwrap_or_default()
        };
        let asked: Vec<_> = practices.into_iter().map(|practice| Asked { marks: marks(&practice), practice }).collect();
        let dispatch = self.dispatch;
        let due = async move { Step::Due { below, due: dispatch.store.practices_due(&dispatch.engine, &asked).await } };
        self.looking = true;
        self.work.push(due.boxed());
    }

    /// Begins to walk over all practices, unless that is being done.
    fn sweep(&mut self) {
        if self.sweep.is_none() && !mutant!("hints only") {
            let below = self.below_last.elapsed() >= BELOW_EVERY;
            if below {
                self.below_last = Instant::now();
            }
            self.sweep = Some(Sweep { after: None, below });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Claimed { grant, marked, watch, taken } => {
                self.claiming -= 1;
                if let Ok(taken) = &taken {
                    self.mark(&grant, marked, taken.mark);
                }
                self.claimed(grant, &watch, taken);
            }
            Step::Page(Ok(practices)) => {
                self.looking = false;
                if let (Some(last), Some(Sweep { below, .. })) = (practices.last(), self.sweep.take()) {
                    self.sweep = Some(Sweep { after: Some(last.clone()), below });
                    self.ask(practices, below);
                }
            }
            Step::Due { below, due: Ok(due) } => {
                self.looking = false;
                for (practice, class) in due {
                    if below {
                        self.forget_mark(&practice, class);
                    }
                    self.queue.add(class, practice);
                }
            }
            Step::Page(Err(error)) | Step::Due { due: Err(error), .. } => {
                (self.looking, self.sweep) = (false, None);
                tracing::error!(error = %telemetry::chain(&error), "due work could not be looked for");
            }
        }
    }

    fn claimed(&mut self, grant: Grant, watch: &Stopwatch, taken: Result<Taken, StoreError>) {
        let (seen, claimed) = match taken {
            Ok(Taken { claimed, seen, .. }) => {
                let count = claimed.len();
                self.begin(&grant, watch, claimed);
                (usize::try_from(seen).unwrap_or(usize::MAX), count)
            }
            // It is found again by the next look, which gives the database a rest meanwhile.
            Err(StoreError::Busy(error)) => {
                tracing::warn!(practice.id = %grant.practice, error = %telemetry::chain(&error), "a claim is tried again");
                (0, 0)
            }
            Err(error) => {
                tracing::error!(practice.id = %grant.practice, error = %telemetry::chain(&error), "claim failed");
                (0, 0)
            }
        };
        self.queue.done(grant, seen, claimed);
    }

    fn begin(&self, grant: &Grant, watch: &Stopwatch, claimed: Vec<Claimed>) {
        for claimed in claimed {
            let (practice, class, freed) = (grant.practice.clone(), grant.class, self.freed.clone());
            self.dispatch.store.telemetry().metrics.claimed(class, claimed.late);
            let mut slot = Slot { practice, class, given_back: false, freed };
            let (dispatch, watch) = (self.dispatch.clone(), watch.clone());
            self.tasks.spawn(async move {
                let _turn = mutant_turn!("prefetched");
                failpoint!("F6");
                let settlement = dispatch.attempt(claimed, watch).await;
                failpoint!("F9");
                slot.given_back = settlement.verdict == Verdict::NotStarted;
                dispatch.settle(settlement).await;
                // The slot is free again only now.
                drop(slot);
            });
        }
    }

    fn freed(&mut self, freed: Freed) {
        let Freed { practice, class, given_back } = freed;
        self.queue.freed(class, &practice);
        if given_back {
            self.forget_mark(&practice, class);
            self.queue.add(class, practice);
        }
    }

    /// Raises the mark, unless it was forgotten while the claim that began at it was under way.
    fn mark(&mut self, grant: &Grant, marked: bool, mark: DateTime<Utc>) {
        let known = &mut self.marks.entry(grant.practice.clone()).or_default()[place(grant.class)];
        if known.is_some() || !marked {
            *known = (*known).max(Some(mark));
        }
    }

    fn forget_mark(&mut self, practice: &PracticeId, class: Class) {
        if let Some(marks) = self.marks.get_mut(practice) {
            marks[place(class)] = None;
        }
    }
}
