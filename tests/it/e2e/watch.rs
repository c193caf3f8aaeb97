//! The watch protocol: nothing is missed, nothing comes twice in a lower revision, and a planned end is no error.

use std::{collections::BTreeSet, time::Duration};

use chrono::TimeDelta;
use futures::future::{join, join_all};
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, DeliveryChange, DeliveryFilter, DeliveryState, NotificationInput, WatchDeliveriesRequest,
        watch_deliveries_request::Start,
    },
};
use tokio::time::Instant;
use tonic::Code;

use super::{
    given::{bare_practice, patient, practice, practice_named, put_patient, reminder, send, send_over, token},
    seen::{Watcher, check_order, everything, image, list, metadata, refused, settled, state, time, until_state},
};
use crate::support::app::{ACME, Pass, TestApp, on_a_server};

const EVERY: [Channel; 3] = [Channel::InApp, Channel::Email, Channel::Sms];

/// Which change of which delivery; together they name each change once.
fn names(changes: &[DeliveryChange]) -> Vec<(String, i64)> {
    changes.iter().map(|change| (image(change).delivery_id.clone(), image(change).revision)).collect()
}

/// Everything from the first change to the present one.
async fn all_changes(t: &TestApp) -> Vec<DeliveryChange> {
    let last = list(t, DeliveryFilter::default()).await.watch_cursor;
    let mut watcher = from_the_start(t).await;
    let mut changes = Vec::new();
    while watcher.cursor != last {
        changes.extend(watcher.changes().await);
    }
    changes
}

async fn from_the_start(t: &TestApp) -> Watcher {
    Watcher::open(t, DeliveryFilter::default(), Some(Start::StartTime(t.after(TimeDelta::days(-6))))).await
}

/// The deliveries of all changes up to the first of `last`.
async fn ids_until(watcher: &mut Watcher, last: &str) -> Vec<String> {
    let changes = watcher.until(|delivery| delivery.delivery_id == last).await;
    changes.iter().map(|change| image(change).delivery_id.clone()).collect()
}

async fn after(t: &TestApp, cursor: &str) -> Result<Watcher, tonic::Status> {
    Watcher::try_open(t, DeliveryFilter::default(), Some(Start::Cursor(cursor.into()))).await
}

on_a_server! {
    async fn changes_come_as_they_commit_whole_and_without_a_gap(t: &mut TestApp) {
        practice(t).await;
        let mut live = Watcher::open(t, DeliveryFilter::default(), None).await;
        let sent = join_all((0..8).map(|_| send(t, reminder(t, "pat", &EVERY)))).await;
        for notification in &sent {
            settled(t, &notification.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        }
        let known = all_changes(t).await;
        let mut seen = Vec::new();
        while seen.len() < known.len() {
            seen.extend(live.changes().await);
        }
        check_order(&seen);
        assert_eq!(names(&seen), names(&known), "every watch tells the same, in the same order");
        assert_eq!(names(&seen).iter().collect::<BTreeSet<_>>().len(), seen.len());
        let new: Vec<_> = seen.iter().filter(|change| change.previous_state == 0).collect();
        assert_eq!(new.len(), 24);
        assert!(new.iter().all(|change| image(change).revision == 1));
        // What comes last is what is listed.
        for delivery in everything(t).await {
            let last = seen.iter().rev().map(image).find(|it| it.delivery_id == delivery.delivery_id).unwrap();
            assert!(*last == delivery);
        }
    }

    async fn a_delivery_is_seen_leaving_the_filter(t: &mut TestApp) {
        practice(t).await;
        let pending = DeliveryFilter { states: vec![DeliveryState::Pending.into()], ..Default::default() };
        let mut watcher = Watcher::open(t, pending, None).await;
        let id = send_over(t, "pat", Channel::Sms).await;
        until_state(t, &id, "DELIVERED").await;
        let later = send_over(t, "pat", Channel::Sms).await;
        let seen = watcher.until(|delivery| delivery.delivery_id == later && state(delivery) == "SENT").await;
        let of = |id: &str| seen.iter().map(image).filter(|it| it.delivery_id == id).map(state).collect::<Vec<_>>();
        assert_eq!(of(&id), ["PENDING", "SENT"], "it entered and left, and no more");
    }

    async fn each_part_of_a_filter_counts(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "+12025550143")).await;
        // Each with how many of the four deliveries below it lets pass.
        let filters = [
            (DeliveryFilter { patient_ids: vec!["kim".into(), "nobody".into()], ..Default::default() }, 2),
            (DeliveryFilter { channels: vec![2, 4], ..Default::default() }, 2),
            (DeliveryFilter { channels: vec![2], patient_ids: vec!["kim".into()], ..Default::default() }, 1),
            (DeliveryFilter { kinds: vec![1], reference: "wanted".into(), ..Default::default() }, 2),
            (DeliveryFilter { states: vec![4], ..Default::default() }, 2),
        ];
        let mut watchers = Vec::new();
        for (filter, _) in &filters {
            watchers.push(Watcher::open(t, filter.clone(), None).await);
        }
        let channels = [Channel::Email, Channel::Sms];
        let other = send(t, reminder(t, "pat", &channels)).await;
        let wanted = send(t, NotificationInput { reference: "wanted".into(), ..reminder(t, "kim", &channels) }).await;
        settled(t, &other.deliveries, ["SENT", "DELIVERED"]).await;
        settled(t, &wanted.deliveries, ["SENT", "DELIVERED"]).await;
        for ((filter, count), mut watcher) in filters.into_iter().zip(watchers) {
            let listed = list(t, filter.clone()).await.deliveries;
            assert_eq!(listed.len(), count);
            // All that the list has now is seen in the watch as it is now, and nothing else.
            let expected: BTreeSet<_> = listed.iter().map(|it| (it.delivery_id.clone(), it.revision)).collect();
            let mut seen = BTreeSet::new();
            while !seen.is_superset(&expected) {
                seen.extend(names(&watcher.changes().await));
            }
            assert!(seen.iter().all(|(id, _)| expected.iter().any(|(known, _)| known == id)));
        }
    }

    async fn after_a_break_the_cursor_leads_on_without_a_gap(t: &mut TestApp) {
        practice(t).await;
        let mut watcher = from_the_start(t).await;
        let first = send(t, reminder(t, "pat", &EVERY)).await;
        let mut seen = watcher.changes().await;
        let cursor = watcher.cursor.clone();
        drop(watcher);
        settled(t, &first.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        t.stop().await;
        t.start().await;
        let second = send(t, reminder(t, "pat", &EVERY)).await;
        settled(t, &second.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        let known = all_changes(t).await;
        let mut watcher = Watcher::from(t, &cursor).await;
        assert_eq!(watcher.cursor, cursor, "the first response stands where the client was");
        while seen.len() < known.len() {
            seen.extend(watcher.changes().await);
        }
        assert_eq!(names(&seen), names(&known));
        check_order(&seen);
    }

    async fn between_a_list_and_the_watch_after_it_nothing_is_lost(t: &mut TestApp) {
        practice(t).await;
        let input = reminder(t, "pat", &[Channel::Sms]);
        let sending = join_all((0..24).map(|_| send(t, input.clone())));
        let looking = async {
            let mut known = BTreeSet::new();
            let page = list(t, DeliveryFilter::default()).await;
            known.extend(page.deliveries.iter().map(|delivery| delivery.delivery_id.clone()));
            let mut watcher = Watcher::from(t, &page.watch_cursor).await;
            while known.len() < 24 {
                known.extend(watcher.changes().await.iter().map(|change| image(change).delivery_id.clone()));
            }
            known
        };
        let (sent, known) = join(sending, looking).await;
        let sent: BTreeSet<_> = sent.iter().map(|it| it.deliveries[0].delivery_id.clone()).collect();
        assert!(sent == known);
    }

    async fn a_cursor_is_good_for_its_practice_alone_and_as_it_is(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        send_over(t, "pat", Channel::InApp).await;
        send_over(t, "pat", Channel::InApp).await;
        let page = list(t, DeliveryFilter::default()).await;
        let cursor = page.watch_cursor;
        let edited = |place: usize| {
            let mut edited = cursor.clone().into_bytes();
            edited[place] = if edited[place] == b'A' { b'B' } else { b'A' };
            String::from_utf8(edited).unwrap()
        };
        let request = heedwell::grpc::proto::ListDeliveriesRequest {
            practice_id: ACME.into(),
            page_size: 1,
            ..Default::default()
        };
        let page_token = t.staff().list_deliveries(request).await.unwrap().into_inner().next_page_token;
        assert!(!page_token.is_empty());
        let mut bad: Vec<_> = (0..cursor.len()).map(edited).collect();
        bad.extend([
            String::new(),
            "canary".into(),
            cursor[1..].into(),
            cursor.clone() + "A",
            page_token,
            "A".repeat(9_000),
        ]);
        for bad in bad {
            let status = refused(after(t, &bad).await, Code::InvalidArgument, "CURSOR_INVALID");
            assert!(bad.is_empty() || !status.message().contains(&bad));
        }
        let there = WatchDeliveriesRequest {
            practice_id: "beta".into(),
            start: Some(Start::Cursor(cursor.clone())),
            ..Default::default()
        };
        let mut notify = t.caller_with(&token(t, Role::Staff, "beta")).notify;
        refused(notify.watch_deliveries(there).await, Code::InvalidArgument, "CURSOR_INVALID");
        after(t, &cursor).await.unwrap();
    }

    async fn a_cursor_older_than_what_is_kept_is_told_where_to_begin(t: &mut TestApp) {
        practice(t).await;
        let oldest = list(t, DeliveryFilter::default()).await.watch_cursor;
        for _ in 0..3 {
            send_over(t, "pat", Channel::InApp).await;
        }
        after(t, &oldest).await.unwrap();
        t.execute("DELETE FROM feed WHERE seq <= 2").await;
        let status = refused(after(t, &oldest).await, Code::OutOfRange, "CURSOR_EXPIRED");
        let mut watcher = after(t, &metadata(&status, "earliest_cursor")).await.unwrap();
        assert_eq!(watcher.changes().await.len(), 1);

        // Also when nothing at all is left.
        t.execute("DELETE FROM feed").await;
        let status = refused(after(t, &oldest).await, Code::OutOfRange, "CURSOR_EXPIRED");
        let mut watcher = after(t, &metadata(&status, "earliest_cursor")).await.unwrap();
        let newest = watcher.cursor.clone();
        send_over(t, "pat", Channel::InApp).await;
        assert_eq!(watcher.changes().await.len(), 1);

        // A cursor from after the backup that the database was restored from.
        let ahead = watcher.cursor.clone();
        after(t, &ahead).await.unwrap();
        t.execute("UPDATE feed_head SET seq = seq - 1").await;
        let status = refused(after(t, &ahead).await, Code::OutOfRange, "CURSOR_EXPIRED");
        assert!(metadata(&status, "earliest_cursor") == newest);
        t.execute("UPDATE feed_head SET seq = seq + 1").await;
    }

    async fn history_is_kept_for_seven_days(t: &mut TestApp) {
        practice(t).await;
        let oldest = list(t, DeliveryFilter::default()).await.watch_cursor;
        send_over(t, "pat", Channel::InApp).await;
        t.advance(TimeDelta::days(6));
        t.stop().await;
        t.start().await;
        let mut watcher = after(t, &oldest).await.unwrap();
        assert_eq!(watcher.changes().await.len(), 1);
        drop(watcher);
        t.advance(TimeDelta::days(2));
        t.stop().await;
        // The server forgets first thing when it starts.
        t.start().await;
        let forgotten = async {
            loop {
                match after(t, &oldest).await {
                    Err(status) if status.code() == Code::OutOfRange => return status,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let status = tokio::time::timeout(crate::support::app::LIMIT, forgotten).await.expect("it forgets");
        refused::<()>(Err(status), Code::OutOfRange, "CURSOR_EXPIRED");
    }

    async fn a_watch_can_begin_at_a_time(t: &mut TestApp) {
        practice(t).await;
        let first = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        t.advance(TimeDelta::minutes(10));
        let between = Start::StartTime(t.after(TimeDelta::minutes(-5)));
        let second = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let (one, two) = (&first.deliveries[0].delivery_id, &second.deliveries[0].delivery_id);
        let mut watcher = Watcher::open(t, DeliveryFilter::default(), Some(between)).await;
        assert_eq!(ids_until(&mut watcher, two).await, std::slice::from_ref(two));
        // The very moment of a change includes it.
        let at = Start::StartTime(first.deliveries[0].create_time.unwrap());
        let mut watcher = Watcher::open(t, DeliveryFilter::default(), Some(at)).await;
        assert_eq!(ids_until(&mut watcher, two).await, [one.clone(), two.clone()]);
        // A time to come begins with the next change, as no start does.
        for start in [None, Some(Start::StartTime(t.after(TimeDelta::hours(1))))] {
            let mut watcher = Watcher::open(t, DeliveryFilter::default(), start).await;
            let id = send_over(t, "pat", Channel::InApp).await;
            let next = watcher.changes().await;
            assert_eq!(next.iter().map(|it| image(it).delivery_id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
        }
    }

    async fn a_shutdown_ends_a_watch_as_planned_with_a_cursor_that_leads_on(t: &mut TestApp) {
        practice(t).await;
        let mut watcher = Watcher::open(t, DeliveryFilter::default(), None).await;
        let first = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let mut seen = watcher.changes().await;
        let app = t.take();
        let end = async {
            // OK is what the end of a stream without an error is.
            while let Some(step) = watcher.step().await.unwrap() {
                seen.extend(step.changes);
            }
        };
        join(app.stop(), end).await;
        t.start().await;
        let second = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let mut watcher = Watcher::from(t, &watcher.cursor).await;
        seen.extend(watcher.changes().await);
        let ids = [&first, &second].map(|it| it.deliveries[0].delivery_id.clone());
        assert_eq!(seen.iter().map(|it| image(it).delivery_id.clone()).collect::<Vec<_>>(), ids);
    }

    async fn the_end_of_a_token_ends_its_watch(t: &mut TestApp) {
        practice(t).await;
        let pass = Pass { ttl: Duration::from_secs(60), ..Pass::new(&[Role::Staff], &[ACME]) };
        // The clock jumps, which is noticed when there is something to say.
        let heartbeat_interval = Some(prost_types::Duration { seconds: 5, nanos: 0 });
        let request = WatchDeliveriesRequest { practice_id: ACME.into(), heartbeat_interval, ..Default::default() };
        let mut notify = t.caller_with(&t.token_of(&pass)).notify;
        let mut watcher = Watcher::of(notify.watch_deliveries(request).await.unwrap().into_inner()).await.unwrap();
        t.advance(TimeDelta::seconds(60));
        // Clocks may differ by half a minute.
        let id = send_over(t, "pat", Channel::InApp).await;
        assert_eq!(image(&watcher.changes().await[0]).delivery_id, id);
        t.advance(TimeDelta::seconds(31));
        refused(watcher.step().await, Code::Unauthenticated, "TOKEN_INVALID");
    }
}

on_a_server! {
    sqlite:
    async fn silence_is_broken_by_checkpoints_that_move_on(t: &mut TestApp) {
        practice(t).await;
        let nothing = DeliveryFilter { reference: "never".into(), ..Default::default() };
        let request = WatchDeliveriesRequest {
            practice_id: ACME.into(),
            filter: Some(nothing),
            heartbeat_interval: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            ..Default::default()
        };
        let mut watcher = Watcher::of(t.staff().watch_deliveries(request).await.unwrap().into_inner()).await.unwrap();
        let (begin, first) = (Instant::now(), watcher.cursor.clone());
        send_over(t, "pat", Channel::InApp).await;
        let step = watcher.step().await.unwrap().unwrap();
        assert!(step.changes.is_empty() && begin.elapsed() > Duration::from_millis(4_500));
        assert_ne!(step.cursor, first, "the change that the filter held back is behind it");
        assert_eq!(time(step.server_time), Some(t.now()));
        let mut resumed = Watcher::from(t, &step.cursor).await;
        let id = send_over(t, "pat", Channel::InApp).await;
        assert_eq!(image(&resumed.changes().await[0]).delivery_id, id);
    }

    async fn one_subject_has_a_hundred_watches_and_no_more(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut open = Vec::new();
        for _ in 0..100 {
            open.push(Watcher::open(t, DeliveryFilter::default(), None).await);
        }
        let more = Watcher::try_open(t, DeliveryFilter::default(), None).await;
        let status = refused(more, Code::ResourceExhausted, "TOO_MANY_WATCHES");
        assert_eq!(metadata(&status, "limit"), "100");
        // Other calls on the same connection go on, and a place is free once a watch is gone.
        assert!(everything(t).await.is_empty());
        open.pop();
        let again = async {
            while Watcher::try_open(t, DeliveryFilter::default(), None).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::app::LIMIT, again).await.expect("there is a place again");
    }

    async fn a_list_is_read_page_by_page_with_tokens_that_are_bound_to_it(t: &mut TestApp) {
        practice(t).await;
        for n in 0..7 {
            let reference = format!("r-{}", n % 2);
            send(t, NotificationInput { reference, ..reminder(t, "pat", &[Channel::InApp]) }).await;
        }
        let request = |page_size: i32, page_token: &str| heedwell::grpc::proto::ListDeliveriesRequest {
            practice_id: ACME.into(),
            filter: Some(DeliveryFilter { reference: "r-0".into(), ..Default::default() }),
            page_size,
            page_token: page_token.into(),
            ..Default::default()
        };
        let first = t.staff().list_deliveries(request(3, "")).await.unwrap().into_inner();
        assert!(first.deliveries.len() == 3 && !first.watch_cursor.is_empty() && !first.next_page_token.is_empty());
        // The size of the next page is free, everything else is not.
        let next = first.next_page_token;
        let second = t.staff().list_deliveries(request(500, &next)).await.unwrap().into_inner();
        assert_eq!(
            (second.deliveries.len(), second.next_page_token.as_str(), second.watch_cursor.as_str()),
            (1, "", "")
        );
        let mut ids: Vec<_> = first.deliveries.into_iter().chain(second.deliveries).map(|it| it.delivery_id).collect();
        assert!(ids.iter().rev().is_sorted(), "newest first");
        ids.dedup();
        assert_eq!(ids.len(), 4);
        let mut other = request(3, &next);
        other.filter = Some(DeliveryFilter { reference: "r-1".into(), ..Default::default() });
        for bad in [other, request(3, "canary"), request(3, &first.watch_cursor), request(3, &next[1..])] {
            let status = refused(t.staff().list_deliveries(bad).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
            assert!(!status.message().contains("canary"));
        }
        // A size out of range is moved into it.
        for (asked, given) in [(-1, 1), (0, 4), (100_000, 4)] {
            let page = t.staff().list_deliveries(request(asked, "")).await.unwrap().into_inner();
            assert_eq!(page.deliveries.len(), given);
        }
        practice_named(t, "beta").await;
        let mut foreign = request(3, &next);
        foreign.practice_id = "beta".into();
        let mut notify = t.caller_with(&token(t, Role::Staff, "beta")).notify;
        refused(notify.list_deliveries(foreign).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }
}
