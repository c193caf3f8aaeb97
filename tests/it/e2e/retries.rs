//! What staff have sent again.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::grpc::proto::{
    AppointmentDetails, Channel, Delivery, DeliveryFilter, NotificationInput, NotificationView, RetryDeliveryRequest,
    RetryDeliveryResponse, notification_input::Payload,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    callbacks::report,
    cancels::cancel,
    given::{new_key, practice, reminder, send, send_over, somebody_with_mailbox, somebody_with_phone, visit},
    seen::{
        Watcher, delivery, everything, failed, history, image, metadata, notification_id, read, refused, skipped,
        state, states, texts, until, until_state,
    },
    texts::{absent_once, in_doubt, text_to},
};
use crate::support::app::{ACME, TestApp, on_a_server};

async fn try_retry(t: &TestApp, key: &str, id: &str) -> Result<RetryDeliveryResponse, Status> {
    let request = RetryDeliveryRequest { practice_id: ACME.into(), request_id: key.into(), delivery_id: id.into() };
    Ok(t.staff().retry_delivery(request).await?.into_inner())
}

pub(super) async fn retry(t: &TestApp, id: &str) -> Delivery {
    let made = try_retry(t, &new_key(), id).await.unwrap();
    assert!(!made.replayed);
    made.delivery.unwrap()
}

/// The state that forbids it.
async fn forbidden(t: &TestApp, id: &str) -> String {
    let status = refused(try_retry(t, &new_key(), id).await, Code::FailedPrecondition, "STATE_FORBIDS");
    let state = metadata(&status, "state");
    let [violation] = &status.get_details_precondition_failure().unwrap().violations[..] else { panic!("one") };
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), (state.as_str(), id));
    assert!(!violation.description.is_empty());
    state
}

on_a_server! {
    async fn a_text_that_failed_is_sent_again_once_the_phone_is_on(t: &mut TestApp) {
        let id = text_to(t, "+12025550110").await;
        let old = until_state(t, &id, "FAILED").await;
        t.sandbox.rules().set("+12025550110", "delivered").unwrap();
        let filter = DeliveryFilter { notification_id: notification_id(&old).into(), ..Default::default() };
        let mut watcher = Watcher::open(t, filter, None).await;

        let new = try_retry(t, "again", &id).await.unwrap();
        let (new, replayed) = (new.delivery.unwrap(), new.replayed);
        assert_eq!((replayed, state(&new), new.retry_of_delivery_id.as_str()), (false, "PENDING", id.as_str()));
        assert_eq!((new.channel, new.revision, new.possible_duplicate), (old.channel, 1, false));
        let changes = watcher.until(|it| it.delivery_id == new.delivery_id && state(it) == "DELIVERED").await;
        let [linked, made] = &changes[..2] else { panic!("both are seen") };
        assert_eq!((image(linked).retry_delivery_id.as_str(), state(image(linked))), (&*new.delivery_id, "FAILED"));
        assert_eq!((image(made).revision, made.previous_state), (1, 0));
        assert_eq!(states(t, &id).await, ["PENDING", "SENT", "FAILED"]);
        assert_eq!(states(t, &new.delivery_id).await, ["PENDING", "SENT", "DELIVERED"]);
        let [first, second] = &texts(t, "+12025550110")[..] else { panic!("two were taken") };
        assert_eq!((&first.body, second.token_uses), (&second.body, 1));
        assert_ne!(first.callback, second.callback);

        let whole = read(t, notification_id(&old), NotificationView::Full).await;
        assert!(whole.details[0].content == whole.details[1].content && whole.details[1].content.is_some());
        let ids: Vec<_> = whole.notification.unwrap().deliveries.into_iter().map(|it| it.delivery_id).collect();
        assert_eq!(ids, [id.clone(), new.delivery_id.clone()]);

        // The same request has the same answer, as it is now, and a key is good for one delivery.
        t.advance(TimeDelta::days(30));
        let again = try_retry(t, "again", &id).await.unwrap();
        assert_eq!((again.replayed, state(again.delivery.as_ref().unwrap())), (true, "DELIVERED"));
        assert_eq!(again.delivery.unwrap().delivery_id, new.delivery_id);
        let other = text_to(t, "+12025550113").await;
        until_state(t, &other, "FAILED").await;
        let status = refused(try_retry(t, "again", &other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
        let resource = status.get_details_resource_info().unwrap();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name), ("delivery", new.delivery_id.clone()));
        assert_eq!(forbidden(t, &id).await, "RETRIED");
        assert_eq!(forbidden(t, &new.delivery_id).await, "DELIVERED");
    }

    async fn a_text_that_stayed_unconfirmed_is_sent_again_with_a_flag(t: &mut TestApp) {
        practice(t).await;
        somebody_with_phone(t, "lee", "+12025550125").await;
        let sent = send(t, NotificationInput { reference: "visit-7".into(), ..reminder(t, "lee", &[Channel::Sms]) }).await;
        let id = &sent.deliveries[0].delivery_id;
        // The visit is cancelled while the provider's list is behind: it is looked for, and not sent again.
        t.sandbox.rules().set_list_lag(std::time::Duration::from_secs(3_600));
        until_state(t, id, "UNCONFIRMED").await;
        assert_eq!(forbidden(t, id).await, "UNCONFIRMED");
        let off = Payload::AppointmentCancelled(AppointmentDetails { link: None, ..visit(t) });
        let off = NotificationInput {
            payload: Some(off),
            reference: "visit-7".into(),
            ..reminder(t, "lee", &[Channel::InApp])
        };
        send(t, off).await;
        let doubt = in_doubt(t, id).await;
        absent_once(t, &doubt).await;
        let closed = until(t, id, |it| it.next_action_time.is_none()).await;
        assert_eq!((state(&closed), texts(t, "+12025550125").len()), ("UNCONFIRMED", 1));

        t.sandbox.rules().set("+12025550125", "delivered").unwrap();
        let new = retry(t, id).await;
        assert!(new.possible_duplicate);
        let done = until_state(t, &new.delivery_id, "DELIVERED").await;
        assert!(done.possible_duplicate);
        assert_eq!(state(&delivery(t, id).await), "UNCONFIRMED");
    }

    async fn a_late_report_on_the_first_flags_the_second(t: &mut TestApp) {
        let id = text_to(t, "+12025550110").await;
        until_state(t, &id, "FAILED").await;
        t.sandbox.rules().set("+12025550110", "delivered").unwrap();
        let new = retry(t, &id).await;
        assert!(!until_state(t, &new.delivery_id, "DELIVERED").await.possible_duplicate);
        let first = &texts(t, "+12025550110")[0];
        assert_eq!(report(t, first, "delivered").await, 204);
        until(t, &new.delivery_id, |it| it.possible_duplicate).await;
        let old = delivery(t, &id).await;
        assert_eq!((state(&old), old.possible_duplicate), ("DELIVERED", false));
        history(t, &id).await;
        history(t, &new.delivery_id).await;
    }

    async fn a_retry_is_decided_anew(t: &mut TestApp) {
        let id = text_to(t, "+12025550111").await;
        assert_eq!(failed(&until_state(t, &id, "FAILED").await), ("INVALID_ADDRESS", "30005"));
        let new = retry(t, &id).await;
        assert_eq!((state(&new), skipped(&new)), ("SKIPPED", "ADDRESS_SUPPRESSED"));
        assert_eq!(forbidden(t, &new.delivery_id).await, "SKIPPED");
        assert_eq!(texts(t, "+12025550111").len(), 1);
    }

    async fn mail_is_sent_again_to_the_mailbox_of_the_day(t: &mut TestApp) {
        practice(t).await;
        somebody_with_mailbox(t, "kim", "spam@example.com").await;
        let id = send_over(t, "kim", Channel::Email).await;
        until_state(t, &id, "FAILED").await;
        somebody_with_mailbox(t, "kim", "kim@example.com").await;
        let new = retry(t, &id).await;
        let sent = until_state(t, &new.delivery_id, "SENT").await;
        assert_eq!(sent.address_hint, "k•••@example.com");
    }

    async fn what_was_called_off_is_not_sent_again(t: &mut TestApp) {
        practice(t).await;
        somebody_with_phone(t, "lee", "+12025550110").await;
        let id = send_over(t, "lee", Channel::Sms).await;
        let old = until_state(t, &id, "FAILED").await;
        // Its link goes with it.
        assert_eq!(cancel(t, notification_id(&old)).await.revoked_links, 1);
        assert_eq!(forbidden(t, &id).await, "SOURCE_CANCELLED");
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn sixteen_twins_at_once_make_one_retry(t: &mut TestApp) {
        let id = text_to(t, "+12025550110").await;
        until_state(t, &id, "FAILED").await;
        t.sandbox.rules().set("+12025550110", "delivered").unwrap();
        let made = join_all((0..16).map(|_| try_retry(t, "again", &id))).await;
        let made: Vec<_> = made.into_iter().map(Result::unwrap).collect();
        assert_eq!(made.iter().filter(|made| !made.replayed).count(), 1);
        let ids: std::collections::BTreeSet<_> =
            made.into_iter().map(|made| made.delivery.unwrap().delivery_id).collect();
        assert_eq!((ids.len(), everything(t).await.len()), (1, 2));
        until_state(t, ids.first().unwrap(), "DELIVERED").await;
        assert_eq!(texts(t, "+12025550110").len(), 2);
    }
}
