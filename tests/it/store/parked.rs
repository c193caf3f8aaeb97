//! Reports whose attempt is not here: they wait, sealed, and are applied when it turns up, or go after three days.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{Author, Channel, DeliveryState, Facts, FailureReason, Provider, Scope},
    store::{Applied, Claimed, Parked, Receipt},
};

use super::{
    given::{NORTH, SOUTH, accepted, claimed, delivery, ready_practice, settle},
    *,
};
use crate::support::Backend;

/// How many may wait for one practice.
const MOST: i64 = 2_000;

fn receipt(token: [u8; 16], status: &str) -> Receipt {
    Receipt {
        token,
        provider_ref: "SM1".into(),
        facts: if status == "delivered" { Facts::DELIVERED } else { Facts::SENT_TO_CARRIER },
        status: status.into(),
        code: String::new(),
        failure: None,
    }
}

fn twilio(t: &TestStore, practice: &str) -> Scope {
    t.engine.scope(practice.parse().unwrap(), Author::provider("twilio"))
}

async fn park(t: &TestStore, receipt: &Receipt) -> Parked {
    t.store.receipt_park(&twilio(t, NORTH), Provider::Twilio, receipt).await.unwrap()
}

async fn waiting(t: &TestStore) -> i64 {
    t.number("SELECT count(*) FROM callback_inbox").await
}

async fn retry(t: &TestStore) -> usize {
    t.store.parked_retry(&t.engine, 100).await.unwrap()
}

/// As a database that was restored from before the attempt, or one that is behind. Done again, the attempts are there.
async fn hide_attempts(t: &TestStore) {
    t.execute("UPDATE attempt SET token = address_bi, address_bi = token").await;
}

async fn show_attempts(t: &TestStore) {
    hide_attempts(t).await;
}

async fn sent(t: &TestStore, scope: &Scope) -> Claimed {
    let claimed = claimed(t, scope, "r1", Channel::Sms).await;
    settle(t, &claimed, accepted("SM1")).await;
    claimed
}

on_both! {
    async fn a_report_waits_until_its_attempt_turns_up(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = sent(t, &scope).await;
        hide_attempts(t).await;
        let report = receipt(claimed.token, "delivered");
        assert_eq!(t.store.receipt_apply(&twilio(t, NORTH), report.clone()).await.unwrap(), Applied::UnknownToken);
        assert_eq!(park(t, &report).await, Parked::Kept);
        assert_eq!(retry(t).await, 0, "not at once");
        for pause in [10, 40, 160, 640, 2_560, 3_600, 3_600] {
            t.advance(pause - 1);
            assert_eq!(retry(t).await, 0, "{pause}");
            t.advance(1);
            assert_eq!(retry(t).await, 1, "{pause}");
        }
        show_attempts(t).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Sent);
        t.advance(3_600);
        assert_eq!(retry(t).await, 1);
        let delivered = delivery(t, &scope, claimed.id).await;
        assert_eq!((delivered.state, waiting(t).await), (DeliveryState::Delivered, 0));
        let line = "SELECT count(*) FROM delivery_event WHERE provider_status = 'delivered' AND actor_id = 'twilio'";
        assert_eq!(t.number(line).await, 1);
        assert_eq!(t.store.receipt_apply(&twilio(t, NORTH), report).await.unwrap(), Applied::Repeat);
    }

    async fn a_report_of_another_practices_attempt_is_not_kept(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let claimed = sent(t, &scope).await;
        let report = receipt(claimed.token, "delivered");
        assert_eq!(t.store.receipt_apply(&twilio(t, SOUTH), report.clone()).await.unwrap(), Applied::Foreign);
        // One that was kept before the attempt turned up to be another's goes when it is tried.
        t.store.receipt_park(&twilio(t, SOUTH), Provider::Twilio, &report).await.unwrap();
        t.advance(10);
        assert_eq!((retry(t).await, waiting(t).await), (1, 0));
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Sent);
    }

    async fn nothing_of_a_report_is_lost_while_it_waits(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = sent(t, &scope).await;
        hide_attempts(t).await;
        let failed = Receipt {
            facts: Facts::UNDELIVERED,
            code: "30005".into(),
            failure: Some(FailureReason::InvalidAddress),
            ..receipt(claimed.token, "undelivered")
        };
        park(t, &failed).await;
        show_attempts(t).await;
        t.advance(10);
        assert_eq!(retry(t).await, 1);
        let failure = delivery(t, &scope, claimed.id).await.failure.unwrap();
        assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::InvalidAddress, "30005"));
    }

    async fn repeats_wait_once(t: &TestStore) {
        ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let kept = join_all((0..8).map(|_| async { park(t, &receipt([1; 16], "sent")).await })).await;
        assert!(kept.iter().all(|kept| *kept == Parked::Kept));
        assert_eq!(waiting(t).await, 1);
        park(t, &receipt([1; 16], "delivered")).await;
        park(t, &receipt([2; 16], "sent")).await;
        assert_eq!(waiting(t).await, 3);
        // The same report at a neighbour is another one.
        t.store.receipt_park(&twilio(t, SOUTH), Provider::Twilio, &receipt([1; 16], "sent")).await.unwrap();
        assert_eq!(waiting(t).await, 4);
    }

    async fn what_does_not_turn_up_in_three_days_goes_and_is_counted(t: &TestStore) {
        ready_practice(t, NORTH).await;
        park(t, &receipt([1; 16], "sent")).await;
        t.advance(60);
        park(t, &receipt([2; 16], "sent")).await;
        t.advance(71 * 3_600);
        assert_eq!(retry(t).await, 2);
        assert_eq!((waiting(t).await, t.store.counts().reports_dropped), (2, 0));
        t.advance(3_540);
        assert_eq!(retry(t).await, 2);
        assert_eq!((waiting(t).await, t.store.counts().reports_dropped), (1, 1));
        // The last try is at the end of its time, and not put off beyond.
        t.advance(60);
        assert_eq!(retry(t).await, 1);
        assert_eq!((waiting(t).await, t.store.counts().reports_dropped), (0, 2));
    }

    async fn a_flood_of_one_practice_is_bounded_and_does_not_touch_the_others(t: &TestStore) {
        ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let key = if t.home.backend == Backend::Sqlite { "CAST(i AS BLOB)" } else { "convert_to(i::text, 'UTF8')" };
        let now = t.now().to_rfc3339();
        t.execute(&format!(
            "INSERT INTO callback_inbox (provider, dedupe_key, practice_id, body_ct, received_at, tries) \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) \
             SELECT 2, {key}, '{NORTH}', {key}, '{now}', 0 FROM n",
            MOST - 1
        ))
        .await;
        assert_eq!(park(t, &receipt([1; 16], "sent")).await, Parked::Kept);
        assert_eq!(park(t, &receipt([2; 16], "sent")).await, Parked::Full);
        assert_eq!(park(t, &receipt([1; 16], "sent")).await, Parked::Kept, "it is there already");
        assert_eq!(waiting(t).await, MOST);
        let elsewhere = t.store.receipt_park(&twilio(t, SOUTH), Provider::Twilio, &receipt([2; 16], "sent")).await;
        assert_eq!(elsewhere.unwrap(), Parked::Kept);
    }

    async fn one_that_cannot_be_read_does_not_hold_up_the_others(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = sent(t, &scope).await;
        park(t, &receipt([1; 16], "sent")).await;
        t.execute("UPDATE callback_inbox SET body_ct = dedupe_key").await;
        park(t, &receipt(claimed.token, "delivered")).await;
        t.advance(10);
        assert_eq!(retry(t).await, 2);
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Delivered);
        assert_eq!(waiting(t).await, 1);
        t.advance(72 * 3_600);
        assert_eq!(retry(t).await, 1);
        assert_eq!((waiting(t).await, t.store.counts().reports_dropped), (0, 1));
    }

    async fn replicas_try_each_report_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = sent(t, &scope).await;
        park(t, &receipt(claimed.token, "delivered")).await;
        for n in 1..=20 {
            park(t, &receipt([n; 16], "sent")).await;
        }
        t.advance(10);
        let tried = join_all((0..4).map(|_| t.store.parked_retry(&t.engine, 21))).await;
        assert_eq!(tried.into_iter().map(Result::unwrap).sum::<usize>(), 21);
        assert_eq!((waiting(t).await, retry(t).await), (20, 0));
        assert_eq!(t.number("SELECT count(*) FROM callback_inbox WHERE tries = 1").await, 20);
        assert_eq!(delivery(t, &scope, claimed.id).await.deliver_time, Some(t.now()));
        assert_eq!(t.now() - delivery(t, &scope, claimed.id).await.send_time.unwrap(), TimeDelta::seconds(10));
    }
}
