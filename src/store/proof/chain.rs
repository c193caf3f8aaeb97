//! Whether a ledger is as it was written. Each entry's MAC covers the entry and the MAC before, so that one is checked by itself
//! as long as the MAC before it is still to be found.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Finding, PAGE, Proof, consent_head, consent_ledger, to_entry};
use crate::{
    crypto::GENESIS,
    domain::ConsentEntry,
    store::{
        StoreError,
        ledger::{chained, mac_of, seal},
        vault::PracticeKeys,
    },
};

/// Where an entry came from is looked for among this many that do not fit.
const MOST_MOVED: usize = 64;
/// Most missing entries that are named one by one.
const MOST_MISSING: usize = 10_000;

type Mac = [u8; 32];

/// What came of the first look.
struct Walk<'a> {
    keys: &'a PracticeKeys,
    /// The position of the last entry.
    last: i64,
    /// The MAC that it has, and the one that it should have.
    macs: Vec<Mac>,
    /// The MAC of each entry.
    stored: BTreeMap<i64, Mac>,
    missing: BTreeSet<i64>,
    /// Entries that do not fit the one before, or have none.
    odd: BTreeMap<i64, consent_ledger::Model>,
    unlinked: BTreeSet<i64>,
    entries: Vec<ConsentEntry>,
}

/// Checks the chain of a practice. Yields what its entries say, also those that do not hold.
pub(super) async fn prove_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    proof: &mut Proof,
) -> Result<Vec<ConsentEntry>, StoreError> {
    let head = consent_head::Entity::find_by_id(keys.practice()).one(db).await?;
    let mut walk = Walk {
        keys,
        last: 0,
        macs: vec![GENESIS],
        stored: BTreeMap::from([(0, GENESIS)]),
        missing: BTreeSet::new(),
        odd: BTreeMap::new(),
        unlinked: BTreeSet::new(),
        entries: Vec::new(),
    };
    loop {
        let after = walk.stored_up_to();
        let rows = consent_ledger::Entity::find()
            .filter(consent_ledger::Column::PracticeId.eq(keys.practice()))
            .filter(consent_ledger::Column::Seq.gt(after))
            .order_by_asc(consent_ledger::Column::Seq)
            .limit(PAGE)
            .all(db)
            .await?;
        let full = rows.len() as u64 == PAGE;
        proof.entries += rows.len() as u64;
        rows.into_iter().for_each(|row| walk.step(row));
        if !full {
            break;
        }
    }
    let fits = match head {
        Some(head) => {
            walk.miss(head.seq + 1);
            walk.is_head(&head)
        }
        None => false,
    };
    proof.findings.extend(walk.missing.iter().map(|&position| Finding::Missing { position }));
    walk.judge(&mut proof.findings);
    if !fits {
        proof.findings.push(Finding::Head);
    }
    Ok(walk.entries)
}

impl Walk<'_> {
    fn step(&mut self, row: consent_ledger::Model) {
        let is_next = row.seq == self.last + 1;
        if !is_next {
            self.miss(row.seq);
            self.unlinked.insert(row.seq);
            self.macs.clear();
        }
        let mac = mac_of(&row.mac).ok().filter(|_| !row.mac.is_empty());
        let expected: Vec<Mac> = self.macs.iter().map(|previous| self.link(previous, &row)).collect();
        // What decides is read as far as it can be.
        self.entries.extend(to_entry(&row).ok());
        self.stored.extend(mac.map(|mac| (row.seq, mac)));
        self.last = row.seq;
        if mac.is_some_and(|mac| expected.contains(&mac)) {
            self.macs = mac.into_iter().collect();
        } else {
            self.macs = mac.into_iter().chain(expected).collect();
            self.odd.insert(row.seq, row);
        }
    }

    /// Notes that nothing stands between the last entry and `position`.
    fn miss(&mut self, position: i64) {
        let room = MOST_MISSING.saturating_sub(self.missing.len());
        self.missing.extend((self.last + 1..position).take(room));
    }

    fn stored_up_to(&self) -> i64 {
        if self.entries.is_empty() && self.odd.is_empty() { i64::MIN } else { self.last }
    }

    /// Whether the head is what the last entry made of it. One that is missing or does not fit is named by itself.
    fn is_head(&self, head: &consent_head::Model) -> bool {
        let mac = mac_of(&head.mac).ok();
        let sealed = mac.map(|mac| seal(self.keys.consent_chain(), head.seq, &mac));
        if head.seal.is_none() || head.seal != sealed {
            return false;
        }
        match head.seq.cmp(&self.last) {
            Ordering::Less => false,
            Ordering::Equal => self.odd.contains_key(&head.seq) || mac == self.stored.get(&head.seq).copied(),
            Ordering::Greater => true,
        }
    }

    fn link(&self, previous: &Mac, row: &consent_ledger::Model) -> Mac {
        self.keys.consent_chain().link(previous, &chained(row))
    }

    /// Says of each odd entry whether it was moved, cannot be checked, or is not what was written.
    fn judge(&self, findings: &mut Vec<Finding>) {
        let few = self.odd.len() <= MOST_MOVED;
        let pool: Vec<Mac> =
            std::iter::once(GENESIS).chain(self.odd.values().filter_map(|row| mac_of(&row.mac).ok())).collect();
        let holes: Vec<i64> = self.missing.iter().copied().take(MOST_MOVED).collect();
        for (&position, row) in &self.odd {
            let links = |row: &consent_ledger::Model| {
                pool.iter().any(|previous| self.link(previous, row).as_slice() == row.mac.as_slice())
            };
            // The one before was moved away, and is among the odd ones.
            if few && links(row) {
                continue;
            }
            let mut places = self.odd.keys().chain(&holes).copied().filter(|place| few && *place != position);
            let from = places.find(|&from| self.follows(from, row, &pool));
            findings.push(match from {
                Some(from) => Finding::Moved { position, from },
                None if self.unlinked.contains(&position) => Finding::Unlinked { position },
                None => Finding::Broken { position },
            });
        }
    }

    /// Whether `row` was written as entry `from`.
    fn follows(&self, from: i64, row: &consent_ledger::Model, pool: &[Mac]) -> bool {
        let there = consent_ledger::Model { seq: from, ..row.clone() };
        let before = self.stored.get(&(from - 1));
        pool.iter().chain(before).any(|previous| self.link(previous, &there).as_slice() == row.mac.as_slice())
    }
}
