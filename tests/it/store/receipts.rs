//! Receipts: facts of one attempt, in any order, any number of times.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{
        ActorType, Author, Channel, DeliveryState, Engine, Facts, FailureReason, Provider, Scope, SkipReason, Verdict,
    },
    store::{Applied, Claimed, Receipt},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_one, claimed, delivery, look_twice, practices_due,
        ready_practice, settle, unknown,
    },
    *,
};

fn receipt(claimed: &Claimed, status: &str) -> Receipt {
    let (facts, code, failure) = match status {
        "queued" => (Facts::QUEUED, "", None),
        "sent" => (Facts::SENT_TO_CARRIER, "", None),
        "delivered" => (Facts::DELIVERED, "", None),
        "undelivered" => (Facts::UNDELIVERED, "30003", Some(FailureReason::Unreachable)),
        other => panic!("no such status: {other}"),
    };
    Receipt {
        token: claimed.token,
        provider_ref: "SM1".into(),
        facts,
        status: status.into(),
        code: code.into(),
        failure,
    }
}

/// The key that a callback of Twilio brings.
fn callback(t: &TestStore, practice: &str) -> Scope {
    let engine: &Engine = &t.engine;
    engine.scope(practice.parse().unwrap(), Author::provider("twilio"))
}

async fn apply(t: &TestStore, receipt: Receipt) -> Applied {
    t.store.receipt_apply(&callback(t, NORTH), receipt).await.unwrap()
}

/// Every order of `items`.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = items.split_first() else { return vec![Vec::new()] };
    let put = |order: Vec<T>| {
        (0..=order.len()).map(move |at| {
            let mut order = order.clone();
            order.insert(at, first.clone());
            order
        })
    };
    orders(rest).into_iter().flat_map(put).collect()
}

on_both! {
    async fn a_receipt_adds_its_fact_and_a_line(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        t.advance(3);
        assert_eq!(apply(t, receipt(&claimed, "delivered")).await, Applied::New);
        let delivered = delivery(t, &scope, claimed.id).await;
        assert_eq!((delivered.state, delivered.revision), (DeliveryState::Delivered, 3));
        assert_eq!((delivered.deliver_time, delivered.attempts), (Some(t.now()), 1));
        assert_eq!(delivered.send_time, Some(t.now() - TimeDelta::seconds(3)));
        let heedwell::domain::Source::Notification(id) = delivered.source else { panic!("no notification") };
        let events = t.store.notification_detail(&scope, id, false).await.unwrap().details.remove(0).0;
        let line = events.last().unwrap();
        assert_eq!(
            (line.provider_status.as_str(), line.attempt, line.state),
            ("delivered", 1, DeliveryState::Delivered)
        );
        assert_eq!((line.actor.kind, line.actor.id.as_str()), (ActorType::Provider, "twilio"));
        assert_eq!(line.detail, "The provider confirmed receipt.");
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE poll_at IS NOT NULL").await, 0);
    }

    async fn every_order_of_receipts_ends_in_the_same_state(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let steps = ["queued", "sent", "delivered", "undelivered", "settle"];
        let mut ends = Vec::new();
        for (n, order) in orders(&steps).into_iter().enumerate() {
            let claimed = claimed(t, &scope, &format!("r{n}"), Channel::Sms).await;
            let provider_ref = format!("SM{n}");
            let mut states = vec![DeliveryState::Pending];
            for step in order {
                if step == "settle" {
                    settle(t, &claimed, accepted(&provider_ref)).await;
                } else {
                    let receipt = Receipt { provider_ref: provider_ref.clone(), ..receipt(&claimed, step) };
                    assert_eq!(apply(t, receipt).await, Applied::New);
                }
                states.push(delivery(t, &scope, claimed.id).await.state);
            }
            let rank = |state: &DeliveryState| match state {
                DeliveryState::Pending => 0,
                DeliveryState::Sent => 1,
                DeliveryState::Failed => 2,
                DeliveryState::Delivered => 3,
                other => panic!("{other:?}"),
            };
            assert!(states.is_sorted_by_key(rank), "{states:?}");
            let end = delivery(t, &scope, claimed.id).await;
            assert_eq!(end.provider_message_id, provider_ref);
            ends.push((
                end.state,
                end.attempts,
                end.failure,
                end.provider,
                end.next_action_time,
                end.possible_duplicate,
            ));
        }
        assert_eq!(ends.len(), 120);
        let expected = (DeliveryState::Delivered, 1, None, Some(Provider::Twilio), None, false);
        assert!(ends.iter().all(|end| *end == expected), "{ends:?}");
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE poll_at IS NOT NULL").await, 0);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_failure_is_explained_wherever_the_settlement_comes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (n, order) in orders(&["sent", "undelivered", "settle"]).into_iter().enumerate() {
            let claimed = claimed(t, &scope, &format!("r{n}"), Channel::Sms).await;
            for step in order {
                if step == "settle" {
                    settle(t, &claimed, accepted(&format!("SM{n}"))).await;
                } else {
                    apply(t, Receipt { provider_ref: format!("SM{n}"), ..receipt(&claimed, step) }).await;
                }
            }
            let failed = delivery(t, &scope, claimed.id).await;
            let failure = failed.failure.unwrap();
            assert_eq!((failed.state, failure.reason), (DeliveryState::Failed, FailureReason::Unreachable));
            assert_eq!((failure.provider_code.as_str(), failure.fail_time), ("30003", t.now()));
        }
    }

    async fn a_repeat_changes_nothing_and_adds_nothing_to_the_feed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        for status in ["sent", "delivered"] {
            assert_eq!(apply(t, receipt(&claimed, status)).await, Applied::New);
        }
        let (before, head) = (delivery(t, &scope, claimed.id).await, t.store.feed_head(&scope).await.unwrap());
        let events = t.number("SELECT count(*) FROM delivery_event").await;
        t.advance(5);
        for status in ["delivered", "sent", "delivered"] {
            assert_eq!(apply(t, receipt(&claimed, status)).await, Applied::Repeat);
        }
        // A weaker report that is new is on record, and shows no difference.
        assert_eq!(apply(t, receipt(&claimed, "queued")).await, Applied::New);
        assert_eq!(delivery(t, &scope, claimed.id).await, before);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
        assert_eq!(t.number("SELECT count(*) FROM delivery_event").await, events + 1);
    }

    async fn twins_of_one_receipt_at_once_count_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        let applied = join_all((0..8).map(|n| apply(t, receipt(&claimed, ["delivered", "sent"][n % 2])))).await;
        assert_eq!(applied.iter().filter(|applied| **applied == Applied::New).count(), 2);
        assert_eq!(applied.iter().filter(|applied| **applied == Applied::Repeat).count(), 6);
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Delivered);
    }

    async fn a_receipt_before_the_reply_is_shown_at_once_and_the_settlement_closes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        apply(t, receipt(&claimed, "delivered")).await;
        let early = delivery(t, &scope, claimed.id).await;
        assert_eq!(
            (early.state, early.attempts, early.provider),
            (DeliveryState::Delivered, 1, Some(Provider::Twilio))
        );
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 1);
        settle(t, &claimed, unknown()).await;
        let settled = delivery(t, &scope, claimed.id).await;
        assert_eq!((settled.state, settled.next_action_time), (DeliveryState::Delivered, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_receipt_settles_a_doubt(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        apply(t, receipt(&claimed, "sent")).await;
        let sent = delivery(t, &scope, claimed.id).await;
        assert_eq!((sent.state, sent.next_action_time), (DeliveryState::Sent, None));
        assert_eq!((sent.provider_message_id.as_str(), sent.possible_duplicate), ("SM1", false));
        t.advance(3600);
        assert!(t.store.doubts_due(&t.engine, 10).await.unwrap().is_empty());
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 4").await, 1);
    }

    async fn a_receipt_stops_a_resend_that_was_decided(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        look_twice(t, &heedwell::domain::Look::Absent).await;
        assert!(!practices_due(t).await.is_empty());
        apply(t, receipt(&claimed, "delivered")).await;
        assert!(claim(t, &scope, 10).await.is_empty());
        assert!(practices_due(t).await.is_empty());
        let proved = delivery(t, &scope, claimed.id).await;
        assert_eq!((proved.state, proved.possible_duplicate), (DeliveryState::Delivered, false));
    }

    async fn a_receipt_of_the_first_attempt_after_the_second_shows_the_duplicate(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &heedwell::domain::Look::Absent).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, accepted("SM2")).await;
        assert!(!delivery(t, &scope, first.id).await.possible_duplicate);
        assert_eq!(apply(t, receipt(&first, "delivered")).await, Applied::New);
        let twice = delivery(t, &scope, first.id).await;
        assert_eq!((twice.state, twice.possible_duplicate), (DeliveryState::Delivered, true));
        assert_eq!(twice.provider_message_id, "SM2");
    }

    async fn tokens_are_good_for_their_own_practice_only(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        let foreign = t.store.receipt_apply(&callback(t, SOUTH), receipt(&claimed, "delivered")).await.unwrap();
        assert_eq!(foreign, Applied::Foreign);
        let unknown = Receipt { token: [9; 16], ..receipt(&claimed, "delivered") };
        assert_eq!(apply(t, unknown).await, Applied::UnknownToken);
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Pending);
        assert_eq!(changes(t, &scope, 0).await.len(), 1);
    }

    async fn a_dead_number_is_not_texted_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        let dead = Receipt { failure: Some(FailureReason::InvalidAddress), ..receipt(&claimed, "undelivered") };
        apply(t, dead).await;
        let next = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(next.deliveries[0].skip_reason, Some(SkipReason::AddressSuppressed));
    }

    async fn a_report_about_the_account_is_shown_as_its_health(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        let refused = Receipt {
            failure: Some(FailureReason::ProviderConfig),
            code: "30034".into(),
            ..receipt(&claimed, "undelivered")
        };
        apply(t, refused).await;
        let health = t.store.channel_health(&scope).await.unwrap();
        assert_eq!(health[0].failing.as_deref(), Some("30034"));
        assert_eq!(health[0].last_success_time, Some(t.now()));
    }

    async fn a_report_without_an_explanation_still_fails_with_a_reason(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        apply(t, Receipt { failure: None, ..receipt(&claimed, "undelivered") }).await;
        let failure = delivery(t, &scope, claimed.id).await.failure.unwrap();
        assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::Other, "30003"));
    }

    async fn a_provider_that_contradicts_its_own_no_is_believed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }).await;
        apply(t, receipt(&claimed, "delivered")).await;
        let delivered = delivery(t, &scope, claimed.id).await;
        assert_eq!((delivered.state, delivered.failure), (DeliveryState::Delivered, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }
}
