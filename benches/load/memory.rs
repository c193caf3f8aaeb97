//! What a server costs that does nothing: its memory, how soon it serves, and the size of its binary.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Arguments, machine::resident, product::Product, sinks::Sinks};

pub(crate) async fn run(arguments: &Arguments) {
    let sinks = Sinks::start().await;
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_heedwell")).unwrap().len();
    println!("binary: {:.1} MiB (goal 25)", binary as f64 / 1_048_576.0);
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        // The first start makes keys and schema.
        drop(Product::start(folder.path(), &url, sinks.addrs).await);
        let mut starts = Vec::new();
        for _ in 0..arguments.number("--pairs", 5) {
            let start = Instant::now();
            drop(Product::start(folder.path(), &url, sinks.addrs).await);
            starts.push(start.elapsed());
        }
        starts.sort_unstable();
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        sleep(Duration::from_secs(3)).await;
        println!(
            "{kind:?}: serves after {} ms (goal 150), {:.0} MiB at rest (goal 30)",
            starts[starts.len() / 2].as_millis(),
            resident(product.id())
        );
    }
}
