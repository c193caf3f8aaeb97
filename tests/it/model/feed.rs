//! Those who watch: each keeps a position, takes pages from it, and goes back to the last one that it kept. What lies at a
//! position never changes, and nothing is missing between two of them.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use heedwell::{
    crypto::{Purpose, TokenKey},
    domain::{Channel, Delivery, DeliveryChange, DeliveryFilter, DeliveryId, DeliveryState, Scope},
    service::watch::{Request, Settings, Start, Step, Subject, Watch},
    store::Store,
};
use tokio_util::sync::CancellationToken;

use crate::support::TestStore;

/// What all who watch have seen so far, which must be the same: the change at position n is at place n - 1.
#[derive(Debug, Default)]
pub(super) struct Seen {
    changes: Vec<DeliveryChange>,
    last: BTreeMap<DeliveryId, Delivery>,
}

/// One who watches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reader {
    position: i64,
    kept: i64,
}

impl Reader {
    /// Takes one page.
    pub(super) async fn read(&mut self, seen: &mut Seen, store: &Store, scope: &Scope, limit: u64) -> bool {
        let page = store.feed_read_after(scope, self.position, limit).await.unwrap();
        assert!(!page.gap, "nothing is forgotten");
        let count = i64::try_from(page.changes.len()).unwrap();
        assert_eq!(page.position, self.position + count, "positions have no gap");
        for (position, change) in (self.position..).zip(page.changes) {
            seen.take(usize::try_from(position).unwrap(), change);
        }
        // What was applied is kept every other time only, so that going back repeats something.
        if page.position % 2 == 0 {
            self.kept = page.position;
        }
        self.position = page.position;
        page.full
    }

    /// Goes on from the last cursor that was kept, as a client does that lost its connection, until it has seen everything.
    pub(super) async fn reconnect(&mut self, seen: &mut Seen, t: &TestStore, store: &Store, scope: &Scope) {
        let tokens = t.home.keys().tokens();
        let practice = scope.practice().as_str();
        let stop = CancellationToken::new();
        let watch = Watch::new(store.clone(), tokens.clone(), t.clock.clone(), Settings::default(), stop.clone());
        let start = Start::Cursor(tokens.mint(Purpose::DeliveryCursor, practice, &self.kept.to_be_bytes()));
        let heartbeat = Duration::from_secs(60);
        let subject = Subject::Deliveries(DeliveryFilter::default());
        let request = Request { subject, start, heartbeat, deadline: None, cut: None };
        let mut steps = watch.start(scope.clone(), false, request).await.unwrap();
        let head = store.feed_head(scope).await.unwrap();
        let first = next(&mut steps).await;
        assert_eq!(first.changes().count(), 0, "the first step is a checkpoint");
        assert_eq!(reached(&first, &tokens, practice), self.kept, "and says nothing of what was not sent");
        self.position = self.kept;
        while self.position < head {
            let step = next(&mut steps).await;
            let reached = reached(&step, &tokens, practice);
            let count = i64::try_from(step.changes().count()).unwrap();
            assert_eq!(reached, self.position + count, "everything up to a cursor has been sent");
            for (position, change) in (self.position..).zip(step.changes().cloned()) {
                seen.take(usize::try_from(position).unwrap(), change);
            }
            self.position = reached;
        }
        assert_eq!(self.position, head);
        self.kept = head;
        stop.cancel();
        let last = next(&mut steps).await;
        assert_eq!(
            (reached(&last, &tokens, practice), last.changes().count()),
            (head, 0),
            "a planned end is a checkpoint"
        );
        assert!(steps.next().await.is_none());
    }

    pub(super) fn position(&self) -> i64 {
        self.position
    }
}

async fn next(steps: &mut (impl StreamExt<Item = Result<Step, heedwell::service::Error>> + Unpin)) -> Step {
    let step = tokio::time::timeout(Duration::from_secs(20), steps.next()).await;
    step.unwrap().unwrap().unwrap()
}

/// The position that a step's cursor stands for.
fn reached(step: &Step, tokens: &TokenKey, practice: &str) -> i64 {
    let bytes = tokens.open(Purpose::DeliveryCursor, practice, &step.cursor).unwrap();
    i64::from_be_bytes(bytes.try_into().unwrap())
}

impl Seen {
    fn take(&mut self, place: usize, change: DeliveryChange) {
        if let Some(known) = self.changes.get(place) {
            assert_eq!(&change, known, "what lies at a position never changes");
            return;
        }
        assert_eq!(place, self.changes.len());
        let now = &change.delivery;
        let before = self.last.insert(now.id, now.clone());
        assert_eq!(change.previous_state, before.as_ref().map(|before| before.state));
        assert_eq!(now.revision, before.as_ref().map_or(1, |before| before.revision + 1), "revisions have no gap");
        if let Some(before) = before {
            assert!(rank(now) >= rank(&before), "{:?} after {:?}: {now:?}", now.state, before.state);
        }
        self.changes.push(change);
    }

    /// Everything that the feed told, as it was told last.
    pub(super) fn last(&self) -> &BTreeMap<DeliveryId, Delivery> {
        &self.last
    }
}

/// The order in which states may follow each other. A mail may come back after it was delivered.
pub(super) fn rank(delivery: &Delivery) -> u8 {
    match delivery.state {
        DeliveryState::Pending => 0,
        DeliveryState::Cancelled | DeliveryState::Skipped => 1,
        DeliveryState::Unconfirmed => 2,
        DeliveryState::Sent => 3,
        DeliveryState::Failed if delivery.channel == Channel::Email => 6,
        DeliveryState::Failed => 4,
        DeliveryState::Delivered => 5,
    }
}
