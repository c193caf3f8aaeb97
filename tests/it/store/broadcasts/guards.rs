//! What keeps a broadcast from writing to somebody twice, or to whom nobody meant, where several go on with it or it stops half-way.

use futures::future::join;
use heedwell::duties;
use sea_orm::ConnectionTrait;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::Backend;

on_both! {
    async fn whoever_loses_the_turn_in_the_middle_of_a_page_makes_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 3).await;
        let made = texts(t, &scope).await;
        let lost = turn(t).await;
        let under_way = page(t, &lost).await;
        let plan_late = async { t.store.broadcast_plan(lost, under_way).await.unwrap() };
        let heir = if t.home.backend == Backend::Postgres {
            // The page has begun, and waits for what somebody else holds, when its turn ends.
            t.raw.execute_unprepared("BEGIN; LOCK TABLE broadcast_address IN SHARE MODE").await.unwrap();
            let take = async {
                t.somebody_waits().await;
                t.advance(31);
                let heir = turn(t).await;
                t.raw.execute_unprepared("COMMIT").await.unwrap();
                heir
            };
            let (late, heir) = join(plan_late, take).await;
            assert!(late.is_none(), "the page is the heir's to make");
            heir
        } else {
            // One writes after the other.
            t.advance(31);
            let heir = turn(t).await;
            assert!(plan_late.await.is_none());
            heir
        };
        assert!(shares(t, &scope, made.id).await.is_empty());
        assert_eq!(t.number("SELECT count(*) FROM broadcast_address").await, 0);
        assert_eq!(heir.position, Default::default());
        let heir = plan(t, heir).await.unwrap();
        assert!(plan(t, heir).await.is_none());
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 4)]);
    }

    async fn a_turn_is_one_replicas_however_many_ask(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        texts(t, &scope).await;
        let ask = || t.store.broadcast_turn(&t.engine);
        let asked = futures::future::join_all([ask(), ask(), ask(), ask()]).await;
        assert_eq!(asked.into_iter().filter(|turn| turn.as_ref().unwrap().is_some()).count(), 1);
    }

    async fn who_stops_as_planned_gives_the_turn_back(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 600).await;
        let made = texts(t, &scope).await;
        let (stop, mut hints) = (CancellationToken::new(), t.store.wake().listen());
        let url = "https://reach.example.com".to_owned();
        let anchors = duties::Anchors::new(t.home.keys().anchor(), Some(t.home.path("anchors")));
        let duties = duties::run(t.store.clone(), t.engine.clone(), (duties::Settings::default(), anchors), url, stop.clone());
        let first_page = async {
            while shares(t, &scope, made.id).await.is_empty() {
                hints.any().await;
            }
            stop.cancel();
        };
        join(duties, first_page).await;
        let here = shares(t, &scope, made.id).await.len();
        assert!(here > 0 && here < 601, "{here}");
        // Nobody waits for half a minute.
        assert_eq!(turn(t).await.broadcast.id, made.id);
    }

    async fn what_fails_is_not_sent_again_once_it_is_cancelled(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 2).await;
        let made = texts(t, &scope).await;
        plan_all(t).await;
        let claimed = claim(t, &scope, 1).await.remove(0);
        settle(t, &claimed, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }).await;
        t.store.broadcast_cancel(&scope, made.id).await.unwrap();
        let again = NewRetry { request_id: "again".into(), fingerprint: [3; 32], delivery: claimed.id };
        let refused = t.store.delivery_retry(&scope, again).await.unwrap_err();
        assert!(matches!(refused, StoreError::StateForbids { state: "source_cancelled", .. }), "{refused:?}");
        finish(t).await;
        assert_eq!(
            counted(t, &scope, made.id).await,
            [(DeliveryState::Failed, 1), (DeliveryState::Cancelled, 2)]
        );
    }

    async fn one_that_was_to_begin_before_it_was_asked_for_begins_now_and_has_its_day(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let schedule_time = Some(t.now() - TimeDelta::days(2));
        let made = create(t, &scope, NewBroadcast { schedule_time, ..new(t, "r1", &[Channel::Sms]) }).await;
        assert_eq!((made.state, made.start_time), (BroadcastState::Running, Some(t.now())));
        t.advance(23 * 3_600);
        plan_all(t).await;
        assert_eq!(counted(t, &scope, made.id).await, [(DeliveryState::Pending, 1)]);
        assert_eq!(claim(t, &scope, 10).await.len(), 1);
    }

    async fn addresses_are_forgotten_once_nobody_is_compared_with_them_any_more(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        people(t, &scope, 5).await;
        create(t, &scope, new(t, "r1", &[Channel::Sms, Channel::Email])).await;
        plan_all(t).await;
        let addresses = async || t.number("SELECT count(*) FROM broadcast_address").await;
        let all = addresses().await;
        // One is half-way: whoever comes later may have an address of its first page.
        let half = create(t, &scope, new(t, "r2", &[Channel::Sms])).await;
        assert!(all > 6 && half.recipients == 6);
        let next = plan(t, turn(t).await).await.unwrap();
        assert_eq!(addresses().await, all + 3);
        let forget = async |limit| t.store.broadcast_addresses_forget(&t.engine, limit).await.unwrap();
        assert_eq!((forget(4).await, addresses().await), (4, all - 1));
        assert_eq!((forget(100).await, forget(100).await, addresses().await), (all as u64 - 4, 0, 3));
        assert!(plan(t, next).await.is_none_or(|next| !next.planned));
        plan_all_again(t).await;
        assert_eq!((forget(100).await, addresses().await), (6, 0));
    }
}
