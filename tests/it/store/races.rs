//! Races: an opt-out against a claim, with a barrier, and everything against everything.

#![expect(clippy::too_many_lines, reason = "a race is told in one piece")]

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU8, Ordering},
    },
};

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::{Channel, DeliveryFilter, DeliveryState, Facts, FailureReason, Kind, Look, Patient, Verdict},
    store::{Claimed, NewLink, NewRetry, Receipt, StoreError},
};
use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::{
    given::{
        NORTH, Order, accepted, claim, claim_as, delivery, patient, phone, ready_practice, receipt, settle_all,
        settlement, unknown,
    },
    *,
};
use crate::support::Backend;

async fn run(raw: &DatabaseConnection, statement: &str) {
    raw.execute_unprepared(statement).await.unwrap();
}

on_both! {
    async fn an_opt_out_that_is_committing_is_waited_for_and_then_seen(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (subject_kind, request_id) in [(1, "r1"), (2, "r2")] {
            let record = Order::new(request_id, &[Channel::Sms]).accept(t, &scope).await;
            let begin = if t.home.backend == Backend::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
            run(&t.raw, begin).await;
            let gate = format!("channel = 3 AND subject_kind = {subject_kind}");
            run(&t.raw, &format!("UPDATE recipient_gate SET consent = 2 WHERE {gate}")).await;
            let opt_out = async {
                t.somebody_waits().await;
                run(&t.raw, "COMMIT").await;
            };
            let (claimed, ()) = join(claim(t, &scope, 10), opt_out).await;
            assert!(claimed.is_empty());
            let skipped = delivery(t, &scope, record.deliveries[0].id).await;
            assert_eq!(skipped.skip_reason, Some(heedwell::domain::SkipReason::OptedOut));
            run(&t.raw, &format!("UPDATE recipient_gate SET consent = 0 WHERE {gate}")).await;
        }
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
    }

    async fn everything_at_once_ends_without_a_fault(t: &TestStore) {
        let scope = &ready_practice(t, NORTH).await;
        const ROUNDS: u8 = 12;
        let calls = &Mutex::new(VecDeque::<Claimed>::new());
        let next = || calls.lock().unwrap().pop_front();

        let order = async |name: &str, patient: &'static str| {
            for n in 0..ROUNDS {
                let mut digest = [n; 32];
                digest[0] = name.as_bytes()[0];
                let link = NewLink {
                    token_digest: digest,
                    target_url: "https://portal.example.com/".into(),
                    expire_time: t.now() + TimeDelta::days(1),
                    max_opens: 0,
                };
                let channels = [Channel::Sms, Channel::Email];
                let order = Order { patient, links: vec![link], ..Order::new(&format!("{name}{n}"), &channels) };
                let new = order.prepare(t, scope).await;
                join(t.store.notification_accept(scope, new.clone()), t.store.notification_accept(scope, new))
                    .await
                    .0
                    .unwrap();
                t.store.link_open(&t.engine, digest).await.unwrap();
            }
        };
        let work = async |worker: u128| {
            for _ in 0..ROUNDS * 2 {
                let id = uuid::Uuid::from_u128(worker);
                let (claimed, _) = claim_as(t, scope, id, 3).await;
                let ended: Vec<_> = claimed
                    .iter()
                    .zip(0..)
                    .map(|(claimed, n)| match (n + worker) % 4 {
                        0 => settlement(claimed, unknown()),
                        1 => settlement(
                            claimed,
                            Verdict::Refused { reason: FailureReason::InvalidAddress, code: "21211".into() },
                        ),
                        _ => settlement(claimed, accepted(&claimed.id.to_string())),
                    })
                    .collect();
                calls.lock().unwrap().extend(claimed);
                settle_all(t, ended).await;
            }
        };
        let report = async |facts: Facts| {
            for _ in 0..ROUNDS * 3 {
                let Some(claimed) = next() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let receipt = Receipt {
                    token: claimed.token,
                    provider_ref: claimed.id.to_string(),
                    facts,
                    status: "status".into(),
                    code: String::new(),
                    failure: facts.any(Facts::UNDELIVERED).then_some(FailureReason::InvalidAddress),
                };
                t.store.receipt_apply(scope, receipt).await.unwrap();
            }
        };
        // Both patients change between the same addresses, in opposite orders.
        let move_house = async |ids: [&str; 2]| {
            for n in 0..ROUNDS {
                let number = ["+12025550142", "+12025550143"][usize::from(n % 2)];
                let moved = ids.map(|id| Patient { mobile_phone: Some(phone(number)), ..patient(id) });
                t.store.patients_put(scope, moved.to_vec()).await.unwrap();
            }
        };
        let look_after = async || {
            for _ in 0..ROUNDS {
                t.advance(20);
                t.store.rescue(&t.engine, false).await.unwrap();
                for doubt in t.store.doubts_due(&t.engine, 5).await.unwrap() {
                    t.store.doubt_settle(&t.engine, &doubt, Look::Absent, Facts::NONE, 0.0).await.unwrap();
                }
            }
        };
        t.store.patients_put(scope, vec![patient("ann")]).await.unwrap();
        join_all([
            Box::pin(order("a", "maria")) as std::pin::Pin<Box<dyn Future<Output = ()> + '_>>,
            Box::pin(order("b", "ann")),
            Box::pin(work(1)),
            Box::pin(work(2)),
            Box::pin(work(3)),
            Box::pin(report(Facts::DELIVERED)),
            Box::pin(report(Facts::UNDELIVERED)),
            Box::pin(move_house(["maria", "ann"])),
            Box::pin(move_house(["ann", "maria"])),
            Box::pin(look_after()),
        ])
        .await;
        assert_eq!(t.number("SELECT count(*) FROM notification").await, i64::from(ROUNDS) * 2);
    }

    async fn stopping_and_sending_again_get_in_nobodys_way(t: &TestStore) {
        let scope = &ready_practice(t, NORTH).await;
        const ROUNDS: u8 = 12;
        let calls = &Mutex::new(VecDeque::<Claimed>::new());
        let made = &Mutex::new(VecDeque::new());
        let working = &AtomicU8::new(3);
        let kinds = [Kind::AppointmentReminder, Kind::AppointmentReminder, Kind::AppointmentCancelled];

        let order = async |name: &str| {
            for n in 0..ROUNDS {
                let order = Order {
                    kind: kinds[usize::from(n % 3)],
                    reference: format!("visit-{}", n % 2),
                    ..Order::new(&format!("{name}{n}"), &[Channel::Sms, Channel::Email])
                };
                let id = order.accept(t, scope).await.id;
                made.lock().unwrap().push_back(id);
            }
        };
        let cancel = async || {
            for _ in 0..ROUNDS {
                let next = made.lock().unwrap().pop_front();
                let Some(id) = next else {
                    tokio::task::yield_now().await;
                    continue;
                };
                join(t.store.notification_cancel(scope, id), t.store.notification_cancel(scope, id)).await.0.unwrap();
            }
        };
        let work = async |worker: u128| {
            for _ in 0..ROUNDS * 2 {
                let id = uuid::Uuid::from_u128(worker);
                let (claimed, _) = claim_as(t, scope, id, 3).await;
                let ended = claimed.iter().zip(0..).map(|(claimed, n)| match (n + worker) % 4 {
                    0 => settlement(claimed, unknown()),
                    1 => settlement(claimed, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }),
                    2 => settlement(claimed, Verdict::NotTaken { retry_after: None, code: "20429".into() }),
                    _ => settlement(claimed, accepted(&claimed.callback_token())),
                });
                let ended = ended.collect();
                calls.lock().unwrap().extend(claimed);
                settle_all(t, ended).await;
            }
            working.fetch_sub(1, Ordering::Relaxed);
        };
        let send_again = async |name: &str| {
            let mut n = 0;
            while working.load(Ordering::Relaxed) > 0 {
                n += 1;
                let failed = DeliveryFilter { states: vec![DeliveryState::Failed], ..Default::default() };
                let failed = t.store.deliveries_list(scope, &failed, (None, None), None, 5).await.unwrap().deliveries;
                for (place, delivery) in failed.into_iter().enumerate() {
                    let wish = NewRetry {
                        request_id: format!("{name}-{n}-{place}"),
                        fingerprint: [7; 32],
                        delivery: delivery.id,
                    };
                    let done = t.store.delivery_retry(scope, wish).await;
                    assert!(matches!(done, Ok(_) | Err(StoreError::StateForbids { .. })), "{done:?}");
                }
            }
        };
        let report = async || {
            for n in 0..ROUNDS * 4 {
                let next = calls.lock().unwrap().pop_front();
                let Some(claimed) = next else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let facts = if n % 2 == 0 { Facts::DELIVERED } else { Facts::UNDELIVERED };
                t.store.receipt_apply(scope, receipt(&claimed, facts)).await.unwrap();
            }
        };
        let look_after = async || {
            for _ in 0..ROUNDS {
                t.advance(20);
                t.store.rescue(&t.engine, false).await.unwrap();
                for doubt in t.store.doubts_due(&t.engine, 5).await.unwrap() {
                    t.store.doubt_settle(&t.engine, &doubt, Look::Absent, Facts::NONE, 0.0).await.unwrap();
                }
            }
        };
        join_all([
            Box::pin(order("a")) as std::pin::Pin<Box<dyn Future<Output = ()> + '_>>,
            Box::pin(order("b")),
            Box::pin(cancel()),
            Box::pin(work(1)),
            Box::pin(work(2)),
            Box::pin(work(3)),
            Box::pin(send_again("x")),
            Box::pin(send_again("y")),
            Box::pin(report()),
            Box::pin(look_after()),
        ])
        .await;
        assert_eq!(t.number("SELECT count(*) FROM notification").await, i64::from(ROUNDS) * 2);
        assert!(t.number("SELECT count(*) FROM delivery WHERE retry_of IS NOT NULL").await > 0);
        assert!(t.number("SELECT count(*) FROM delivery WHERE state = 7").await > 0);
    }
}
