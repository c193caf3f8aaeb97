//! Group commit: callers who come together share a transaction, and nobody pays for another.

use std::collections::BTreeMap;

use futures::{
    FutureExt,
    future::{join_all, join5},
};
use heedwell::{
    domain::{Channel, DeliveryId, DeliveryState, Facts, Kind, NotificationId, Patient, SkipReason},
    store::{Accepted, Applied, NewNotification, StoreError},
};

use super::{
    given::{NORTH, Order, SOUTH, accepted, changes, claim, delivery, patient, ready_practice, receipt, settlement},
    *,
};

/// As many orders like `first`, each with a key and ids of its own.
fn copies(first: &NewNotification, count: usize) -> Vec<NewNotification> {
    let copy = |n: usize| {
        let mut new = first.clone();
        new.request_id = format!("copy-{n}");
        new.id = NotificationId(uuid::Uuid::now_v7());
        for delivery in &mut new.deliveries {
            delivery.id = DeliveryId(uuid::Uuid::now_v7());
        }
        new
    };
    (0..count).map(copy).collect()
}

on_both! {
    async fn callers_at_once_share_a_transaction_and_each_gets_its_own(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let mut hints = t.store.wake().listen();
        let mut news = Vec::new();
        for scope in [&north, &south] {
            let first = Order::new("r", &[Channel::Sms, Channel::Email]).prepare(t, scope).await;
            news.extend(copies(&first, 30).into_iter().map(|new| (scope, new)));
        }
        let done = join_all(news.iter().map(|(scope, new)| t.store.notification_accept(scope, new.clone()))).await;
        for ((_, new), done) in news.iter().zip(done) {
            let Accepted::New(record) = done.unwrap() else { panic!("new") };
            assert_eq!((record.id, &record.request_id), (new.id, &new.request_id));
            let ids: Vec<_> = record.deliveries.iter().map(|delivery| delivery.id).collect();
            assert_eq!(ids, new.deliveries.iter().map(|delivery| delivery.id).collect::<Vec<_>>());
        }
        for scope in [&north, &south] {
            assert_eq!(changes(t, scope, 0).await.len(), 60);
            assert_eq!(t.store.feed_head(scope).await.unwrap(), 60);
        }
        // Each transaction hints once for each practice that it touched.
        let mut transactions = 0;
        while let Some(Some(_)) = hints.any().now_or_never() {
            transactions += 1;
        }
        assert!(transactions <= 20, "{transactions} transactions for 60 accepts");
    }

    async fn what_stops_others_stops_those_that_came_with_it(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut news = Vec::new();
        for n in 0..25 {
            for kind in [Kind::AppointmentReminder, Kind::AppointmentCancelled] {
                let reference = format!("visit-{n}");
                let order = Order { kind, reference, ..Order::new(&format!("{kind:?}-{n}"), &[Channel::Sms]) };
                news.push(order.prepare(t, &scope).await);
            }
        }
        let done = join_all(news.into_iter().map(|new| t.store.notification_accept(&scope, new))).await;
        for pair in done.chunks(2) {
            let [Ok(Accepted::New(reminder)), Ok(Accepted::New(_))] = pair else { panic!("{pair:?}") };
            let reminder = delivery(t, &scope, reminder.deliveries[0].id).await;
            assert_eq!(reminder.state, DeliveryState::Cancelled);
        }
    }

    async fn one_that_cannot_be_written_takes_no_other_with_it(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = Order::new("r", &[Channel::Sms, Channel::Email]).prepare(t, &scope).await;
        let mut news = copies(&first, 20);
        news[7].deliveries[1].id = news[7].deliveries[0].id;
        let done = join_all(news.into_iter().map(|new| t.store.notification_accept(&scope, new))).await;
        for (n, done) in done.into_iter().enumerate() {
            match (n, done) {
                (7, Err(StoreError::Internal(_))) => {}
                (7, other) => panic!("{other:?}"),
                (_, done) => assert!(matches!(done.unwrap(), Accepted::New(_))),
            }
        }
        assert_eq!(t.number("SELECT count(*) FROM notification").await, 19);
        assert_eq!(t.number("SELECT count(*) FROM idem").await, 19);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 38);
    }

    async fn too_much_at_once_is_refused_and_what_was_accepted_is_kept(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = Order::new("r", &[Channel::Sms]).prepare(t, &scope).await;
        let done = join_all(copies(&first, 2_300).into_iter().map(|new| t.store.notification_accept(&scope, new))).await;
        let refused = done.iter().filter(|done| matches!(done, Err(StoreError::Overloaded))).count();
        let accepted = done.iter().filter(|done| matches!(done, Ok(Accepted::New(_)))).count();
        assert!(refused > 0, "nothing was refused");
        assert_eq!(refused + accepted, 2_300);
        assert_eq!(t.number("SELECT count(*) FROM notification").await, i64::try_from(accepted).unwrap());
    }

    async fn callers_who_go_away_leave_nothing_half_done(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = Order::new("r", &[Channel::Sms, Channel::InApp]).prepare(t, &scope).await;
        let calls = copies(&first, 200).into_iter().enumerate().map(|(n, new)| {
            let (store, scope) = (t.store.clone(), scope.clone());
            let call = tokio::spawn(async move { store.notification_accept(&scope, new).await });
            async move {
                for _ in 0..n % 7 {
                    tokio::task::yield_now().await;
                }
                call.abort();
                let _ = call.await;
            }
        });
        join_all(calls).await;
        // One more passes through the same lane, behind all of them.
        Order::new("last", &[Channel::Sms, Channel::InApp]).accept(t, &scope).await;
        let stored = t.number("SELECT count(*) FROM notification").await;
        assert_eq!(t.number("SELECT count(*) FROM idem").await, stored);
        assert_eq!(t.number("SELECT count(*) FROM delivery").await, 2 * stored);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 2 * stored);
    }

    async fn an_inbox_that_was_shut_after_the_decision_gets_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = |id: &str| Order { kind: Kind::System, ..Order::new(id, &[Channel::InApp]) };
        order("first").accept(t, &scope).await;
        let late = order("late").prepare(t, &scope).await;
        let later = order("later").prepare(t, &scope).await;
        t.execute("UPDATE recipient_gate SET consent = 2").await;
        let Accepted::New(late) = t.store.notification_accept(&scope, late).await.unwrap() else { panic!("new") };
        assert_eq!(late.deliveries[0].state, DeliveryState::Pending);
        assert!(claim(t, &scope, 10).await.is_empty());
        let skipped = delivery(t, &scope, late.deliveries[0].id).await;
        assert_eq!((skipped.state, skipped.skip_reason), (DeliveryState::Skipped, Some(SkipReason::OptedOut)));

        t.execute("UPDATE recipient_gate SET consent = 0").await;
        t.store.patients_put(&scope, vec![Patient { inactive: true, ..patient("maria") }]).await.unwrap();
        let Accepted::New(later) = t.store.notification_accept(&scope, later).await.unwrap() else { panic!("new") };
        assert!(claim(t, &scope, 10).await.is_empty());
        let skipped = delivery(t, &scope, later.deliveries[0].id).await;
        assert_eq!((skipped.state, skipped.skip_reason), (DeliveryState::Skipped, Some(SkipReason::PatientInactive)));
        assert_eq!(t.number("SELECT count(*) FROM inbox_item").await, 1);
    }

    async fn outcomes_at_once_share_a_transaction_and_each_shows_by_itself(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let mut all = Vec::new();
        for scope in [&north, &south] {
            for n in 0..20 {
                Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, scope).await;
            }
            all.extend(claim(t, scope, 20).await.into_iter().map(|claimed| (scope, claimed)));
        }
        assert_eq!(all.len(), 40);
        let heads = [t.store.feed_head(&north).await.unwrap(), t.store.feed_head(&south).await.unwrap()];
        let mut hints = t.store.wake().listen();
        // The end of the call, and three reports with a repeat, all at once.
        let heard = all.iter().map(async |(scope, claimed)| {
            let report = async |facts| t.store.receipt_apply(scope, receipt(claimed, facts)).await.unwrap();
            let end = settlement(claimed, accepted(&claimed.callback_token()));
            let ended = async { t.store.settle(&t.engine, end).await.unwrap() };
            let (sent, delivered) = (Facts::SENT_TO_CARRIER, Facts::DELIVERED);
            join5(ended, report(sent), report(delivered), report(delivered), report(Facts::READ)).await
        });
        for ((), sent, delivered, again, read) in join_all(heard).await {
            assert_eq!([sent, delivered, again, read], [Applied::New, Applied::New, Applied::Repeat, Applied::New]);
        }
        let mut transactions = 0;
        while let Some(Some(_)) = hints.any().now_or_never() {
            transactions += 1;
        }
        assert!(transactions <= 40, "{transactions} transactions for 200 outcomes");
        for (scope, head) in [&north, &south].into_iter().zip(heads) {
            let mut seen = BTreeMap::<DeliveryId, Vec<(i64, DeliveryState)>>::new();
            for change in changes(t, scope, head).await {
                seen.entry(change.id).or_default().push((change.revision, change.state));
            }
            assert_eq!(seen.len(), 20);
            for steps in seen.into_values() {
                assert_eq!(steps[..2], [(2, DeliveryState::Sent), (3, DeliveryState::Delivered)], "{steps:?}");
                assert!(steps.iter().zip(2..).all(|((revision, _), dense)| *revision == dense), "{steps:?}");
            }
        }
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn an_outcome_that_cannot_be_written_takes_no_other_with_it(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mut odd = None;
        for n in 0..10 {
            let reference = if n == 4 { "odd" } else { "" }.to_owned();
            let order = Order { reference, ..Order::new(&format!("r{n}"), &[Channel::Sms]) };
            let record = order.accept(t, &scope).await;
            odd = odd.or((n == 4).then(|| record.deliveries[0].id));
        }
        let all = claim(t, &scope, 10).await;
        t.execute("UPDATE delivery SET channel = 99 WHERE reference = 'odd'").await;
        let ended = all.iter().map(|claimed| settlement(claimed, accepted(&claimed.id.to_string())));
        let done = join_all(ended.map(|one| t.store.settle(&t.engine, one))).await;
        for (claimed, done) in all.iter().zip(done) {
            match done {
                Err(StoreError::Corrupt(_)) => assert_eq!(Some(claimed.id), odd),
                done => {
                    done.unwrap();
                    assert_ne!(Some(claimed.id), odd);
                }
            }
        }
        assert_eq!(changes(t, &scope, 10).await.len(), 9);
        t.execute(&format!("UPDATE delivery SET channel = {} WHERE reference = 'odd'", Channel::Sms.number())).await;
    }
}
