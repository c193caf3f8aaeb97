#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::domain::ActorType;

fn refusal(practice: &str, actor: &str) -> AuditNote {
    let actor = Author { kind: ActorType::Staff, id: actor.into(), display_name: String::new() };
    let event = AuditEvent { actor, code: 7, ..AuditEvent::of_system("x.Y/Z", None, String::new()) };
    AuditNote { practice: practice.parse().unwrap(), event }
}

/// What would be written of a practice: who, and how often that stands for.
fn written(kept: &mut Kept, practice: &str) -> Vec<(String, u64)> {
    let mut written = Vec::new();
    while let Some((of, events)) = kept.group() {
        assert!(events.len() <= GROUP);
        let times =
            |event: &AuditEvent| event.resource.strip_prefix("calls/").map_or(1, |count| count.parse().unwrap());
        let events = events.iter().map(|event| (event.actor.id.clone(), times(event)));
        written.extend(events.filter(|_| of.as_str() == practice));
    }
    written
}

#[test]
fn a_few_are_told_one_by_one_and_the_rest_as_a_number_once_the_minute_is_over() {
    let (mut kept, start) = (Kept::default(), Instant::now());
    for n in 0..1_000 {
        kept.take(refusal("a", "mallory"), start + Duration::from_millis(n));
    }
    kept.take(refusal("a", "robin"), start);
    let singly = vec![("mallory".to_owned(), 1); 10];
    assert_eq!(written(&mut kept, "a"), [singly.clone(), vec![("robin".to_owned(), 1)]].concat());
    kept.end(start + PERIOD - Duration::from_millis(1), false);
    assert_eq!(written(&mut kept, "a"), []);
    kept.end(start + PERIOD, false);
    assert_eq!(written(&mut kept, "a"), [("mallory".to_owned(), 990)]);
    // Then it begins anew, and what was told is told once.
    kept.end(start + 2 * PERIOD, true);
    assert_eq!(written(&mut kept, "a"), []);
    kept.take(refusal("a", "mallory"), start + PERIOD);
    assert_eq!(written(&mut kept, "a"), [("mallory".to_owned(), 1)]);
}

#[test]
fn a_flood_takes_no_more_room_than_there_is_and_still_every_refusal_is_counted() {
    let (mut kept, now) = (Kept::default(), Instant::now());
    // So many actors that they are not told apart any more.
    let actors = 2 * MOST_TALLIES;
    for n in 0..actors {
        kept.take(refusal("a", &format!("actor {n}")), now);
    }
    assert_eq!((kept.waiting.len(), kept.tallies.len()), (MOST_WAITING, MOST_TALLIES + 1));
    kept.end(now, true);
    let told: u64 = written(&mut kept, "a").iter().map(|(_, times)| times).sum();
    assert_eq!((told, kept.lost), (actors as u64, 0));
    // And of as many practices.
    for n in 0..3 * MOST_TALLIES {
        kept.take(refusal(&format!("p{n}"), "mallory"), now);
    }
    assert_eq!((kept.tallies.len(), kept.lost), (2 * MOST_TALLIES, MOST_TALLIES as u64));
}

#[test]
fn what_could_not_be_written_keeps_its_place() {
    let mut kept = Kept::default();
    for (practice, actor) in [("a", "1"), ("b", "2"), ("a", "3")] {
        kept.take(refusal(practice, actor), Instant::now());
    }
    let (practice, events) = kept.group().unwrap();
    assert_eq!((practice.as_str(), events.len()), ("a", 2));
    kept.give_back(practice, events);
    assert_eq!(written(&mut kept, "a"), [("1".to_owned(), 1), ("3".to_owned(), 1)]);
}
