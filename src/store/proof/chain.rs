//! Whether a ledger is as it was written. Each entry's MAC covers the entry and the MAC before, so that one is checked by itself
//! as long as the MAC before it is still to be found.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Flaw, PAGE, audit, audit_head, consent_head, consent_ledger};
use crate::{
    crypto::{ChainKey, GENESIS},
    store::{
        StoreError,
        anchors::Positions,
        audit::chained as chained_event,
        chain::{mac_of, seal},
        ledger::chained as chained_entry,
        vault::Chains,
    },
};

/// Where an entry came from is looked for among this many that do not fit.
const MOST_MOVED: usize = 64;
/// Most missing entries that are named one by one.
const MOST_MISSING: usize = 10_000;
/// Most of those that are not what was written.
const MOST_ODD: usize = 10_000;

type Mac = [u8; 32];

/// An entry of such a ledger.
pub(super) trait Entry: Clone + Sized {
    fn chain(chains: &Chains) -> &ChainKey;
    fn seq(&self) -> i64;
    fn mac(&self) -> &[u8];
    /// What its MAC covers, were it at that position.
    fn at(&self, seq: i64) -> Vec<u8>;
    async fn page_on(db: &impl ConnectionTrait, practice: &str, after: i64) -> Result<Vec<Self>, StoreError>;
    async fn one_on(db: &impl ConnectionTrait, practice: &str, seq: i64) -> Result<Option<Self>, StoreError>;
    async fn head_on(db: &impl ConnectionTrait, practice: &str) -> Result<Option<Head>, StoreError>;
}

/// The head of such a ledger.
pub(super) struct Head {
    seq: i64,
    mac: Vec<u8>,
    seal: Option<Vec<u8>>,
}

/// Makes the rows of a ledger entries.
macro_rules! entry {
    ($ledger:ident, $head:ident, $chain:ident, $chained:ident) => {
        impl Entry for $ledger::Model {
            fn chain(chains: &Chains) -> &ChainKey {
                &chains.$chain
            }

            fn seq(&self) -> i64 {
                self.seq
            }

            fn mac(&self) -> &[u8] {
                &self.mac
            }

            fn at(&self, seq: i64) -> Vec<u8> {
                if seq == self.seq { $chained(self) } else { $chained(&Self { seq, ..self.clone() }) }
            }

            async fn page_on(db: &impl ConnectionTrait, practice: &str, after: i64) -> Result<Vec<Self>, StoreError> {
                let rows = $ledger::Entity::find()
                    .filter($ledger::Column::PracticeId.eq(practice))
                    .filter($ledger::Column::Seq.gt(after))
                    .order_by_asc($ledger::Column::Seq)
                    .limit(PAGE);
                Ok(rows.all(db).await?)
            }

            async fn one_on(db: &impl ConnectionTrait, practice: &str, seq: i64) -> Result<Option<Self>, StoreError> {
                Ok($ledger::Entity::find_by_id((practice.to_owned(), seq)).one(db).await?)
            }

            async fn head_on(db: &impl ConnectionTrait, practice: &str) -> Result<Option<Head>, StoreError> {
                let head = $head::Entity::find_by_id(practice).one(db).await?;
                Ok(head.map(|$head::Model { seq, mac, seal, .. }| Head { seq, mac, seal }))
            }
        }
    };
}

entry!(consent_ledger, consent_head, consent, chained_entry);
entry!(audit, audit_head, audit, chained_event);

/// What came of the first look.
struct Walk<'a, E> {
    chain: &'a ChainKey,
    /// How many entries there are, and the position of the last.
    entries: u64,
    last: i64,
    /// The MAC that it has, and the one that it should have.
    macs: Vec<Mac>,
    missing: BTreeSet<i64>,
    /// Entries that do not fit the one before, or have none; and how many more of them there are.
    odd: BTreeMap<i64, E>,
    more: u64,
    unlinked: BTreeSet<i64>,
}

/// Checks a chain of a practice against itself and against what was anchored of it, and shows `see` each of its entries, also those
/// that do not hold. Yields how many there are, and what is wrong.
pub(super) async fn prove_on<E: Entry>(
    db: &impl ConnectionTrait,
    chains: &Chains,
    mut anchored: Positions,
    mut see: impl FnMut(&E),
) -> Result<(u64, Vec<Flaw>), StoreError> {
    let head = E::head_on(db, chains.practice.as_str()).await?;
    let mut walk = Walk {
        chain: E::chain(chains),
        entries: 0,
        last: 0,
        macs: vec![GENESIS],
        missing: BTreeSet::new(),
        odd: BTreeMap::new(),
        more: 0,
        unlinked: BTreeSet::new(),
    };
    let (mut rewritten, mut last_mac) = (Vec::new(), Some(GENESIS));
    loop {
        let after = if walk.entries == 0 { i64::MIN } else { walk.last };
        let rows = E::page_on(db, chains.practice.as_str(), after).await?;
        let full = rows.len() as u64 == PAGE;
        for row in rows {
            see(&row);
            let (position, found) = (row.seq(), mac(&row));
            let known = anchored.remove(&position).unwrap_or_default().into_iter();
            let others = known.filter(|(mac, _)| found != Some(*mac));
            rewritten.extend(others.map(|(_, anchored)| Flaw::Rewritten { position, anchored }));
            last_mac = found;
            walk.step(row);
        }
        if !full {
            break;
        }
    }
    let fits = match head {
        Some(head) => {
            walk.miss(head.seq + 1);
            walk.is_head(&head, last_mac)
        }
        None => false,
    };
    let mut flaws = walk.missing.iter().map(|&position| Flaw::Missing { position }).collect();
    walk.judge(&walk.before_on(db, chains).await?, &mut flaws);
    if walk.more > 0 {
        flaws.push(Flaw::More { count: walk.more });
    }
    if !fits {
        flaws.push(Flaw::Head);
    }
    flaws.extend(rewritten);
    flaws.extend(cut(anchored));
    Ok((walk.entries, flaws))
}

/// What was anchored and is not there.
pub(super) fn cut(anchored: Positions) -> impl Iterator<Item = Flaw> {
    let each = |(position, known): (i64, Vec<(Mac, _)>)| {
        known.into_iter().map(move |(_, anchored)| Flaw::Cut { position, anchored })
    };
    anchored.into_iter().flat_map(each)
}

/// The MAC of an entry, if it is one.
fn mac(entry: &impl Entry) -> Option<Mac> {
    entry.mac().try_into().ok()
}

impl<E: Entry> Walk<'_, E> {
    fn step(&mut self, row: E) {
        let seq = row.seq();
        if seq != self.last + 1 {
            self.miss(seq);
            self.unlinked.insert(seq);
            self.macs.clear();
        }
        let mac = mac(&row);
        let expected: Vec<Mac> = self.macs.iter().map(|previous| self.link(previous, &row)).collect();
        self.entries += 1;
        self.last = seq;
        if mac.is_some_and(|mac| expected.contains(&mac)) {
            self.macs = mac.into_iter().collect();
        } else {
            self.macs = mac.into_iter().chain(expected).collect();
            if self.odd.len() < MOST_ODD {
                self.odd.insert(seq, row);
            } else {
                self.more += 1;
            }
        }
    }

    /// Notes that nothing stands between the last entry and `position`.
    fn miss(&mut self, position: i64) {
        let room = MOST_MISSING.saturating_sub(self.missing.len());
        self.missing.extend((self.last + 1..position).take(room));
    }

    /// Whether the head is what the last entry made of it. One that is missing or does not fit is named by itself.
    fn is_head(&self, head: &Head, last: Option<Mac>) -> bool {
        let mac = mac_of("head", &head.mac).ok();
        let sealed = mac.map(|mac| seal(self.chain, head.seq, &mac));
        if head.seal.is_none() || head.seal != sealed {
            return false;
        }
        match head.seq.cmp(&self.last) {
            Ordering::Less => false,
            Ordering::Equal => self.more > 0 || self.odd.contains_key(&head.seq) || mac == last,
            Ordering::Greater => true,
        }
    }

    fn link(&self, previous: &Mac, row: &E) -> Mac {
        self.chain.link(previous, &row.at(row.seq()))
    }

    /// Whether there are few enough that where each came from can be looked for.
    fn is_few(&self) -> bool {
        self.more == 0 && self.odd.len() <= MOST_MOVED
    }

    /// The places that an odd entry may have come from.
    fn places(&self) -> impl Iterator<Item = i64> {
        let holes = self.missing.iter().copied().take(MOST_MOVED);
        self.odd.keys().copied().chain(holes).filter(|_| self.is_few())
    }

    /// The MACs of the entries before those places.
    async fn before_on(&self, db: &impl ConnectionTrait, chains: &Chains) -> Result<BTreeMap<i64, Mac>, StoreError> {
        let mut before = BTreeMap::from([(0, GENESIS)]);
        for place in self.places().collect::<BTreeSet<_>>() {
            let row = E::one_on(db, chains.practice.as_str(), place - 1).await?;
            before.extend(row.as_ref().and_then(mac).map(|mac| (place - 1, mac)));
        }
        Ok(before)
    }

    /// Says of each odd entry whether it was moved, cannot be checked, or is not what was written.
    fn judge(&self, before: &BTreeMap<i64, Mac>, flaws: &mut Vec<Flaw>) {
        let pool: Vec<Mac> = std::iter::once(GENESIS).chain(self.odd.values().filter_map(mac)).collect();
        for (&position, row) in &self.odd {
            let links = |row: &E| pool.iter().any(|previous| self.link(previous, row).as_slice() == row.mac());
            // The one before was moved away, and is among the odd ones.
            if self.is_few() && links(row) {
                continue;
            }
            let mut places = self.places().filter(|place| *place != position);
            let from = places.find(|from| {
                let there = row.at(*from);
                let previous = pool.iter().chain(before.get(&(from - 1)));
                previous.into_iter().any(|previous| self.chain.link(previous, &there).as_slice() == row.mac())
            });
            flaws.push(match from {
                Some(from) => Flaw::Moved { position, from },
                None if self.unlinked.contains(&position) => Flaw::Unlinked { position },
                None => Flaw::Broken { position },
            });
        }
    }
}
