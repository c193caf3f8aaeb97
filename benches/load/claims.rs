//! Whether what is finished costs anything: the same work on a database with millions of finished deliveries, and on one
//! without any.

use std::time::{Duration, SystemTime};

use heedwell::grpc::proto::{self, DeliveryFilter};
use tokio::time::Instant;

use crate::{
    Arguments,
    accept::DAY,
    bare,
    callbacks::Reports,
    database::{Kind, Look, postmaster},
    drain,
    figures::{Figures, Pairs},
    machine::Meter,
    product::{Callers, PRACTICES, Product, Watcher, Way, practice},
    sinks::Sinks,
};

const CALLERS: usize = 64;
const NAMES: [&str; 2] = ["without", "with"];
/// How often is asked for each thing in a run.
const TIMES: usize = 200;
/// How often a change is waited for in a run.
const SEEN: usize = 100;
/// Changes that a stream tells that comes back, and how often it comes back in a run.
const MISSED: usize = 4_000;
const RETURNS: usize = 10;

/// A server over a database of its own.
pub(crate) struct Side {
    product: Product,
    callers: Callers,
    look: Look,
    /// Where a stream begins that missed changes.
    cursor: String,
    postmaster: Option<u32>,
    _folder: tempfile::TempDir,
}

/// What is done.
#[derive(Clone, Copy)]
enum Deed {
    Accept,
    Drain,
    Settle,
    List,
    ListFailed,
    ListReference,
    Stats,
    /// How soon a stream tells of a change.
    Watch,
    /// How many changes a second a stream tells that has missed some.
    CatchUp,
}

impl Deed {
    const ALL: [Self; 9] = [
        Self::Accept,
        Self::Drain,
        Self::Settle,
        Self::List,
        Self::ListFailed,
        Self::ListReference,
        Self::Stats,
        Self::Watch,
        Self::CatchUp,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drain => "claim and send",
            Self::Settle => "reports that texts arrived",
            Self::List => "first page of a list",
            Self::ListFailed => "a list of failed texts",
            Self::ListReference => "a list by reference",
            Self::Stats => "statistics",
            Self::Watch => "a change until it is seen",
            Self::CatchUp => "changes that a stream catches up with",
        }
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let (rows, lean) = (arguments.number("--rows", 10_000_000), arguments.has("--lean"));
    let (pairs, goal) = (arguments.number("--pairs", 5), arguments.decimal("--goal", 1.1));
    let work = Work {
        count: arguments.number("--count", 2_000),
        time: Duration::from_secs(arguments.number("--seconds", 5) as u64),
    };
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        let empty = Side::start(kind, &sinks, (0, lean)).await;
        let full = Side::start(kind, &sinks, (rows, lean)).await;
        for deed in Deed::ALL {
            let title = format!("{} on {kind:?}: without finished deliveries, and with {rows}", deed.name());
            let mut figures = Pairs::named(&title, NAMES).of("G11");
            for _ in 0..pairs {
                figures.ceiling(work.run(deed, &empty, &full, &sinks).await);
                figures.product(work.run(deed, &full, &empty, &sinks).await);
            }
            match deed {
                Deed::Watch => figures.times(goal),
                _ => figures.costs(goal),
            }
        }
        // Nobody has room for two of them.
        drop(full);
    }
}

impl Side {
    /// With so many finished deliveries, lean ones or whole.
    pub(crate) async fn start(kind: Kind, sinks: &Sinks, (finished, lean): (usize, bool)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        {
            // It leaves the schema, and one delivery a practice of which is known that it arrived.
            let model = Product::start(folder.path(), &url, sinks.addrs).await;
            model.furnish(Way::Http, sinks.addrs).await;
            let look = Look::open(&url).await;
            Reports::of_texts(&model.callers(1).await, &model, (sinks, &look), PRACTICES).await.post(1).await;
            look.close().await;
        }
        let how = if lean { ", without texts, timelines, decisions and what is forgotten" } else { "" };
        println!("  {finished} finished deliveries are made{how}");
        let start = Instant::now();
        // None of them leaves as many hours for statistics to add up, which are not what is compared.
        let stored = bare::fill(&url, finished, lean).await;
        println!("  after {:.0} s:", start.elapsed().as_secs_f64());
        stored.print();
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        let callers = product.callers(CALLERS).await;
        let later = || Some(SystemTime::now() + DAY);
        callers.send_for(Duration::from_secs(2), later()).await;
        let cursor = callers.cursor().await;
        callers.clone().of_one_practice().send_all(MISSED, later()).await;
        let (look, postmaster) = (Look::open(&url).await, postmaster(&url).await);
        Self { product, callers, look, cursor, postmaster, _folder: folder }
    }
}

impl Side {
    pub(crate) const fn callers(&self) -> &Callers {
        &self.callers
    }
}

/// How much is done in a run.
struct Work {
    /// Texts.
    count: usize,
    /// How long is accepted.
    time: Duration,
}

impl Work {
    async fn run(&self, deed: Deed, side: &Side, other: &Side, sinks: &Sinks) -> Figures {
        let meter = || Meter::start(side.product.id(), &[other.product.id()], side.postmaster);
        match deed {
            Deed::Accept => {
                let meter = meter();
                let figures = side.callers.send_for(self.time, Some(SystemTime::now() + DAY)).await;
                Figures { cost: meter.end(), ..figures }
            }
            Deed::Drain => {
                sinks.reset();
                let due = drain::accept(&side.product, self.count).await;
                tokio::time::sleep_until(due - Duration::from_millis(200)).await;
                let meter = meter();
                let times = sinks.wait_for(self.count).await;
                Figures { cost: meter.end(), ..drain::timed(&times) }
            }
            Deed::Settle => {
                let reports = Reports::of_texts(&side.callers, &side.product, (sinks, &side.look), self.count).await;
                let meter = meter();
                let figures = reports.post(CALLERS).await;
                Figures { cost: meter.end(), ..figures }
            }
            Deed::Watch | Deed::CatchUp => {
                let meter = meter();
                let figures = if let Deed::Watch = deed { side.watch().await } else { side.catch_up().await };
                Figures { cost: meter.end(), ..figures }
            }
            Deed::List | Deed::ListFailed | Deed::ListReference | Deed::Stats => {
                let (meter, begin, mut waits) = (meter(), Instant::now(), Vec::new());
                for _ in 0..TIMES {
                    waits.push(side.ask(deed).await);
                }
                Figures { count: waits.len(), time: begin.elapsed(), waits, cost: meter.end() }
            }
        }
    }
}

impl Side {
    /// What a dashboard asks.
    async fn ask(&self, deed: Deed) -> Duration {
        let filter = match deed {
            Deed::ListFailed => DeliveryFilter {
                states: vec![proto::DeliveryState::Failed.into()],
                channels: vec![proto::Channel::Sms.into()],
                ..Default::default()
            },
            Deed::ListReference => DeliveryFilter { reference: "visit-8842".into(), ..Default::default() },
            _ => DeliveryFilter::default(),
        };
        if let Deed::Stats = deed { self.callers.stats().await } else { self.callers.list(filter).await }
    }

    /// How long after an answer a change is seen.
    async fn watch(&self) -> Figures {
        let callers = self.callers.clone().of_one_practice();
        let mut watcher = Watcher::start(&callers, 0).await;
        let (begin, mut waits) = (Instant::now(), Vec::new());
        for _ in 0..SEEN {
            // Off the beat of whatever happens in whole milliseconds.
            tokio::time::sleep(Duration::from_micros(rand::random_range(5_000..15_000))).await;
            callers.send(Some(SystemTime::now() + DAY)).await;
            let committed = Instant::now();
            watcher.next().await;
            waits.push(committed.elapsed());
        }
        Figures { count: waits.len(), time: begin.elapsed(), waits, ..Default::default() }
    }

    /// How soon a stream has told all that it missed.
    async fn catch_up(&self) -> Figures {
        let (begin, mut waits) = (Instant::now(), Vec::new());
        for _ in 0..RETURNS {
            let start = Instant::now();
            let mut watcher = Watcher::of(&self.callers, 0, &practice(0), Some(self.cursor.clone())).await;
            let mut seen = 0;
            while seen < MISSED {
                seen += watcher.next().await;
            }
            waits.push(start.elapsed());
        }
        Figures { count: MISSED * RETURNS, time: begin.elapsed(), waits, ..Default::default() }
    }
}
