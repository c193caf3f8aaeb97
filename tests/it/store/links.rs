//! Secure links: opened a limited number of times, until they expire, and noted on what carried them.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{AuditEvent, AuditRecord, Channel, DeliveryId, DeliveryState, Look, Scope, Source, Verdict},
    store::{AuditQuery, LinkState, NewLink},
};

use super::{
    given::{NORTH, Order, accepted, claim, claim_one, delivery, look_twice, ready_practice, settle, unknown},
    *,
};

const TARGET: &str = "https://portal.example.com/visit/7";

/// A notification with one link; only the text message has gone out.
pub(super) async fn linked(t: &TestStore, scope: &Scope, request_id: &str, digest: [u8; 32], max_opens: i32) {
    let link = NewLink {
        token_digest: digest,
        target_url: TARGET.into(),
        expire_time: t.now() + TimeDelta::days(14),
        max_opens,
    };
    let channels = [Channel::Sms, Channel::Email];
    Order { links: vec![link], ..Order::new(request_id, &channels) }.accept(t, scope).await;
    for claimed in claim(t, scope, 10).await {
        let verdict = if claimed.channel == Channel::Sms { accepted(request_id) } else { not_taken() };
        settle(t, &claimed, verdict).await;
    }
}

fn not_taken() -> Verdict {
    Verdict::NotTaken { retry_after: None, code: "busy".into() }
}

fn never_used(t: &TestStore, token_digest: [u8; 32]) -> NewLink {
    let expire_time = t.now() + TimeDelta::days(14);
    NewLink { token_digest, target_url: TARGET.into(), expire_time, max_opens: 0 }
}

/// How many openings the timeline of a delivery tells.
async fn told(t: &TestStore, id: DeliveryId) -> usize {
    let rows = t.rows("SELECT delivery_id FROM delivery_event WHERE detail LIKE 'The link was opened%'").await;
    rows.iter().filter(|row| row.try_get_by_index::<uuid::Uuid>(0).unwrap() == id.0).count()
}

/// What the audit trail says of openings, the oldest first.
async fn trail(t: &TestStore, scope: &Scope) -> Vec<AuditRecord> {
    let query = AuditQuery { action_prefix: AuditEvent::LINK_OPENED.into(), limit: 100, ..Default::default() };
    let mut records = t.store.audit_list(scope, &query).await.unwrap().records;
    records.reverse();
    records
}

async fn open(t: &TestStore, digest: [u8; 32]) -> LinkState {
    t.store.link_open(&t.engine, digest).await.unwrap()
}

fn leads_to_target() -> LinkState {
    LinkState::Open { target_url: TARGET.into() }
}

on_both! {
    async fn a_link_leads_to_its_target_until_it_expires(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        assert!(t.store.link_peek(&t.engine, &[1; 32]).await.unwrap());
        assert_eq!(open(t, [1; 32]).await, leads_to_target());
        assert_eq!(open(t, [1; 32]).await, leads_to_target());
        t.advance(14 * 24 * 3600 - 1);
        assert_eq!(open(t, [1; 32]).await, leads_to_target());
        t.advance(1);
        assert!(!t.store.link_peek(&t.engine, &[1; 32]).await.unwrap());
        assert_eq!(open(t, [1; 32]).await, LinkState::Closed);
    }

    async fn an_unknown_link_is_closed(t: &TestStore) {
        ready_practice(t, NORTH).await;
        assert!(!t.store.link_peek(&t.engine, &[9; 32]).await.unwrap());
        assert_eq!(open(t, [9; 32]).await, LinkState::Closed);
    }

    async fn a_revoked_link_is_closed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        t.execute("UPDATE link SET revoke_time = create_time").await;
        assert!(!t.store.link_peek(&t.engine, &[1; 32]).await.unwrap());
        assert_eq!(open(t, [1; 32]).await, LinkState::Closed);
    }

    async fn a_link_opens_as_often_as_it_may_and_peeking_does_not_count(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 2).await;
        for _ in 0..5 {
            assert!(t.store.link_peek(&t.engine, &[1; 32]).await.unwrap());
        }
        let opened = join_all((0..8).map(|_| open(t, [1; 32]))).await;
        assert_eq!(opened.iter().filter(|state| **state == leads_to_target()).count(), 2);
        assert!(!t.store.link_peek(&t.engine, &[1; 32]).await.unwrap());
    }

    async fn of_many_who_open_a_link_that_opens_once_exactly_one_gets_in(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for round in 1..=5 {
            linked(t, &scope, &format!("r{round}"), [round; 32], 1).await;
            let opened = join_all((0..16).map(|_| open(t, [round; 32]))).await;
            assert_eq!(opened.iter().filter(|state| **state == leads_to_target()).count(), 1);
        }
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 1").await, 5);
        assert_eq!(t.number("SELECT count(*) FROM delivery_event WHERE detail LIKE 'The link was opened%'").await, 5);
    }

    async fn each_opening_has_a_line_of_its_own_up_to_a_limit(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        let mut times = Vec::new();
        for _ in 0..53 {
            t.advance(10);
            times.push(t.now());
            open(t, [1; 32]).await;
        }
        let page = t.store.deliveries_list(&scope, &Default::default(), (None, None), None, 10).await.unwrap();
        let sms = page.deliveries.iter().find(|it| it.channel == Channel::Sms).unwrap();
        let Source::Notification(id) = sms.source else { panic!("no notification") };
        let detail = t.store.notification_detail(&scope, id, false).await.unwrap();
        let place = detail.record.deliveries.iter().position(|it| it.id == sms.id).unwrap();
        let lines = &detail.details[place].0;
        let opened: Vec<_> = lines.iter().filter(|line| line.detail.starts_with("The link was opened")).collect();
        assert_eq!(opened.iter().map(|line| line.event_time).collect::<Vec<_>>(), times[..50]);
        assert!(opened.last().unwrap().detail.contains("not told") && !opened[48].detail.contains("not told"));
        assert!(opened.iter().all(|line| line.attempt == 0 && line.state == sms.state));
        // Beyond it they are counted, and on the trail alone.
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 53").await, 1);
        assert_eq!(trail(t, &scope).await.len(), 53);
        // What has not gone out was not opened.
        let mail = page.deliveries.iter().find(|it| it.channel == Channel::Email).unwrap();
        assert_eq!(told(t, mail.id).await, 0);
    }

    async fn whatever_may_have_left_shows_the_opening_and_nothing_else_does(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut sent = Vec::new();
        for (name, state, lines) in [
            ("closed in doubt", DeliveryState::Unconfirmed, 1),
            ("under way", DeliveryState::Pending, 1),
            ("looked for", DeliveryState::Unconfirmed, 1),
            ("not taken", DeliveryState::Pending, 0),
        ] {
            let round = u8::try_from(sent.len()).unwrap();
            let link = never_used(t, [round; 32]);
            Order { links: vec![link], ..Order::new(name, &[Channel::Sms]) }.accept(t, &scope).await;
            let claimed = claim_one(t, &scope).await;
            match name {
                "under way" => {}
                "not taken" => settle(t, &claimed, not_taken()).await,
                _ => settle(t, &claimed, unknown()).await,
            }
            if name == "closed in doubt" {
                look_twice(t, &Look::Unreadable).await;
            }
            assert_eq!(delivery(t, &scope, claimed.id).await.state, state, "{name}");
            sent.push((round, claimed.id, name, lines));
        }
        for (round, id, name, lines) in sent {
            t.advance(5);
            let before = delivery(t, &scope, id).await;
            assert_eq!(open(t, [round; 32]).await, leads_to_target());
            let after = delivery(t, &scope, id).await;
            assert_eq!((told(t, id).await, after.open_time), (lines, (lines == 1).then(|| t.now())), "{name}");
            assert_eq!((after.state, after.next_action_time), (before.state, before.next_action_time), "{name}");
        }
    }

    async fn openings_beyond_those_that_are_told_lock_no_delivery_and_are_counted_exactly(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 60).await;
        linked(t, &scope, "r2", [2; 32], 0).await;
        t.execute("UPDATE link SET opens = 50").await;
        let head = t.store.feed_head(&scope).await.unwrap();
        let events = "SELECT count(*) FROM delivery_event";
        let before = t.number(events).await;
        let opened = join_all((0..25).map(|_| open(t, [1; 32]))).await;
        assert_eq!(opened.iter().filter(|state| **state == leads_to_target()).count(), 10);
        for _ in 0..3 {
            assert_eq!(open(t, [2; 32]).await, leads_to_target());
        }
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 60").await, 1);
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 53").await, 1);
        assert_eq!(trail(t, &scope).await.len(), 13);
        assert_eq!((t.number(events).await, t.store.feed_head(&scope).await.unwrap()), (before, head));
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE open_time IS NOT NULL").await, 0);
        t.execute("UPDATE link SET opens = 51, revoke_time = create_time").await;
        for digest in [1, 2] {
            assert_eq!(open(t, [digest; 32]).await, LinkState::Closed);
        }
        t.execute("UPDATE link SET revoke_time = NULL").await;
        t.advance(14 * 24 * 3600);
        for digest in [1, 2] {
            assert_eq!(open(t, [digest; 32]).await, LinkState::Closed);
        }
    }

    async fn the_first_opening_is_noted_on_what_went_out_and_only_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        linked(t, &scope, "r2", [2; 32], 0).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        t.advance(10);
        let first = t.now();
        join_all((0..4).map(|_| open(t, [1; 32]))).await;
        t.advance(10);
        open(t, [1; 32]).await;
        let page = t.store.feed_read_after(&scope, head, 10).await.unwrap();
        let [change] = &page.changes[..] else { panic!("one change: {page:?}") };
        assert_eq!((change.delivery.channel, change.delivery.open_time), (Channel::Sms, Some(first)));
        assert_eq!((change.delivery.update_time, change.previous_state), (first, Some(change.delivery.state)));
        let query = "SELECT count(*) FROM delivery WHERE open_time IS NOT NULL";
        assert_eq!(t.number(query).await, 1);
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 5").await, 1);
    }

    async fn each_opening_is_on_the_audit_trail(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 2).await;
        let page = t.store.deliveries_list(&scope, &Default::default(), (None, None), None, 10).await.unwrap();
        let (patient, Source::Notification(id)) = (page.deliveries[0].patient.clone(), page.deliveries[0].source) else {
            panic!("no notification")
        };
        let opened = join_all((0..8).map(|_| open(t, [1; 32]))).await;
        assert_eq!(opened.iter().filter(|state| **state == leads_to_target()).count(), 2);
        let entries = trail(t, &scope).await;
        // After the practice, its settings, its patient, and what was sent.
        assert_eq!(entries.iter().map(|entry| entry.position).collect::<Vec<_>>(), [5, 6]);
        for AuditRecord { event, event_time, .. } in entries {
            let expected = AuditEvent::of_system("link.open", patient.clone(), format!("notification/{id}"));
            assert_eq!((event, event_time), (expected, t.now()));
        }
    }

    async fn an_opening_that_leads_nowhere_is_noted_nowhere(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        t.advance(14 * 24 * 3600);
        assert_eq!(open(t, [1; 32]).await, LinkState::Closed);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens > 0").await, 0);
        assert!(trail(t, &scope).await.is_empty());
    }
}
