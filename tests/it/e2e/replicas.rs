//! Several servers on one database: what one commits is seen on the others, and what a dead one left is taken up.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    config::Config,
    domain::Role,
    grpc::proto::{Channel, DeliveryFilter, WatchDeliveriesRequest, watch_deliveries_request::Start},
};
use tokio::time::timeout;

use super::{
    given::{practice, reminder, request, send, send_over, somebody_with_mailbox},
    seen::{Watcher, check_order, delivery, image, mails, settled, time, until, until_state},
};
use crate::support::app::{ACME, Caller, LIMIT, Replica, TestApp, on_a_server};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

/// One that never looks by itself: it must be told.
fn never_looks(config: &mut Config) {
    config.watch.poll = NEVER;
    config.dispatch.poll = NEVER;
}

fn is_told_nothing(config: &mut Config) {
    config.store.hints = false;
}

async fn watch_on(t: &TestApp, replica: &Replica, start: Option<Start>) -> Watcher {
    let mut notify = Caller::new(replica.channel.clone(), &t.token(Role::Staff)).notify;
    let request = WatchDeliveriesRequest { practice_id: ACME.into(), start, ..Default::default() };
    Watcher::of(notify.watch_deliveries(request).await.unwrap().into_inner()).await.unwrap()
}

on_a_server! {
    postgres:
    async fn a_commit_is_seen_on_another_replica_by_a_hint_alone(t: &mut TestApp) {
        practice(t).await;
        let told = t.replica(never_looks).await;
        let deaf = t.replica(|config| {
            never_looks(config);
            is_told_nothing(config);
        })
        .await;
        let mut watcher = watch_on(t, &told, None).await;
        let mut waits = watch_on(t, &deaf, None).await;
        for _ in 0..20 {
            let id = send_over(t, "pat", Channel::InApp).await;
            watcher.until(|delivery| delivery.delivery_id == id && delivery.revision == 2).await;
        }
        // Without hints and without looking it would not have been seen.
        assert!(timeout(Duration::from_secs(1), waits.changes()).await.is_err());
        told.app.stop().await;
        deaf.app.stop().await;
    }

    async fn a_commit_is_seen_on_another_replica_without_hints(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(is_told_nothing).await;
        let other = t.replica(|config| {
            is_told_nothing(config);
            config.dispatch.poll = NEVER;
        })
        .await;
        let mut watcher = watch_on(t, &other, None).await;
        let id = send_over(t, "pat", Channel::Sms).await;
        let seen = watcher.until(|delivery| delivery.delivery_id == id && delivery.deliver_time.is_some()).await;
        check_order(&seen);
        other.app.stop().await;
    }

    async fn a_lost_connection_for_hints_comes_back_and_nothing_is_missed(t: &mut TestApp) {
        practice(t).await;
        let other = t.replica(never_looks).await;
        let mut watcher = watch_on(t, &other, None).await;
        for _ in 0..3 {
            t.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'heedwell hints' AND datname = current_database()")
                .await;
            // Committed while nobody can tell or hear of it.
            let id = send_over(t, "pat", Channel::InApp).await;
            watcher.until(|delivery| delivery.delivery_id == id && delivery.revision == 2).await;
        }
        other.app.stop().await;
    }

    async fn work_that_only_others_may_do_is_taken_up_by_a_hint(t: &mut TestApp) {
        practice(t).await;
        let worker = t.replica(never_looks).await;
        t.restart_with(|config| config.drain = Duration::from_secs(2)).await;
        let input = reminder(t, "pat", &[Channel::Sms]);
        let mut watcher = watch_on(t, &worker, None).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(t.channel());
        let mut health = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
        health.message().await.unwrap().expect("it serves");
        let (mut sender, app) = (t.sender(), t.take());
        // A server that was told to stop accepts for a while, and claims nothing.
        let meanwhile = async {
            health.message().await.unwrap().expect("it stops");
            sender.send_notification(request("while-stopping", input)).await.unwrap();
            watcher.until(|delivery| delivery.deliver_time.is_some()).await;
        };
        join(app.stop(), meanwhile).await;
        worker.app.stop().await;
        t.start().await;
    }

    async fn a_cursor_leads_on_at_any_replica(t: &mut TestApp) {
        practice(t).await;
        let others = [t.replica(|_| ()).await, t.replica(is_told_nothing).await];
        let mut seen = Vec::new();
        let mut cursor = Watcher::open(t, DeliveryFilter::default(), None).await.cursor;
        let mut sent = 0;
        for round in 0..6 {
            let replica = &others[round % 2];
            let mut sender = Caller::new(others[(round + 1) % 2].channel.clone(), &t.token(Role::Sender)).notify;
            let input = reminder(t, "pat", &[Channel::InApp, Channel::Sms]);
            sender.send_notification(request(&format!("round-{round}"), input)).await.unwrap();
            let notification = send(t, reminder(t, "pat", &[Channel::Sms])).await;
            settled(t, &notification.deliveries, ["DELIVERED"]).await;
            sent += 3;
            let mut watcher = watch_on(t, replica, Some(Start::Cursor(cursor))).await;
            let id = &notification.deliveries[0].delivery_id;
            seen.extend(watcher.until(|it| it.delivery_id == *id && it.deliver_time.is_some()).await);
            cursor = watcher.cursor;
        }
        check_order(&seen);
        let new = seen.iter().filter(|change| change.previous_state == 0).count();
        assert_eq!(new, sent, "each delivery is seen to begin once");
        for replica in others {
            replica.app.stop().await;
        }
    }

    async fn what_a_dead_replica_had_in_hand_is_taken_over(t: &mut TestApp) {
        practice(t).await;
        somebody_with_mailbox(t, "lee", "slow@example.com").await;
        t.sandbox.rules().set_slow_reply(NEVER);
        // The survivor does not work until the other is dead.
        t.restart_with(|config| {
            never_looks(config);
            is_told_nothing(config);
        })
        .await;
        // A runtime of its own, so that it can die: everything in it ends where it stands.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (env, clock) = (t.env(), t.time());
        let started = runtime.spawn(async move {
            let config = heedwell::config::read(&env, true).unwrap();
            heedwell::app::App::start(config, clock).await.unwrap()
        });
        let doomed = started.await.unwrap();
        let id = send_over(t, "lee", Channel::Email).await;
        let taken = async {
            while mails(t, "slow@example.com").is_empty() {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, taken).await.expect("the dead one's call is under way");
        std::mem::forget(doomed);
        runtime.shutdown_background();
        assert_eq!(delivery(t, &id).await.attempts, 1);
        t.sandbox.rules().set_slow_reply(Duration::ZERO);
        // Before the lease ends nobody touches it.
        t.advance(TimeDelta::seconds(59));
        let (store, engine) = t.app().store();
        assert_eq!(store.rescue(engine, false).await.unwrap(), 0);
        t.advance(TimeDelta::seconds(6));
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        t.advance(time(doubt.next_action_time).unwrap() - t.now() + TimeDelta::seconds(1));
        let waiting = until(t, &id, |it| it.revision > doubt.revision).await;
        t.advance(time(waiting.next_action_time).unwrap() - t.now() + TimeDelta::seconds(1));
        // Mail has no list to look at: it goes once more, and says so.
        let sent = until_state(t, &id, "SENT").await;
        assert!(sent.possible_duplicate && sent.attempts == 2);
        let stored = mails(t, "slow@example.com");
        assert!(stored.len() == 2 && stored[0].message_id == stored[1].message_id);
    }

    async fn three_replicas_under_load_show_everybody_the_same(t: &mut TestApp) {
        practice(t).await;
        let others = [t.replica(|_| ()).await, t.replica(is_told_nothing).await];
        let mut watchers = vec![Watcher::open(t, DeliveryFilter::default(), None).await];
        for replica in &others {
            watchers.push(watch_on(t, replica, None).await);
        }
        let channels = [t.channel(), others[0].channel.clone(), others[1].channel.clone()];
        let sends = (0..60).map(|n| {
            let mut sender = Caller::new(channels[n % 3].clone(), &t.token(Role::Sender)).notify;
            let input = reminder(t, "pat", &[Channel::InApp, Channel::Sms, Channel::Email]);
            async move { sender.send_notification(request(&format!("load-{n}"), input)).await.unwrap() }
        });
        let sent = join_all(sends).await;
        for answer in sent {
            settled(t, &answer.into_inner().notification.unwrap().deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        }
        let newest = super::seen::list(t, DeliveryFilter::default()).await.watch_cursor;
        let mut told = Vec::new();
        for watcher in &mut watchers {
            let mut seen = Vec::new();
            while watcher.cursor != newest {
                seen.extend(watcher.changes().await);
            }
            check_order(&seen);
            told.push(seen.iter().map(|it| (image(it).delivery_id.clone(), image(it).revision)).collect::<Vec<_>>());
        }
        assert!(told[0] == told[1] && told[0] == told[2], "the same changes in the same order");
        assert_eq!(told[0].iter().filter(|(_, revision)| *revision == 1).count(), 180);
        for replica in others {
            replica.app.stop().await;
        }
    }
}
