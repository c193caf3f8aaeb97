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
    figures::{Figures, Pairs, slowest, spread},
    machine::{Meter, resident},
    product::{Callers, Product, Watcher},
    sinks::Sinks,
    table::Row,
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
        let mut others = Vec::new();
        // A server takes 5,000, and only PostgreSQL has room for more than one.
        for _ in 1..arguments.number("--servers", 1) {
            others.push(servers.another(&sinks).await);
        }
        let mut doors = vec![product.clone()];
        for other in &others {
            doors.push(other.callers(32).await);
        }
        let memory = || others.iter().chain([&servers.product]).map(|it| resident(it.id())).sum::<f64>();
        let before = memory();
        let crowds =
            (Crowd::gather(std::slice::from_ref(&bare), watchers).await, Crowd::gather(&doors, watchers).await);
        let each = (memory() - before) * 1024.0 / watchers as f64;
        let mut figures = Pairs::begin(&title).of("G8");
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
        let what = format!("memory of each of {watchers} idle watchers");
        Row::plain("G8", &what, format!("{each:.0} KiB"), "at most 40 KiB", each <= 40.0).note();
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
    let (what, wanted) = (format!("a change is seen at {place} after the answer"), format!("p99 at most {goal} ms"));
    Row::plain("G7", &what, spread(&waits), &wanted, slowest(&waits, 0.99) <= goal).note();
}

/// Many watchers of one practice.
pub(crate) struct Crowd {
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
    /// So many, spread over these servers.
    pub(crate) async fn gather(doors: &[Callers], count: usize) -> Self {
        let mut with_room = Vec::new();
        for door in doors {
            with_room.push(door.with_room_for(count.div_ceil(doors.len())).await);
        }
        let mut crowd = Self { count: Arc::default(), tasks: JoinSet::new() };
        for number in 0..count {
            let door = &with_room[number % doors.len()];
            let (mut watcher, count) = (Watcher::start(door, number / doors.len()).await, Arc::clone(&crowd.count));
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

    /// Forgets what was seen.
    pub(crate) fn begin(&self) {
        self.count.wanted.store(usize::MAX, Ordering::SeqCst);
        self.count.seen.store(0, Ordering::SeqCst);
    }

    /// Waits until they have seen so many changes, all together.
    pub(crate) async fn have_seen(&self, wanted: usize) {
        self.count.wanted.store(wanted, Ordering::SeqCst);
        while self.count.seen.load(Ordering::SeqCst) < wanted {
            self.count.all.notified().await;
        }
    }

    /// Makes so many changes, and waits until everybody has seen all of them.
    async fn watch(&self, callers: &Callers, events: usize) -> Figures {
        let wanted = events * self.tasks.len();
        self.begin();
        let start = Instant::now();
        callers.send_all(events, Some(SystemTime::now() + DAY)).await;
        self.have_seen(wanted).await;
        Figures { count: wanted, time: start.elapsed(), ..Default::default() }
    }
}
