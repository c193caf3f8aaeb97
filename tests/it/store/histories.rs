//! Histories whose time is over: the steps of deliveries that have come to their end go, and what became of them stays.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use heedwell::{
    domain::{AuditEvent, Author, Channel, Delivery, DeliveryId, DeliveryState, Facts, Kind, Provider, Scope, Source},
    store::{Anchored, Applied, AuditQuery, Claimed, NewLink, NewRetry, Parked, Retried},
};
use uuid::Uuid;

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, claim_one, claimed, delivery, ready_practice, receipt, report, settle, unknown,
    },
    retries::{failed, refused},
    *,
};
use crate::support::Backend;

const DAY: u64 = 86_400;

/// Removes what is older than thirty days, among so many lines at a time. Yields the last delivery of each page.
async fn walk(t: &TestStore, limit: u64) -> Vec<Uuid> {
    let before = t.now() - TimeDelta::days(30);
    let mut pages = vec![Uuid::nil()];
    while let Some(last) = t.store.histories_remove(&t.engine, (before, pages[pages.len() - 1]), limit).await.unwrap() {
        pages.push(last);
    }
    pages.split_off(1)
}

async fn ids(t: &TestStore, table: &str) -> BTreeSet<DeliveryId> {
    let rows = t.rows(&format!("SELECT delivery_id FROM {table}")).await;
    rows.iter().map(|row| DeliveryId(row.try_get_by_index(0).unwrap())).collect()
}

/// The deliveries that have lines or attempts.
async fn kept(t: &TestStore) -> BTreeSet<DeliveryId> {
    ids(t, "delivery_event").await.union(&ids(t, "attempt").await).copied().collect()
}

async fn all(t: &TestStore, scope: &Scope) -> Vec<Delivery> {
    t.store.deliveries_list(scope, &Default::default(), (None, None), None, 100).await.unwrap().deliveries
}

/// What the trail of a practice says was removed.
async fn told(t: &TestStore, scope: &Scope) -> Vec<String> {
    let query = AuditQuery { action_prefix: AuditEvent::REMOVED.into(), limit: 100, ..Default::default() };
    let records = t.store.audit_list(scope, &query).await.unwrap().records;
    records.into_iter().map(|record| record.event.resource).collect()
}

async fn delivered(t: &TestStore, scope: &Scope, request_id: &str) -> Claimed {
    let claimed = claimed(t, scope, request_id, Channel::Sms).await;
    settle(t, &claimed, accepted(&claimed.callback_token())).await;
    report(t, scope, &claimed, Facts::DELIVERED).await;
    claimed
}

/// One that is to be sent in forty days.
async fn planned(t: &TestStore, scope: &Scope, request_id: &str) -> DeliveryId {
    let schedule_time = Some(t.now() + TimeDelta::days(40));
    Order { schedule_time, ..Order::new(request_id, &[Channel::Sms]) }.accept(t, scope).await.deliveries[0].id
}

async fn retry(t: &TestStore, scope: &Scope, delivery: DeliveryId) -> Delivery {
    let wish = NewRetry { request_id: delivery.to_string(), fingerprint: [7; 32], delivery };
    match t.store.delivery_retry(scope, wish).await.unwrap() {
        Retried::New(delivery) => delivery,
        other => panic!("not made anew: {other:?}"),
    }
}

on_both! {
    async fn the_steps_of_what_is_over_go_and_what_became_of_it_stays(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let old = [delivered(t, &north, "r1").await, failed(t, &north, "r2").await];
        let notice = Order { kind: Kind::System, security: true, ..Order::new("r3", &[Channel::InApp]) };
        let shown = notice.accept(t, &north).await.deliveries[0].id;
        let doubted = claimed(t, &north, "r4", Channel::Sms).await;
        settle(t, &doubted, unknown()).await;
        let planned = planned(t, &north, "r5").await;
        let souths = delivered(t, &south, "r1").await;
        let prove = async |scope: &Scope| {
            t.store.ledger_prove(&t.engine, scope.practice(), &Anchored::default()).await.unwrap()
        };
        assert_eq!(prove(&north).await.attempts, 3);
        t.advance(31 * DAY);
        let young = delivered(t, &north, "r6").await;
        let before = (all(t, &north).await, all(t, &south).await);

        walk(t, 1_000).await;
        assert_eq!(kept(t).await, BTreeSet::from([doubted.id, planned, young.id]));
        assert_eq!((all(t, &north).await, all(t, &south).await), before);
        for (id, state) in [
            (old[0].id, DeliveryState::Delivered),
            (old[1].id, DeliveryState::Failed),
            (shown, DeliveryState::Delivered),
        ] {
            let gone = delivery(t, &north, id).await;
            assert_eq!((gone.state, gone.failure.is_some()), (state, state == DeliveryState::Failed));
            let Source::Notification(notification) = gone.source else { panic!("no notification") };
            let (events, content) = t.store.notification_detail(&north, notification, true).await.unwrap().details.remove(0);
            assert!(events.is_empty() && content.is_some());
        }
        let until = (t.now() - TimeDelta::days(30)).format("%Y-%m-%dT%H:%M:%SZ");
        assert_eq!(told(t, &north).await, [format!("histories/3/before/{until}")]);
        assert_eq!(told(t, &south).await, [format!("histories/1/before/{until}")]);
        let proof = prove(&north).await;
        assert_eq!((proof.attempts, proof.findings), (2, Vec::new()));
        assert_eq!(delivery(t, &south, souths.id).await.state, DeliveryState::Delivered);

        // What is gone is not told again.
        walk(t, 1_000).await;
        assert_eq!((told(t, &north).await.len(), told(t, &south).await.len()), (1, 1));
    }

    async fn walks_side_by_side_tell_of_each_history_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..24 {
            failed(t, &scope, &format!("r{n}")).await;
        }
        t.advance(31 * DAY);
        futures::future::join_all((0..4).map(|_| walk(t, 10))).await;
        assert_eq!(kept(t).await, BTreeSet::new());
        let told = told(t, &scope).await;
        let count = |resource: &String| resource.split('/').nth(1).unwrap().parse::<u32>().unwrap();
        assert_eq!(told.iter().map(count).sum::<u32>(), 24, "{told:?}");
    }

    async fn what_may_still_be_heard_of_keeps_its_steps(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        // The provider is to be asked about it.
        let sent = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &sent, accepted("SM1")).await;
        // Its link opens for forty days.
        let link = NewLink {
            token_digest: [1; 32],
            target_url: "https://portal.example.com/visit/7".into(),
            expire_time: t.now() + TimeDelta::days(40),
            max_opens: 0,
        };
        Order { links: vec![link], ..Order::new("r2", &[Channel::Sms]) }.accept(t, &scope).await;
        let linked = claim_one(t, &scope).await;
        settle(t, &linked, refused()).await;
        // It is sent again later.
        let again = failed(t, &scope, "r3").await;
        t.advance(20 * DAY);
        let repeat = retry(t, &scope, again.id).await.id;
        settle(t, &claim_one(t, &scope).await, refused()).await;
        t.advance(11 * DAY);
        walk(t, 1_000).await;
        assert_eq!(kept(t).await, BTreeSet::from([sent.id, linked.id, again.id, repeat]));
        assert_eq!(t.store.polls_due(&t.engine, 10).await.unwrap().len(), 1);
        walk(t, 1_000).await;
        assert_eq!(kept(t).await, BTreeSet::from([linked.id, again.id, repeat]));
        t.advance(10 * DAY);
        assert_eq!(t.number("SELECT count(*) FROM link").await, 1);
        walk(t, 1_000).await;
        assert_eq!(kept(t).await, BTreeSet::from([again.id, repeat]));
        assert_eq!(t.number("SELECT count(*) FROM link").await, 0);
        t.advance(10 * DAY);
        walk(t, 1_000).await;
        assert_eq!(kept(t).await, BTreeSet::new());
    }

    async fn what_is_reported_later_still_is_answered_and_changes_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let old = failed(t, &scope, "r1").await;
        t.advance(31 * DAY);
        walk(t, 1_000).await;
        let before = (delivery(t, &scope, old.id).await, t.store.feed_head(&scope).await.unwrap());
        let twilio = t.engine.scope(NORTH.parse().unwrap(), Author::provider("twilio"));
        let late = receipt(&old, Facts::DELIVERED);
        assert_eq!(t.store.receipt_apply(&twilio, late.clone()).await.unwrap(), Applied::UnknownToken);
        assert_eq!(t.store.receipt_park(&twilio, Provider::Twilio, &late).await.unwrap(), Parked::Kept);
        assert!(t.store.mail_attempt(&scope, old.token).await.unwrap().is_none());
        // As whatever nobody here knows.
        t.advance(3 * DAY);
        t.store.parked_retry(&t.engine, 100).await.unwrap();
        assert_eq!(t.number("SELECT count(*) FROM callback_inbox").await, 0);
        assert_eq!((delivery(t, &scope, old.id).await, t.store.feed_head(&scope).await.unwrap()), before);
        assert_eq!(kept(t).await, BTreeSet::new());
        // An answer that was given up for lost is no news either.
        settle(t, &old, accepted("SM1")).await;
        assert_eq!(delivery(t, &scope, old.id).await, before.0);
    }

    async fn what_was_once_in_doubt_may_arrive_twice_when_it_is_sent_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let clear = failed(t, &scope, "r1").await;
        let doubted = async |request_id| {
            let claimed = claimed(t, &scope, request_id, Channel::Sms).await;
            settle(t, &claimed, unknown()).await;
            report(t, &scope, &claimed, Facts::UNDELIVERED).await;
            claimed
        };
        let (known, forgotten) = (doubted("r2").await, doubted("r3").await);
        assert!(!retry(t, &scope, known.id).await.possible_duplicate, "it is told that it did not arrive");
        settle(t, &claim_one(t, &scope).await, refused()).await;
        t.advance(31 * DAY);
        walk(t, 1_000).await;
        for (id, in_doubt) in [(clear.id, false), (forgotten.id, true)] {
            assert_eq!(delivery(t, &scope, id).await.state, DeliveryState::Failed);
            assert_eq!(retry(t, &scope, id).await.possible_duplicate, in_doubt);
        }
        // What happens now is told, and goes in its time.
        assert_eq!(t.number("SELECT count(*) FROM delivery_event WHERE detail = 'Sent again as a new delivery.'").await, 2);
        assert!(kept(t).await.contains(&clear.id));
        t.advance(31 * DAY);
        walk(t, 1_000).await;
        assert!(!kept(t).await.contains(&clear.id));
    }

    async fn what_must_stay_is_looked_at_a_page_at_a_time_and_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut ids = Vec::new();
        for n in 0..10 {
            ids.push(planned(t, &scope, &format!("r{n}")).await.0);
        }
        t.advance(31 * DAY);
        let lines: i64 = t.number("SELECT count(*) FROM delivery_event").await;
        assert_eq!(lines, 10, "one each");
        // Each page ends where its lines end, whatever may go.
        assert_eq!(walk(t, 4).await, [ids[3], ids[7], ids[9]]);
        let before = t.now() - TimeDelta::days(30);
        assert_eq!(t.store.histories_remove(&t.engine, (before, ids[9]), 4).await.unwrap(), None);
        assert_eq!((kept(t).await.len(), told(t, &scope).await.len()), (10, 0));

        // A page is read from the key on, and nothing is sorted for it.
        let sqlite = t.home.backend == Backend::Sqlite;
        let id = |n: u32| {
            let id = Uuid::from_u128(n.into());
            if sqlite { format!("X'{}'", id.simple()) } else { format!("'{id}'") }
        };
        let made = (0..4_000).map(|n| {
            format!("({}, 1, 'north', '2026-01-01 00:00:00+00:00', 1, '', '', '', 1, '', '', 0, 0)", id(n))
        });
        let columns = "delivery_id, n, practice_id, event_time, state, provider_status, provider_code, detail, actor_type, \
                       actor_id, actor_name, attempt, consent_position";
        let values = made.collect::<Vec<_>>().join(", ");
        t.execute(&format!("INSERT INTO delivery_event ({columns}) VALUES {values}")).await;
        t.execute("ANALYZE delivery_event").await;
        let explain = if sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
        let rows = t
            .rows(&format!(
                "{explain} SELECT delivery_id FROM delivery_event WHERE delivery_id > {} AND delivery_id < {} \
                 ORDER BY delivery_id ASC LIMIT 1000",
                id(5),
                id(3_990)
            ))
            .await;
        let plan: Vec<String> = rows.iter().map(|row| row.try_get_by_index(if sqlite { 3 } else { 0 }).unwrap()).collect();
        let plan = plan.join("\n");
        let index = if sqlite { "sqlite_autoindex_delivery_event_1" } else { "delivery_event_pkey" };
        assert!(plan.contains(index) && !plan.contains("Sort") && !plan.contains("B-TREE"), "{plan}");
        t.execute(&format!("DELETE FROM delivery_event WHERE delivery_id < {}", id(4_000))).await;
    }
}
