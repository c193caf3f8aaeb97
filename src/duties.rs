//! What the server does by itself without calling a provider. Each duty has one function that does it once; the loops are
//! here. Every replica does them: whichever comes first takes the rows, and the others find none.

mod forget;
mod rescue;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{clock::SharedClock, domain::Engine, store::Store};

/// How often expired leases are looked for.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often old changes are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10 * 60);

/// Does the duties until `stop`.
pub async fn run(store: Store, engine: Engine, clock: SharedClock, stop: CancellationToken) {
    let mut rescue = interval(dialled!("rescue", RESCUE_EVERY));
    let mut forget = interval(FORGET_EVERY);
    rescue.set_missed_tick_behavior(MissedTickBehavior::Delay);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rescue.tick() => rescue::run_once(&store, &engine).await,
            _ = forget.tick() => forget::run_once(&store, &engine, &clock).await,
        }
    }
}
