//! More than the server takes on: refused before anything is stored, with a word on when to come back.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, NotificationInput, SendNotificationRequest, batch_send_notifications_response::batch_result::Outcome,
        notification_input::Priority,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    batch::{item, send_all},
    cancels::cancel,
    given::{new_key, practice, practice_named, reminder, request, token, try_send},
    seen::{everything, metadata, refused},
};
use crate::support::app::{Caller, TestApp, on_a_server};

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
