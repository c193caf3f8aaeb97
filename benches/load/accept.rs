//! Accepting: SendNotification over one channel, not due yet, so that nothing is sent meanwhile.

use std::time::{Duration, SystemTime};

use crate::{
    Arguments,
    bare::Server,
    database::{Kind, postmaster},
    figures::{Figures, Pairs},
    machine::Meter,
    product::{Callers, PRACTICES, Product, Way},
    sinks::Sinks,
};

/// Not due while anything is measured.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The product and its ceiling, each over a database of its own.
pub(crate) struct Servers {
    pub(crate) product: Product,
    pub(crate) bare: Server,
    pub(crate) postmaster: Option<u32>,
    url: String,
    folders: [tempfile::TempDir; 2],
}

impl Servers {
    /// With a road, what the ceiling takes is sent as well.
    pub(crate) async fn start(kind: Kind, sinks: &Sinks, road: bool) -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let url = kind.create(folders[0].path()).await;
        let product = Product::start(folders[0].path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let bare_url = kind.create(folders[1].path()).await;
        {
            // It leaves the schema, and the rows that are copied.
            let model = Product::start(folders[1].path(), &bare_url, sinks.addrs).await;
            model.furnish(Way::Http, sinks.addrs).await;
            model.callers(1).await.send_all(PRACTICES, Some(SystemTime::now() + DAY)).await;
        }
        let bare = Server::start(&bare_url, road.then_some(sinks.addrs.http)).await;
        Self { product, bare, postmaster: postmaster(&url).await, url, folders }
    }

    /// One more of the product over the same database.
    pub(crate) async fn another(&self, sinks: &Sinks) -> Product {
        Product::start(self.folders[0].path(), &self.url, sinks.addrs).await
    }
}

pub(crate) async fn run(arguments: &Arguments) {
    let (callers, pairs) = (arguments.number("--callers", 128), arguments.number("--pairs", 5));
    let time = Duration::from_secs(arguments.number("--seconds", 5) as u64);
    let sinks = Sinks::start().await;
    for kind in arguments.kinds() {
        let servers = Servers::start(kind, &sinks, false).await;
        let title = format!("accept on {kind:?}, {callers} callers, {time:?} each");
        let mut figures = Pairs::begin(&title).of(if kind == Kind::Postgres { "G1" } else { "G2" });
        let (bare, product) = (servers.bare.callers(callers).await, servers.product.callers(callers).await);
        let due = Some(SystemTime::now() + DAY);
        for callers in [&bare, &product] {
            callers.send_for(time / 2, due).await;
        }
        for _ in 0..pairs {
            let (bare_id, product_id) = (servers.bare.id(), servers.product.id());
            figures.ceiling(measured(&bare, (bare_id, product_id), &servers, time).await);
            figures.product(measured(&product, (product_id, bare_id), &servers, time).await);
        }
        figures.rates(0.5);
    }
}

async fn measured(callers: &Callers, (id, other): (u32, u32), servers: &Servers, time: Duration) -> Figures {
    let meter = Meter::start(id, &[other], servers.postmaster);
    let figures = callers.send_for(time, Some(SystemTime::now() + DAY)).await;
    Figures { cost: meter.end(), ..figures }
}
