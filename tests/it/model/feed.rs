//! Those who watch: each keeps a position, takes pages from it, and goes back to the last one that it kept. What lies at a
//! position never changes, and nothing is missing between two of them.

use std::collections::BTreeMap;

use heedwell::{
    domain::{Channel, Delivery, DeliveryChange, DeliveryId, DeliveryState, Scope},
    store::Store,
};

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

    pub(super) fn reconnect(&mut self) {
        self.position = self.kept;
    }

    pub(super) fn position(&self) -> i64 {
        self.position
    }
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
