//! Figures of a run, and of pairs of runs: ceiling and product in turn, and the ratio of their medians.

use std::time::Duration;

use crate::{machine::Cost, table::Row};

/// More than this, and the machine was not ours.
const FOREIGN: f64 = 0.10;

/// One run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) count: usize,
    pub(crate) time: Duration,
    /// How long each took, if that was measured.
    pub(crate) waits: Vec<Duration>,
    pub(crate) cost: Cost,
}

impl Figures {
    pub(crate) fn rate(&self) -> f64 {
        self.count as f64 / self.time.as_secs_f64()
    }

    /// What one takes of a processor, in the server and in the database, in microseconds.
    pub(crate) fn each(&self) -> [f64; 2] {
        [self.cost.server, self.cost.database].map(|seconds| seconds * 1e6 / self.count.max(1) as f64)
    }

    fn print(&self, name: &str) {
        let Cost { foreign, memory, .. } = self.cost;
        let [server, database] = self.each();
        println!(
            "  {name:<9} {:>8.0}/s  {:<28}  {server:>5.0} + {database:>5.0} us  {memory:>4.0} MiB  foreign {:>3.0} %",
            self.rate(),
            if self.waits.is_empty() { String::new() } else { spread(&self.waits) },
            foreign * 100.0,
        );
    }
}

/// The middle, and the slowest of a hundred.
pub(crate) fn spread(waits: &[Duration]) -> String {
    format!("p50 {:>6.1} p99 {:>6.1} ms", slowest(waits, 0.5), slowest(waits, 0.99))
}

/// The slowest of this share of them, in milliseconds.
pub(crate) fn slowest(waits: &[Duration], share: f64) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    at(&waits, share)
}

fn at(sorted: &[Duration], share: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(place).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

/// Runs of a ceiling and of the product, in turn.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    names: [&'static str; 2],
    what: String,
    /// Which goal they are measured for; empty: none.
    goal: &'static str,
    ceilings: Vec<Figures>,
    products: Vec<Figures>,
}

impl Pairs {
    pub(crate) fn begin(title: &str) -> Self {
        Self::named(title, ["bare", "heedwell"])
    }

    /// Of two things that are called so.
    pub(crate) fn named(title: &str, names: [&'static str; 2]) -> Self {
        println!("{title}\n  per message: server + database, processor time");
        Self { names, what: title.trim().to_owned(), ..Self::default() }
    }

    /// The same, measured for that goal.
    pub(crate) fn of(self, goal: &'static str) -> Self {
        Self { goal, ..self }
    }

    pub(crate) fn ceiling(&mut self, figures: Figures) {
        figures.print(self.names[0]);
        self.ceilings.push(figures);
    }

    pub(crate) fn product(&mut self, figures: Figures) {
        figures.print(self.names[1]);
        self.products.push(figures);
    }

    /// The ratio of the rates, beside its goal.
    pub(crate) fn rates(&self, goal: f64) {
        let (ceiling, product) = (median(&self.ceilings, Figures::rate), median(&self.products, Figures::rate));
        println!(
            "  => {} {ceiling:.0}/s, {} {product:.0}/s: {:.0} % (goal {:.0} %){}",
            self.names[0],
            self.names[1],
            product / ceiling * 100.0,
            goal * 100.0,
            self.reservation()
        );
        let ratio = product / ceiling;
        self.note(
            [format!("{ceiling:.0}/s"), format!("{product:.0}/s")],
            percent(ratio),
            at_least(goal),
            ratio >= goal,
        );
    }

    /// How many times what the first does in a time the second needs for it, beside its goal.
    pub(crate) fn costs(&self, goal: f64) {
        let (first, second) = (median(&self.ceilings, Figures::rate), median(&self.products, Figures::rate));
        println!(
            "  => {} {first:.0}/s, {} {second:.0}/s: {:.2} times as long (goal {goal}){}",
            self.names[0],
            self.names[1],
            first / second,
            self.reservation()
        );
        let ratio = first / second;
        self.note([format!("{first:.0}/s"), format!("{second:.0}/s")], times(ratio), no_more(goal), ratio <= goal);
    }

    /// What one takes, beside its goal.
    pub(crate) fn each(&self, goal: Duration) {
        let (ceiling, product) = (median(&self.ceilings, Figures::rate), median(&self.products, Figures::rate));
        println!(
            "  => {} {:.1} us each, {} {:.1} us (goal {}){}",
            self.names[0],
            1e6 / ceiling,
            self.names[1],
            1e6 / product,
            goal.as_micros(),
            self.reservation()
        );
        let [ceiling, product] = [ceiling, product].map(|rate| 1e6 / rate);
        let (wanted, met) = (format!("at most {} us", goal.as_micros()), product <= goal.as_secs_f64() * 1e6);
        self.note([ceiling, product].map(|it| format!("{it:.1} us")), times(product / ceiling), wanted, met);
    }

    /// How much processor time one takes, of server and database together, beside its goal in times.
    pub(crate) fn efforts(&self, goal: f64) {
        let effort =
            |figures: &Figures| (figures.cost.server + figures.cost.database) * 1e6 / figures.count.max(1) as f64;
        let (first, second) = (median(&self.ceilings, effort), median(&self.products, effort));
        println!(
            "  => {} {first:.0} us of processor time each, {} {second:.0} us: {:.2} times as much (goal {goal}){}",
            self.names[0],
            self.names[1],
            second / first,
            self.reservation()
        );
        let ratio = second / first;
        self.note([first, second].map(|it| format!("{it:.0} us")), times(ratio), no_more(goal), ratio <= goal);
    }

    /// What each takes, and how much of the first's time the second needs in the middle, beside its goal.
    pub(crate) fn times(&self, goal: f64) {
        let (first, second) = (waits(&self.ceilings), waits(&self.products));
        let ratio = slowest(&second, 0.5) / slowest(&first, 0.5);
        println!(
            "  => {} {}, {} {}: {:.0} % (goal {:.0} %){}",
            self.names[0],
            spread(&first),
            self.names[1],
            spread(&second),
            ratio * 100.0,
            goal * 100.0,
            self.reservation()
        );
        self.note([spread(&first), spread(&second)], times(ratio), no_more(goal), ratio <= goal);
    }

    /// The product's spread, beside its goals in milliseconds.
    pub(crate) fn waits(&self, middle: f64, most: f64) {
        let (ceiling, product) = (waits(&self.ceilings), waits(&self.products));
        println!("  => {} (goals {middle}, {most}){}", spread(&product), self.reservation());
        let met = slowest(&product, 0.5) <= middle && slowest(&product, 0.99) <= most;
        let ratio = times(slowest(&product, 0.5) / slowest(&ceiling, 0.5));
        self.note([spread(&ceiling), spread(&product)], ratio, format!("at most {middle} and {most} ms"), met);
    }

    /// Most memory of the product, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.products.iter().map(|run| run.cost.memory).fold(0.0, f64::max)
    }

    /// What one takes in the first and in the second: of a processor in server and database, in microseconds, and of time, in
    /// milliseconds.
    pub(crate) fn medians(&self) -> [[f64; 3]; 2] {
        [&self.ceilings, &self.products].map(|runs| {
            let [server, database] = [0, 1].map(|part| median(runs, |run| run.each()[part]));
            [server, database, 1e3 / median(runs, Figures::rate)]
        })
    }

    /// Puts a conclusion in the table.
    fn note(&self, [ceiling, figure]: [String; 2], ratio: String, wanted: String, met: bool) {
        let [_, [server, database, _]] = self.medians();
        Row {
            goal: self.goal.into(),
            what: self.what.clone(),
            ceiling: format!("{} {ceiling}", self.names[0]),
            figure,
            ratio,
            wanted,
            met,
            cost: format!("{server:.0} + {database:.0}"),
            memory: format!("{:.0}", self.memory()),
            reservation: self.reservation().trim().to_owned(),
            ..Row::default()
        }
        .note();
    }

    /// What is to be held against these figures.
    fn reservation(&self) -> String {
        let runs = || self.ceilings.iter().chain(&self.products);
        let foreign = runs().map(|figures| figures.cost.foreign).fold(0.0, f64::max);
        let few = self.products.len() < 5;
        match (foreign > FOREIGN, few) {
            (true, _) => format!("  NOT GOOD: up to {:.0} % of the machine worked for others", foreign * 100.0),
            (false, true) => "  NOT GOOD: fewer than five pairs".into(),
            (false, false) => String::new(),
        }
    }
}

fn waits(runs: &[Figures]) -> Vec<Duration> {
    runs.iter().flat_map(|figures| figures.waits.iter().copied()).collect()
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} times")
}

fn at_least(goal: f64) -> String {
    format!("at least {:.0} %", goal * 100.0)
}

fn no_more(goal: f64) -> String {
    format!("at most {goal} times")
}

fn median(runs: &[Figures], value: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
