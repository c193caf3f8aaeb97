//! Words over the database's own channel, from whoever has a log-in there: they make a server look, and nothing else.

use heedwell::grpc::proto::{Channel, DeliveryFilter};
use sea_orm::ConnectionTrait;

use super::{
    given::{practice, send_over},
    seen::{Watcher, everything, image},
};
use crate::support::{
    Backend,
    app::{ACME, TestApp},
};

/// What may be logged during all of it, in bytes: some line that would have come anyway.
const QUIET: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_hints_tell_nothing_and_fill_no_log() {
    let Some(mut t) = TestApp::spawn_apart(Backend::Postgres, "info", |_| {}).await else { return };
    practice(&t).await;
    let mut watcher = Watcher::open(&t, DeliveryFilter::default(), None).await;
    let said = t.process().said();
    let before = said.bytes().len();
    let raw = t.home.raw().await;
    for round in 0..20 {
        // As long as PostgreSQL takes them; what is said twice in one transaction is told once.
        for words in [
            "'garbage ' || n".to_owned(),
            format!("'{ACME}'"),
            format!("'{{\"practice_id\":\"{ACME}\",\"seq\":' || n || '}}'"),
            "'beta ' || n".to_owned(),
            "'; DROP TABLE delivery; -- ' || n".to_owned(),
            "rpad(n::text, 7999, 'x')".to_owned(),
            "''".to_owned(),
        ] {
            let count = 100 + round;
            let forge = format!("SELECT pg_notify('heedwell', {words}) FROM generate_series(1, {count}) n");
            raw.execute_unprepared(&forge).await.unwrap();
        }
        // Listeners hear each of these, since each is a transaction of its own.
        for _ in 0..50 {
            raw.execute_unprepared("NOTIFY heedwell, 'acme'").await.unwrap();
        }
    }
    raw.close().await.unwrap();
    // The first change that is told is the first that there is.
    let id = send_over(&t, "pat", Channel::InApp).await;
    for change in watcher.changes().await {
        assert_eq!(image(&change).delivery_id, id, "nothing else changed");
    }
    assert_eq!(everything(&t).await.len(), 1);
    let more = said.bytes().split_off(before);
    let text = String::from_utf8_lossy(&more);
    assert!(more.len() <= QUIET && !text.contains("ERROR") && !text.contains("garbage"), "{text}");
    t.end().await;
}
