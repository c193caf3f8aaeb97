//! Secure links: opened a limited number of times, until they expire, and noted on what carried them.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{Channel, Scope, Source},
    store::{LinkState, NewLink},
};

use super::{
    given::{NORTH, Order, accepted, claim, ready_practice, settle},
    *,
};

const TARGET: &str = "https://portal.example.com/visit/7";

/// A notification with one link; only the text message has gone out.
async fn linked(t: &TestStore, scope: &Scope, request_id: &str, digest: [u8; 32], max_opens: i32) {
    let link = NewLink {
        token_digest: digest,
        target_url: TARGET.into(),
        expire_time: t.now() + TimeDelta::days(14),
        max_opens,
    };
    let channels = [Channel::Sms, Channel::Email];
    Order { links: vec![link], ..Order::new(request_id, &channels) }.accept(t, scope).await;
    for claimed in claim(t, scope, 10).await {
        if claimed.channel == Channel::Sms {
            settle(t, &claimed, accepted(request_id)).await;
        }
    }
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
        assert!(opened.last().unwrap().detail.contains("counted") && !opened[48].detail.contains("counted"));
        assert!(opened.iter().all(|line| line.attempt == 0 && line.state == sms.state));
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens = 53").await, 1);
        // What has not gone out was not opened.
        let mail = t.number("SELECT count(*) FROM delivery_event e JOIN delivery d ON d.id = e.delivery_id \
                             WHERE d.channel = 2 AND e.detail LIKE 'The link was opened%'").await;
        assert_eq!(mail, 0);
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

    async fn an_opening_that_leads_nowhere_is_noted_nowhere(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        linked(t, &scope, "r1", [1; 32], 0).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        t.advance(14 * 24 * 3600);
        assert_eq!(open(t, [1; 32]).await, LinkState::Closed);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
        assert_eq!(t.number("SELECT count(*) FROM link WHERE opens > 0").await, 0);
    }
}
