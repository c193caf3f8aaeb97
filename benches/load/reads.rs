//! What screens for composing ask, one call at a time: over which channels 500 patients can be reached, and what a send would do.

use tokio::time::Instant;

use crate::{Arguments, accept::Servers, figures::spread, sinks::Sinks};

pub(crate) async fn run(arguments: &Arguments) {
    let count = arguments.number("--count", 100);
    let sinks = Sinks::start().await;
    for kind in arguments.kinds() {
        let servers = Servers::start(kind, &sinks, false).await;
        let ids = servers.product.furnish_more().await;
        let callers = servers.product.callers(1).await;
        println!("reads on {kind:?}, {count} calls each");
        let (mut reaches, mut previews) = (Vec::new(), Vec::new());
        for number in 0..count + count / 10 {
            let start = Instant::now();
            callers.reach(&ids).await;
            let reach = start.elapsed();
            let start = Instant::now();
            callers.preview(number).await;
            // The first tenth is for getting warm.
            if number >= count / 10 {
                reaches.push(reach);
                previews.push(start.elapsed());
            }
        }
        println!("  reachability of {} patients  {}", ids.len(), spread(&reaches));
        println!("  preview                       {}", spread(&previews));
    }
}
