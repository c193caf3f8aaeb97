//! What is called off: by a call, or by another notification that makes it pointless.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::grpc::proto::{
    AppointmentDetails, CancelNotificationRequest, CancelNotificationResponse, Channel, Delivery, DeliveryFilter,
    Notification, NotificationInput, NotificationView, notification_input::Payload,
};

use super::{
    callbacks::browser,
    given::{PHONE, payment, practice, reminder, send, send_over, somebody_with_phone, visit},
    seen::{
        Watcher, delivery, history, image, notification_id, read, refused_texts, settled, state, states, texts, time,
        until, until_state,
    },
    texts::{absent_once, in_doubt, text_to},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const EVERY: [Channel; 3] = [Channel::InApp, Channel::Email, Channel::Sms];

pub(super) async fn cancel(t: &TestApp, id: &str) -> CancelNotificationResponse {
    let request = CancelNotificationRequest { practice_id: ACME.into(), notification_id: id.into() };
    t.sender().cancel_notification(request).await.unwrap().into_inner()
}

fn with_reference(reference: &str, input: NotificationInput) -> NotificationInput {
    NotificationInput { reference: reference.into(), ..input }
}

fn words(notification: &Notification) -> Vec<&'static str> {
    notification.deliveries.iter().map(state).collect()
}

/// The last line of a delivery's timeline.
pub(super) async fn last_line(t: &TestApp, one: &Delivery) -> String {
    let answer = read(t, notification_id(one), NotificationView::Basic).await;
    let detail = answer.details.into_iter().find(|detail| detail.delivery_id == one.delivery_id).unwrap();
    detail.events.last().unwrap().detail.clone()
}

on_a_server! {
    async fn a_scheduled_notification_that_is_cancelled_never_goes(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(1)));
        let waiting = send(t, NotificationInput { schedule_time, ..reminder(t, "pat", &EVERY) }).await;
        let filter = DeliveryFilter { notification_id: waiting.notification_id.clone(), ..Default::default() };
        let mut watcher = Watcher::open(t, filter, None).await;
        t.advance(TimeDelta::minutes(30));

        let done = cancel(t, &waiting.notification_id).await;
        assert_eq!((done.cancelled_deliveries, done.revoked_links), (3, 1));
        let now = done.notification.unwrap();
        assert_eq!((words(&now), time(now.cancel_time)), (vec!["CANCELLED"; 3], Some(t.now())));
        assert!(now.deliveries.iter().all(|one| one.next_action_time.is_none() && one.revision == 2));
        assert_eq!(last_line(t, &now.deliveries[2]).await, "Cancelled before it was sent.");
        let seen = watcher.until(|it| it.delivery_id == now.deliveries[2].delivery_id).await;
        assert!(seen.iter().all(|change| state(image(change)) == "CANCELLED"));

        t.advance(TimeDelta::minutes(1));
        let again = cancel(t, &waiting.notification_id).await;
        assert_eq!((again.cancelled_deliveries, again.revoked_links), (0, 0));
        assert!(again.notification == Some(now), "nothing changed");

        // What is due after it goes, which shows that the queue was worked through.
        t.advance(TimeDelta::hours(1));
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!(texts(t, PHONE).len(), 1);
    }

    async fn what_waits_for_another_try_is_not_tried_again(t: &mut TestApp) {
        let id = text_to(t, "+12025550114").await;
        let waiting = until(t, &id, |delivery| delivery.attempts == 1).await;
        let done = cancel(t, notification_id(&waiting)).await;
        assert_eq!(done.cancelled_deliveries, 1);
        t.advance(TimeDelta::minutes(20));
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        let now = delivery(t, &id).await;
        assert_eq!((state(&now), now.attempts, texts(t, "+12025550114").len()), ("CANCELLED", 1, 0));
        assert_eq!(states(t, &id).await, ["PENDING", "CANCELLED"]);
    }

    async fn what_may_have_arrived_is_looked_for_and_not_sent_again(t: &mut TestApp) {
        let id = text_to(t, "+12025550118").await;
        let unsure = until_state(t, &id, "UNCONFIRMED").await;
        let done = cancel(t, notification_id(&unsure)).await;
        assert_eq!(done.cancelled_deliveries, 0);
        let now = done.notification.unwrap();
        assert!(now.cancel_time.is_some() && now.deliveries[0].next_action_time.is_some());
        let doubt = in_doubt(t, &id).await;
        t.sandbox.rules().set("+12025550118", "delivered").unwrap();
        absent_once(t, &doubt).await;
        let closed = until(t, &id, |it| it.next_action_time.is_none()).await;
        assert_eq!((state(&closed), closed.possible_duplicate), ("UNCONFIRMED", false));
        t.advance(TimeDelta::hours(1));
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!((refused_texts(t, "+12025550118"), texts(t, "+12025550118").len()), (1, 0));
        history(t, &id).await;
    }

    async fn what_was_sent_stays_sent_and_its_link_opens_no_more(t: &mut TestApp) {
        practice(t).await;
        let sent = send(t, reminder(t, "pat", &EVERY)).await;
        settled(t, &sent.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        let text = texts(t, PHONE).pop().unwrap().body;
        let url = text.split_whitespace().find(|word| word.contains("://")).unwrap();
        assert_eq!(browser().get(url).send().await.unwrap().status(), 200);
        let done = cancel(t, &sent.notification_id).await;
        assert_eq!((done.cancelled_deliveries, done.revoked_links), (0, 1));
        let now = done.notification.unwrap();
        assert_eq!(words(&now), ["DELIVERED", "SENT", "DELIVERED"]);
        assert_eq!(time(now.cancel_time), Some(t.now()));
        assert_eq!(browser().get(url).send().await.unwrap().status(), 404);
        assert_eq!(browser().post(url).send().await.unwrap().status(), 404);
        assert_eq!(cancel(t, &sent.notification_id).await.revoked_links, 0);
    }

    async fn sixteen_cancels_at_once_stop_each_delivery_once(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(1)));
        let waiting = send(t, NotificationInput { schedule_time, ..reminder(t, "pat", &EVERY) }).await;
        let done = join_all((0..16).map(|_| cancel(t, &waiting.notification_id))).await;
        assert_eq!(done.iter().map(|done| done.cancelled_deliveries).sum::<i32>(), 3);
        assert_eq!(done.iter().map(|done| done.revoked_links).sum::<i32>(), 1);
        assert!(done.iter().all(|done| words(done.notification.as_ref().unwrap()) == ["CANCELLED"; 3]));
    }

    async fn a_cancelled_visit_and_a_payment_stop_what_they_make_pointless(t: &mut TestApp) {
        practice(t).await;
        somebody_with_phone(t, "kim", "+12025550143").await;
        let later = Some(t.after(TimeDelta::hours(20)));
        let scheduled = |reference: &str, payload: Payload, patient: &str| NotificationInput {
            payload: Some(payload),
            schedule_time: later,
            ..with_reference(reference, reminder(t, patient, &[Channel::InApp, Channel::Sms]))
        };
        let visit = || Payload::AppointmentReminder(AppointmentDetails { link: None, ..visit(t) });
        let reminded = send(t, scheduled("visit-7", visit(), "pat")).await;
        let due = send(t, scheduled("INV-7", Payload::PaymentDue(payment(t)), "pat")).await;
        let mut others = Vec::new();
        for (reference, patient) in [("visit-8", "pat"), ("", "pat"), ("visit-7", "kim")] {
            others.push(send(t, scheduled(reference, visit(), patient)).await);
        }
        let now = |payload| NotificationInput { payload: Some(payload), ..reminder(t, "pat", &[Channel::InApp]) };
        let off = |reference: &str| {
            let visit = AppointmentDetails { link: None, ..self::visit(t) };
            with_reference(reference, now(Payload::AppointmentCancelled(visit)))
        };
        send(t, off("")).await;
        send(t, off("INV-7")).await;
        let untouched = read(t, &due.notification_id, NotificationView::Basic).await.notification.unwrap();
        assert_eq!(words(&untouched), ["PENDING", "PENDING"]);

        let made = send(t, off("visit-7")).await;
        assert_eq!(words(&made), ["DELIVERED"]);
        send(t, with_reference("INV-7", now(Payload::PaymentReceived(payment(t))))).await;
        for (stopped, why) in [
            (&reminded, "Not sent: the visit was cancelled."),
            (&due, "Not sent: the payment was received."),
        ] {
            let now = read(t, &stopped.notification_id, NotificationView::Basic).await.notification.unwrap();
            assert_eq!((words(&now), now.cancel_time.is_none()), (vec!["CANCELLED"; 2], true));
            for one in &now.deliveries {
                assert_eq!(last_line(t, one).await, why);
                assert_eq!(states(t, &one.delivery_id).await, ["PENDING", "CANCELLED"]);
            }
        }
        t.advance(TimeDelta::hours(20));
        for other in &others {
            let channels = if other.deliveries[1].patient_id == "kim" { "+12025550143" } else { PHONE };
            settled(t, &other.deliveries, ["DELIVERED", "DELIVERED"]).await;
            assert!(!texts(t, channels).is_empty());
        }
        assert_eq!((texts(t, PHONE).len(), texts(t, "+12025550143").len()), (2, 1));
    }
}
