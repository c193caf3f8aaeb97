//! Opt-outs during a broadcast by text: how long each takes to be answered, and that none of these patients is written to after that.

use std::{collections::BTreeMap, sync::Arc};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    Arguments,
    crowd::phone_of,
    figures::spread,
    product::{Product, Way},
    sinks::Sinks,
};

/// Opt-outs that are under way at once.
const CALLERS: usize = 16;

pub(crate) async fn run(arguments: &Arguments) {
    let (count, patients) = (arguments.number("--count", 1_000), arguments.number("--patients", 10_000));
    for kind in arguments.kinds() {
        let sinks = Sinks::start().await;
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Arc::new(Product::start(folder.path(), &url, sinks.addrs).await);
        product.furnish(Way::Http, sinks.addrs).await;
        product.furnish_crowd(0..patients).await;
        println!("{count} opt-outs during a broadcast by text to {patients} on {kind:?}");
        sinks.reset();
        let id = product.broadcast(&[Way::Http], patients).await;
        sinks.wait_for(1).await;
        // From one end to the other: of some the turn is long past, of others it never comes.
        let numbers: Vec<_> = (0..count).map(|place| place * patients / count).collect();
        let answers = opt_out_all(&product, numbers).await;
        let counts = product.over(&id).await;
        let arrivals = sinks.arrivals();
        let late = answers.iter().filter(|answer| answer.open == 0 && answer.is_before(&arrivals)).count();
        let waits: Vec<_> = answers.iter().map(|answer| answer.at - answer.asked).collect();
        let open = answers.iter().filter(|answer| answer.open > 0).count();
        assert_eq!(late, 0, "written to after the answer");
        println!(
            "  => {}; {} were not written to, none after the answer, {open} were told that an attempt was under way",
            spread(&waits),
            counts.skipped
        );
    }
}

/// An opt-out that was answered.
struct Answer {
    number: usize,
    asked: Instant,
    at: Instant,
    /// Attempts that it said were under way.
    open: i32,
}

impl Answer {
    /// Whether something came for the patient afterwards.
    fn is_before(&self, arrivals: &BTreeMap<String, Vec<Instant>>) -> bool {
        arrivals.get(&phone_of(self.number)).is_some_and(|came| came.iter().any(|came| *came > self.at))
    }
}

async fn opt_out_all(product: &Arc<Product>, numbers: Vec<usize>) -> Vec<Answer> {
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let own: Vec<_> = numbers.iter().copied().skip(caller).step_by(CALLERS).collect();
        let product = Arc::clone(product);
        tasks.spawn(async move {
            let connection = product.connect().await;
            let mut answers = Vec::new();
            for number in own {
                let asked = Instant::now();
                let open = product.opt_out(connection.clone(), number).await;
                answers.push(Answer { number, asked, at: Instant::now(), open });
            }
            answers
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}
