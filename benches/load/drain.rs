//! Draining: what was accepted becomes due at one moment, and leaves. Timed by the sink, from the first to the last.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{
    Arguments, bare,
    database::postmaster,
    figures::{Figures, Pairs},
    machine::{Meter, Process},
    product::{Product, Way},
    sinks::Sinks,
};

/// Calls that a bare client has under way, as many as the server may have.
const WIDTH: usize = 64;
const CALLERS: usize = 64;

pub(crate) async fn run(arguments: &Arguments) {
    let (count, pairs) = (arguments.number("--count", 4_000), arguments.number("--pairs", 5));
    let over = arguments.text("--over");
    let ways = || Way::ALL.into_iter().filter(move |way| over.is_none_or(|over| over == way.name()));
    for kind in arguments.kinds() {
        for way in ways() {
            let sinks = Sinks::start().await;
            let folder = tempfile::tempdir().unwrap();
            let url = kind.create(folder.path()).await;
            let product = Product::start(folder.path(), &url, sinks.addrs).await;
            product.furnish(way, sinks.addrs).await;
            let postmaster = postmaster(&url).await;
            // The pool of connections is filled, and the bare client has something to go by.
            accept(&product, count / 10).await;
            sinks.wait_for(count / 10).await;
            let sample = folder.path().join("sample");
            std::fs::write(&sample, sinks.sample()).unwrap();

            let over = way.name();
            let title = format!("drain over {over} on {kind:?}, {count} each");
            let mut figures = Pairs::begin(&title).of(if way == Way::Smtp { "G4" } else { "G3" });
            for _ in 0..pairs {
                sinks.reset();
                let client = bare::client(over, way.addr(sinks.addrs), count, WIDTH, &sample);
                figures.ceiling(bare_run(client, &sinks, product.id(), count).await);
                sinks.reset();
                let due = accept(&product, count).await;
                tokio::time::sleep_until(due - Duration::from_millis(200)).await;
                let meter = Meter::start(product.id(), &[], postmaster);
                let times = sinks.wait_for(count).await;
                figures.product(Figures { cost: meter.end(), ..timed(&times) });
            }
            figures.rates(0.5);
        }
    }
}

/// Accepts so many for a moment when all of them have been accepted, and says which.
pub(crate) async fn accept(product: &Product, count: usize) -> Instant {
    // Slower than this nobody would want to wait for.
    let time = Duration::from_secs(3) + Duration::from_millis(4) * u32::try_from(count).unwrap();
    let (start, due) = (Instant::now(), SystemTime::now() + time);
    let callers = product.callers(CALLERS).await;
    callers.send_all(count, Some(due)).await;
    assert!(start.elapsed() < time, "it was due before it was accepted");
    start + time
}

async fn bare_run(client: Process, sinks: &Sinks, product: u32, count: usize) -> Figures {
    let meter = Meter::start(client.id(), &[product], None);
    let times = sinks.wait_for(count).await;
    let cost = meter.end();
    client.wait();
    Figures { cost, ..timed(&times) }
}

pub(crate) fn timed(times: &[Instant]) -> Figures {
    let span = times.first().zip(times.last()).map(|(first, last)| *last - *first);
    Figures { count: times.len(), time: span.unwrap_or_default(), ..Default::default() }
}
