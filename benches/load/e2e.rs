//! Accepting and sending at once: callers send as fast as they are answered, and everything leaves as it comes.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Arguments,
    accept::Servers,
    figures::{Figures, Pairs},
    machine::Meter,
    product::Callers,
    sinks::Sinks,
};

pub(crate) async fn run(arguments: &Arguments) {
    let (callers, pairs) = (arguments.number("--callers", 64), arguments.number("--pairs", 5));
    let time = Duration::from_secs(arguments.number("--seconds", 5) as u64);
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        let servers = Servers::start(kind, &sinks, true).await;
        // What was left behind for the ceiling to copy is sent first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let title = format!("accept and send on {kind:?}, {callers} callers, {time:?} each");
        let mut figures = Pairs::begin(&title).of("G5");
        let (bare, product) = (servers.bare.callers(callers).await, servers.product.callers(callers).await);
        for callers in [&bare, &product] {
            run_once(callers, &sinks, time / 2).await;
        }
        for _ in 0..pairs {
            let (bare_id, product_id) = (servers.bare.id(), servers.product.id());
            let meter = Meter::start(bare_id, &[product_id], servers.postmaster);
            let run = run_once(&bare, &sinks, time).await;
            figures.ceiling(Figures { cost: meter.end(), ..run });
            let meter = Meter::start(product_id, &[bare_id], servers.postmaster);
            let run = run_once(&product, &sinks, time).await;
            figures.product(Figures { cost: meter.end(), ..run });
        }
        figures.rates(0.6);
    }
}

/// The time is that until the last one has come.
async fn run_once(callers: &Callers, sinks: &Sinks, time: Duration) -> Figures {
    sinks.reset();
    let start = Instant::now();
    let figures = callers.send_for(time, None).await;
    let came = sinks.wait_for(figures.count).await;
    assert_eq!(came.len(), figures.count);
    let last = came.iter().max().copied().unwrap_or(start);
    Figures { time: last - start, ..figures }
}
