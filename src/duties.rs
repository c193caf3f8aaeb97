//! What the server does by itself without calling a provider. Each duty has one function that does it once; the loops are
//! here. Every replica does them: whichever comes first takes the rows, and the others find none.

mod anchor;
mod count;
mod erase;
mod expand;
mod forget;
mod instance;
mod keys;
mod measure;
mod parked;
mod rescue;

use std::{panic::AssertUnwindSafe, path::PathBuf, time::Duration};

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub use anchor::Anchors;

use crate::{domain::Engine, store::Store};

/// How often the disk is looked at.
const TEND_EVERY: Duration = Duration::from_secs(2);
/// How often expired leases are looked for, at least: a takeover is promised within this and the lease.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often parked reports are looked for.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How often broadcasts are looked for that are due. Between two looks they cost nobody anything.
const EXPAND_EVERY: Duration = Duration::from_millis(500);
/// How often changes are counted: what is not counted yet is read one by one when somebody asks for statistics.
const COUNT_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked for what is left of patients who were erased.
const ERASE_EVERY: Duration = Duration::from_secs(60);
/// How often the uses of keys are written down: a process that dies loses as many.
const KEYS_EVERY: Duration = Duration::from_secs(60);
/// How often is looked whether the ledgers have to be anchored.
const ANCHOR_EVERY: Duration = Duration::from_secs(60);
/// How often it is measured how the queue stands: alarms look a few times a minute.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// How often is looked whether the database may send; whatever would send looks by itself.
const INSTANCE_EVERY: Duration = Duration::from_secs(5);
/// How often old changes are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10 * 60);

/// What the operator decides.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `HEEDWELL_ANCHOR_FILE`: where anchors are written to; unset: to standard output.
    pub anchor_file: Option<PathBuf>,
    /// `HEEDWELL_CONTENT_RETENTION`: how long files of conversations are kept; unset: for good.
    pub content_retention: Option<TimeDelta>,
    /// `HEEDWELL_HISTORY_RETENTION`: how long the steps of deliveries are kept that have come to their end; unset: for good.
    pub history_retention: Option<TimeDelta>,
}

/// Does the duties until `stop`, side by side: one that has much to do does not hold up the others. `public_url` is where
/// patients reach this server, without a slash at the end.
pub async fn run(
    store: Store,
    engine: Engine,
    (settings, anchors): (Settings, Anchors),
    public_url: String,
    stop: CancellationToken,
) {
    let watchman = instance::Watchman::default();
    let walk = forget::Walk::default();
    let duties = async {
        tokio::join!(
            every("instance", INSTANCE_EVERY, &stop, || watchman.run_once(&store, &engine)),
            every("disk", TEND_EVERY, &stop, || store.disk_tend(&engine)),
            every("rescue", dialled!("rescue", RESCUE_EVERY), &stop, || rescue::run_once(&store, &engine)),
            every("parked", dialled!("parked", RETRY_EVERY), &stop, || parked::run_once(&store, &engine)),
            every("count", COUNT_EVERY, &stop, || count::run_once(&store, &engine)),
            every("erase", ERASE_EVERY, &stop, || erase::run_once(&store, &engine)),
            every("keys", KEYS_EVERY, &stop, || keys::run_once(&store, &engine)),
            every("forget", FORGET_EVERY, &stop, || forget::run_once(&store, &engine, &settings)),
            every("histories", FORGET_EVERY, &stop, || forget::run_histories(&store, &engine, &settings, &walk)),
            every("measure", MEASURE_EVERY, &stop, || measure::run_once(&store, &engine)),
            every("anchor", ANCHOR_EVERY, &stop, || anchors.run_once(&store, &engine)),
        );
    };
    // This one ends by itself: it may have something to give back.
    let expand = every("expand", EXPAND_EVERY, &stop, || expand::run_once(&store, &engine, &public_url, &stop));
    tokio::join!(stop.run_until_cancelled(duties), expand);
}

/// Does `duty` at once and then again and again until `stop`, each time up to a fifth early, so that replicas do not all come
/// together. A panic costs one turn.
async fn every<F: Future<Output = ()>>(
    name: &'static str,
    period: Duration,
    stop: &CancellationToken,
    duty: impl Fn() -> F,
) {
    while !stop.is_cancelled() {
        if AssertUnwindSafe(Box::pin(duty())).catch_unwind().await.is_err() {
            tracing::error!(duty = name, "a duty panicked");
        }
        stop.run_until_cancelled(sleep(period.mul_f64(1.0 - 0.2 * rand::random::<f64>()))).await;
    }
}
