//! A watch of one broadcast: the whole of it at once, then whenever it has moved on, at most once a second, and every 15 s in any
//! case. Each step replaces the last, so that there is no cursor and nothing to resume.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Steps, Watch,
    heads::Head,
    reader::{Over, Reader},
};
use crate::{
    domain::{Broadcast, BroadcastId, Scope},
    service::Error,
};

/// The shortest time between two steps.
const PACE: Duration = Duration::from_secs(1);
/// The longest.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// A step of the watch.
#[derive(Clone, Debug)]
pub struct BroadcastStep {
    /// The broadcast as it is now.
    pub broadcast: Broadcast,
    /// The server's clock.
    pub server_time: DateTime<Utc>,
}

/// Which broadcast to watch.
#[derive(Clone, Debug)]
pub struct BroadcastRequest {
    /// Which.
    pub id: BroadcastId,
    /// When the caller gives up.
    pub deadline: Option<Instant>,
    /// Ends the call of a caller who takes not even its end, and frees what waits for it.
    pub cut: Option<CancellationToken>,
}

struct Run {
    watch: Watch,
    scope: Scope,
    head: Head,
    reader: Reader<BroadcastStep>,
    end: Instant,
}

enum Event {
    Look,
    Over(Over),
}

impl Watch {
    /// Starts a watch of one broadcast.
    ///
    /// # Errors
    /// `NOT_FOUND`, `TOO_MANY_WATCHES`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn start_broadcast(
        &self,
        scope: Scope,
        request: BroadcastRequest,
    ) -> Result<Steps<BroadcastStep>, Error> {
        let place = self.places.take(&scope.author().id, false, self.settings)?;
        // Interest first, then the look: a change in between is seen either way.
        let head = self.heads.of(scope.practice());
        head.is_at_least(self.store.feed_head(&scope).await?);
        let found = self.store.broadcast_get(&scope, request.id).await;
        let broadcast = found.map_err(|error| Error::from(error).named(request.id))?;
        self.store.audit_read(&scope, None, format!("broadcast/{}", request.id)).await?;
        let lifetime = self.settings.lifetime.mul_f64(rand::random_range(0.9..1.1));
        let end = Instant::now() + lifetime;
        let end = request.deadline.map_or(end, |deadline| end.min(deadline));
        let (sender, steps) = mpsc::channel(1);
        let reader = Reader::new(self, &scope, sender.clone());
        let run = Run { watch: self.clone(), scope, head, reader, end };
        Ok(self.spawn((sender, steps), place, request.cut, run.run(broadcast)))
    }
}

impl Run {
    async fn run(mut self, mut broadcast: Broadcast) -> Result<(), Error> {
        let begin = Instant::now();
        let (mut told, mut looked, mut still) = (begin, begin, begin);
        let mut seen = self.head.newest();
        self.send(&broadcast).await?;
        loop {
            // Nothing is read that its reader would not take.
            self.reader.taken().await?;
            let over = broadcast.state.is_final() && broadcast.complete_time.is_some();
            let end = if over { self.end.min(still + self.watch.settings.still) } else { self.end };
            match self.wait(seen, (looked, told), end).await {
                Event::Look => {}
                Event::Over(Over::Expired) => return Err(Error::TokenInvalid),
                Event::Over(Over::Planned | Over::Gone) => return Ok(()),
            }
            (seen, looked) = (self.head.newest(), Instant::now());
            let now = self.watch.store.broadcast_again(&self.scope, broadcast.clone()).await?;
            if now != broadcast {
                still = Instant::now();
            }
            if now != broadcast || told.elapsed() >= HEARTBEAT {
                told = Instant::now();
                broadcast = now;
                self.send(&broadcast).await?;
            }
        }
    }

    /// Waits until the practice's feed has moved beyond what was seen, though not less than a second, or until it is time to say
    /// something in any case.
    async fn wait(&mut self, seen: i64, (looked, told): (Instant, Instant), end: Instant) -> Event {
        let head = &mut self.head;
        let moved = async {
            head.beyond(seen).await;
            sleep_until(looked + PACE).await;
        };
        tokio::select! {
            biased;
            over = self.reader.over(end) => Event::Over(over),
            () = sleep_until(told + HEARTBEAT) => Event::Look,
            () = moved => Event::Look,
        }
    }

    async fn send(&self, broadcast: &Broadcast) -> Result<(), Error> {
        let step = || BroadcastStep { broadcast: broadcast.clone(), server_time: self.watch.clock.now() };
        self.reader.send(step).await
    }
}
