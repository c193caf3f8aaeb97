//! What must not grow unnoticed, and does not depend on the machine: the statements of an accept, a claim and a settle, and the bytes of
//! a stored delivery. Whoever changes one of these on purpose writes the new figure here, and says in the commit what it buys.

use futures::future::join_all;
use heedwell::domain::{Channel, Scope};

use super::{
    given::{NORTH, Order, accepted, claim, ready_practice, settle_all, settlement},
    *,
};
use crate::support::{Backend, Home, Logging, run};

/// By how much the bytes of a delivery may be missed: keys that are drawn at random fill the pages of indexes now more, now less.
const MARGIN: f64 = 0.05;
/// Deliveries that are worked on at once.
const AT_ONCE: usize = 50;

/// Accepts, claims and settles so many.
async fn send(t: &TestStore, scope: &Scope, count: usize) {
    for round in 0..count / AT_ONCE {
        let accepts = (0..AT_ONCE).map(|number| async move {
            let request = format!("{count}-{round}-{number}");
            Order::new(&request, &[Channel::Sms]).accept(t, scope).await;
        });
        join_all(accepts).await;
        let claimed = claim(t, scope, AT_ONCE as u64).await;
        assert_eq!(claimed.len(), AT_ONCE);
        let ended = claimed
            .iter()
            .enumerate()
            .map(|(number, claimed)| settlement(claimed, accepted(&format!("SM{count:08}{round:08}{number:016}"))));
        settle_all(t, ended.collect()).await;
    }
}

/// What the database takes once nothing in it is dead.
async fn bytes(t: &TestStore) -> i64 {
    match t.home.backend {
        Backend::Sqlite => {
            t.execute("VACUUM").await;
            t.number("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").await
        }
        Backend::Postgres => {
            t.execute("VACUUM FULL").await;
            let all = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
                WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
            t.number(all).await
        }
    }
}

async fn each_delivery_takes(backend: Backend, expected: i64) {
    run(backend, async |t: &TestStore| {
        let scope = ready_practice(t, NORTH).await;
        send(t, &scope, 200).await;
        let before = bytes(t).await;
        send(t, &scope, 400).await;
        let each = (bytes(t).await - before) / 400;
        let change = each as f64 / expected as f64 - 1.0;
        assert!(
            change.abs() <= MARGIN,
            "a sent text takes {each} bytes, and not {expected}: see the head of this file"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sent_text_takes_so_many_bytes_in_sqlite() {
    each_delivery_takes(Backend::Sqlite, 5_079).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sent_text_takes_so_many_bytes_in_postgresql() {
    each_delivery_takes(Backend::Postgres, 5_550).await;
}

/// The database itself says what it was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_takes_these_statements() {
    let Some(server) = Logging::start().await else { return };
    let t = TestStore::at(Home::on(&server)).await;
    let scope = ready_practice(&t, NORTH).await;
    // What is asked for once is asked for before: keys, settings, wording.
    send(&t, &scope, AT_ONCE).await;

    let patient = "maria".parse().unwrap();
    let mark = server.asked().len();
    t.store.notification_basis(&scope, &patient).await.unwrap();
    let mut basis = server.asked().split_off(mark);
    basis.sort_unstable();
    let new = Order::new("r1", &[Channel::Sms]).prepare(&t, &scope).await;
    let mark = server.asked().len();
    t.store.notification_accept(&scope, new).await.unwrap();
    let accept = server.asked().split_off(mark);
    let mark = server.asked().len();
    let claimed = claim(&t, &scope, 10).await;
    let claims = server.asked().split_off(mark);
    assert_eq!(claimed.len(), 1);
    let mark = server.asked().len();
    settle_all(&t, vec![settlement(&claimed[0], accepted("SM1"))]).await;
    let settle = server.asked().split_off(mark);

    // Many at once take hardly more than one. Groups are as large as what comes while the one before is committed.
    let mark = server.asked().len();
    send(&t, &scope, 200).await;
    let many = server.asked().split_off(mark);
    let groups = many.iter().filter(|it| *it == "COMMIT").count();

    // What a send is decided on, an accept, a claim after a look at each class that has nothing due, and a settle.
    let asked = [basis, accept, claims, settle];
    assert_eq!(asked, [BASIS, ACCEPT, CLAIM, SETTLE], "and {} in {groups} groups for 200 texts", many.len());
    assert!(many.len() <= MANY, "{} statements in {groups} groups for 200 texts", many.len());
    t.raw.close().await.unwrap();
    t.store.close().await;
}

/// In the order of the alphabet: they are asked at once.
const BASIS: &[&str] = &["SELECT feed_head", "SELECT patient", "SELECT practice", "SELECT recipient_gate"];
const ACCEPT: &[&str] = &[
    "BEGIN",
    "INSERT idem",
    "INSERT recipient_gate",
    "SELECT subject_key",
    "INSERT notification",
    "INSERT delivery",
    "INSERT content",
    "INSERT delivery_event",
    "UPDATE audit_head",
    "INSERT audit",
    "UPDATE feed_head",
    "INSERT feed",
    "COMMIT",
];
const CLAIM: &[&str] = &[
    // Nothing urgent is due.
    "BEGIN",
    "SET",
    "SELECT delivery",
    "COMMIT",
    "BEGIN",
    "SET",
    "SELECT delivery",
    "SELECT content",
    "SELECT subject_key",
    "SELECT patient",
    "SELECT recipient_gate",
    "SELECT recipient_gate",
    "SELECT practice",
    "SELECT notification",
    "SELECT consent_head",
    "INSERT attempt",
    "UPDATE delivery",
    "INSERT delivery_event",
    "COMMIT",
    // Nor is there a broadcast.
    "BEGIN",
    "SET",
    "SELECT delivery",
    "COMMIT",
];
const SETTLE: &[&str] = &[
    "BEGIN",
    "SELECT attempt",
    "SELECT delivery",
    "SELECT attempt",
    "SELECT channel_health",
    "UPDATE attempt",
    "UPDATE delivery",
    "INSERT delivery_event",
    "UPDATE feed_head",
    "INSERT feed",
    "COMMIT",
];
/// Of 200 texts, fifty at once: some 1,300, of which half are the reads of each accept. One by one they would be 9,000.
const MANY: usize = 2_600;
