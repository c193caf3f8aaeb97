//! Attacks on the ports of a server that is a process of its own, while a practice goes on with its work: each of its texts is taken and
//! arrives, the process does not grow, and its log stays short. How long anybody waits meanwhile is a matter of benchmarks.

use std::{collections::BTreeSet, time::Duration};

use heedwell::grpc::proto::{Channel, DeliveryFilter};
use tokio::time::{interval, timeout};

use super::{
    given::{practice, send_over},
    seen::{Watcher, image, state},
};
use crate::support::{
    Backend,
    app::{ACME, LIMIT, TestApp},
    attackers::{Attack, Attackers, Target},
};

/// What the process may have more than before at any moment, in KiB.
const GROWTH: u64 = 64 * 1024;
/// What may be said of an attack, in bytes: some lines.
const SAID: usize = 4 * 1024;
/// How many texts are sent at least.
const TEXTS: usize = 50;

/// Attacks over so many connections until that is enough.
async fn is_withstood(attack: Attack, connections: usize, enough: impl Fn(&Attackers) -> bool) {
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "warn,heedwell::cli::serve=info", |_| {}).await.unwrap();
    practice(&t).await;
    let cursor = Watcher::open(&t, DeliveryFilter::default(), None).await.cursor;
    let mut sent = BTreeSet::new();
    // So that all is there that work needs anyway.
    for _ in 0..TEXTS {
        sent.insert(send_over(&t, "pat", Channel::Sms).await);
    }
    let (before, said) = (t.process().memory(), t.process().said());
    let silent = said.bytes().len();

    let [grpc, http] = t.addresses();
    let attackers = Attackers::start(attack, connections, &Target { grpc, http, practice: ACME.into() });
    let mut tick = interval(Duration::from_millis(10));
    let work = async {
        while sent.len() < 2 * TEXTS || !enough(&attackers) {
            tick.tick().await;
            sent.insert(send_over(&t, "pat", Channel::Sms).await);
        }
    };
    let done = timeout(4 * LIMIT, work).await;
    let counts = (attackers.tried(), attackers.ended(), attackers.taken());
    assert!(done.is_ok(), "{} texts; tries, ends, taken: {counts:?}", sent.len());
    let after = t.process().memory();
    attackers.end().await;
    for (before, after) in before.into_iter().zip(after) {
        assert!(after.saturating_sub(before) <= GROWTH, "{before} KiB before, {after} KiB after");
    }
    assert_eq!(counts.2, 0, "what nobody signed was taken");

    // Those over the sidecar, by which it is known that they arrived, came through as well.
    let mut watcher = Watcher::from(&t, &cursor).await;
    while !sent.is_empty() {
        for change in watcher.changes().await {
            if state(image(&change)) == "DELIVERED" {
                sent.remove(&change.delivery.unwrap().delivery_id);
            }
        }
    }
    let more = said.bytes().split_off(silent);
    assert!(more.len() <= SAID, "{}", String::from_utf8_lossy(&more));
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_given_up_at_once_by_the_ten_thousand() {
    is_withstood(Attack::RapidReset, 8, |it| it.tried() >= 20_000 && it.ended() > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_end() {
    is_withstood(Attack::Continuation, 8, |it| it.tried() >= 2_000 && it.ended() >= 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_say_they_are_a_gigabyte() {
    is_withstood(Attack::Bombs, 8, |it| it.tried() >= 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_that_nobody_signed() {
    is_withstood(Attack::Callbacks, 64, |it| it.tried() >= 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_who_never_come_to_an_end() {
    // Those who are slow with the head of their request are hung up on, which takes ten seconds.
    is_withstood(Attack::Slow, 500, |it| it.tried() >= 500 && it.ended() >= 250).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_who_do_not_read() {
    is_withstood(Attack::Deaf, 500, |it| it.tried() >= 10_000).await;
}
