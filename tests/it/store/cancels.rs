//! Cancelling: what has not left is stopped for good, what may have left is never called so, and asking twice is no harm.

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{ActorType, Channel, Delivery, DeliveryState, Facts, FailureReason, Look, NotificationId, Scope, Verdict},
    store::{Cancelled, Claimed, LinkState, NewLink, NotificationRecord, StoreError},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_one, delivery, last_line, look_twice, practices_due,
        ready_practice, receipt, report, settle, settle_all, settlement, unknown,
    },
    *,
};

const NOTHING: Cancelled = Cancelled { deliveries: 0, links: 0 };

fn stopped(deliveries: i32) -> Cancelled {
    Cancelled { deliveries, links: 0 }
}

fn busy() -> Verdict {
    Verdict::NotTaken { retry_after: None, code: "20429".into() }
}

async fn cancel(t: &TestStore, scope: &Scope, id: NotificationId) -> Cancelled {
    t.store.notification_cancel(scope, id).await.unwrap()
}

async fn get(t: &TestStore, scope: &Scope, id: NotificationId) -> NotificationRecord {
    t.store.notification_get(scope, id).await.unwrap()
}

/// A text message that is being handed over, and its notification.
async fn under_way(t: &TestStore, scope: &Scope, request_id: &str) -> (NotificationId, Claimed) {
    let record = Order::new(request_id, &[Channel::Sms]).accept(t, scope).await;
    (record.id, claim_one(t, scope).await)
}

/// Checks that it is at its end, and that no time and no claim changes it.
async fn is_over(t: &TestStore, scope: &Scope, claimed: &Claimed, state: DeliveryState) -> Delivery {
    assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    let now = delivery(t, scope, claimed.id).await;
    assert_eq!((now.state, now.next_action_time), (state, None));
    t.advance(3_600);
    assert!(claim(t, scope, 10).await.is_empty());
    assert_eq!(delivery(t, scope, claimed.id).await, now);
    now
}

on_both! {
    async fn what_waits_is_stopped_and_what_was_delivered_stays(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::InApp, Channel::Sms, Channel::Email]).accept(t, &scope).await;
        assert_eq!(record.deliveries[0].state, DeliveryState::Skipped, "reminders do not go in-app");
        let other = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        t.advance(60);

        assert_eq!(cancel(t, &scope, record.id).await, stopped(2));
        let now = get(t, &scope, record.id).await;
        assert_eq!(now.cancel_time, Some(t.now()));
        assert_eq!(now.deliveries[0], record.deliveries[0]);
        for one in &now.deliveries[1..] {
            assert_eq!((one.state, one.attempts, one.revision), (DeliveryState::Cancelled, 0, 2));
            assert_eq!((one.next_action_time, one.update_time), (None, t.now()));
            let line = last_line(t, &scope, one).await;
            assert_eq!((line.detail.as_str(), line.state), ("Cancelled before it was sent.", DeliveryState::Cancelled));
            assert_eq!((line.actor.kind, line.actor.id.as_str()), (ActorType::Staff, "front-desk"));
        }
        assert_eq!(changes(t, &scope, 4).await.len(), 2);
        assert_eq!(get(t, &scope, other.id).await, other);
        assert_eq!(claim(t, &scope, 10).await.len(), 1);

        t.advance(60);
        let (head, lines) = (t.store.feed_head(&scope).await.unwrap(), "SELECT count(*) FROM delivery_event");
        let written = t.number(lines).await;
        assert_eq!(cancel(t, &scope, record.id).await, NOTHING);
        assert_eq!(get(t, &scope, record.id).await, now);
        assert_eq!((t.store.feed_head(&scope).await.unwrap(), t.number(lines).await), (head, written));
    }

    async fn what_is_scheduled_never_goes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order {
            kind: heedwell::domain::Kind::MessageReceived,
            schedule_time: Some(t.now() + TimeDelta::hours(1)),
            ..Order::new("r1", &[Channel::InApp, Channel::Email])
        };
        let record = order.accept(t, &scope).await;
        assert_eq!(cancel(t, &scope, record.id).await, stopped(2));
        t.advance(3_600);
        assert!(practices_due(t).await.is_empty());
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(t.number("SELECT count(*) FROM inbox_item").await, 0);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn what_waits_for_another_try_after_a_definite_no_is_stopped(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, claimed) = under_way(t, &scope, "r1").await;
        settle(t, &claimed, busy()).await;
        assert_eq!(cancel(t, &scope, id).await, stopped(1));
        let now = is_over(t, &scope, &claimed, DeliveryState::Cancelled).await;
        assert_eq!((now.attempts, now.failure), (1, None));
    }

    async fn what_is_being_handed_over_goes_its_way_and_is_not_tried_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let refused = Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() };
        let misconfigured = Verdict::Misconfigured { code: "20003".into(), account: true };
        let cases = [
            (busy(), DeliveryState::Cancelled, 1),
            (misconfigured, DeliveryState::Cancelled, 1),
            (Verdict::NotStarted, DeliveryState::Cancelled, 0),
            (refused, DeliveryState::Failed, 1),
            (accepted("SM1"), DeliveryState::Sent, 1),
        ];
        for (n, (verdict, state, attempts)) in cases.into_iter().enumerate() {
            let (id, claimed) = under_way(t, &scope, &format!("r{n}")).await;
            let before = delivery(t, &scope, claimed.id).await;
            assert_eq!(cancel(t, &scope, id).await, NOTHING);
            let asked = get(t, &scope, id).await;
            assert_eq!((asked.cancel_time, &asked.deliveries[0]), (Some(t.now()), &before));
            let line = last_line(t, &scope, &before).await;
            assert!(line.detail.contains("not tried again"), "{}", line.detail);
            t.advance(1);
            assert_eq!(cancel(t, &scope, id).await, NOTHING);
            assert_eq!(get(t, &scope, id).await, asked);
            settle(t, &claimed, verdict).await;
            let now = is_over(t, &scope, &claimed, state).await;
            assert_eq!(now.attempts, attempts);
        }
    }

    async fn after_an_unknown_outcome_it_is_looked_for_and_not_sent_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        // Stopped during the call, or only when the outcome was unknown already, or its worker died.
        for (n, when) in ["during", "after", "dead"].into_iter().enumerate() {
            let (id, claimed) = under_way(t, &scope, &format!("r{n}")).await;
            if when == "after" {
                settle(t, &claimed, unknown()).await;
            }
            assert_eq!(cancel(t, &scope, id).await, NOTHING);
            match when {
                "during" => settle(t, &claimed, unknown()).await,
                "dead" => {
                    t.advance(61);
                    assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
                }
                _ => {}
            }
            let open = delivery(t, &scope, claimed.id).await;
            assert_eq!(open.state, DeliveryState::Unconfirmed);
            assert!(open.next_action_time.is_some(), "{when}: the provider is still asked");
            assert_eq!(cancel(t, &scope, id).await, NOTHING);
            look_twice(t, &Look::Absent).await;
            is_over(t, &scope, &claimed, DeliveryState::Unconfirmed).await;
            assert!(get(t, &scope, id).await.cancel_time.is_some());
        }
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 5").await, 3);
    }

    async fn what_was_found_after_a_cancel_is_sent(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, claimed) = under_way(t, &scope, "r1").await;
        settle(t, &claimed, unknown()).await;
        cancel(t, &scope, id).await;
        t.advance(20);
        let doubt = t.store.doubts_due(&t.engine, 10).await.unwrap().remove(0);
        let found = Look::Found { provider_ref: "SM1".into(), status: "sent".into(), code: String::new(), failure: None };
        t.store.doubt_settle(&t.engine, &doubt, found, Facts::SENT_TO_CARRIER, 0.0).await.unwrap();
        is_over(t, &scope, &claimed, DeliveryState::Sent).await;
    }

    async fn mail_in_doubt_is_not_sent_once_more(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Email]).accept(t, &scope).await;
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, unknown()).await;
        assert_eq!(cancel(t, &scope, record.id).await, NOTHING);
        look_twice(t, &Look::NoList).await;
        let now = is_over(t, &scope, &claimed, DeliveryState::Unconfirmed).await;
        assert!(!now.possible_duplicate, "it was not sent twice");
    }

    async fn what_waits_to_be_sent_again_after_a_doubt_stays_unconfirmed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, claimed) = under_way(t, &scope, "r1").await;
        settle(t, &claimed, unknown()).await;
        look_twice(t, &Look::Absent).await;
        assert_eq!(cancel(t, &scope, id).await, NOTHING);
        is_over(t, &scope, &claimed, DeliveryState::Unconfirmed).await;
        // A report may still come, and counts.
        report(t, &scope, &claimed, Facts::DELIVERED).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Delivered);
    }

    async fn a_second_try_that_is_stopped_after_a_doubt_stays_unconfirmed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, first) = under_way(t, &scope, "r1").await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::Absent).await;
        let second = claim_one(t, &scope).await;
        assert_eq!(cancel(t, &scope, id).await, NOTHING);
        settle(t, &second, busy()).await;
        is_over(t, &scope, &second, DeliveryState::Unconfirmed).await;
    }

    async fn with_nothing_left_to_stop_nothing_changes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, claimed) = under_way(t, &scope, "r1").await;
        // A report came before the call's own answer: the provider has it.
        report(t, &scope, &claimed, Facts::SENT_TO_CARRIER).await;
        let before = get(t, &scope, id).await;
        t.advance(1);
        assert_eq!(cancel(t, &scope, id).await, NOTHING);
        assert_eq!((get(t, &scope, id).await, before.cancel_time), (before, None));
        settle(t, &claimed, accepted(&claimed.callback_token())).await;
        let before = get(t, &scope, id).await;
        assert_eq!(cancel(t, &scope, id).await, NOTHING);
        assert_eq!(get(t, &scope, id).await, before);
    }

    async fn links_that_would_still_open_are_revoked(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let link = |digest: u8, days, max_opens| NewLink {
            token_digest: [digest; 32],
            target_url: "https://portal.example.com/visit/7".into(),
            expire_time: t.now() + TimeDelta::days(days),
            max_opens,
        };
        let links = vec![link(1, 14, 0), link(2, 14, 2), link(3, 14, 1), link(4, 1, 0)];
        let record = Order { links, ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let other = Order { links: vec![link(5, 14, 0)], ..Order::new("r2", &[Channel::Email]) };
        other.accept(t, &scope).await;
        for claimed in claim(t, &scope, 10).await {
            settle(t, &claimed, accepted(&claimed.callback_token())).await;
        }
        let open = async |digest: u8| t.store.link_open(&t.engine, [digest; 32]).await.unwrap();
        for digest in [2, 3] {
            assert_ne!(open(digest).await, LinkState::Closed);
        }
        t.advance(24 * 3_600);
        assert_eq!(cancel(t, &scope, record.id).await, Cancelled { deliveries: 0, links: 2 });
        assert_eq!(get(t, &scope, record.id).await.cancel_time, Some(t.now()));
        for digest in 1..=4 {
            assert_eq!(open(digest).await, LinkState::Closed);
        }
        assert_ne!(open(5).await, LinkState::Closed);
        assert_eq!(cancel(t, &scope, record.id).await, NOTHING);
    }

    async fn a_notification_of_another_practice_or_of_none_is_not_found(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let record = Order::new("r1", &[Channel::Sms]).accept(t, &north).await;
        for (scope, id) in [(&south, record.id), (&north, NotificationId(uuid::Uuid::nil()))] {
            let answer = t.store.notification_cancel(scope, id).await;
            assert!(matches!(answer, Err(StoreError::NotFound("notification"))), "{answer:?}");
        }
        assert_eq!(get(t, &north, record.id).await, record);
    }

    async fn sixteen_cancels_at_once_stop_each_delivery_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        let done = join_all((0..16).map(|_| t.store.notification_cancel(&scope, record.id))).await;
        let mut done: Vec<_> = done.into_iter().map(|done| done.unwrap().deliveries).collect();
        done.sort_unstable();
        assert_eq!((done.iter().sum::<i32>(), done[15]), (2, 2));
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 4);
    }

    async fn no_try_begins_once_a_cancel_is_committed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for round in 0..6 {
            let mut ids = Vec::new();
            for n in 0..4 {
                ids.push(Order::new(&format!("r{round}-{n}"), &[Channel::Sms]).accept(t, &scope).await.id);
            }
            let cancels = join_all(ids.iter().map(|id| t.store.notification_cancel(&scope, *id)));
            let claims = join_all((0..2).map(|_| claim(t, &scope, 2)));
            let (cancels, claims) = join(cancels, claims).await;
            let claimed: Vec<Claimed> = claims.into_iter().flatten().collect();
            let cancelled: i32 = cancels.into_iter().map(|done| done.unwrap().deliveries).sum();
            assert_eq!(usize::try_from(cancelled).unwrap() + claimed.len(), 4);
            // What was claimed first is not tried a second time.
            assert!(claim(t, &scope, 10).await.is_empty());
            let ended = claimed.iter().map(|claimed| settlement(claimed, busy())).collect();
            settle_all(t, ended).await;
            t.advance(3_600);
            assert!(claim(t, &scope, 10).await.is_empty());
            assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        }
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE state <> 7").await, 0);
    }

    async fn a_claim_looks_once_more_whether_it_was_stopped(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        t.execute("UPDATE delivery SET flags = 8").await;
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(delivery(t, &scope, record.deliveries[0].id).await.state, DeliveryState::Cancelled);
    }

    async fn a_late_answer_to_a_stopped_try_counts(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (id, claimed) = under_way(t, &scope, "r1").await;
        cancel(t, &scope, id).await;
        t.advance(61);
        t.store.rescue(&t.engine, false).await.unwrap();
        settle(t, &claimed, accepted(&receipt(&claimed, Facts::NONE).provider_ref)).await;
        is_over(t, &scope, &claimed, DeliveryState::Sent).await;
    }
}
