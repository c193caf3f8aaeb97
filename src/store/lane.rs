//! Group commit. What concurrent callers want done at the same time is done together: whoever comes first works, and
//! whoever comes while a group is under way joins the next one. Nobody waits for company, so that a lone caller is as fast
//! as without this, and the busier it is, the larger the groups.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio::{sync::oneshot, time::Instant};

use super::{Store, StoreError};
use crate::domain::PracticeId;

/// Jobs that may wait in one lane.
const LONGEST_QUEUE: usize = 2_048;

/// Something that several callers want at the same time.
pub(super) trait Job: fmt::Debug + Sized + Send + Sync + 'static {
    /// What each of them gets.
    type Done: fmt::Debug + Send + 'static;
    /// Most jobs of one group.
    const GROUP: usize;
    /// How long the oldest job may have waited while others still join. Beyond that whoever comes is refused at once, who can ask
    /// again later.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// The practice whose lane it takes.
    fn practice(&self) -> &PracticeId;

    /// Whether it must not share a group.
    fn is_alone(&self) -> bool {
        false
    }

    /// Does all `jobs`, or none of them; results are in their order.
    fn run(store: &Store, jobs: Vec<Arc<Self>>) -> impl Future<Output = Result<Vec<Self::Done>, StoreError>> + Send;
}

/// The lanes of one sort of job. A practice always takes the same lane, so that inside one process its rows are contended by
/// one group at a time.
#[derive(Debug)]
pub(super) struct Lanes<J: Job>(Vec<Arc<Lane<J>>>);

#[derive(Debug)]
struct Lane<J: Job>(Mutex<Queue<J>>);

#[derive(Debug)]
struct Queue<J: Job> {
    waiting: VecDeque<Waiter<J>>,
    working: bool,
}

#[derive(Debug)]
struct Waiter<J: Job> {
    job: J,
    since: Instant,
    reply: oneshot::Sender<Result<J::Done, StoreError>>,
}

impl<J: Job> Lanes<J> {
    pub(super) fn new(count: usize) -> Self {
        let lane = || Arc::new(Lane(Mutex::new(Queue { waiting: VecDeque::new(), working: false })));
        Self(std::iter::repeat_with(lane).take(count.max(1)).collect())
    }

    /// Does `job` together with others.
    pub(super) async fn enter(&self, store: &Store, job: J) -> Result<J::Done, StoreError> {
        let mut hasher = DefaultHasher::new();
        job.practice().hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or_default();
        let lane = self.0.get(place).ok_or(StoreError::Abandoned)?;
        let (reply, done) = oneshot::channel();
        let first = {
            let mut queue = lane.queue();
            if queue.is_full(Instant::now()) {
                return Err(StoreError::Overloaded);
            }
            queue.waiting.push_back(Waiter { job, since: Instant::now(), reply });
            !mem::replace(&mut queue.working, true)
        };
        if first {
            let (lane, store) = (Arc::clone(lane), store.clone());
            // A task of its own: a caller who goes away must not take the others' work along.
            store.inner.tasks.clone().spawn(async move {
                while let Some(group) = lane.next_group() {
                    work(&store, group).await;
                }
            });
        }
        done.await.map_err(|_| StoreError::Abandoned)?
    }
}

impl<J: Job> Queue<J> {
    /// Whether whoever comes now would wait for too long.
    fn is_full(&self, now: Instant) -> bool {
        let late = self.waiting.front().is_some_and(|front| now.duration_since(front.since) > J::PATIENCE);
        late || self.waiting.len() >= LONGEST_QUEUE
    }
}

impl<J: Job> Lane<J> {
    fn queue(&self) -> MutexGuard<'_, Queue<J>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is done next; unset when nobody waits, and then the next to come works.
    fn next_group(&self) -> Option<Vec<Waiter<J>>> {
        let mut queue = self.queue();
        let alone = queue.waiting.iter().take(J::GROUP).position(|waiter| waiter.job.is_alone());
        let count = match alone {
            Some(0) => 1,
            Some(place) => place,
            None => queue.waiting.len().min(J::GROUP),
        };
        queue.working = count > 0;
        (count > 0).then(|| queue.waiting.drain(..count).collect())
    }
}

/// Does a group. If that fails, each member is tried once by itself, so that none pays for the fault of another; but not
/// while the database is out of reach, which the second one would only wait for as long as the first.
async fn work<J: Job>(store: &Store, mut group: Vec<Waiter<J>>) {
    // Who left before the work began wants nothing done.
    group.retain(|waiter| !waiter.reply.is_closed());
    let (jobs, replies): (Vec<_>, Vec<_>) =
        group.into_iter().map(|waiter| (Arc::new(waiter.job), waiter.reply)).unzip();
    let mut replies = replies.into_iter();
    match run(store, jobs.clone()).await {
        Ok(done) => replies.zip(done).for_each(|(reply, done)| drop(reply.send(Ok(done)))),
        Err(error) if jobs.len() == 1 => replies.for_each(|reply| drop(reply.send(Err(error.clone())))),
        Err(_) => {
            for (job, reply) in jobs.into_iter().zip(&mut replies) {
                let done = run(store, vec![job]).await.and_then(|mut done| done.pop().ok_or(StoreError::Abandoned));
                let away = match &done {
                    Err(error @ StoreError::Busy(_)) => Some(error.clone()),
                    _ => None,
                };
                let _ = reply.send(done);
                if let Some(away) = away {
                    return replies.for_each(|reply| drop(reply.send(Err(away.clone()))));
                }
            }
        }
    }
}

/// A panic must not leave the lane without anybody who works in it.
async fn run<J: Job>(store: &Store, jobs: Vec<Arc<J>>) -> Result<Vec<J::Done>, StoreError> {
    AssertUnwindSafe(J::run(store, jobs)).catch_unwind().await.unwrap_or(Err(StoreError::Abandoned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Author, Engine, Facts},
        store::{Receipt, outcomes::Outcome},
    };

    #[derive(Debug)]
    struct Other(PracticeId);

    impl Job for Other {
        type Done = ();
        const GROUP: usize = 1;

        fn practice(&self) -> &PracticeId {
            &self.0
        }

        async fn run(_: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<()>, StoreError> {
            Ok(jobs.iter().map(|_| ()).collect())
        }
    }

    /// Whether one more is refused when `job` has waited for so long.
    fn refused<J: Job>(job: J, seconds: u64) -> bool {
        let since = Instant::now();
        let waiting = VecDeque::from([Waiter { job, since, reply: oneshot::channel().0 }]);
        Queue { waiting, working: true }.is_full(since + Duration::from_secs(seconds))
    }

    #[test]
    fn what_a_provider_reports_is_waited_for_and_what_can_be_asked_again_is_refused_in_time() {
        let practice = || "north".parse::<PracticeId>().unwrap_or_else(|_| unreachable!("it is one"));
        let report = || {
            let scope = Engine::new().scope(practice(), Author::provider("twilio"));
            let receipt = Receipt {
                token: [1; 16],
                provider_ref: "SM1".into(),
                facts: Facts::DELIVERED,
                status: "delivered".into(),
                code: String::new(),
                failure: None,
            };
            Outcome::Reported(scope, receipt, Instant::now())
        };
        assert_eq!([1, 2].map(|seconds| refused(Other(practice()), seconds)), [false, true]);
        // Its sender has gone after ten.
        assert_eq!([2, 8, 9].map(|seconds| refused(report(), seconds)), [false, false, true]);
    }
}
