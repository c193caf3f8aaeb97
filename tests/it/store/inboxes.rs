//! Inboxes under many hands: marks that meet, and pages that end where answers do.

use futures::future::join_all;
use heedwell::{
    domain::{Channel, DeliveryId, Kind, ReadState, Scope, Selection},
    store::{InboxPlace, Keyset},
};

use super::{
    given::{NORTH, Order, SOUTH, ready_practice},
    *,
};
use crate::support::Backend;

/// A notice of the system, which goes to the inbox unless a practice says otherwise.
fn notice(n: usize) -> Order {
    Order { kind: Kind::System, ..Order::new(&format!("r{n}"), &[Channel::InApp]) }
}

async fn filed(t: &TestStore, scope: &Scope, count: usize) -> Vec<DeliveryId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(notice(n).accept(t, scope).await.deliveries[0].id);
    }
    ids
}

on_both! {
    async fn marks_that_meet_end_in_one_state_and_every_one_is_told(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let ids = filed(t, &scope, 12).await;
        let maria = "maria".parse().unwrap();
        let all = Selection::Items(ids.clone());
        let before = t.store.feed_head(&scope).await.unwrap();
        for state in [ReadState::Read, ReadState::Unread, ReadState::Read] {
            let marks = (0..6).map(|_| t.store.inbox_mark(&scope, &maria, &all, state, None));
            assert!(join_all(marks).await.into_iter().all(|next| next.unwrap().is_none()));
            let unread = if state == ReadState::Read { 0 } else { 12 };
            assert_eq!(t.store.inbox_unread(&scope, &maria).await.unwrap(), unread);
        }
        // One change of each delivery, and one of each item for either of the other two.
        let page = t.store.feed_read_after(&scope, before, 1_000).await.unwrap();
        assert_eq!((page.changes.len(), page.marked.len()), (12, 24));
        assert!(page.marked.iter().all(|(patient, item)| *patient == maria && ids.contains(item)));
    }

    async fn more_than_one_transaction_takes_is_marked_in_several(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let ids = filed(t, &scope, 205).await;
        let maria = "maria".parse().unwrap();
        let through = Selection::Through(t.now());
        let mark = async |state, after| t.store.inbox_mark(&scope, &maria, &through, state, after).await.unwrap();
        let next = mark(ReadState::Read, None).await;
        assert_eq!((next, t.store.inbox_unread(&scope, &maria).await.unwrap()), (Some(ids[199]), 5));
        // Somebody else marks them the other way at the same time: neither begins anew.
        assert_eq!(mark(ReadState::Unread, None).await, Some(ids[199]));
        assert_eq!(mark(ReadState::Read, next).await, None);
        assert_eq!(t.store.inbox_unread(&scope, &maria).await.unwrap(), 200);
    }

    async fn an_inbox_is_its_patients_in_their_practice_alone(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let there = ready_practice(t, SOUTH).await;
        let maria = "maria".parse().unwrap();
        let [own, foreign] = [filed(t, &scope, 2).await, filed(t, &there, 3).await];
        for (scope, ids) in [(&scope, &own), (&there, &foreign)] {
            let page = t.store.inbox_list(scope, &maria, false, None, 10).await.unwrap();
            let listed: std::collections::BTreeSet<_> = page.items.iter().map(|item| item.id).collect();
            assert_eq!(listed, ids.iter().copied().collect());
        }
        // Not even by its id is another practice's item found or marked.
        let all = [own.clone(), foreign.clone()].concat();
        assert_eq!(t.store.inbox_items(&scope, &maria, &all).await.unwrap().len(), 2);
        for selection in [Selection::Items(all), Selection::Through(t.now())] {
            t.store.inbox_mark(&scope, &maria, &selection, ReadState::Read, None).await.unwrap();
        }
        assert_eq!(t.store.inbox_unread(&scope, &maria).await.unwrap(), 0);
        assert_eq!(t.store.inbox_unread(&there, &maria).await.unwrap(), 3);
    }

    async fn marking_reads_what_it_marks_and_no_more(t: &TestStore) {
        for (patient, read) in [("maria", "NULL"), ("ann", "NULL"), ("ben", "'2026-01-02 00:00:00+00:00'")] {
            let items = (0..1_000).map(|_| {
                let id = uuid::Uuid::now_v7();
                let id = match t.home.backend {
                    Backend::Sqlite => format!("X'{}'", id.simple()),
                    Backend::Postgres => format!("'{id}'"),
                };
                format!("({id}, 'north', '{patient}', 9, false, '2026-01-01 00:00:00+00:00', {read})")
            });
            let columns = "delivery_id, practice_id, patient_id, kind, security, create_time, read_time";
            let items = items.collect::<Vec<_>>().join(", ");
            t.execute(&format!("INSERT INTO inbox_item ({columns}) VALUES {items}")).await;
        }
        t.execute("ANALYZE inbox_item").await;
        // As marks ask.
        let explain = if t.home.backend == Backend::Sqlite { "EXPLAIN QUERY PLAN" } else { "EXPLAIN" };
        for (patient, condition, index) in
            [("maria", "IS NULL", "inbox_item_unread"), ("ben", "IS NOT NULL", "inbox_item_read")]
        {
            let rows = t
                .rows(&format!(
                    "{explain} SELECT delivery_id FROM inbox_item WHERE practice_id = 'north' AND patient_id = '{patient}' \
                     AND read_time {condition} AND create_time <= '2026-02-01 00:00:00+00:00' \
                     ORDER BY delivery_id ASC LIMIT 200"
                ))
                .await;
            let place = if t.home.backend == Backend::Sqlite { 3 } else { 0 };
            let plan: Vec<String> = rows.iter().map(|row| row.try_get_by_index(place).unwrap()).collect();
            let plan = plan.join("\n");
            assert!(plan.contains(index) && !plan.contains("Sort") && !plan.contains("B-TREE"), "{plan}");
        }
        t.execute("DELETE FROM inbox_item").await;
    }

    async fn a_page_of_long_texts_ends_before_an_answer_would_be_too_long(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..30 {
            let order = Order { text: "x".repeat(100_000), ..notice(n) };
            order.accept(t, &scope).await;
        }
        let maria = "maria".parse().unwrap();
        let (mut after, mut seen, mut pages) = (None, std::collections::BTreeSet::new(), 0);
        loop {
            let page = t.store.inbox_list(&scope, &maria, false, after, 100).await.unwrap();
            assert!((1..=21).contains(&page.items.len()));
            seen.extend(page.items.into_iter().map(|item| item.id));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen.len(), pages), (30, 2));
    }
}

#[test]
fn bytes_that_are_no_place_are_none() {
    let place = InboxPlace {
        security: true,
        last: Keyset { time: chrono::DateTime::UNIX_EPOCH, id: uuid::Uuid::from_u128(7) },
    };
    assert_eq!(InboxPlace::from_bytes(&place.to_bytes()), Some(place));
    for bytes in [&[][..], &[0; 24], &[0; 26], &[2; 25]] {
        assert_eq!(InboxPlace::from_bytes(bytes), None, "{}", bytes.len());
    }
}
