//! Attacks by whoever reaches a port, each for some seconds: how long honest sends wait before, during and after, and while a bare
//! server beside is attacked in the same way; and how much memory the server has. All of it goes to servers of this program's own,
//! on the loopback.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    Arguments,
    bare::Server,
    figures::spread,
    machine::resident,
    product::{Callers, Product, Way, practice},
    sinks::Sinks,
};

#[path = "../../tests/it/support/attackers.rs"]
mod attackers;

use attackers::{Attack, Attackers, Target};

/// Each with its name, and how many connections it has at once.
const ATTACKS: [(Attack, &str, usize); 6] = [
    (Attack::RapidReset, "rapid reset", 8),
    (Attack::Continuation, "CONTINUATION flood", 8),
    (Attack::Bombs, "compressed gigabytes", 8),
    (Attack::Callbacks, "forged callbacks", 64),
    (Attack::Slow, "2,000 slow clients", 2_000),
    (Attack::Deaf, "500 clients who do not read", 500),
];

pub(crate) async fn run(arguments: &Arguments) {
    let seconds = Duration::from_secs(arguments.number("--seconds", 10) as u64);
    let (sinks, door) = (Sinks::start().await, Server::of_strangers().await);
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let callers = product.callers(1).await;
        println!("attacks on {kind:?}, {} s each; honest sends, one at a time", seconds.as_secs());
        honest(&callers, seconds / 2).await;
        let target = Target { grpc: product.grpc(), http: product.http, practice: practice(0) };
        let elsewhere = Target { grpc: door.addr(), http: door.addr(), ..target.clone() };
        for (attack, name, connections) in ATTACKS {
            let before = honest(&callers, seconds).await;
            // Whoever attacks works on this machine as well, and takes from the server what another would not.
            let attackers = Attackers::start(attack, connections, &elsewhere);
            let meanwhile = honest(&callers, seconds).await;
            attackers.end().await;
            let memory = resident(product.id());
            let attackers = Attackers::start(attack, connections, &target);
            let during = honest(&callers, seconds).await;
            let most = resident(product.id());
            let (tried, ended, taken) = (attackers.tried(), attackers.ended(), attackers.taken());
            attackers.end().await;
            let after = honest(&callers, seconds).await;
            println!("  {name}: {tried} attempts, {ended} connections ended; memory {memory:.0}, {most:.0} MiB during");
            assert_eq!(taken, 0, "what nobody signed was taken");
            for (when, waits) in
                [("before", &before), ("elsewhere", &meanwhile), ("during", &during), ("after", &after)]
            {
                println!("    {when:<9} {}", spread(waits));
            }
            println!(
                "    p99 during is {:.2} times that before, and {:.2} times that while a bare server is attacked (goal {}), memory \
                 {:+.0} MiB (goal 100)",
                p99(&during) / p99(&before),
                p99(&during) / p99(&meanwhile),
                if matches!(attack, Attack::Slow) { "1.2" } else { "2" },
                most - memory
            );
        }
    }
}

fn p99(waits: &[Duration]) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    waits[waits.len() * 99 / 100].as_secs_f64()
}

/// How long each send waits for its answer.
async fn honest(callers: &Callers, time: Duration) -> Vec<Duration> {
    let (begin, mut waits) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        waits.push(callers.send(None).await);
        sleep(Duration::from_millis(5)).await;
    }
    waits
}
