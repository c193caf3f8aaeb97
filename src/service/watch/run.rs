//! One watch as it runs: a page after the other, at the reader's pace, until a planned end or an error.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::{
    News, Request, Step, Subject, Watch,
    heads::Head,
    reader::{Over, Reader},
};
use crate::{
    domain::{Channel, DeliveryChange, DeliveryFilter, DeliveryId, DeliveryState, PatientId, Scope, Side},
    service::Error,
    store::FeedPage,
    telemetry::{KeyValue, SpanKind},
};

/// Most items of an inbox in one step: with the longest texts that there are they stay below what a message may have.
const MOST_ITEMS: usize = 32;

/// A watch, and how far it has come.
pub(super) struct Run {
    pub(super) watch: Watch,
    pub(super) scope: Scope,
    pub(super) request: Request,
    pub(super) position: i64,
    /// Of an inbox, as it was told last.
    pub(super) unread: i32,
    pub(super) head: Head,
    pub(super) reader: Reader<Step>,
    /// All that had been when it began has been told: what comes now is news.
    pub(super) live: bool,
}

/// Why a watch stopped waiting.
enum Event {
    Look,
    Heartbeat,
    Over(Over),
}

impl Run {
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let share = rand::random_range(0.9..1.1);
        let end = Instant::now() + self.watch.settings.lifetime.mul_f64(share);
        let end = self.request.deadline.map_or(end, |deadline| end.min(deadline));
        if let Subject::Inbox(patient) = &self.request.subject {
            self.unread = self.watch.store.inbox_unread(&self.scope, patient).await?;
        }
        self.checkpoint().await?;
        let mut heartbeat = Instant::now() + self.request.heartbeat;
        loop {
            // Before the next page is read: a stream never holds more than the one that its reader has not taken.
            self.reader.taken().await?;
            if self.next_page().await? {
                heartbeat = Instant::now() + self.request.heartbeat;
            }
            match self.wait(heartbeat, end).await {
                Event::Look => {}
                Event::Heartbeat => {
                    self.checkpoint().await?;
                    heartbeat = Instant::now() + self.request.heartbeat;
                }
                Event::Over(Over::Planned) => return self.checkpoint().await,
                Event::Over(Over::Expired) => return Err(Error::TokenInvalid),
                Event::Over(Over::Gone) => return Ok(()),
            }
        }
    }

    /// Moves on by one page, and says whether there was anything in it to send.
    async fn next_page(&mut self) -> Result<bool, Error> {
        // What it says is there must be found.
        let newest = self.head.newest();
        if newest <= self.position {
            self.live = true;
            return Ok(false);
        }
        let page = match self.watch.pages.after(&self.scope, self.position).await? {
            Some(page) if !page.gap => page,
            None if mutant!("serial feed") => return Ok(false),
            // The reader was so slow that changes were forgotten before it came to them.
            Some(_) | None => {
                let bounds = self.watch.store.feed_bounds(&self.scope).await?;
                let earliest = self.watch.cursor(&self.scope, &self.request.subject, bounds.earliest);
                return Err(Error::CursorExpired { earliest });
            }
        };
        match &self.request.subject {
            Subject::Deliveries(filter) => {
                let shown = self.passing(filter, &page);
                self.tell_changes(page, shown).await
            }
            Subject::Inbox(patient) => {
                let changed = changed_items(patient, &page);
                self.tell_items(patient.clone(), changed, page.position).await
            }
            Subject::Conversations(only) => self.tell_talk(*only, &page).await,
        }
    }

    /// The places in the page of what the filter lets pass and the scope covers.
    fn passing(&self, filter: &DeliveryFilter, page: &FeedPage) -> Vec<usize> {
        let own = |change: &DeliveryChange| change.delivery.patient.as_ref().is_none_or(|it| self.scope.covers(it));
        let passes = |change: &DeliveryChange| own(change) && filter.passes(change);
        let changes = page.changes.iter().enumerate();
        changes.filter_map(|(place, change)| passes(change).then_some(place)).collect()
    }

    /// Tells what passes the filter, if anything does.
    async fn tell_changes(&mut self, page: Arc<FeedPage>, mut shown: Vec<usize>) -> Result<bool, Error> {
        self.position = page.position;
        if mutant!("coalesced") {
            let id = |place: usize| page.changes.get(place).map(|change| change.delivery.id);
            let all = shown.clone();
            shown.retain(|place| !all.iter().any(|later| later > place && id(*later) == id(*place)));
        }
        if mutant!("early checkpoint") && !shown.is_empty() {
            self.checkpoint().await?;
        }
        if shown.is_empty() {
            return Ok(false);
        }
        let told = self.live.then(|| (Arc::clone(&page), shown.clone()));
        self.send(News::Deliveries(Some((page, shown)))).await?;
        if let Some((page, shown)) = told {
            self.measure(shown.iter().filter_map(|&place| page.changes.get(place)));
        }
        Ok(true)
    }

    /// Counts how long after they were committed changes were told, and adds that to their traces.
    fn measure<'p>(&self, changes: impl Iterator<Item = &'p DeliveryChange>) {
        let (now, telemetry) = (self.watch.clock.now(), self.watch.store.telemetry());
        for DeliveryChange { delivery, .. } in changes {
            let lag = (now - delivery.update_time).to_std().unwrap_or_default();
            telemetry.metrics.told(lag);
            telemetry.traces.step("stream step", SpanKind::Internal, delivery.trace, lag, || {
                let id = KeyValue::new("delivery.id", delivery.id.to_string());
                vec![
                    id,
                    KeyValue::new("revision", delivery.revision),
                    KeyValue::new("state", format!("{:?}", delivery.state)),
                ]
            });
        }
    }

    /// Tells how the items are now, if there are any. Texts are long, so that they go in parts; only with the last of them
    /// has everything up to `position` been told.
    async fn tell_items(&mut self, patient: PatientId, ids: Vec<DeliveryId>, position: i64) -> Result<bool, Error> {
        if ids.is_empty() {
            self.position = position;
            return Ok(false);
        }
        let store = self.watch.store.clone();
        self.unread = store.inbox_unread(&self.scope, &patient).await?;
        let mut parts = ids.chunks(MOST_ITEMS).peekable();
        while let Some(part) = parts.next() {
            let items = store.inbox_items(&self.scope, &patient, part).await?;
            if parts.peek().is_none() {
                self.position = position;
            }
            self.send(News::Inbox(items, self.unread)).await?;
        }
        Ok(true)
    }

    async fn wait(&mut self, heartbeat: Instant, end: Instant) -> Event {
        tokio::select! {
            biased;
            over = self.reader.over(end) => Event::Over(over),
            // Before the next page: in a busy practice there is always one.
            () = sleep_until(heartbeat) => Event::Heartbeat,
            () = self.head.beyond(self.position) => Event::Look,
        }
    }

    /// Says how far everything has been told.
    async fn checkpoint(&self) -> Result<(), Error> {
        self.send(match self.request.subject {
            Subject::Deliveries(_) => News::Deliveries(None),
            Subject::Inbox(_) => News::Inbox(Vec::new(), self.unread),
            Subject::Conversations(_) => News::Conversations(Side::of(self.scope.author()), Vec::new()),
        })
        .await
    }

    /// Hands a step over once the reader has taken the one before.
    pub(super) async fn send(&self, news: News) -> Result<(), Error> {
        let cursor = self.watch.cursor(&self.scope, &self.request.subject, self.position);
        self.reader.send(|| Step { cursor, server_time: self.watch.clock.now(), news }).await
    }
}

/// The items of a patient's inbox that a page tells of: filed, read for the first time, or marked.
fn changed_items(patient: &PatientId, page: &FeedPage) -> Vec<DeliveryId> {
    let theirs = page.changes.iter().map(|change| &change.delivery).filter(|delivery| {
        let filed = delivery.channel == Channel::InApp && delivery.state == DeliveryState::Delivered;
        filed && delivery.patient.as_ref() == Some(patient)
    });
    let marked = page.marked.iter().filter(|(of, _)| of == patient).map(|(_, item)| *item);
    // An item is told as it is now, so that once is enough.
    theirs.map(|delivery| delivery.id).chain(marked).collect::<BTreeSet<_>>().into_iter().collect()
}
