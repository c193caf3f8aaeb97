//! Whose turn it is: practices take turns, and one that is waiting already is not queued twice.

use std::collections::{HashSet, VecDeque};

use crate::domain::PracticeId;

/// The practices that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<PracticeId>,
    waiting: HashSet<PracticeId>,
}

impl Turns {
    /// Puts `practice` at the end, unless it waits already.
    pub(super) fn add(&mut self, practice: PracticeId) {
        if self.waiting.insert(practice.clone()) {
            self.queue.push_back(practice);
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<PracticeId> {
        let practice = self.queue.pop_front()?;
        self.waiting.remove(&practice);
        Some(practice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn practices_take_turns_and_none_waits_twice() {
        let mut turns = Turns::default();
        let id = |id: &str| id.parse::<PracticeId>().unwrap_or_else(|_| panic!("{id} is an id"));
        for practice in ["a", "b", "a", "a"] {
            turns.add(id(practice));
        }
        assert_eq!(turns.next(), Some(id("a")));
        turns.add(id("a"));
        assert_eq!([turns.next(), turns.next(), turns.next()], [Some(id("b")), Some(id("a")), None]);
    }
}
