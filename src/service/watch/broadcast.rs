//! A watch of one broadcast: the whole of it at once, then whenever it has moved on, at most once a second, and every 15 s in any
//! case. Each step replaces the last, so that there is no cursor and nothing to resume.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Steps, Watch, heads::Head};
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
    sender: mpsc::Sender<BroadcastStep>,
    end: Instant,
}

enum Event {
    Look,
    End,
    Expired,
    Gone,
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
        let lifetime = self.settings.lifetime.mul_f64(rand::random_range(0.9..1.1));
        let end = Instant::now() + lifetime;
        let end = request.deadline.map_or(end, |deadline| end.min(deadline));
        let (sender, steps) = mpsc::channel(1);
        let run = Run { watch: self.clone(), scope, head, sender: sender.clone(), end };
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
            self.taken().await?;
            let over = broadcast.state.is_final() && broadcast.complete_time.is_some();
            let end = if over { self.end.min(still + self.watch.settings.still) } else { self.end };
            match self.wait(seen, (looked, told), end).await {
                Event::Look => {}
                Event::End => return Ok(()),
                Event::Expired => return Err(Error::TokenInvalid),
                Event::Gone => return Ok(()),
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
        let expired = self.expired();
        let head = &mut self.head;
        let moved = async {
            head.beyond(seen).await;
            sleep_until(looked + PACE).await;
        };
        tokio::select! {
            biased;
            () = self.watch.stop.cancelled() => Event::End,
            () = self.sender.closed() => Event::Gone,
            () = expired => Event::Expired,
            () = sleep_until(end) => Event::End,
            () = sleep_until(told + HEARTBEAT) => Event::Look,
            () = moved => Event::Look,
        }
    }

    /// How long the token behind the watch still holds; unset: for ever.
    fn left(&self) -> Option<Duration> {
        let left = self.scope.expire_time()? - self.watch.clock.now();
        Some(left.to_std().unwrap_or_default())
    }

    /// Resolves when the token behind the watch ends.
    fn expired(&self) -> impl Future<Output = ()> + use<> {
        let left = self.left();
        async move {
            match left {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn send(&self, broadcast: &Broadcast) -> Result<(), Error> {
        self.taken().await?;
        let step = BroadcastStep { broadcast: broadcast.clone(), server_time: self.watch.clock.now() };
        // There is room for it, unless the reader left, who needs no answer.
        let _ = self.sender.try_send(step);
        Ok(())
    }

    /// Waits until the reader has taken the step before, or left.
    async fn taken(&self) -> Result<(), Error> {
        if self.left().is_some_and(|left| left.is_zero()) {
            return Err(Error::TokenInvalid);
        }
        tokio::select! {
            biased;
            taken = timeout(self.watch.settings.stall, self.sender.reserve()) => match taken {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::WatchStalled),
            },
            () = self.expired() => Err(Error::TokenInvalid),
        }
    }
}
