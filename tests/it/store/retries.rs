//! Sending again: a new delivery of the same text, once per delivery and once per key, decided on anew.

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{
        Channel, Delivery, DeliveryId, DeliveryState, Facts, FailureReason, Kind, Look, Patient, Scope, SkipReason,
        Verdict,
    },
    store::{Claimed, Destination, NewRetry, Retried, StoreError},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, changes, claim, claim_one, claimed, delivery, last_line, look_twice, patient,
        phone, ready_practice, report, settle, unknown,
    },
    *,
};

fn wish(request_id: &str, delivery: DeliveryId) -> NewRetry {
    NewRetry { request_id: request_id.into(), fingerprint: [7; 32], delivery }
}

async fn retry(t: &TestStore, scope: &Scope, request_id: &str, id: DeliveryId) -> Delivery {
    match t.store.delivery_retry(scope, wish(request_id, id)).await.unwrap() {
        Retried::New(delivery) => delivery,
        other => panic!("not made anew: {other:?}"),
    }
}

/// The state that forbids it. Nothing must be left of the wish.
async fn forbidden(t: &TestStore, scope: &Scope, id: DeliveryId) -> &'static str {
    let before = (t.number("SELECT count(*) FROM idem").await, t.store.feed_head(scope).await.unwrap());
    let Err(StoreError::StateForbids { state, message }) = t.store.delivery_retry(scope, wish("no", id)).await else {
        panic!("it is not forbidden")
    };
    assert!(!message.is_empty());
    let after = (t.number("SELECT count(*) FROM idem").await, t.store.feed_head(scope).await.unwrap());
    assert_eq!(before, after);
    state
}

pub(super) fn refused() -> Verdict {
    Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }
}

/// A text message that the provider refused for good.
pub(super) async fn failed(t: &TestStore, scope: &Scope, request_id: &str) -> Claimed {
    let claimed = claimed(t, scope, request_id, Channel::Sms).await;
    settle(t, &claimed, refused()).await;
    claimed
}

/// A text message of which nobody knows what became.
async fn undecided(t: &TestStore, scope: &Scope, request_id: &str) -> Claimed {
    let claimed = claimed(t, scope, request_id, Channel::Sms).await;
    settle(t, &claimed, unknown()).await;
    look_twice(t, &Look::Several).await;
    claimed
}

on_both! {
    async fn what_failed_is_sent_again_as_a_new_delivery(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { reference: "visit-7".into(), ..Order::new("r1", &[Channel::Sms, Channel::Email]) };
        let record = order.accept(t, &scope).await;
        for claimed in claim(t, &scope, 10).await {
            let verdict = if claimed.channel == Channel::Sms { refused() } else { accepted("") };
            settle(t, &claimed, verdict).await;
        }
        let id = record.deliveries[1].id;
        let old = delivery(t, &scope, id).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        t.advance(60);

        let new = retry(t, &scope, "again", id).await;
        assert_eq!((new.state, new.revision, new.attempts), (DeliveryState::Pending, 1, 0));
        assert_eq!((new.channel, new.source, new.kind, &new.patient), (old.channel, old.source, old.kind, &old.patient));
        assert_eq!((new.reference.as_str(), &new.address_hint), ("visit-7", &old.address_hint));
        assert_eq!((new.create_time, new.next_action_time, new.sms_segments), (t.now(), Some(t.now()), 1));
        assert_eq!((new.retry_of, new.retried_by, new.possible_duplicate), (Some(id), None, false));
        assert_eq!((&new.failure, new.provider, new.provider_message_id.as_str()), (&None, None, ""));
        let linked = delivery(t, &scope, id).await;
        let expected = Delivery { retried_by: Some(new.id), revision: old.revision + 1, update_time: t.now(), ..old };
        assert_eq!(linked, expected);
        assert_eq!(changes(t, &scope, head).await, [linked.clone(), new.clone()]);

        let detail = t.store.notification_detail(&scope, record.id, true).await.unwrap();
        let shown: Vec<_> = detail.record.deliveries.iter().map(|delivery| delivery.id).collect();
        assert_eq!(shown, [record.deliveries[0].id, id, new.id], "a retry follows what it repeats");
        let [_, (of_old, text), (of_new, same)] = &detail.details[..] else { panic!("three deliveries") };
        assert!(text.is_some() && text == same);
        assert_eq!(of_old.last().unwrap().detail, "Sent again as a new delivery.");
        let [line] = &of_new[..] else { panic!("one line") };
        assert_eq!((line.detail.as_str(), line.actor.id.as_str()), ("Sent again at the request of staff.", "front-desk"));

        let claimed = claim_one(t, &scope).await;
        assert_eq!((claimed.id, claimed.attempt, claimed.expires_at), (new.id, 1, t.now() + TimeDelta::hours(12)));
        settle(t, &claimed, accepted("SM2")).await;
        assert_eq!(delivery(t, &scope, new.id).await.state, DeliveryState::Sent);
        assert_eq!(delivery(t, &scope, id).await, linked);
    }

    async fn what_stayed_unconfirmed_is_sent_again_with_a_flag(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let old = undecided(t, &scope, "r1").await;
        let new = retry(t, &scope, "again", old.id).await;
        assert!(new.possible_duplicate);
        assert_eq!(delivery(t, &scope, old.id).await.state, DeliveryState::Unconfirmed);
        // Late evidence still moves the old one.
        report(t, &scope, &old, Facts::DELIVERED).await;
        let now = delivery(t, &scope, old.id).await;
        assert_eq!((now.state, now.retried_by), (DeliveryState::Delivered, Some(new.id)));
        assert_eq!(delivery(t, &scope, new.id).await, new);
    }

    async fn nothing_else_may_be_sent_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = Order::new("r1", &[Channel::Sms, Channel::Push]).accept(t, &scope).await;
        let id = first.deliveries[0].id;
        assert_eq!(forbidden(t, &scope, first.deliveries[1].id).await, "skipped");
        assert_eq!(forbidden(t, &scope, id).await, "pending");
        let claimed = claim_one(t, &scope).await;
        assert_eq!(forbidden(t, &scope, id).await, "pending");
        settle(t, &claimed, unknown()).await;
        assert_eq!(forbidden(t, &scope, id).await, "unconfirmed");
        look_twice(t, &Look::Absent).await;
        assert_eq!(forbidden(t, &scope, id).await, "unconfirmed");
        let claimed = claim_one(t, &scope).await;
        assert_eq!(forbidden(t, &scope, id).await, "unconfirmed");
        settle(t, &claimed, accepted(&claimed.callback_token())).await;
        assert_eq!(forbidden(t, &scope, id).await, "sent");
        report(t, &scope, &claimed, Facts::DELIVERED).await;
        assert_eq!(forbidden(t, &scope, id).await, "delivered");

        let stopped = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        t.store.notification_cancel(&scope, stopped.id).await.unwrap();
        assert_eq!(forbidden(t, &scope, stopped.deliveries[0].id).await, "cancelled");

        let record = Order::new("r3", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        for claimed in claim(t, &scope, 10).await {
            if claimed.channel == Channel::Sms {
                settle(t, &claimed, refused()).await;
            }
        }
        t.store.notification_cancel(&scope, record.id).await.unwrap();
        assert_eq!(forbidden(t, &scope, record.deliveries[1].id).await, "source_cancelled");

        let gone = failed(t, &scope, "r4").await;
        t.execute("DELETE FROM content").await;
        assert_eq!(forbidden(t, &scope, gone.id).await, "text_removed");
    }

    async fn a_delivery_is_sent_again_once_and_then_its_retry_is(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = undecided(t, &scope, "r1").await;
        let second = retry(t, &scope, "again", first.id).await;
        assert_eq!(forbidden(t, &scope, first.id).await, "retried");
        assert_eq!(forbidden(t, &scope, second.id).await, "pending");
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, refused()).await;
        let third = retry(t, &scope, "once more", second.id).await;
        assert_eq!(third.retry_of, Some(second.id));
        assert!(third.possible_duplicate, "the first may have arrived");
        assert_eq!(forbidden(t, &scope, second.id).await, "retried");
    }

    async fn an_unknown_or_foreign_delivery_is_not_found(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let old = failed(t, &north, "r1").await;
        for (scope, id) in [(&south, old.id), (&north, DeliveryId(uuid::Uuid::nil()))] {
            let answer = t.store.delivery_retry(scope, wish("again", id)).await;
            assert!(matches!(answer, Err(StoreError::NotFound("delivery"))), "{answer:?}");
        }
        assert_eq!(t.number("SELECT count(*) FROM idem").await, 1);
        let absent = t.store.delivery_retry(&t.scope("nowhere"), wish("again", old.id)).await;
        assert!(matches!(absent, Err(StoreError::NotFound("practice"))));
    }

    async fn everything_is_decided_anew(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let moved = failed(t, &scope, "moved").await;
        let inactive = failed(t, &scope, "inactive").await;
        let opted_out = failed(t, &scope, "opted-out").await;
        let unlisted = failed(t, &scope, "unlisted").await;
        let number = phone("+12025550199");
        t.store.patients_put(&scope, vec![Patient { mobile_phone: Some(number.clone()), ..patient("maria") }]).await.unwrap();
        let new = retry(t, &scope, "again", moved.id).await;
        assert_eq!((new.state, new.address_hint.as_str()), (DeliveryState::Pending, "(•••) •••-0199"));
        let claimed = claim_one(t, &scope).await;
        assert!(matches!(claimed.destination, Destination::Phone(phone) if phone == number));

        t.execute("UPDATE recipient_gate SET consent = 2 WHERE channel = 3 AND subject_kind = 1").await;
        let new = retry(t, &scope, "opted-out", opted_out.id).await;
        assert_eq!((new.state, new.skip_reason), (DeliveryState::Skipped, Some(SkipReason::OptedOut)));
        assert_eq!((new.next_action_time, new.retry_of), (None, Some(opted_out.id)));
        let line = last_line(t, &scope, &new).await;
        assert_eq!(line.detail, "To be sent again at the request of staff, and not sent: see the reason.");
        assert_eq!(forbidden(t, &scope, new.id).await, "skipped");

        t.store.patients_put(&scope, vec![Patient { inactive: true, ..patient("maria") }]).await.unwrap();
        let new = retry(t, &scope, "inactive", inactive.id).await;
        assert_eq!((new.state, new.skip_reason), (DeliveryState::Skipped, Some(SkipReason::PatientInactive)));
        t.execute("DELETE FROM patient").await;
        let new = retry(t, &scope, "unlisted", unlisted.id).await;
        assert_eq!((new.state, new.skip_reason), (DeliveryState::Skipped, Some(SkipReason::PatientInactive)));
        assert_eq!((t.store.open_deliveries(&t.engine).await.unwrap(), claim(t, &scope, 10).await.len()), (1, 0));
    }

    async fn the_usual_end_starts_anew_and_the_senders_still_holds(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let visit = t.now() + TimeDelta::hours(20);
        let orders = [
            ("usual", true, None, Some(t.now() + TimeDelta::hours(22))),
            ("visit", true, Some(visit), Some(visit)),
            ("asked", false, None, None),
        ];
        let mut failures = Vec::new();
        for (request_id, default_expiry, visit_time, end) in orders {
            Order { default_expiry, visit_time, lasts: TimeDelta::hours(9), ..Order::new(request_id, &[Channel::Sms]) }
                .accept(t, &scope)
                .await;
            let claimed = claim_one(t, &scope).await;
            settle(t, &claimed, refused()).await;
            failures.push((request_id, claimed.id, end));
        }
        t.advance(10 * 3_600);
        for (request_id, id, end) in failures {
            let new = retry(t, &scope, request_id, id).await;
            let Some(end) = end else {
                assert_eq!((new.state, new.skip_reason), (DeliveryState::Skipped, Some(SkipReason::Expired)));
                continue;
            };
            let claimed = claim_one(t, &scope).await;
            assert_eq!((claimed.id, claimed.expires_at), (new.id, end), "{request_id}");
        }
    }

    async fn tries_of_a_retry_end_a_day_after_it_was_made(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { default_expiry: false, lasts: TimeDelta::days(9), ..Order::new("r1", &[Channel::Sms]) };
        order.accept(t, &scope).await;
        let old = claim_one(t, &scope).await;
        settle(t, &old, refused()).await;
        t.advance(3 * 24 * 3_600);
        let new = retry(t, &scope, "again", old.id).await;
        let busy = || Verdict::NotTaken { retry_after: None, code: "20429".into() };
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, busy()).await;
        assert_eq!(delivery(t, &scope, new.id).await.state, DeliveryState::Pending);
        t.advance(24 * 3_600);
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, busy()).await;
        assert_eq!(delivery(t, &scope, new.id).await.state, DeliveryState::Failed);
    }

    async fn a_key_makes_one_retry_however_often_it_comes(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let (one, other) = (failed(t, &north, "r1").await, failed(t, &north, "r2").await);
        let foreign = failed(t, &south, "r1").await;
        // The key of a notification is another one.
        let new = retry(t, &north, "r1", one.id).await;
        let again = |fingerprint, id| NewRetry { fingerprint, ..wish("r1", id) };
        assert_eq!(t.store.delivery_retry(&north, again([7; 32], one.id)).await.unwrap(), Retried::Replayed(new.clone()));
        let reused = t.store.delivery_retry(&north, again([8; 32], other.id)).await.unwrap();
        assert_eq!(reused, Retried::KeyReused(new.id));
        assert_eq!(delivery(t, &north, other.id).await.retried_by, None);
        assert_ne!(retry(t, &south, "r1", foreign.id).await.id, new.id);

        // Long after, the answer is the thing as it is now.
        let claimed = claim_one(t, &north).await;
        settle(t, &claimed, accepted("SM1")).await;
        t.advance(100 * 24 * 3_600);
        t.store.deliveries_count(&t.engine, 1_000).await.unwrap();
        t.store.feed_forget(&t.engine, t.now() - TimeDelta::days(7), 1_000).await.unwrap();
        let now = delivery(t, &north, new.id).await;
        assert_eq!(now.state, DeliveryState::Sent);
        assert_eq!(t.store.delivery_retry(&north, again([7; 32], one.id)).await.unwrap(), Retried::Replayed(now));
    }

    async fn sixteen_twins_at_once_make_one_retry(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let old = failed(t, &scope, "r1").await;
        let done = join_all((0..16).map(|_| t.store.delivery_retry(&scope, wish("again", old.id)))).await;
        let mut made = Vec::new();
        for done in done {
            match done.unwrap() {
                Retried::New(delivery) => made.insert(0, delivery.id),
                Retried::Replayed(delivery) => made.push(delivery.id),
                Retried::KeyReused(id) => panic!("reused by {id}"),
            }
        }
        assert_eq!(made.len(), 16);
        assert!(made.iter().all(|id| *id == made[0]));
        assert_eq!(t.number("SELECT count(*) FROM delivery").await, 2);
    }

    async fn of_sixteen_who_press_the_button_at_once_one_has_it_sent(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let old = failed(t, &scope, "r1").await;
        let keys: Vec<String> = (0..16).map(|n| format!("again-{n}")).collect();
        let done = join_all(keys.iter().map(|key| t.store.delivery_retry(&scope, wish(key, old.id)))).await;
        let (made, late): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), late.len()), (1, 15));
        for error in late {
            assert!(matches!(error, Err(StoreError::StateForbids { state: "retried", .. })), "{error:?}");
        }
        assert_eq!(t.number("SELECT count(*) FROM idem").await, 2);
    }

    async fn what_is_proved_later_flags_all_that_was_sent_since(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, accepted(&first.callback_token())).await;
        report(t, &scope, &first, Facts::UNDELIVERED).await;
        let second = retry(t, &scope, "again", first.id).await;
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, refused()).await;
        let third = retry(t, &scope, "once more", second.id).await;
        assert!(!second.possible_duplicate && !third.possible_duplicate);

        // That it was on its way proves nothing of its arrival.
        report(t, &scope, &first, Facts::SENT_TO_CARRIER).await;
        assert!(!delivery(t, &scope, second.id).await.possible_duplicate);
        report(t, &scope, &first, Facts::DELIVERED).await;
        for id in [second.id, third.id] {
            let flagged = delivery(t, &scope, id).await;
            assert!(flagged.possible_duplicate);
            let line = last_line(t, &scope, &flagged).await.detail;
            assert_eq!(line, "The delivery that this one repeats has reached the provider after all.");
        }
        let head = t.store.feed_head(&scope).await.unwrap();
        report(t, &scope, &first, Facts::READ).await;
        assert_eq!(changes(t, &scope, head).await, [], "it is flagged once");
    }

    async fn late_answers_and_looks_prove_as_well_as_reports(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        // A worker that was given up for dead brings the provider's yes.
        let slow = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(61);
        t.store.rescue(&t.engine, false).await.unwrap();
        look_twice(t, &Look::Absent).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, refused()).await;
        assert_eq!(delivery(t, &scope, slow.id).await.state, DeliveryState::Failed);
        let new = retry(t, &scope, "again", slow.id).await;
        assert!(!new.possible_duplicate, "it was twice not there");
        settle(t, &slow, accepted(&slow.callback_token())).await;
        assert!(delivery(t, &scope, new.id).await.possible_duplicate);
    }

    async fn mail_that_came_back_after_it_was_delivered_is_sent_again_with_a_flag(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut news = Vec::new();
        for (request_id, words) in [("r1", vec![Facts::DELIVERED, Facts::BOUNCED]), ("r2", vec![Facts::BOUNCED])] {
            let claimed = claimed(t, &scope, request_id, Channel::Email).await;
            settle(t, &claimed, accepted(&claimed.callback_token())).await;
            for facts in words {
                report(t, &scope, &claimed, facts).await;
            }
            assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Failed);
            news.push(retry(t, &scope, &format!("again-{request_id}"), claimed.id).await.possible_duplicate);
            claim_one(t, &scope).await;
        }
        assert_eq!(news, [true, false]);
    }

    async fn a_failure_that_came_while_it_is_still_handed_over_is_flagged(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        report(t, &scope, &claimed, Facts::UNDELIVERED).await;
        let new = retry(t, &scope, "again", claimed.id).await;
        assert!(new.possible_duplicate, "the call has not ended");
        settle(t, &claimed, accepted(&claimed.callback_token())).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Failed);
    }

    async fn a_broadcasts_share_is_sent_again_within_the_broadcast(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let old = failed(t, &scope, "r1").await;
        let id = uuid::Uuid::from_u128(7);
        let value = if t.home.backend == crate::support::Backend::Sqlite {
            format!("x'{}'", id.simple())
        } else {
            format!("'{id}'")
        };
        for table in ["notification", "delivery"] {
            t.execute(&format!("UPDATE {table} SET broadcast_id = {value}")).await;
        }
        let new = retry(t, &scope, "again", old.id).await;
        assert_eq!(new.broadcast, Some(id));
        assert_eq!(claim_one(t, &scope).await.expires_at, t.now() + TimeDelta::hours(24));
    }

    async fn an_in_app_message_that_failed_is_filed_after_all(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let at = Some(t.now() + TimeDelta::hours(1));
        let order = Order { kind: Kind::System, security: true, schedule_time: at, ..Order::new("r1", &[Channel::InApp]) };
        let record = order.accept(t, &scope).await;
        t.execute("UPDATE delivery SET kind = 99").await;
        t.advance(3_600);
        claim(t, &scope, 10).await;
        t.execute("UPDATE delivery SET kind = 9").await;
        let id = record.deliveries[0].id;
        let old = delivery(t, &scope, id).await;
        assert_eq!((old.state, old.failure.unwrap().reason), (DeliveryState::Failed, FailureReason::Internal));
        let new = retry(t, &scope, "again", id).await;
        assert_eq!(new.state, DeliveryState::Pending);
        claim(t, &scope, 10).await;
        assert_eq!(delivery(t, &scope, new.id).await.state, DeliveryState::Delivered);
        assert_eq!(t.number("SELECT count(*) FROM inbox_item WHERE security").await, 1);
    }

    async fn a_cancel_and_a_retry_at_once_leave_nothing_that_goes(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (mut made, mut late) = (0, 0);
        for round in 0..8 {
            let record = Order::new(&format!("r{round}"), &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
            for claimed in claim(t, &scope, 10).await {
                if claimed.channel == Channel::Sms {
                    settle(t, &claimed, refused()).await;
                } else {
                    settle(t, &claimed, Verdict::NotTaken { retry_after: None, code: "421".into() }).await;
                }
            }
            let key = format!("again-{round}");
            let retried = t.store.delivery_retry(&scope, wish(&key, record.deliveries[1].id));
            let (retried, cancelled) = join(retried, t.store.notification_cancel(&scope, record.id)).await;
            let stopped = cancelled.unwrap().deliveries;
            match retried {
                Ok(Retried::New(_)) => {
                    made += 1;
                    assert_eq!(stopped, 2);
                }
                Err(StoreError::StateForbids { state: "source_cancelled", .. }) => {
                    late += 1;
                    assert_eq!(stopped, 1);
                }
                other => panic!("{other:?}"),
            }
            t.advance(3_600);
            assert!(claim(t, &scope, 10).await.is_empty());
            assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        }
        assert_eq!(made + late, 8);
    }
}
