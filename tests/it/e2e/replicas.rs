//! Several servers on one database: what one commits is seen on the others, and what a dead one left is taken up.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    config::Config,
    domain::Role,
    grpc::proto::{Channel, DeliveryFilter, WatchDeliveriesRequest, watch_deliveries_request::Start},
    sandbox::Entry,
};
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::{
    given::{new_key, practice, reminder, request, send, send_over, somebody_with_mailbox},
    seen::{Watcher, check_order, delivery, image, mails, settled, state, time, until, until_state},
};
use crate::support::app::{ACME, Caller, LIMIT, Replica, TestApp, connect, on_a_server};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

/// Watches that never look by themselves: they must be told.
fn never_looks(config: &mut Config) {
    config.watch.poll = NEVER;
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
            watcher.until(|delivery| delivery.delivery_id == id).await;
        }
        // Without hints and without looking it would not have been seen.
        assert!(timeout(Duration::from_secs(1), waits.changes()).await.is_err());
        told.app.stop().await;
        deaf.app.stop().await;
    }

    async fn a_commit_is_seen_on_another_replica_without_hints(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(is_told_nothing).await;
        let other = t.replica(is_told_nothing).await;
        let mut watcher = watch_on(t, &other, None).await;
        for _ in 0..3 {
            let id = send_over(t, "pat", Channel::InApp).await;
            watcher.until(|delivery| delivery.delivery_id == id).await;
        }
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
            watcher.until(|delivery| delivery.delivery_id == id).await;
        }
        other.app.stop().await;
    }

    async fn work_that_only_others_may_do_is_taken_up_by_a_hint(t: &mut TestApp) {
        practice(t).await;
        // The longest pause between two looks of its own that a server may have.
        let pause = Duration::from_secs(5);
        let worker = t.replica(|config| config.dispatch.poll = pause).await;
        t.restart_with(|config| config.drain = Duration::from_secs(3)).await;
        let mut watcher = watch_on(t, &worker, None).await;
        let mut health = tonic_health::pb::health_client::HealthClient::new(t.channel());
        let mut health = health.watch(tonic_health::pb::HealthCheckRequest::default()).await.unwrap().into_inner();
        health.message().await.unwrap().expect("it serves");
        let inputs = [reminder(t, "pat", &[Channel::Sms]), reminder(t, "pat", &[Channel::Sms])];
        let (mut sender, app) = (t.sender(), t.take());
        // A server that was told to stop accepts for a while, and claims nothing.
        let meanwhile = async {
            health.message().await.unwrap().expect("it stops");
            let mut taken = None;
            for input in inputs {
                sender.send_notification(request(&new_key(), input)).await.unwrap();
                watcher.until(|delivery| delivery.deliver_time.is_some()).await;
                // One look of its own may come by chance, and the next one is as far away as that.
                let first = *taken.get_or_insert_with(Instant::now);
                assert!(first.elapsed() < pause - Duration::from_millis(500), "it looked, and was not told");
            }
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
        let (token, input) = (t.token(Role::Sender), reminder(t, "lee", &[Channel::Email]));
        t.stop().await;
        // A runtime of its own, so that it can die: everything in it ends where it stands.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (env, clock) = (t.env(), t.time());
        let started = runtime.spawn(async move {
            let config = heedwell::config::read(&env, true).unwrap();
            heedwell::app::App::start(config, clock).await.unwrap()
        });
        let doomed = started.await.unwrap();
        let mut sender = Caller::new(connect(&doomed).await, &token).notify;
        let sent = sender.send_notification(request("doomed", input)).await.unwrap().into_inner().notification.unwrap();
        let id = &sent.deliveries[0].delivery_id;
        let taken = |entries: &[Entry]| entries.iter().any(|it| matches!(it, Entry::SmtpMessage { .. }));
        t.sandbox.journal().wait_for(LIMIT, taken).await.expect("its call is under way");
        // The survivor is there while the other dies.
        t.start().await;
        std::mem::forget(doomed);
        runtime.shutdown_background();
        t.sandbox.rules().set_slow_reply(Duration::ZERO);
        assert_eq!(state(&delivery(t, id).await), "PENDING");
        // Before the lease ends nobody touches it.
        t.advance(TimeDelta::seconds(59));
        let (store, engine) = t.app().store();
        assert_eq!(store.rescue(engine, false).await.unwrap(), 0);
        t.advance(TimeDelta::seconds(6));
        let doubt = until_state(t, id, "UNCONFIRMED").await;
        t.advance(time(doubt.next_action_time).unwrap() - t.now() + TimeDelta::seconds(1));
        let waiting = until(t, id, |it| it.revision > doubt.revision).await;
        t.advance(time(waiting.next_action_time).unwrap() - t.now() + TimeDelta::seconds(1));
        // Mail has no list to look at: it goes once more, and says so.
        let sent = until_state(t, id, "SENT").await;
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
        let sends = (0..30).map(|n| {
            let mut sender = Caller::new(channels[n % 3].clone(), &t.token(Role::Sender)).notify;
            let input = reminder(t, "pat", &[Channel::InApp, Channel::Sms, Channel::Email]);
            async move {
                // The rows of one practice are contended: what waits for them too long is to be repeated, says the contract.
                loop {
                    match sender.send_notification(request(&format!("load-{n}"), input.clone())).await {
                        Err(status) if status.code() == Code::Unavailable => {}
                        answer => break answer.unwrap(),
                    }
                }
            }
        });
        let sent = join_all(sends).await;
        for answer in sent {
            settled(t, &answer.into_inner().notification.unwrap().deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        }
        // Everything before this is the same for everybody, whatever comes after it.
        let last = send_over(t, "pat", Channel::InApp).await;
        let mut told = Vec::new();
        for watcher in &mut watchers {
            let seen = watcher.until(|delivery| delivery.delivery_id == last).await;
            check_order(&seen);
            let mut named: Vec<_> = seen.iter().map(|it| (image(it).delivery_id.clone(), image(it).revision)).collect();
            named.truncate(named.iter().position(|(id, _)| *id == last).unwrap());
            told.push(named);
        }
        assert!(told[0] == told[1] && told[0] == told[2], "the same changes in the same order");
        assert_eq!(told[0].iter().filter(|(_, revision)| *revision == 1).count(), 90);
        for replica in others {
            replica.app.stop().await;
        }
    }
}
