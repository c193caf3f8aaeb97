//! Whose turn it is: urgent deliveries before the rest, broadcasts last, and within a class one practice after the other. It
//! counts the slots that are taken and knows nothing of rows, clocks or providers.
//!
//! Guarantee: a slot is left idle only when nobody who has something due may use it, and no practice has a second round before
//! each other one of its class that has something due has had its own (deficit round robin).

use std::collections::{HashMap, VecDeque};

use crate::{
    domain::{Class, PracticeId},
    store::{CLASSES, place},
};

/// Deliveries of one practice in a turn, so that the next practice has its turn soon.
const QUANTUM: usize = 32;
/// The same of a broadcast where there is one writer and somebody else wants it: each turn is a transaction, which others wait for.
const BRIEF: usize = 16;
/// Of a hundred slots, so many are for urgent deliveries alone.
const URGENT_PERCENT: usize = 30;
/// Slots that broadcasts can always have.
const BULK_KEPT: usize = 2;
/// Of a hundred slots, so many one practice may have while another has something due.
const PRACTICE_PERCENT: usize = 10;
/// But never fewer than this.
const PRACTICE_LEAST: usize = 2;

/// A turn: up to `limit` deliveries of a practice and class. Their slots are taken until [`Queue::done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) class: Class,
    pub(super) practice: PracticeId,
    pub(super) limit: usize,
}

/// Who waits for a turn, and who has which slots.
#[derive(Debug)]
pub(super) struct Queue {
    slots: usize,
    /// Slots taken, by class.
    taken: [usize; CLASSES],
    /// Slots taken, by practice; nobody stands here with none.
    holders: HashMap<PracticeId, usize>,
    rings: [Ring; CLASSES],
    /// In how many rings a practice is; nobody stands here with none.
    busy: HashMap<PracticeId, usize>,
    /// A class before them had the last turn, so that broadcasts have the next one on the slots kept for them.
    bulk_next: bool,
}

/// The practices with something due in one class.
#[derive(Debug, Default)]
struct Ring {
    waiting: VecDeque<PracticeId>,
    flows: HashMap<PracticeId, Flow>,
}

#[derive(Debug, Default)]
struct Flow {
    /// What is left of its round: a turn may be cut short for want of slots, and is then taken up before others have theirs.
    deficit: usize,
    /// It has its turn now, and is not waiting.
    out: bool,
    /// More may have become due since its turn began.
    again: bool,
}

impl Queue {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            taken: [0; CLASSES],
            holders: HashMap::new(),
            rings: Default::default(),
            busy: HashMap::new(),
            bulk_next: false,
        }
    }

    /// The practice may have something due in that class.
    pub(super) fn add(&mut self, class: Class, practice: PracticeId) {
        let ring = &mut self.rings[place(class)];
        if let Some(flow) = ring.flows.get_mut(&practice) {
            flow.again |= flow.out;
            return;
        }
        *self.busy.entry(practice.clone()).or_default() += 1;
        ring.flows.insert(practice.clone(), Flow::default());
        ring.waiting.push_back(practice);
    }

    /// The next turn; unset while there is nobody or no slot for anybody. `brief`: broadcasts have short turns now.
    pub(super) fn next(&mut self, brief: bool) -> Option<Grant> {
        let cap = (self.slots * PRACTICE_PERCENT / 100).max(PRACTICE_LEAST);
        let cap = if self.busy.len() > 1 { cap } else { usize::MAX };
        // Slots that nobody below the limit has a use for are better used by those above it than by none.
        let bulk = if brief { BRIEF } else { usize::MAX };
        self.turn(cap, bulk).or_else(|| self.turn(usize::MAX, bulk))
    }

    fn turn(&mut self, cap: usize, bulk: usize) -> Option<Grant> {
        let kept = if self.bulk_next { BULK_KEPT.saturating_sub(self.taken[place(Class::Bulk)]) } else { 0 };
        let turns =
            [(Class::Urgent, usize::MAX), (Class::Bulk, kept), (Class::Normal, usize::MAX), (Class::Bulk, bulk)];
        let grant = turns.into_iter().find_map(|(class, most)| {
            let free = self.free(class).min(most);
            if free > 0 { self.grant(class, free, cap) } else { None }
        })?;
        self.bulk_next = grant.class != Class::Bulk;
        Some(grant)
    }

    /// How many slots a class could take now.
    fn free(&self, class: Class) -> usize {
        let [urgent, normal, bulk] = self.taken;
        let free = self.slots.saturating_sub(urgent + normal + bulk);
        let common = self.slots - self.slots * URGENT_PERCENT / 100;
        match class {
            Class::Urgent => free,
            Class::Normal => free.min(common.saturating_sub(normal + bulk.max(BULK_KEPT))),
            Class::Bulk => free.min(common.saturating_sub(normal + bulk)),
        }
    }

    /// Gives the turn to the first in the ring that has not all the slots it may have.
    fn grant(&mut self, class: Class, free: usize, cap: usize) -> Option<Grant> {
        let alone = self.busy.len() <= 1;
        let ring = &mut self.rings[place(class)];
        let room = |practice: &PracticeId| cap.saturating_sub(self.holders.get(practice).copied().unwrap_or_default());
        let first = ring.waiting.iter().position(|practice| room(practice) > 0)?;
        let practice = ring.waiting.remove(first)?;
        let flow = ring.flows.entry(practice.clone()).or_default();
        flow.out = true;
        if flow.deficit == 0 {
            flow.deficit = QUANTUM;
        }
        let most = if alone { usize::MAX } else { flow.deficit };
        let limit = most.min(free).min(room(&practice));
        self.taken[place(class)] += limit;
        *self.holders.entry(practice.clone()).or_default() += limit;
        Some(Grant { class, practice, limit })
    }

    /// Ends a turn in which `seen` deliveries were looked at and `claimed` slots are needed. As many seen as there might have
    /// been means that there may be more.
    pub(super) fn done(&mut self, grant: Grant, seen: usize, claimed: usize) {
        let Grant { class, practice, limit } = grant;
        self.give_back(class, &practice, limit.saturating_sub(claimed));
        let ring = &mut self.rings[place(class)];
        let Some(flow) = ring.flows.get_mut(&practice) else { return };
        if seen < limit && !flow.again {
            ring.flows.remove(&practice);
            less(&mut self.busy, &practice, 1);
            return;
        }
        *flow = Flow { deficit: flow.deficit.saturating_sub(seen), ..Flow::default() };
        if flow.deficit > 0 { ring.waiting.push_front(practice) } else { ring.waiting.push_back(practice) }
    }

    /// A slot is free again.
    pub(super) fn freed(&mut self, class: Class, practice: &PracticeId) {
        self.give_back(class, practice, 1);
    }

    fn give_back(&mut self, class: Class, practice: &PracticeId, slots: usize) {
        self.taken[place(class)] -= slots;
        less(&mut self.holders, practice, slots);
    }
}

/// Counts down, and forgets who is at nothing.
fn less(counts: &mut HashMap<PracticeId, usize>, practice: &PracticeId, by: usize) {
    if let Some(count) = counts.get_mut(practice) {
        *count -= by;
        if *count == 0 {
            counts.remove(practice);
        }
    }
}

#[cfg(test)]
mod tests;
