//! More than the server takes on: refused before anything is stored, with a word on when to come back.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchPutPatientsRequest, Channel, NotificationInput, RetryDeliveryRequest, SendNotificationRequest,
        batch_send_notifications_response::batch_result::Outcome, notification_input::Priority,
    },
    store::Reserve,
};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};
use tokio::{
    task::JoinSet,
    time::{interval, timeout},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    batch::{item, send_all},
    callbacks::{FORM, post},
    cancels::cancel,
    given::{PHONE, new_key, patient, practice, practice_named, reminder, request, token, try_send},
    seen::{delivery, everything, mails, metadata, refused, settled, state},
};
use crate::support::app::{ACME, Caller, LIMIT, TestApp, on_a_server};

/// Something that stays open: it is not due before an hour has passed.
fn later(t: &TestApp) -> NotificationInput {
    let schedule_time = Some(t.after(TimeDelta::hours(1)));
    NotificationInput { schedule_time, ..reminder(t, "pat", &[Channel::Sms, Channel::Email]) }
}

fn urgent(input: NotificationInput) -> NotificationInput {
    NotificationInput { priority: Priority::Urgent.into(), ..input }
}

/// Checks that a send was refused for the backlog, and that it says when to come back.
fn too_much_is_open<T>(result: Result<T, Status>) {
    let status = refused(result, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(metadata(&status, "limit"), "open_deliveries");
    let retry = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(retry.as_secs() >= 1, "{retry:?}");
    assert!(status.get_details_quota_failure().is_some());
}

on_a_server! {
    async fn a_practice_has_so_much_open_and_no_more(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "other").await;
        t.restart_with(|config| config.admission.open_deliveries = 4).await;
        let mut sender = t.sender();
        let first = sender.send_notification(request("first", later(t))).await.unwrap().into_inner();
        let first = first.notification.unwrap();
        try_send(t, &new_key(), later(t)).await.unwrap();
        too_much_is_open(try_send(t, "one-more", later(t)).await);
        let results = send_all(t, vec![item(&new_key(), later(t))]).await.unwrap();
        let Some(Outcome::Error(error)) = &results[0].outcome else { panic!("it is refused as well") };
        assert_eq!(error.code, Code::ResourceExhausted as i32);
        assert_eq!(everything(t).await.len(), 4, "nothing was stored of what was refused");

        // What was accepted before is answered as ever.
        let again = sender.send_notification(request("first", later(t))).await.unwrap().into_inner();
        assert!(again.replayed && again.notification.unwrap().notification_id == first.notification_id);
        // A backlog of what may wait keeps nothing out that may not, and is no other practice's business.
        let mut before = Vec::new();
        for _ in 0..2 {
            let sent = try_send(t, &new_key(), urgent(later(t))).await.unwrap();
            before.push(sent.notification.unwrap().notification_id);
        }
        too_much_is_open(try_send(t, &new_key(), urgent(later(t))).await);
        let mut other = Caller::new(t.channel(), &token(t, Role::Sender, "other")).notify;
        let elsewhere = SendNotificationRequest { practice_id: "other".into(), ..request("first", later(t)) };
        other.send_notification(elsewhere).await.unwrap();

        // Those are before it, so that it has to wait for them too; then its key is as good as new.
        cancel(t, &first.notification_id).await;
        too_much_is_open(try_send(t, "one-more", later(t)).await);
        for id in before {
            cancel(t, &id).await;
        }
        assert!(!try_send(t, "one-more", later(t)).await.unwrap().replayed);
    }
}

/// Checks that something new was refused for want of room, and that it says when to come back.
fn no_room<T>(result: Result<T, Status>) {
    let status = refused(result, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
}

/// A full disk, as PostgreSQL tells of it (53100), in front of what `event` does to `table`. How often it was met is counted.
async fn fills_up(t: &TestApp, table: &str, event: &str) {
    t.execute("CREATE SEQUENCE IF NOT EXISTS met").await;
    // Whoever meets it counts it, and the server owns nothing.
    t.execute("GRANT USAGE ON SEQUENCE met TO PUBLIC").await;
    t.execute(
        "CREATE OR REPLACE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM nextval(''met''); RAISE EXCEPTION USING ERRCODE = ''53100'', MESSAGE = ''no space left''; END'",
    )
    .await;
    t.execute(&format!("CREATE TRIGGER no_space BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION no_space()"))
        .await;
}

on_a_server! {
    sqlite:
    async fn on_a_disk_that_is_nearly_full_nothing_new_is_accepted_and_the_rest_goes_on(t: &mut TestApp) {
        practice(t).await;
        let accepted = try_send(t, "before", later(t)).await.unwrap().notification.unwrap();
        let other = try_send(t, &new_key(), later(t)).await.unwrap().notification.unwrap();
        // More than any disk has.
        t.restart_with(|config| config.store.reserve = Reserve { bytes: 1 << 60, percent: 0 }).await;
        no_room(try_send(t, "new", reminder(t, "pat", &[Channel::InApp])).await);
        let retry = RetryDeliveryRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            delivery_id: accepted.deliveries[0].delivery_id.clone(),
        };
        no_room(t.staff().retry_delivery(retry).await);
        let patients = vec![patient("new", "new@example.com", PHONE)];
        let put = BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        no_room(t.caller(Role::Directory).directory.batch_put_patients(put).await);

        assert_eq!(everything(t).await.len(), 4, "reads go on");
        assert!(try_send(t, "before", later(t)).await.unwrap().replayed, "it was accepted, whatever there is room for now");
        assert_eq!(cancel(t, &other.notification_id).await.cancelled_deliveries, 2);
        t.advance(TimeDelta::hours(2));
        settled(t, &accepted.deliveries, ["SENT", "DELIVERED"]).await;

        t.restart_with(|_| ()).await;
        assert!(!try_send(t, "new", reminder(t, "pat", &[Channel::InApp])).await.unwrap().replayed);
    }
}

on_a_server! {
    postgres:
    async fn while_postgres_has_no_space_accepts_are_refused_and_outcomes_are_kept_until_it_has(t: &mut TestApp) {
        practice(t).await;
        fills_up(t, "notification", "INSERT").await;
        let input = reminder(t, "pat", &[Channel::Email]);
        no_room(try_send(t, "key", input.clone()).await);
        t.execute("DROP TRIGGER no_space ON notification").await;

        // The mail goes, and what became of it cannot be written.
        fills_up(t, "attempt", "UPDATE").await;
        let sent = try_send(t, "key", input).await.unwrap();
        assert!(!sent.replayed, "nothing was kept of what was refused");
        let raw = t.home.raw().await;
        let met = async || {
            let row = raw.query_one_raw(Statement::from_string(raw.get_database_backend(), "SELECT last_value FROM met"));
            row.await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap()
        };
        let several = async { while met().await < 4 {} };
        timeout(LIMIT, several).await.expect("it is tried again and again");
        let deliveries = sent.notification.unwrap().deliveries;
        assert_eq!(state(&delivery(t, &deliveries[0].delivery_id).await), "PENDING");
        t.execute("DROP TRIGGER no_space ON attempt").await;
        let [sent] = settled(t, &deliveries, ["SENT"]).await;
        assert_eq!((sent.attempts, mails(t, "pat@example.com").len()), (1, 1), "it went once");
        t.execute("DROP FUNCTION no_space").await;
        t.execute("DROP SEQUENCE met").await;
        raw.close().await.unwrap();
    }
}

on_a_server! {
    postgres:
    async fn however_many_callbacks_come_at_once_calls_find_a_connection(t: &mut TestApp) {
        practice(t).await;
        let (locking, other) = (t.home.raw().await, t.home.raw().await);
        let held = locking.begin().await.unwrap();
        // Whoever wants to know who signs the callbacks of a practice waits.
        held.execute_unprepared("LOCK TABLE practice_settings IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let url = t.url(&format!("/webhooks/twilio/{ACME}/inbound"));
        let mut flood = JoinSet::new();
        for _ in 0..100 {
            let url = url.clone();
            flood.spawn(async move { post(&url, Some("AAAA"), FORM, "Body=x".into()).await });
        }
        let waits = Statement::from_string(
            other.get_database_backend(),
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND application_name = 'heedwell' AND wait_event_type = 'Lock'",
        );
        let begun = async {
            let mut tick = interval(std::time::Duration::from_millis(5));
            loop {
                tick.tick().await;
                let row = other.query_one_raw(waits.clone()).await.unwrap().unwrap();
                if row.try_get_by_index::<i64>(0).unwrap() >= 4 {
                    return;
                }
            }
        };
        timeout(LIMIT, begun).await.unwrap();
        assert_eq!(everything(t).await.len(), 0);
        assert!(flood.try_join_next().is_none(), "the call had to wait until the strangers had gone");
        held.rollback().await.unwrap();
        for answer in flood.join_all().await {
            assert!([403, 503].contains(&answer.as_u16()), "{answer}");
        }
    }
}
