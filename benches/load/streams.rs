//! Watching: how many changes a second reach all watchers of one practice, what a watcher costs while nothing happens, and how
//! long after its commit a change is seen, on the same server and on another one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, task::JoinSet, time::Instant};

use crate::{
    Arguments,
    accept::{DAY, Servers},
    database::Kind,
    figures::{Figures, Pairs, spread},
    machine::{Meter, resident},
    product::{Callers, Product, Watcher},
    sinks::Sinks,
};

pub(crate) async fn run(arguments: &Arguments) {
    let (watchers, events) = (arguments.number("--watchers", 1_000), arguments.number("--events", 500));
    let pairs = arguments.number("--pairs", 5);
    let sinks = Sinks::start().await;
    for kind in arguments.kinds() {
        let servers = Servers::start(kind, &sinks, false).await;
        let bare = servers.bare.callers(32).await.of_one_practice();
        let product = servers.product.callers(32).await.of_one_practice();
        let title = format!("{events} changes to {watchers} watchers on {kind:?}");
        let before = resident(servers.product.id());
        let crowds = (Crowd::gather(&bare, watchers).await, Crowd::gather(&product, watchers).await);
        let each = (resident(servers.product.id()) - before) * 1024.0 / watchers as f64;
        let mut figures = Pairs::begin(&title);
        for _ in 0..pairs {
            let (bare_id, product_id) = (servers.bare.id(), servers.product.id());
            let meter = Meter::start(bare_id, &[product_id], servers.postmaster);
            let run = crowds.0.watch(&bare, events).await;
            figures.ceiling(Figures { cost: meter.end(), ..run });
            let meter = Meter::start(product_id, &[bare_id], servers.postmaster);
            let run = crowds.1.watch(&product, events).await;
            figures.product(Figures { cost: meter.end(), ..run });
        }
        figures.rates(0.5);
        println!("  => {each:.0} KiB for each idle watcher (goal 40)");
        drop(crowds);
        seen_after(arguments, &servers, &servers.product, "the same server", 10.0).await;
        if kind == Kind::Postgres {
            let another = servers.another(&sinks).await;
            seen_after(arguments, &servers, &another, "another server", 50.0).await;
        }
    }
}

/// How long after an answer a change is seen by a watcher of `seer`.
async fn seen_after(arguments: &Arguments, servers: &Servers, seer: &Product, place: &str, goal: f64) {
    let callers = servers.product.callers(1).await.of_one_practice();
    let mut watcher = Watcher::start(&seer.callers(1).await, 0).await;
    let mut waits = Vec::new();
    for _ in 0..arguments.number("--count", 300) {
        tokio::time::sleep(Duration::from_micros(rand::random_range(5_000..15_000))).await;
        callers.send(Some(SystemTime::now() + DAY)).await;
        let committed = Instant::now();
        watcher.next().await;
        waits.push(committed.elapsed());
    }
    println!("  => seen at {place} after the answer: {} (goal p99 {goal})", spread(&waits));
}

/// Many watchers of one practice.
struct Crowd {
    count: Arc<Count>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Count {
    seen: AtomicUsize,
    wanted: AtomicUsize,
    all: Notify,
}

impl Crowd {
    async fn gather(callers: &Callers, count: usize) -> Self {
        let callers = callers.with_room_for(count).await;
        let mut crowd = Self { count: Arc::default(), tasks: JoinSet::new() };
        for number in 0..count {
            let (mut watcher, count) = (Watcher::start(&callers, number).await, Arc::clone(&crowd.count));
            crowd.tasks.spawn(async move {
                loop {
                    let changes = watcher.next().await;
                    let seen = count.seen.fetch_add(changes, Ordering::SeqCst) + changes;
                    if seen >= count.wanted.load(Ordering::SeqCst) {
                        count.all.notify_one();
                    }
                }
            });
        }
        crowd
    }

    /// Makes so many changes, and waits until everybody has seen all of them.
    async fn watch(&self, callers: &Callers, events: usize) -> Figures {
        let wanted = events * self.tasks.len();
        self.count.seen.store(0, Ordering::SeqCst);
        self.count.wanted.store(wanted, Ordering::SeqCst);
        let start = Instant::now();
        callers.send_all(events, Some(SystemTime::now() + DAY)).await;
        while self.count.seen.load(Ordering::SeqCst) < wanted {
            self.count.all.notified().await;
        }
        Figures { count: wanted, time: start.elapsed(), ..Default::default() }
    }
}
