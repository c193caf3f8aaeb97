//! Deliveries that may go and are not let go yet: they are put aside without a trace, and their limits hold all the same.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    domain::{Channel, Class, Delivery, DeliveryState, FailureReason, Look, Scope, SkipReason, Verdict},
    store::{Failing, Leave, Taken, Turn},
};
use uuid::Uuid;

use super::{
    given::{NORTH, Order, claim_one, delivery, look_twice, practices_due, ready_practice, settle, unknown},
    *,
};

pub(super) fn turn(scope: &Scope) -> Turn {
    let practice = scope.practice().clone();
    Turn { worker: Uuid::from_u128(1), practice, class: Class::Normal, limit: 10, mark: None }
}

/// Claims while nobody is let go before `at`.
async fn park(t: &TestStore, scope: &Scope, at: DateTime<Utc>, failing: Option<Failing>) -> Taken {
    let leave = move |_: &heedwell::store::Handover<'_>| Leave::Later { at, failing: failing.clone() };
    let taken = t.store.claim(&t.engine, turn(scope), leave).await.unwrap();
    assert!(taken.claimed.is_empty(), "who is parked takes no slot");
    taken
}

pub(super) fn refused() -> Option<Failing> {
    Some(Failing { reason: FailureReason::ProviderConfig, code: "20003".into() })
}

async fn only(t: &TestStore, scope: &Scope) -> Delivery {
    let page = t.store.deliveries_list(scope, &Default::default(), (None, None), None, 10).await.unwrap();
    <[Delivery; 1]>::try_from(page.deliveries).unwrap().into_iter().next().unwrap()
}

on_both! {
    async fn parking_shows_nothing_and_ends_by_itself(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let taken = park(t, &scope, t.now() + TimeDelta::seconds(90), None).await;
        assert_eq!(taken.seen, 1);
        assert_eq!(t.store.notification_get(&scope, record.id).await.unwrap(), record);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 1);
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
        assert_eq!(t.number("SELECT count(*) FROM delivery_event").await, 1);

        t.advance(89);
        assert!(practices_due(t).await.is_empty());
        assert_eq!(park(t, &scope, t.now(), None).await.seen, 0);
        t.advance(1);
        assert_eq!(practices_due(t).await, [scope.practice().clone()]);
        let claimed = claim_one(t, &scope).await;
        assert_eq!((claimed.attempt, claimed.epoch), (1, 1));
    }

    async fn whoever_decides_is_told_what_it_takes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        t.execute("UPDATE delivery SET sms_segments = 3").await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let leave = |at| {
            let told = Arc::clone(&told);
            move |it: &heedwell::store::Handover<'_>| {
                told.lock().unwrap().push((it.class, it.segments, it.again, it.parked, it.account.name()));
                if it.now < at { Leave::Later { at, failing: None } } else { Leave::Now }
            }
        };
        let at = t.now() + TimeDelta::seconds(10);
        assert!(t.store.claim(&t.engine, turn(&scope), leave(at)).await.unwrap().claimed.is_empty());
        t.advance(10);
        let taken = t.store.claim(&t.engine, turn(&scope), leave(at)).await.unwrap();
        settle(t, &taken.claimed[0], Verdict::NotTaken { retry_after: None, code: "20429".into() }).await;
        t.advance(60);
        assert_eq!(t.store.claim(&t.engine, turn(&scope), leave(at)).await.unwrap().claimed.len(), 1);
        let account = "AC00000000000000000000000000000001".to_owned();
        let expected = [(false, false), (false, true), (true, false)]
            .map(|(again, parked)| (Class::Normal, 3, again, parked, account.clone()));
        assert_eq!(*told.lock().unwrap(), expected);
    }

    async fn what_goes_out_once_more_after_a_doubt_is_no_repeat(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::Absent).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let leave = move |it: &heedwell::store::Handover<'_>| {
            tell.lock().unwrap().push(it.again);
            Leave::Now
        };
        assert_eq!(t.store.claim(&t.engine, turn(&scope), leave).await.unwrap().claimed[0].attempt, 2);
        assert_eq!(*told.lock().unwrap(), [false]);
    }

    async fn a_parked_delivery_expires_in_its_time(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::minutes(1), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        park(t, &scope, t.now() + TimeDelta::hours(9), refused()).await;
        // Twilio would not be given less than five seconds.
        t.advance(55);
        park(t, &scope, t.now() + TimeDelta::hours(9), refused()).await;
        let skipped = only(t, &scope).await;
        assert_eq!((skipped.state, skipped.skip_reason), (DeliveryState::Skipped, Some(SkipReason::Expired)));
    }

    async fn a_faulty_account_ends_it_where_retries_end_though_it_was_not_tried_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::hours(72), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, Verdict::Misconfigured { code: "20003".into(), account: true }).await;
        Order { lasts: TimeDelta::hours(72), ..Order::new("r2", &[Channel::Sms]) }.accept(t, &scope).await;
        t.advance(60);
        park(t, &scope, t.now() + TimeDelta::hours(100), refused()).await;
        t.advance(24 * 3600 - 61);
        assert_eq!(park(t, &scope, t.now() + TimeDelta::hours(100), refused()).await.seen, 0);
        t.advance(1);
        park(t, &scope, t.now() + TimeDelta::hours(100), refused()).await;
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        let page = t.store.deliveries_list(&scope, &Default::default(), (None, None), None, 10).await.unwrap();
        for failed in page.deliveries {
            assert_eq!((failed.state, failed.attempts), (DeliveryState::Failed, i32::from(failed.id == first.id)));
            let failure = failed.failure.unwrap();
            assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::ProviderConfig, "20003"));
        }
    }

    async fn a_repeat_that_waits_for_its_turn_is_given_up_where_retries_end(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::hours(72), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, Verdict::NotTaken { retry_after: None, code: "20429".into() }).await;
        t.advance(24 * 3600);
        park(t, &scope, t.now() + TimeDelta::hours(1), None).await;
        let failure = delivery(t, &scope, first.id).await.failure.unwrap();
        assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::ProviderUnavailable, "20429"));
    }

    async fn the_pace_of_a_sender_is_no_reason_to_give_up_what_was_never_tried(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::hours(72), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        for _ in 0..2 {
            t.advance(24 * 3600);
            park(t, &scope, t.now() + TimeDelta::hours(1), None).await;
            assert_eq!(only(t, &scope).await.state, DeliveryState::Pending);
        }
        t.advance(3600);
        claim_one(t, &scope).await;
    }

    async fn what_may_have_arrived_is_not_called_failed_when_it_is_given_up(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { lasts: TimeDelta::hours(72), ..Order::new("r1", &[Channel::Email]) };
        order.accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, unknown()).await;
        given::look_twice(t, &heedwell::domain::Look::NoList).await;
        t.advance(24 * 3600);
        park(t, &scope, t.now() + TimeDelta::hours(1), refused()).await;
        let closed = only(t, &scope).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_back_off_is_not_cut_short_by_having_been_parked(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        park(t, &scope, t.now() + TimeDelta::seconds(30), None).await;
        t.advance(30);
        let claimed = claim_one(t, &scope).await;
        let busy = Verdict::NotTaken { retry_after: Some(std::time::Duration::from_secs(40)), code: "20429".into() };
        settle(t, &claimed, busy).await;
        t.advance(39);
        assert!(practices_due(t).await.is_empty());
        t.advance(1);
        claim_one(t, &scope).await;
    }
}
