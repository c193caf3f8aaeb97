use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SLOTS: usize = 64;

fn id(name: &str) -> PracticeId {
    name.parse().unwrap_or_else(|_| panic!("{name} is an id"))
}

/// Takes the next turn, in which there is more than may be looked at, and keeps the slots.
fn busy(queue: &mut Queue) -> Option<(Class, String, usize)> {
    let grant = queue.next(false)?;
    let told = (grant.class, grant.practice.as_str().to_owned(), grant.limit);
    let limit = grant.limit;
    queue.done(grant, limit, limit);
    Some(told)
}

#[test]
fn a_practice_alone_has_all_slots_but_those_kept_for_others() {
    for (class, expected) in [(Class::Urgent, 64), (Class::Normal, 43), (Class::Bulk, 45)] {
        let mut queue = Queue::new(SLOTS);
        queue.add(class, id("hog"));
        assert_eq!(busy(&mut queue), Some((class, "hog".into(), expected)));
        assert_eq!(busy(&mut queue), None);
    }
}

#[test]
fn urgent_work_finds_slots_whatever_else_is_under_way() {
    let mut queue = Queue::new(SLOTS);
    queue.add(Class::Bulk, id("hog"));
    queue.add(Class::Normal, id("hog"));
    while busy(&mut queue).is_some() {}
    assert_eq!(queue.taken, [0, 43, 2]);
    queue.add(Class::Urgent, id("quiet"));
    assert_eq!(busy(&mut queue), Some((Class::Urgent, "quiet".into(), 6)));
}

#[test]
fn lower_classes_go_first_and_broadcasts_keep_their_two_slots() {
    let mut queue = Queue::new(SLOTS);
    for (class, practice) in [(Class::Bulk, "a"), (Class::Normal, "b"), (Class::Urgent, "c")] {
        queue.add(class, id(practice));
    }
    let mut next = || {
        // Its calls end at once, so that there is always a slot.
        let grant = queue.next(false).unwrap_or_else(|| panic!("somebody waits"));
        let (class, limit) = (grant.class, grant.limit);
        queue.done(grant, limit, 0);
        (class, limit)
    };
    assert!((0..9).all(|_| next().0 == Class::Urgent), "urgent ones leave nothing to the others while there are any");
    queue.rings[place(Class::Urgent)] = Ring::default();
    less(&mut queue.busy, &id("c"), 1);
    let mut next = || {
        let grant = queue.next(false).unwrap_or_else(|| panic!("somebody waits"));
        let (class, limit) = (grant.class, grant.limit);
        queue.done(grant, limit, 0);
        (class, limit)
    };
    let turns: Vec<_> = (0..4).map(|_| next()).collect();
    let (normal, bulk) = ((Class::Normal, 6), (Class::Bulk, 2));
    assert_eq!(turns, [bulk, normal, bulk, normal]);
}

#[test]
fn a_practice_has_a_tenth_of_the_slots_while_another_can_use_the_rest() {
    let mut queue = Queue::new(SLOTS);
    for practice in ["hog", "quiet"] {
        queue.add(Class::Normal, id(practice));
    }
    assert_eq!(busy(&mut queue), Some((Class::Normal, "hog".into(), 6)));
    assert_eq!(busy(&mut queue), Some((Class::Normal, "quiet".into(), 6)));
    // Both have what they may have at least: idle slots would serve nobody.
    for (practice, slots) in [("quiet", 26), ("hog", 5)] {
        assert_eq!(busy(&mut queue), Some((Class::Normal, practice.into(), slots)));
    }
    (0..27).for_each(|_| queue.freed(Class::Normal, &id("quiet")));
    assert_eq!(busy(&mut queue), Some((Class::Normal, "quiet".into(), 1)), "below its share it goes before the hog");
}

#[test]
fn broadcasts_have_short_turns_while_somebody_else_wants_the_writer() {
    for (brief, limits) in [(true, [BRIEF, SLOTS]), (false, [SLOTS - SLOTS * URGENT_PERCENT / 100, SLOTS])] {
        let turn = |class: Class| {
            let mut queue = Queue::new(SLOTS);
            queue.add(class, id("a"));
            queue.next(brief).unwrap_or_else(|| panic!("it waits")).limit
        };
        assert_eq!([Class::Bulk, Class::Urgent].map(turn), limits);
    }
}

#[test]
fn what_comes_while_a_practice_has_its_turn_is_not_overlooked() {
    let mut queue = Queue::new(SLOTS);
    queue.add(Class::Normal, id("a"));
    let grant = queue.next(false).unwrap_or_else(|| panic!("it waits"));
    assert_eq!(queue.next(false), None, "never two turns of one practice and class at once");
    queue.add(Class::Normal, id("a"));
    queue.done(grant, 1, 1);
    let grant = queue.next(false).unwrap_or_else(|| panic!("it waits again"));
    queue.done(grant, 0, 0);
    assert_eq!(queue.next(false), None);
    assert!(queue.busy.is_empty());
}

#[derive(Clone, Debug)]
enum Event {
    Work { practice: u8, class: usize, count: usize },
    Turn,
    End { which: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..6_u8, 0..CLASSES, 1..60_usize).prop_map(|(practice, class, count)| Event::Work { practice, class, count }),
        4 => Just(Event::Turn),
        4 => (0..SLOTS).prop_map(|which| Event::End { which }),
    ]
}

/// What waits and what is under way, counted without the queue.
#[derive(Default)]
struct World {
    due: BTreeMap<(usize, PracticeId), usize>,
    calls: Vec<(Class, PracticeId)>,
}

impl World {
    fn held(&self, practice: &PracticeId) -> usize {
        self.calls.iter().filter(|(_, holder)| holder == practice).count()
    }

    fn taken(&self, class: Class) -> usize {
        self.calls.iter().filter(|(taken, _)| *taken == class).count()
    }

    /// Whether a practice other than `practice` has something due in a class that has a free slot, and little under way.
    fn neglected(&self, queue: &Queue, practice: &PracticeId) -> bool {
        self.due.iter().any(|((class, other), count)| {
            *count > 0 && other != practice && self.held(other) < 6 && queue.free(Class::ALL[*class]) > 0
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn shares_are_kept_slots_are_used_and_nothing_is_lost(events in proptest::collection::vec(event(), 1..200)) {
        let (mut queue, mut world) = (Queue::new(SLOTS), World::default());
        let turn = |queue: &mut Queue, world: &mut World| -> Result<bool, TestCaseError> {
            let neglected_before: Vec<_> = (0..6).map(|n| id(&format!("p{n}"))).map(|p| (world.neglected(queue, &p), world.held(&p))).collect();
            let Some(grant) = queue.next(false) else {
                for ((class, practice), count) in &world.due {
                    prop_assert!(*count == 0 || queue.free(Class::ALL[*class]) == 0, "{practice} waits beside idle slots");
                }
                return Ok(false);
            };
            let (neglected, held) = neglected_before[usize::from(grant.practice.as_str().as_bytes()[1] - b'0')];
            if neglected {
                prop_assert!(held + grant.limit <= 6, "{grant:?} with {held} under way, while others wait");
            }
            let due = world.due.entry((place(grant.class), grant.practice.clone())).or_default();
            let seen = grant.limit.min(*due);
            *due -= seen;
            world.calls.extend(std::iter::repeat_n((grant.class, grant.practice.clone()), seen));
            queue.done(grant, seen, seen);
            Ok(true)
        };
        for event in events {
            match event {
                Event::Work { practice, class, count } => {
                    let practice = id(&format!("p{practice}"));
                    *world.due.entry((class, practice.clone())).or_default() += count;
                    queue.add(Class::ALL[class], practice);
                }
                Event::Turn => drop(turn(&mut queue, &mut world)?),
                Event::End { which } if !world.calls.is_empty() => {
                    let (class, practice) = world.calls.swap_remove(which % world.calls.len());
                    queue.freed(class, &practice);
                }
                Event::End { .. } => {}
            }
            let (normal, bulk) = (world.taken(Class::Normal), world.taken(Class::Bulk));
            prop_assert_eq!(queue.taken, [world.taken(Class::Urgent), normal, bulk]);
            prop_assert!(world.calls.len() <= SLOTS && normal + bulk <= 45 && normal <= 43);
        }
        // Everything is done in the end, and nothing is left behind.
        loop {
            while turn(&mut queue, &mut world)? {}
            match world.calls.pop() {
                Some((class, practice)) => queue.freed(class, &practice),
                None => break,
            }
        }
        prop_assert!(world.due.values().all(|count| *count == 0));
        prop_assert!(queue.busy.is_empty() && queue.holders.is_empty() && queue.taken == [0; CLASSES]);
    }

    /// However unequal the turns were cut by the slots that happened to be free, what each has had evens out.
    #[test]
    fn practices_with_enough_to_do_get_the_same(frees in proptest::collection::vec(1..12_usize, 200..400)) {
        let mut queue = Queue::new(SLOTS);
        let names = ["a", "b", "c"];
        for name in names {
            queue.add(Class::Normal, id(name));
        }
        let mut had = BTreeMap::<PracticeId, usize>::new();
        let mut calls = VecDeque::new();
        for free in frees {
            while let Some(grant) = queue.next(false) {
                *had.entry(grant.practice.clone()).or_default() += grant.limit;
                calls.extend(std::iter::repeat_n(grant.practice.clone(), grant.limit));
                let limit = grant.limit;
                queue.done(grant, limit, limit);
            }
            for practice in calls.drain(..free.min(calls.len())) {
                queue.freed(Class::Normal, &practice);
            }
        }
        let least = had.values().min().copied().unwrap_or_default();
        let most = had.values().max().copied().unwrap_or_default();
        // Not to the last one: whoever has few slots goes before whoever is amid a round.
        prop_assert!(had.len() == 3 && 5 * least >= 4 * most, "{had:?}");
    }
}
