#![expect(clippy::unwrap_used, reason = "tests")]

use futures::FutureExt;

use super::*;

fn id(name: &str) -> PracticeId {
    name.parse().unwrap()
}

#[tokio::test]
async fn changes_are_gathered_until_they_are_asked_for() {
    let wake = Wake::default();
    let mut listener = wake.listen();
    for name in ["a", "b", "a"] {
        wake.practice(&id(name));
    }
    assert_eq!(listener.changed().await, Changed::Practices([id("a"), id("b")].into()));
    assert!(listener.changed().now_or_never().is_none());
    wake.practice(&id("a"));
    wake.elsewhere();
    wake.practice(&id("b"));
    assert_eq!(listener.changed().await, Changed::Any);
    assert!(listener.changed().now_or_never().is_none());
}

#[tokio::test]
async fn whoever_missed_hints_is_told_that_any_may_have_changed() {
    let wake = Wake::default();
    let (mut shows, mut works) = (wake.listen(), wake.listen());
    for _ in 0..2 * BACKLOG {
        wake.practice(&id("a"));
    }
    assert_eq!(shows.changed().await, Changed::Any);
    assert_eq!(works.any().await, None);
    assert_eq!(works.any().await, Some(id("a")));
}

#[tokio::test]
async fn only_what_happens_here_is_told_to_others() {
    let wake = Wake::default();
    let mut listener = wake.listen();
    wake.elsewhere();
    assert!(listener.here().now_or_never().is_none(), "two servers would keep each other awake");
    wake.practice(&id("a"));
    wake.elsewhere();
    wake.practice(&id("b"));
    listener.here().await;
    assert!(listener.here().now_or_never().is_none(), "one word for all");
}

#[tokio::test(start_paused = true)]
async fn commits_elsewhere_do_not_wake_workers_in_a_storm() {
    let wake = Wake::default();
    let mut listener = wake.listen();
    let (begin, mut woken) = (Instant::now(), 0);
    let storm = async {
        for _ in 0..1_000 {
            wake.elsewhere();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
    };
    let working = async {
        loop {
            assert_eq!(listener.any().await, None);
            woken += 1;
        }
    };
    tokio::select! {
        biased;
        () = working => {}
        () = storm => {}
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!((9..=11).contains(&woken), "{woken} in a second");
    // The last of them is not lost.
    wake.elsewhere();
    assert_eq!(listener.any().await, None);
    // Commits here are never held back.
    wake.elsewhere();
    wake.practice(&id("a"));
    assert_eq!(listener.any().await, Some(id("a")));
}
