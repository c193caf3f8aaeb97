//! A cheap read: a patient is asked for, beside bare tonic that answers every call with the same patient.

use std::time::Duration;

use crate::{
    Arguments, bare,
    database::postmaster,
    figures::{Figures, Pairs},
    machine::Meter,
    product::{Callers, Product, Way},
    sinks::Sinks,
};

pub(crate) async fn run(arguments: &Arguments) {
    let (callers, pairs) = (arguments.number("--callers", 128), arguments.number("--pairs", 5));
    let time = Duration::from_secs(arguments.number("--seconds", 5) as u64);
    let (sinks, bare) = (Sinks::start().await, bare::Server::of_strangers().await);
    for kind in arguments.kinds() {
        let folder = tempfile::tempdir().unwrap();
        let url = kind.create(folder.path()).await;
        let product = Product::start(folder.path(), &url, sinks.addrs).await;
        product.furnish(Way::Http, sinks.addrs).await;
        let postmaster = postmaster(&url).await;
        let ids = [bare.id(), product.id()];
        let sides = [bare.callers(callers).await, product.callers(callers).await];
        for side in &sides {
            side.read_for(time / 2).await;
        }
        let title = format!("GetPatient on {kind:?}, {callers} callers, {time:?} each");
        let mut figures = Pairs::begin(&title).of("G13");
        for _ in 0..pairs {
            figures.ceiling(measured(&sides[0], (ids[0], ids[1]), postmaster, time).await);
            figures.product(measured(&sides[1], (ids[1], ids[0]), postmaster, time).await);
        }
        figures.rates(0.6);
    }
}

async fn measured(callers: &Callers, (id, other): (u32, u32), postmaster: Option<u32>, time: Duration) -> Figures {
    let meter = Meter::start(id, &[other], postmaster);
    let figures = callers.read_for(time).await;
    Figures { cost: meter.end(), ..figures }
}
