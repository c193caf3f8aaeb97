//! The feed: dense, in the order of the commits, and readable from any position that is still kept.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{Channel, DeliveryState, Scope},
    store::{Accepted, FeedBounds, Settings, Store, Time},
    wake::Wake,
};
use sea_orm::{ConnectionTrait, Statement};
use uuid::Uuid;

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_one, delivery, ready_practice, settle, settle_all,
        settlement,
    },
    *,
};
use crate::support::{Backend, run};

/// Reads until `wanted` changes were seen, from `position` on, as a watch does. Each step looks anew after a hint.
async fn tail(t: &TestStore, scope: &Scope, wanted: usize) -> Vec<(i64, uuid::Uuid, i64)> {
    let mut listener = t.store.wake().listen();
    let (mut position, mut seen) = (0, Vec::new());
    let all_seen = async {
        while seen.len() < wanted {
            let page = t.store.feed_read_after(scope, position, 5).await.unwrap();
            let numbered = (position + 1..).zip(&page.changes);
            seen.extend(numbered.map(|(seq, change)| (seq, change.delivery.id.0, change.delivery.revision)));
            assert_eq!(page.position, position + i64::try_from(page.changes.len()).unwrap(), "a gap, or out of order");
            position = page.position;
            if !page.full && seen.len() < wanted {
                listener.changed().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_seen).await.unwrap();
    seen
}

/// Writers at the same time, and what each writes.
const WRITERS: usize = 8;
const EACH: usize = 25;

/// Holds every transaction that wrote to `table` open for up to 20 ms: what it wrote has its numbers, and cannot be seen yet.
async fn hold_commits(t: &TestStore, table: &str) {
    t.execute(
        "CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(random() * 0.02); RETURN NULL; END'",
    )
    .await;
    t.execute(&format!(
        "CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION hold()"
    ))
    .await;
}

/// Follows a feed by its numbers while `writing` goes on, and once more when that has ended.
async fn follow(read: impl AsyncFn(i64) -> Vec<(i64, Uuid)>, writing: impl Future<Output = Vec<Uuid>>) -> Followed {
    let (over, mut position, mut seen) = (Cell::new(false), 0, BTreeSet::new());
    let reading = async {
        loop {
            let last = over.get();
            let page = read(position).await;
            if last && page.is_empty() {
                return;
            }
            for (number, id) in page {
                position = number;
                seen.insert(id);
            }
        }
    };
    let writing = async {
        let written = writing.await;
        over.set(true);
        written
    };
    let ((), written) = join(reading, writing).await;
    let missed = written.iter().filter(|id| !seen.contains(*id)).count();
    Followed { written: written.len(), missed }
}

#[derive(Debug)]
struct Followed {
    written: usize,
    missed: usize,
}

/// The check on the check: with numbers from a sequence, the same reader misses what the same writers write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_changes_of_a_feed_with_serial_numbers_and_none_of_ours() {
    run(Backend::Postgres, async |t| {
        t.execute("CREATE TABLE serial_feed (seq bigserial PRIMARY KEY, entity_id uuid NOT NULL)").await;
        hold_commits(t, "serial_feed").await;
        let write = async |_| {
            let (raw, mut written) = (t.home.raw().await, Vec::new());
            for _ in 0..EACH {
                let id = Uuid::now_v7();
                raw.execute_unprepared(&format!("INSERT INTO serial_feed (entity_id) VALUES ('{id}')")).await.unwrap();
                written.push(id);
            }
            raw.close().await.unwrap();
            written
        };
        let read = async |after: i64| {
            let query = format!("SELECT seq, entity_id FROM serial_feed WHERE seq > {after} ORDER BY seq LIMIT 256");
            let query = Statement::from_string(t.raw.get_database_backend(), query);
            let rows = t.raw.query_all_raw(query).await.unwrap();
            rows.iter().map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())).collect()
        };
        let writing = async { join_all((0..WRITERS).map(write)).await.concat() };
        let serial = follow(read, writing).await;
        t.execute("DROP TABLE serial_feed").await;

        let scope = ready_practice(t, NORTH).await;
        hold_commits(t, "feed").await;
        // Each as if it were a server of its own: in one, those of a practice would queue up before they number anything.
        let write = async |writer: usize| {
            let settings = Settings { connections: 2, hints: false, ..t.home.settings() };
            let time = Time::Injected(t.clock.clone());
            let store = Store::open(settings, t.home.keys(), time, Wake::default()).await.unwrap();
            let mut written = Vec::new();
            for n in 0..EACH {
                let new = Order::new(&format!("w{writer}-{n}"), &[Channel::Sms]).prepare(t, &scope).await;
                let accepted = store.notification_accept(&scope, new).await.unwrap();
                let Accepted::New(record) = accepted else { panic!("new") };
                written.extend(record.deliveries.iter().map(|delivery| delivery.id.0));
            }
            store.close().await;
            written
        };
        let read = async |after: i64| {
            let page = t.store.feed_read_after(&scope, after, 256).await.unwrap();
            (after + 1..).zip(page.changes.iter().map(|change| change.delivery.id.0)).collect()
        };
        let writing = async { join_all((0..WRITERS).map(write)).await.concat() };
        let ours = follow(read, writing).await;
        t.execute("DROP TRIGGER hold ON feed").await;
        t.execute("DROP FUNCTION hold").await;

        assert_eq!((serial.written, ours.written), (WRITERS * EACH, WRITERS * EACH));
        assert!(serial.missed > 0, "the reader would not notice: {serial:?}");
        assert_eq!(ours.missed, 0);
    })
    .await;
}

on_both! {
    async fn a_new_practice_has_an_empty_feed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 0);
        assert_eq!(t.store.feed_bounds(&scope).await.unwrap(), FeedBounds { earliest: 0, newest: 0 });
        assert_eq!(t.store.feed_position_at(&scope, t.now()).await.unwrap(), 0);
        let page = t.store.feed_read_after(&scope, 0, 10).await.unwrap();
        assert!(page.changes.is_empty() && !page.full && page.position == 0);
    }

    async fn changes_come_in_order_with_the_state_before(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, accepted("SM1")).await;
        let page = t.store.feed_read_after(&scope, 0, 10).await.unwrap();
        assert_eq!((page.position, page.full), (2, false));
        let [accepted, sent] = &page.changes[..] else { panic!("two changes") };
        assert_eq!((accepted.previous_state, accepted.delivery.state), (None, DeliveryState::Pending));
        assert_eq!((sent.previous_state, sent.delivery.state), (Some(DeliveryState::Pending), DeliveryState::Sent));
        assert_eq!(sent.delivery, delivery(t, &scope, claimed.id).await);
        let rest = t.store.feed_read_after(&scope, 1, 1).await.unwrap();
        assert_eq!((rest.changes.len(), rest.position, rest.full), (1, 2, true));
        assert_eq!(rest.changes[0], *sent);
    }

    async fn positions_are_found_by_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let start = t.now();
        for n in 0..4 {
            Order::new(&format!("r{n}"), &[Channel::InApp]).accept(t, &scope).await;
            t.advance(60);
        }
        let minutes = |minutes| start + TimeDelta::minutes(minutes);
        let mut found = Vec::new();
        for time in
            [minutes(-9), minutes(0), minutes(1), minutes(2) - TimeDelta::microseconds(1), minutes(3), minutes(9)]
        {
            found.push(t.store.feed_position_at(&scope, time).await.unwrap());
        }
        assert_eq!(found, [0, 0, 1, 2, 3, 4]);
    }

    async fn what_is_forgotten_moves_the_earliest_position(t: &TestStore) {
        let (scope, other) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let start = t.now();
        for n in 0..5 {
            Order::new(&format!("r{n}"), &[Channel::InApp]).accept(t, &scope).await;
            Order::new(&format!("r{n}"), &[Channel::InApp]).accept(t, &other).await;
            t.advance(60);
        }
        let before = start + TimeDelta::minutes(3);
        // Statistics follow the feed: what they have not seen is kept.
        assert_eq!(t.store.feed_forget(&t.engine, before, 4).await.unwrap(), 0);
        t.store.deliveries_count(&t.engine, 1_000).await.unwrap();
        assert_eq!(t.store.feed_forget(&t.engine, before, 4).await.unwrap(), 4);
        assert_eq!(t.store.feed_forget(&t.engine, before, 4).await.unwrap(), 2);
        assert_eq!(t.store.feed_forget(&t.engine, before, 4).await.unwrap(), 0);
        for scope in [&scope, &other] {
            assert_eq!(t.store.feed_bounds(scope).await.unwrap(), FeedBounds { earliest: 3, newest: 5 });
            assert_eq!(t.store.feed_position_at(scope, start).await.unwrap(), 3);
            assert_eq!(changes(t, scope, 3).await.len(), 2);
        }
        assert_eq!(t.store.feed_forget(&t.engine, start + TimeDelta::hours(1), 100).await.unwrap(), 4);
        assert_eq!(t.store.feed_bounds(&scope).await.unwrap(), FeedBounds { earliest: 5, newest: 5 });
        Order::new("next", &[Channel::InApp]).accept(t, &scope).await;
        assert_eq!(t.store.feed_bounds(&scope).await.unwrap(), FeedBounds { earliest: 5, newest: 6 });
    }

    async fn a_change_that_cannot_be_read_holds_up_the_count_of_no_other_practice(t: &TestStore) {
        for name in [NORTH, SOUTH] {
            let scope = ready_practice(t, name).await;
            Order::new("r1", &[Channel::InApp]).accept(t, &scope).await;
        }
        let state = t.number("SELECT CAST(max(state) AS BIGINT) FROM feed").await;
        t.execute("UPDATE feed SET state = 99 WHERE practice_id = 'north'").await;
        t.store.deliveries_count(&t.engine, 1_000).await.unwrap();
        let counted = "SELECT count(*) FROM delivery_count WHERE practice_id =";
        assert_eq!(t.number(&format!("{counted} 'north'")).await, 0);
        assert_eq!(t.number(&format!("{counted} 'south'")).await, 1);
        t.execute(&format!("UPDATE feed SET state = {state} WHERE practice_id = 'north'")).await;
    }

    async fn a_tailing_reader_sees_every_change_of_many_writers_in_order(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        const EACH: usize = 12;
        let write = async |writer: usize| {
            for n in 0..EACH {
                let order = Order::new(&format!("w{writer}-{n}"), &[Channel::Sms, Channel::Email]);
                order.accept(t, &scope).await;
                // Every other writer is also a worker, so that updates mix with inserts.
                if writer.is_multiple_of(2) {
                    let ended: Vec<_> = claim(t, &scope, 2)
                        .await
                        .iter()
                        .map(|claimed| settlement(claimed, accepted(&claimed.id.to_string())))
                        .collect();
                    settle_all(t, ended).await;
                }
            }
        };
        // What workers settle depends on the race: at least the accepts are certain.
        let certain = WRITERS * EACH * 2;
        let writers = join_all((0..WRITERS).map(write));
        let (first, _) = join(tail(t, &scope, certain), writers).await;
        let head = usize::try_from(t.store.feed_head(&scope).await.unwrap()).unwrap();
        let second = tail(t, &scope, head).await;
        assert_eq!(first[..], second[..first.len()], "a reader during the writing saw what one afterwards sees");
        let mut revisions = BTreeMap::new();
        for (_, id, revision) in second {
            let before = revisions.insert(id, revision).unwrap_or_default();
            assert_eq!(revision, before + 1);
        }
        assert_eq!(revisions.len(), certain);
    }

    async fn each_practice_has_a_sequence_of_its_own(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let write = async |scope: &Scope| {
            for n in 0..20 {
                Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, scope).await;
            }
        };
        let (seen, _) = join(tail(t, &north, 20), join(write(&north), write(&south))).await;
        assert_eq!(seen.len(), 20);
        assert_eq!(t.store.feed_head(&north).await.unwrap(), 20);
        assert_eq!(t.store.feed_head(&south).await.unwrap(), 20);
    }
}
