//! Whether what is finished costs anything: the same work on a database with millions of finished deliveries, and on one
//! without any.

use std::time::{Duration, SystemTime};

use heedwell::grpc::proto::{self, DeliveryFilter};
use tokio::time::Instant;

use crate::{
    Arguments,
    accept::DAY,
    bare::Finished,
    database::{Kind, postmaster},
    drain,
    figures::{Figures, Pairs},
    machine::Meter,
    product::{Callers, PRACTICES, Product, Way},
    sinks::Sinks,
};

const CALLERS: usize = 64;
const NAMES: [&str; 2] = ["without", "with"];
/// Rows in one commit.
const PAGE: usize = 100_000;

/// A server over a database of its own.
struct Side {
    product: Product,
    callers: Callers,
    postmaster: Option<u32>,
    _folder: tempfile::TempDir,
}

impl Side {
    async fn start(kind: Kind, sinks: &Sinks, finished: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        {
            // It leaves the schema, and one finished delivery a practice.
            let model = Product::start(folder.path(), &url, sinks.addrs).await;
            model.furnish(Way::Http, sinks.addrs).await;
            sinks.reset();
            model.callers(1).await.send_all(PRACTICES, None).await;
            sinks.wait_for(PRACTICES).await;
            // What is at the provider is settled a moment later.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        multiply(&url, finished).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        let callers = product.callers(CALLERS).await;
        callers.send_for(Duration::from_secs(2), Some(SystemTime::now() + DAY)).await;
        Self { product, callers, postmaster: postmaster(&url).await, _folder: folder }
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let (rows, count) = (arguments.number("--rows", 10_000_000), arguments.number("--count", 2_000));
    let pairs = arguments.number("--pairs", 5);
    let time = Duration::from_secs(arguments.number("--seconds", 5) as u64);
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        let empty = Side::start(kind, &sinks, 0).await;
        let full = Side::start(kind, &sinks, rows).await;
        let title = |what| format!("{what} on {kind:?}: without finished deliveries, and with {rows}");
        let mut accept = Pairs::named(&title("accept"), NAMES);
        for _ in 0..pairs {
            accept.ceiling(accepting(&empty, &full, time).await);
            accept.product(accepting(&full, &empty, time).await);
        }
        accept.rates(0.9);
        let mut drained = Pairs::named(&title("drain"), NAMES);
        for _ in 0..pairs {
            drained.ceiling(draining(&empty, &full, &sinks, count).await);
            drained.product(draining(&full, &empty, &sinks, count).await);
        }
        drained.rates(0.9);
        let mut listed = Pairs::named(&title("first page of a list"), NAMES);
        for _ in 0..pairs {
            listed.ceiling(listing(&empty, &full).await);
            listed.product(listing(&full, &empty).await);
        }
        listed.rates(0.9);
        for (what, deed) in [
            ("a list of failed texts", Deed::Failed),
            ("a list by reference", Deed::Reference),
            ("statistics", Deed::Stats),
        ] {
            let mut asked = Pairs::named(&title(what), NAMES);
            for _ in 0..pairs {
                asked.ceiling(asking(&empty, &full, deed).await);
                asked.product(asking(&full, &empty, deed).await);
            }
            asked.rates(0.9);
        }
    }
}

async fn accepting(side: &Side, other: &Side, time: Duration) -> Figures {
    let meter = Meter::start(side.product.id(), &[other.product.id()], side.postmaster);
    let figures = side.callers.send_for(time, Some(SystemTime::now() + DAY)).await;
    Figures { cost: meter.end(), ..figures }
}

async fn draining(side: &Side, other: &Side, sinks: &Sinks, count: usize) -> Figures {
    sinks.reset();
    let due = drain::accept(&side.product, count).await;
    tokio::time::sleep_until(due - Duration::from_millis(200)).await;
    let meter = Meter::start(side.product.id(), &[other.product.id()], side.postmaster);
    let times = sinks.wait_for(count).await;
    Figures { cost: meter.end(), ..drain::timed(&times) }
}

async fn listing(side: &Side, other: &Side) -> Figures {
    let meter = Meter::start(side.product.id(), &[other.product.id()], side.postmaster);
    let (begin, mut waits) = (Instant::now(), Vec::new());
    for _ in 0..200 {
        waits.push(side.callers.list(DeliveryFilter::default()).await);
    }
    Figures { count: waits.len(), time: begin.elapsed(), waits, cost: meter.end() }
}

/// What a dashboard asks beside the newest.
#[derive(Clone, Copy)]
enum Deed {
    Failed,
    Reference,
    Stats,
}

async fn asking(side: &Side, other: &Side, deed: Deed) -> Figures {
    let meter = Meter::start(side.product.id(), &[other.product.id()], side.postmaster);
    let (begin, mut waits) = (Instant::now(), Vec::new());
    for _ in 0..200 {
        waits.push(match deed {
            Deed::Failed => {
                let states = vec![proto::DeliveryState::Failed as i32];
                let filter =
                    DeliveryFilter { states, channels: vec![proto::Channel::Sms as i32], ..Default::default() };
                side.callers.list(filter).await
            }
            Deed::Reference => {
                side.callers.list(DeliveryFilter { reference: "visit-8842".into(), ..Default::default() }).await
            }
            Deed::Stats => side.callers.stats().await,
        });
    }
    Figures { count: waits.len(), time: begin.elapsed(), waits, cost: meter.end() }
}

/// Copies what is finished until there are so many.
async fn multiply(url: &str, count: usize) {
    if count == 0 {
        return;
    }
    println!("  {count} finished deliveries are made");
    let mut finished = Finished::open(url).await;
    for begin in (0..count).step_by(PAGE) {
        finished.add(begin..count.min(begin + PAGE)).await;
    }
    finished.tidy().await;
}
