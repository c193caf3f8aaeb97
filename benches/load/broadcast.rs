//! A broadcast by text and mail: from the call until the last message has left, beside bare clients that send as much one after
//! the other; with a tenth of the audience too, since memory must not grow with it.

use std::path::PathBuf;

use tokio::time::Instant;

use crate::{
    Arguments, bare,
    database::postmaster,
    figures::{Figures, Pairs, spread},
    machine::Meter,
    product::{Product, Way},
    sinks::Sinks,
    table::Row,
};

/// Calls that a bare client has under way, as many as the server may have.
const WIDTH: usize = 64;
/// Recipients of a broadcast that is only to show how its messages look.
const SAMPLE: usize = 20;
/// So many times as much memory is the same.
const SAME: f64 = 1.1;
const WAYS: [Way; 2] = [Way::Http, Way::Smtp];

pub(crate) async fn run(arguments: &Arguments) {
    let (patients, pairs) = (arguments.number("--patients", 100_000), arguments.number("--pairs", 5));
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        product.furnish(Way::Smtp, sinks.addrs).await;
        let postmaster = postmaster(&url).await;
        let mut samples = Vec::new();
        product.furnish_crowd(0..SAMPLE).await;
        for way in WAYS {
            sinks.forget();
            product.broadcast(&[way], SAMPLE).await;
            sinks.wait_for(SAMPLE).await;
            let sample = folder.path().join(way.name());
            std::fs::write(&sample, sinks.sample()).unwrap();
            samples.push((way, sample));
        }
        let (mut here, mut memory) = (SAMPLE, Vec::new());
        for count in [patients / 10, patients] {
            product.furnish_crowd(here..count).await;
            here = count;
            let meter = Meter::start(product.id(), &[], postmaster);
            let mut waits = Vec::new();
            for _ in 0..pairs {
                waits.push(product.preview_broadcast(&WAYS, count).await);
            }
            println!("preview of {count} on {kind:?}\n  {}, {:.0} MiB", spread(&waits), meter.end().memory);
            let title = format!("broadcast to {count} by text and mail on {kind:?}");
            let mut figures = Pairs::begin(&title).of("G10");
            for _ in 0..pairs {
                figures.ceiling(bare_run(&samples, &sinks, product.id(), count).await);
                sinks.reset();
                let meter = Meter::start(product.id(), &[], postmaster);
                let start = Instant::now();
                product.broadcast(&WAYS, count).await;
                let times = sinks.wait_for(count * WAYS.len()).await;
                let time = times.last().map(|last| *last - start).unwrap_or_default();
                figures.product(Figures { count: times.len(), time, cost: meter.end(), ..Default::default() });
            }
            figures.rates(0.5);
            memory.push(figures.memory());
        }
        println!("  memory: {:.0} and {:.0} MiB (goal 150, and the same for both)", memory[0], memory[1]);
        let (figure, met) = (format!("{:.0} MiB", memory[1]), memory[1] <= 150.0 && memory[1] <= SAME * memory[0]);
        let wanted = format!("at most 150 MiB, and {SAME} times that with a tenth: {:.0} MiB", memory[0]);
        Row::plain("G10", &format!("memory while it goes to {patients}"), figure, &wanted, met).note();
    }
}

/// One client after the other sends as much.
async fn bare_run(samples: &[(Way, PathBuf)], sinks: &Sinks, product: u32, count: usize) -> Figures {
    let mut all = Figures::default();
    for (way, sample) in samples {
        sinks.reset();
        let client = bare::client(way.name(), way.addr(sinks.addrs), count, WIDTH, sample);
        let meter = Meter::start(client.id(), &[product], None);
        let times = sinks.wait_for(count).await;
        let cost = meter.end();
        client.wait();
        let span = times.first().zip(times.last()).map(|(first, last)| *last - *first);
        all.count += times.len();
        all.time += span.unwrap_or_default();
        all.cost.server += cost.server;
        all.cost.memory = all.cost.memory.max(cost.memory);
        all.cost.foreign = all.cost.foreign.max(cost.foreign);
    }
    all
}
