//! Readers in numbers, and readers that do not read: what they cost, what becomes of them, and that others do not notice.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use heedwell::{
    config::Config,
    domain::Role,
    grpc::proto::{
        Channel, DeliveryChange, WatchDeliveriesRequest, WatchDeliveriesResponse,
        batch_send_notifications_response::batch_result::Outcome,
    },
};
use tokio::time::timeout;
use tonic::{Code, Streaming, transport::Endpoint};

use super::{
    batch::{item, send_all},
    given::{bare_practice, new_key, practice, reminder, send_over},
    seen::{Watcher, check_order, image, refused},
};
use crate::support::app::{ACME, Caller, LIMIT, Pass, TestApp, on_a_server};

/// Far beyond the length of any test.
const NEVER: Duration = Duration::from_secs(3_600);
/// How many watches begin at once on a connection; 64 calls of it may wait for their answer.
const SHARE: usize = 50;

/// Watches of Acme, whose subject may have any number of them. Each has a window of `window` bytes, and there is room for
/// all of them in their connection's.
async fn watches(t: &TestApp, count: usize, window: u32) -> Vec<Streaming<WatchDeliveriesResponse>> {
    let token = t.token_of(&Pass::new(&[Role::Staff, Role::Portal], &[ACME]));
    let mut watches = Vec::new();
    while watches.len() < count {
        let endpoint = Endpoint::from_shared(format!("http://{}", t.addresses()[0])).unwrap();
        let endpoint = endpoint.initial_stream_window_size(window).initial_connection_window_size(1 << 30);
        let caller = Caller::new(endpoint.connect().await.unwrap(), &token);
        let open = (0..SHARE.min(count - watches.len())).map(|_| {
            let mut notify = caller.notify.clone();
            let request = WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
            async move { notify.watch_deliveries(request).await.unwrap().into_inner() }
        });
        watches.extend(join_all(open).await);
    }
    watches
}

/// Makes `count` changes: a notification into the inbox is one, finished as it is accepted.
async fn make_changes(t: &TestApp, count: usize) {
    let mut items = (0..count).map(|_| item(&new_key(), reminder(t, "pat", &[Channel::InApp]))).peekable();
    while items.peek().is_some() {
        let results = send_all(t, items.by_ref().take(250).collect()).await.unwrap();
        assert!(results.iter().all(|it| matches!(it.outcome, Some(Outcome::Notification(_)))));
    }
}

/// Waits for a condition that no stream tells of.
async fn until(wanted: impl Fn() -> bool) {
    let wait = async {
        while !wanted() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, wait).await.expect("it comes to that");
}

/// Everything until `wanted` changes were seen.
async fn read(watcher: &mut Watcher, wanted: usize) -> Vec<DeliveryChange> {
    let mut seen = Vec::new();
    let all = async {
        while seen.len() < wanted {
            seen.extend(watcher.changes().await);
        }
    };
    assert!(timeout(2 * LIMIT, all).await.is_ok(), "{} of {wanted} changes were seen", seen.len());
    seen
}

/// Until then there are checkpoints.
async fn ends_as_planned(watcher: &mut Watcher) {
    let ended = async { while watcher.step().await.unwrap().is_some() {} };
    timeout(LIMIT, ended).await.expect("it ends");
}

fn loses_patience_soon(config: &mut Config) {
    config.watch.stall = Duration::from_secs(2);
}

on_a_server! {
    async fn watches_at_the_same_place_read_it_once_and_quiet_ones_read_nothing(t: &mut TestApp) {
        practice(t).await;
        // Looked for a hundred times as often as usual.
        t.restart_with(|config| config.watch.poll = Duration::from_millis(5)).await;
        let steps = watches(t, 200, 65_535).await;
        let mut watchers: Vec<_> = join_all(steps.into_iter().map(async |it| Watcher::of(it).await.unwrap())).await;
        assert_eq!(t.app().watch().open(), 200);
        let one = send_over(t, "pat", Channel::InApp).await;
        let read_one = join_all(watchers.iter_mut().map(|it| it.until(|delivery| delivery.delivery_id == one))).await;
        assert_eq!(read_one.len(), 200);
        // Everything that there is has been read by now, and whoever waits for nothing asks for nothing.
        let before = t.app().watch().reads();
        let last = send_over(t, "pat", Channel::InApp).await;
        join_all(watchers.iter_mut().map(|it| it.until(|delivery| delivery.delivery_id == last))).await;
        let after = t.app().watch().reads();
        assert!(after - before <= 2, "{} reads for one change", after - before);
        assert!(timeout(Duration::from_secs(1), watchers[0].step()).await.is_err(), "it is quiet");
        assert_eq!(t.app().watch().reads(), after);
    }
}

on_a_server! {
    sqlite:
    async fn two_hundred_readers_that_stop_reading_harm_nobody_and_are_cut_off(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| {
            loses_patience_soon(config);
            config.watch.linger = Duration::from_secs(1);
        })
        .await;
        let mut good: Vec<_> = Vec::new();
        for steps in watches(t, 10, 1 << 20).await {
            good.push(Watcher::of(steps).await.unwrap());
        }
        let stalled = watches(t, 200, 4_096).await;
        assert_eq!(t.app().watch().open(), 210);
        make_changes(t, 2_000).await;
        for seen in join_all(good.iter_mut().map(|watcher| read(watcher, 2_000))).await {
            check_order(&seen);
            let names: BTreeSet<_> = seen.iter().map(|it| (&image(it).delivery_id, image(it).revision)).collect();
            assert_eq!(names.len(), 2_000, "each change once");
        }
        // Their places are free again though the clients still hold on.
        until(|| t.app().watch().open() == 10).await;
        assert_eq!(t.app().watch().stalls(), 200);
        drop(stalled);
        // And the others never noticed.
        let id = send_over(t, "pat", Channel::InApp).await;
        join_all(good.iter_mut().map(|it| it.until(|delivery| delivery.delivery_id == id))).await;
    }

    async fn a_reader_that_comes_back_is_told_and_was_owed_little(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| {
            loses_patience_soon(config);
            config.watch.linger = NEVER;
        })
        .await;
        let mut stalled = watches(t, 20, 4_096).await;
        make_changes(t, 2_000).await;
        until(|| t.app().watch().stalls() == 20).await;
        assert_eq!(t.app().watch().open(), 20, "they keep their places until they leave");
        for steps in &mut stalled {
            let mut seen = Vec::new();
            let mut cursor = String::new();
            let status = loop {
                match timeout(LIMIT, steps.message()).await.expect("it goes on").transpose().expect("it ends in an error") {
                    Ok(step) => {
                        cursor = step.cursor;
                        seen.extend(step.changes);
                    }
                    Err(status) => break status,
                }
            };
            refused::<()>(Err(status), Code::Unavailable, "WATCH_STALLED");
            check_order(&seen);
            // Some pages were under way, of the 2,000 changes that there are; nothing else was kept for it.
            assert!(seen.len() <= 4 * 256, "{} changes were held", seen.len());
            // The last cursor leads on without a gap.
            let mut resumed = Watcher::from(t, &cursor).await;
            seen.extend(read(&mut resumed, 2_000 - seen.len()).await);
            check_order(&seen);
        }
    }

    async fn the_end_of_a_token_ends_a_watch_whose_reader_takes_nothing(t: &mut TestApp) {
        practice(t).await;
        let pass = Pass { ttl: Duration::from_secs(60), ..Pass::new(&[Role::Staff], &[ACME]) };
        let endpoint = Endpoint::from_shared(format!("http://{}", t.addresses()[0])).unwrap();
        let channel = endpoint.initial_stream_window_size(4_096).connect().await.unwrap();
        let request = WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let mut notify = Caller::new(channel, &t.token_of(&pass)).notify;
        let mut steps = notify.watch_deliveries(request).await.unwrap().into_inner();
        t.advance(chrono::TimeDelta::seconds(89));
        make_changes(t, 2_000).await;
        let mut seen = 0;
        let status = loop {
            match timeout(LIMIT, steps.message()).await.expect("it goes on").transpose().expect("it ends in an error") {
                Ok(step) => seen += step.changes.len(),
                Err(status) => break status,
            }
        };
        refused::<()>(Err(status), Code::Unauthenticated, "TOKEN_INVALID");
        assert!(seen < 2_000);
    }

    async fn a_replica_has_so_many_watches_and_no_more(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        t.restart_with(|config| config.watch.in_all = 3).await;
        let token = t.token_of(&Pass::new(&[Role::Staff, Role::Portal], &[ACME]));
        let mut notify = t.caller_with(&token).notify;
        let request = || WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(notify.watch_deliveries(request()).await.unwrap());
        }
        refused(notify.watch_deliveries(request()).await, Code::ResourceExhausted, "TOO_MANY_WATCHES");
        // A call that is refused for another reason takes no place.
        open.pop();
        until(|| t.app().watch().open() == 2).await;
        let bad = WatchDeliveriesRequest {
            start: Some(heedwell::grpc::proto::watch_deliveries_request::Start::Cursor("x".into())),
            ..request()
        };
        refused(notify.watch_deliveries(bad).await, Code::InvalidArgument, "CURSOR_INVALID");
        until(|| t.app().watch().open() == 2).await;
        notify.watch_deliveries(request()).await.unwrap();
    }

    async fn a_watch_ends_as_planned_at_the_end_of_its_life_and_of_its_callers_patience(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.watch.lifetime = Duration::from_millis(500)).await;
        let mut watcher = Watcher::open(t, Default::default(), None).await;
        ends_as_planned(&mut watcher).await;
        t.restart_with(|_| ()).await;
        let mut request = tonic::Request::new(WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() });
        // Not by the client's own timer, which is the transport's business.
        request.metadata_mut().insert("grpc-timeout", "500m".parse().unwrap());
        let mut watcher = Watcher::of(t.staff().watch_deliveries(request).await.unwrap().into_inner()).await.unwrap();
        ends_as_planned(&mut watcher).await;
    }
}
