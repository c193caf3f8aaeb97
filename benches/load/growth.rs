//! What a notification costs while something grows: practices, patients, finished deliveries, watchers, the audience of a broadcast; ten
//! times, a hundred times and a thousand times as many, each beside the first, in turn.

use std::{fmt::Write, fs, ops::Range, path::Path};

use futures::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    Arguments,
    bare::fill,
    callbacks::Reports,
    database::{Kind, Look, postmaster},
    figures::{Figures, Pairs},
    machine::Meter,
    product::{Callers, PRACTICES, Product, Way, a_patient, practice_of, settings},
    sinks::Sinks,
    streams::Crowd,
};

const FOLDS: [usize; 3] = [10, 100, 1_000];
const NAMES: [&str; 2] = ["one", "fold"];
const CALLERS: usize = 16;
/// Patients of a practice, where it is not they who grow.
const PATIENTS: usize = 5;
/// Practices that are furnished at once.
const FURNISHED: usize = 32;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Practices,
    Patients,
    History,
    Watchers,
    Broadcast,
}

impl Axis {
    const ALL: [Self; 5] = [Self::Practices, Self::Patients, Self::History, Self::Watchers, Self::Broadcast];

    const fn name(self) -> &'static str {
        match self {
            Self::Practices => "practices",
            Self::Patients => "patients of a practice",
            Self::History => "finished deliveries",
            Self::Watchers => "watchers of a practice",
            Self::Broadcast => "recipients of a broadcast",
        }
    }

    /// How many there are at first.
    const fn first(self) -> usize {
        match self {
            Self::Watchers => 1,
            Self::Practices => 10,
            Self::Patients | Self::Broadcast => 100,
            Self::History => 1_000,
        }
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let (count, pairs) = (arguments.number("--count", 2_000), arguments.number("--pairs", 5));
    let most = arguments.number("--most", 1_000);
    let only = arguments.text("--only");
    let mut table = String::from(
        "| database | what grows | from | to | us, server + database | at first | times | ms of time | at first |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in arguments.kinds() {
        for axis in Axis::ALL {
            if only.is_some_and(|only| !only.eq_ignore_ascii_case(&format!("{axis:?}"))) {
                continue;
            }
            let first = World::start(kind, axis, axis.first()).await;
            first.once(count).await;
            for fold in FOLDS.into_iter().filter(|fold| *fold <= most) {
                let size = axis.first() * fold;
                let grown = World::start(kind, axis, size).await;
                // Whoever sends now and then is met for the first time before anything is measured.
                grown.once(count.max(if axis == Axis::Practices { size } else { 0 })).await;
                let title = format!("{} on {kind:?}: {} and {size}, {count} texts each", axis.name(), axis.first());
                let mut figures = Pairs::named(&title, NAMES);
                for _ in 0..pairs {
                    figures.ceiling(first.measured(&grown, count).await);
                    figures.product(grown.measured(&first, count).await);
                }
                let [one, other] = figures.medians();
                let [from, to] = [one, other].map(|[server, database, _]| server + database);
                println!("  => {from:.0} us of processor time each, and {to:.0} us: {:.2} times as much", to / from);
                let what = axis.name();
                writeln!(
                    table,
                    "| {} | {what} | {} | {size} | {:.0} + {:.0} | {:.0} + {:.0} | {:.2} | {:.2} | {:.2} |",
                    kind.name(),
                    axis.first(),
                    other[0],
                    other[1],
                    one[0],
                    one[1],
                    to / from,
                    other[2],
                    one[2]
                )
                .unwrap();
            }
        }
    }
    println!("\n{table}");
    if let Some(path) = arguments.text("--out") {
        fs::write(path, table).unwrap();
    }
}

/// A server with so many of something.
struct World {
    axis: Axis,
    size: usize,
    product: Product,
    callers: Callers,
    crowd: Option<Crowd>,
    sinks: Sinks,
    look: Look,
    postmaster: Option<u32>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(kind: Kind, axis: Axis, size: usize) -> Self {
        let (sinks, folder) = (Sinks::start().await, tempfile::tempdir().unwrap());
        let url = kind.create(folder.path()).await;
        let start = Instant::now();
        let product = if axis == Axis::History {
            with_history(&url, folder.path(), &sinks, size).await
        } else {
            Product::start(folder.path(), &url, sinks.addrs).await
        };
        let callers = product.callers(CALLERS).await;
        let callers = match axis {
            Axis::Practices => {
                furnish(&product, &sinks, 0..size).await;
                callers.of_practices(size, PATIENTS)
            }
            Axis::Patients | Axis::Broadcast => {
                furnish(&product, &sinks, 0..1).await;
                product.furnish_crowd(0..size).await;
                callers.of_practices(1, PATIENTS).of_the_crowd(size)
            }
            Axis::History => callers,
            Axis::Watchers => {
                furnish(&product, &sinks, 0..1).await;
                callers.of_practices(1, PATIENTS)
            }
        };
        let crowd = match axis {
            Axis::Watchers => Some(Crowd::gather(std::slice::from_ref(&callers), size).await),
            _ => None,
        };
        let (look, postmaster) = (Look::open(&url).await, postmaster(&url).await);
        println!("  {size} {} are there after {:.0} s", axis.name(), start.elapsed().as_secs_f64());
        Self { axis, size, product, callers, crowd, sinks, look, postmaster, _folder: folder }
    }

    /// So many texts, or a few more, until all that they change is done and told.
    async fn once(&self, count: usize) -> Figures {
        self.sinks.reset();
        if let Some(crowd) = &self.crowd {
            crowd.begin();
        }
        let changes = async || self.look.count("SELECT coalesce(max(seq), 0) FROM feed_head").await;
        let (before, start) = (changes().await, Instant::now());
        let count = match self.axis {
            Axis::Broadcast => {
                let times = count.div_ceil(self.size);
                for number in 1..=times {
                    self.product.broadcast(&[Way::Http], self.size).await;
                    self.sinks.wait_for(number * self.size).await;
                }
                times * self.size
            }
            _ => {
                self.callers.send_all(count, None).await;
                count
            }
        };
        self.sinks.wait_for(count).await;
        self.look.settled().await;
        if let Some(crowd) = &self.crowd {
            crowd.have_seen((changes().await - before) * self.size).await;
        }
        Figures { count, time: start.elapsed(), ..Default::default() }
    }

    async fn measured(&self, other: &Self, count: usize) -> Figures {
        let meter = Meter::start(self.product.id(), &[other.product.id()], self.postmaster);
        let figures = self.once(count).await;
        Figures { cost: meter.end(), ..figures }
    }
}

async fn furnish(product: &Product, sinks: &Sinks, numbers: Range<usize>) {
    let connection = product.connect().await;
    stream::iter(numbers)
        .map(|number| {
            let (connection, name, settings) =
                (connection.clone(), practice_of(number), settings(Way::Http, sinks.addrs));
            let patients = (0..PATIENTS).map(a_patient).collect();
            async move { product.furnish_with(connection, &name, patients, settings).await }
        })
        .buffer_unordered(FURNISHED)
        .collect::<()>()
        .await;
}

/// One over a database with so many finished deliveries.
async fn with_history(url: &str, folder: &Path, sinks: &Sinks, size: usize) -> Product {
    {
        // It leaves the schema, and one delivery a practice of which is known that it arrived.
        let model = Product::start(folder, url, sinks.addrs).await;
        model.furnish(Way::Http, sinks.addrs).await;
        let look = Look::open(url).await;
        Reports::of_texts(&model.callers(1).await, &model, (sinks, &look), PRACTICES).await.post(1).await;
        look.close().await;
    }
    fill(url, size, false).await.print();
    Product::start(folder, url, sinks.addrs).await
}
