//! What a dashboard asks first, in a practice with very many deliveries: the first page of a list, and statistics of 92 days.

use crate::{
    Arguments,
    claims::Side,
    figures::{slowest, spread},
    sinks::Sinks,
    table::Row,
};

/// What the first list, and the slowest statistics of twenty, may take, in milliseconds.
const GOALS: [f64; 2] = [1_000.0, 50.0];

pub(crate) async fn run(arguments: &Arguments) {
    let (rows, count) = (arguments.number("--rows", 1_000_000), arguments.number("--count", 200));
    for kind in arguments.kinds() {
        println!("lists on {kind:?}, {count} calls each");
        let sinks = Sinks::start().await;
        let side = Side::start(kind, &sinks, (rows, true)).await;
        // Nothing that this process has read before helps it.
        let first = side.callers().list(Default::default()).await;
        let (mut lists, mut stats) = (Vec::new(), Vec::new());
        for _ in 0..count {
            lists.push(side.callers().list(Default::default()).await);
            stats.push(side.callers().stats().await);
        }
        let (first, slow) = (first.as_secs_f64() * 1e3, slowest(&stats, 0.95));
        println!("  the first list {first:.1} ms, then {}", spread(&lists));
        println!("  statistics     {}, p95 {slow:.1} ms", spread(&stats));
        let goals = GOALS.map(|goal| format!("at most {goal} ms"));
        let what = format!("first list with {rows} deliveries");
        Row::plain("G15", &what, format!("{first:.1} ms"), &goals[0], first <= GOALS[0]).note();
        let what = format!("statistics of 92 days with {rows} deliveries, p95");
        Row::plain("G15", &what, format!("{slow:.1} ms"), &goals[1], slow <= GOALS[1]).note();
    }
}
