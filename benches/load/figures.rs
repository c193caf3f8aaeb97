//! Figures of a run, and of pairs of runs: ceiling and product in turn, and the ratio of their medians.

use std::time::Duration;

use crate::machine::Cost;

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

    fn print(&self, name: &str) {
        let Cost { server, database, foreign, memory } = self.cost;
        let each = |seconds: f64| seconds * 1e6 / self.count.max(1) as f64;
        println!(
            "  {name:<9} {:>8.0}/s  {:<28}  {:>5.0} + {:>5.0} us  {memory:>4.0} MiB  foreign {:>3.0} %",
            self.rate(),
            if self.waits.is_empty() { String::new() } else { spread(&self.waits) },
            each(server),
            each(database),
            foreign * 100.0,
        );
    }
}

/// The middle, and the slowest of a hundred.
pub(crate) fn spread(waits: &[Duration]) -> String {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    format!("p50 {:>6.1} p99 {:>6.1} ms", at(&waits, 0.5), at(&waits, 0.99))
}

fn at(sorted: &[Duration], share: f64) -> f64 {
    let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(place).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
}

/// Runs of a ceiling and of the product, in turn.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    names: [&'static str; 2],
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
        Self { names, ..Self::default() }
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
    }

    /// What each takes, and how much of the first's time the second needs in the middle, beside its goal.
    pub(crate) fn times(&self, goal: f64) {
        let (first, second) = (waits(&self.ceilings), waits(&self.products));
        println!(
            "  => {} {}, {} {}: {:.0} % (goal {:.0} %){}",
            self.names[0],
            spread(&first),
            self.names[1],
            spread(&second),
            middle(&second) / middle(&first) * 100.0,
            goal * 100.0,
            self.reservation()
        );
    }

    /// The product's spread, beside its goals in milliseconds.
    pub(crate) fn waits(&self, middle: f64, slowest: f64) {
        println!("  => {} (goals {middle}, {slowest}){}", spread(&waits(&self.products)), self.reservation());
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

fn middle(waits: &[Duration]) -> f64 {
    let mut waits = waits.to_vec();
    waits.sort_unstable();
    at(&waits, 0.5)
}

fn median(runs: &[Figures], value: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
