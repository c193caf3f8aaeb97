//! What a server costs that does nothing: its memory, how soon it serves, and the size of its binary.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{Arguments, database::Kind, machine::resident, product::Product, sinks::Sinks, table::Row};

/// Its binary in MiB, milliseconds until it serves, and MiB while it does nothing.
const GOALS: [f64; 3] = [25.0, 150.0, 30.0];

pub(crate) async fn run(arguments: &Arguments) {
    let sinks = Sinks::start().await;
    let binary = std::fs::metadata(env!("CARGO_BIN_EXE_heedwell")).unwrap().len();
    let binary = binary as f64 / 1_048_576.0;
    let [size, start_goal, rest] = GOALS;
    println!("binary: {binary:.1} MiB (goal {size})");
    let wanted = format!("at most {size} MiB");
    Row::plain("G12", "size of the binary", format!("{binary:.1} MiB"), &wanted, binary <= size).note();
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
        sleep(Duration::from_secs(arguments.number("--rest", 3) as u64)).await;
        let (start, memory) = (starts[starts.len() / 2].as_secs_f64() * 1e3, resident(product.id()));
        println!("{kind:?}: serves after {start:.0} ms (goal {start_goal}), {memory:.0} MiB at rest (goal {rest})");
        // How soon the other database lets it in is not its own doing.
        let wanted = format!("at most {start_goal} ms on SQLite");
        let met = kind == Kind::Postgres || start <= start_goal;
        Row::plain("G12", "from the start until it serves", format!("{start:.0} ms"), &wanted, met).note();
        let wanted = format!("at most {rest} MiB");
        Row::plain("G12", "memory at rest", format!("{memory:.1} MiB"), &wanted, memory <= rest).note();
    }
}
