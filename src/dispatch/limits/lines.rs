//! Where those wait who may go and cannot yet. They are given times as far apart as they could have gone, so that each is
//! looked at again about when there is room for it, and not all of them each time there is room for one.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::Class,
    store::{CLASSES, place},
};

/// Who comes before whom: a lower class, and within a class whoever has waited already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) class: Class,
    pub(super) parked: bool,
}

impl Rank {
    const fn index(self) -> usize {
        2 * place(self.class) + if self.parked { 0 } else { 1 }
    }
}

/// The end of the line of each rank.
#[derive(Debug)]
pub(super) struct Lines([DateTime<Utc>; 2 * CLASSES]);

impl Lines {
    pub(super) const fn new(now: DateTime<Utc>) -> Self {
        Self([now; 2 * CLASSES])
    }

    /// Until when those wait who come first: the lower classes, and for somebody new everybody of their own.
    pub(super) fn ahead(&self, rank: Rank) -> DateTime<Utc> {
        let first = if rank.parked { 2 * place(rank.class) } else { rank.index() + 1 };
        self.0.iter().take(first).copied().max().unwrap_or_default()
    }

    /// Joins the line of a rank, not before `earliest`; the next to join comes `apart` after.
    pub(super) fn join(&mut self, rank: Rank, earliest: DateTime<Utc>, apart: TimeDelta) -> DateTime<Utc> {
        let end = &mut self.0[rank.index()];
        let at = earliest.max(*end);
        *end = at + apart;
        at
    }
}
