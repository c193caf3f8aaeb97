//! Watches of a broadcast: the whole of it at once and whenever it moves on, until it is over and still.

use std::time::Duration;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Broadcast, BroadcastInput, Channel, WatchBroadcastRequest, WatchBroadcastResponse, broadcast::State,
    },
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{all, cancel, counts, create, crowd, input, is, tagged, texts_of, until};
use crate::{
    e2e::{given::practice, seen::refused},
    support::app::{ACME, Caller, LIMIT, TestApp, on_a_server},
};

async fn watch(t: &TestApp, id: &str) -> Result<Streaming<WatchBroadcastResponse>, Status> {
    watch_as(&t.caller(Role::Staff), id).await
}

async fn watch_as(caller: &Caller, id: &str) -> Result<Streaming<WatchBroadcastResponse>, Status> {
    let request = WatchBroadcastRequest { practice_id: ACME.into(), broadcast_id: id.into() };
    Ok(caller.clone().broadcasts.watch_broadcast(request).await?.into_inner())
}

async fn next(steps: &mut Streaming<WatchBroadcastResponse>) -> Option<WatchBroadcastResponse> {
    timeout(LIMIT, steps.message()).await.expect("a response in time").unwrap()
}

on_a_server! {
    async fn a_watch_tells_all_of_it_and_ends_when_it_is_over_and_still(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.watch.still = Duration::from_millis(300)).await;
        crowd(t, 30).await;
        let schedule_time = Some(t.after(TimeDelta::minutes(5)));
        let made = create(t, BroadcastInput { schedule_time, ..input(tagged(&["crowd"]), &[Channel::Sms]) }).await;
        let mut steps = watch(t, &made.broadcast_id).await.unwrap();
        let first = next(&mut steps).await.unwrap();
        assert!(first.broadcast == Some(made.clone()) && first.server_time.is_some());
        t.advance(TimeDelta::minutes(5));
        let mut last = made;
        while let Some(step) = next(&mut steps).await {
            let now = step.broadcast.unwrap();
            if now.recipient_count > 0 {
                assert_eq!((now.recipient_count, counts(&now).iter().sum::<i64>()), (30, 30), "the counts add up");
            }
            assert!(counts(&now)[3] >= counts(&last)[3]);
            last = now;
        }
        assert!(is(&last, State::Completed));
        assert_eq!(counts(&last)[0], 0);
    }

    async fn a_watch_of_one_that_is_cancelled_ends_too(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.watch.still = Duration::from_millis(300)).await;
        let schedule_time = Some(t.after(TimeDelta::minutes(5)));
        let made = create(t, BroadcastInput { schedule_time, ..input(all(), &[Channel::Sms]) }).await;
        cancel(t, &made.broadcast_id).await;
        let mut steps = watch(t, &made.broadcast_id).await.unwrap();
        assert!(is(&next(&mut steps).await.unwrap().broadcast.unwrap(), State::Cancelled));
        assert!(next(&mut steps).await.is_none());
    }

    async fn a_watch_has_its_place_and_ends_with_its_server(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(5)));
        let made = create(t, BroadcastInput { schedule_time, ..input(all(), &[Channel::Sms]) }).await;
        refused(watch(t, "00000000-0000-0000-0000-000000000001").await, Code::NotFound, "NOT_FOUND");
        t.restart_with(|config| config.watch.per_subject = 1).await;
        let mut kept = watch(t, &made.broadcast_id).await.unwrap();
        assert!(next(&mut kept).await.is_some());
        refused(watch(t, &made.broadcast_id).await, Code::ResourceExhausted, "TOO_MANY_WATCHES");
        t.stop().await;
        assert!(next(&mut kept).await.is_none(), "a planned end");
        t.start().await;
    }
}

on_a_server! { postgres:
    async fn several_servers_make_each_page_once_and_tell_of_it(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 230).await;
        let replica = t.replica(|_| {}).await;
        let third = t.replica(|_| {}).await;
        let made = create(t, input(tagged(&["crowd"]), &[Channel::Sms])).await;
        let elsewhere = Caller::new(replica.channel.clone(), &t.token(Role::Staff));
        let mut steps = watch_as(&elsewhere, &made.broadcast_id).await.unwrap();
        // A report that is turned away while all of them write is asked for hours later.
        let left = |it: &Broadcast| counts(it)[2] + counts(it)[3];
        while left(&next(&mut steps).await.unwrap().broadcast.unwrap()) < 230 {}
        let done = until(t, &made.broadcast_id, |it| left(it) == 230).await;
        assert_eq!((done.recipient_count, counts(&done).iter().sum::<i64>()), (230, 230));
        assert_eq!(texts_of(t, 230), 230);
        drop(steps);
        replica.app.stop().await;
        third.app.stop().await;
    }
}
