//! One call at a time on a server that rests otherwise, from its beginning until the provider has the message.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Arguments,
    accept::Servers,
    figures::{Figures, Pairs, spread},
    machine::Meter,
    product::Callers,
    sinks::Sinks,
};

pub(crate) async fn run(arguments: &Arguments) {
    let (count, pairs) = (arguments.number("--count", 100), arguments.number("--pairs", 5));
    let sinks = Sinks::start().await;
    for kind in arguments.kinds() {
        let servers = Servers::start(kind, &sinks, false).await;
        let (bare, product) = (servers.bare.callers(1).await, servers.product.callers(1).await);
        let title = format!("latency on {kind:?}: bare, a call that commits the same rows; heedwell, until it is sent");
        let mut figures = Pairs::begin(&title).of("G6");
        let mut answers = Vec::new();
        for _ in 0..pairs {
            let meter = Meter::start(servers.bare.id(), &[servers.product.id()], servers.postmaster);
            let run = one_by_one(&bare, count, None).await;
            figures.ceiling(Figures { waits: run.answers, cost: meter.end(), ..run.figures });
            let meter = Meter::start(servers.product.id(), &[servers.bare.id()], servers.postmaster);
            let run = one_by_one(&product, count, Some(&sinks)).await;
            figures.product(Figures { cost: meter.end(), ..run.figures });
            answers.extend(run.answers);
        }
        println!("  heedwell's answers: {}", spread(&answers));
        figures.waits(3.0, 10.0);
    }
}

struct Run {
    /// Until the answer.
    answers: Vec<Duration>,
    /// Until the provider had it.
    figures: Figures,
}

async fn one_by_one(callers: &Callers, count: usize, sinks: Option<&Sinks>) -> Run {
    let (begin, mut answers, mut waits) = (Instant::now(), Vec::new(), Vec::new());
    for _ in 0..count {
        // Off the beat of whatever happens in whole milliseconds, and long enough for the one before to be settled.
        tokio::time::sleep(Duration::from_micros(rand::random_range(15_000..30_000))).await;
        let start = Instant::now();
        if let Some(sinks) = sinks {
            sinks.reset();
        }
        answers.push(callers.send(None).await);
        if let Some(sinks) = sinks {
            waits.extend(sinks.wait_for(1).await.last().map(|came| *came - start));
        }
    }
    Run { answers, figures: Figures { count, time: begin.elapsed(), waits, ..Default::default() } }
}
