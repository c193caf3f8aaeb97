//! What talks to providers. A worker claims no more than it can begin at once, commits the claim, calls outside any
//! transaction, and settles what came of it in batches. Whatever dies in between is taken over by the rows.

mod attempt;
mod fairness;
mod reconcile;
mod settle;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    domain::Engine,
    providers::Providers,
    store::{Claimed, Settlement, Store},
    telemetry,
};
use fairness::Turns;

/// How sending goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Calls under way at most.
    pub slots: usize,
    /// A call begins at most this long after its claim.
    pub start_limit: Duration,
    /// How often due work is looked for though nobody hinted at any.
    pub poll: Duration,
    /// How often unknown outcomes are looked for.
    pub look_poll: Duration,
    /// Where providers reach this server, without a slash at the end.
    pub public_url: String,
}

impl Settings {
    /// The usual, with callbacks to `public_url`.
    #[must_use]
    pub const fn new(public_url: String) -> Self {
        Self {
            slots: 64,
            start_limit: Duration::from_secs(15),
            poll: Duration::from_millis(500),
            look_poll: Duration::from_secs(1),
            public_url,
        }
    }
}

/// Most deliveries of one practice that are claimed at a time, so that the next practice has its turn soon.
const TURN: usize = 16;

/// Sends what is due.
#[derive(Clone, Debug)]
pub struct Dispatch {
    store: Store,
    engine: Engine,
    providers: Arc<Providers>,
    settings: Settings,
    worker: Uuid,
    stop: CancellationToken,
}

/// A claimed delivery with the slot that it holds until it is settled.
#[derive(Debug)]
struct Ended {
    settlement: Settlement,
    _slot: OwnedSemaphorePermit,
}

impl Dispatch {
    /// Over `store`; no further claim begins once `stop` is cancelled.
    #[must_use]
    pub fn new(
        store: Store,
        engine: Engine,
        providers: Arc<Providers>,
        settings: Settings,
        stop: CancellationToken,
    ) -> Self {
        Self { store, engine, providers, settings, worker: Uuid::new_v4(), stop }
    }

    /// Works until `stop`, then ends the calls under way and settles them.
    pub async fn run(self) {
        let tasks = TaskTracker::new();
        let (ended, settlements) = mpsc::channel(self.settings.slots);
        let settler = TaskTracker::new();
        settler.spawn(settle::run(self.store.clone(), self.engine.clone(), settlements));
        settler.spawn(self.clone().reconcile());
        settler.spawn(self.clone().sweep());
        settler.close();
        self.claims(&tasks, ended).await;
        tasks.close();
        tasks.wait().await;
        settler.wait().await;
    }

    async fn claims(&self, tasks: &TaskTracker, ended: mpsc::Sender<Ended>) {
        let slots = Arc::new(Semaphore::new(self.settings.slots));
        let mut wake = self.store.wake().listen();
        let mut poll = interval(self.settings.poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turns = Turns::default();
        loop {
            while let Some(practice) = turns.next() {
                let Some(slots) = self.free(&slots).await else { return };
                let started = Instant::now();
                match self.store.claim(&self.engine, self.worker, &practice, slots.len() as u64).await {
                    Ok((claimed, seen)) => {
                        if seen == slots.len() {
                            turns.add(practice);
                        }
                        for (claimed, slot) in claimed.into_iter().zip(slots) {
                            self.begin(tasks, ended.clone(), (claimed, slot), started);
                        }
                    }
                    Err(error) => {
                        tracing::error!(practice.id = %practice, error = %telemetry::chain(&error), "claim failed");
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                practice = wake.any() => match practice {
                    Some(practice) => turns.add(practice),
                    None => self.look(&mut turns).await,
                },
                _ = poll.tick() => self.look(&mut turns).await,
            }
        }
    }

    /// Up to a turn's worth of free slots, at least one; unset when it is time to stop.
    async fn free(&self, slots: &Arc<Semaphore>) -> Option<Vec<OwnedSemaphorePermit>> {
        let first = tokio::select! {
            () = self.stop.cancelled() => return None,
            slot = Arc::clone(slots).acquire_owned() => slot.ok()?,
        };
        let more = std::iter::repeat_with(|| Arc::clone(slots).try_acquire_owned().ok()).map_while(|slot| slot);
        Some(std::iter::once(first).chain(more.take(TURN - 1)).collect())
    }

    async fn look(&self, turns: &mut Turns) {
        match self.store.practices_due(&self.engine).await {
            Ok(practices) => practices.into_iter().for_each(|practice| turns.add(practice)),
            Err(error) => tracing::error!(error = %telemetry::chain(&error), "due work could not be looked for"),
        }
    }

    fn begin(
        &self,
        tasks: &TaskTracker,
        ended: mpsc::Sender<Ended>,
        (claimed, slot): (Claimed, OwnedSemaphorePermit),
        started: Instant,
    ) {
        let dispatch = self.clone();
        tasks.spawn(async move {
            let settlement = dispatch.attempt(claimed, started).await;
            // The settler outlives every attempt.
            let _ = ended.send(Ended { settlement, _slot: slot }).await;
        });
    }
}
