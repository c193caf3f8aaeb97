//! When a notification may go: not before its time, and never too late.

use chrono::TimeDelta;
use heedwell::grpc::proto::{
    AppointmentDetails, Channel, Notification, NotificationInput, notification_input::Payload,
};

use super::{
    given::{PHONE, practice, reminder, send, send_over, visit},
    seen::{delivery, everything, settled, skipped, state, states, texts, time, until_state},
};
use crate::support::app::{TestApp, on_a_server};

const EVERY: [Channel; 3] = [Channel::InApp, Channel::Email, Channel::Sms];

async fn scheduled(t: &TestApp, start: TimeDelta, expire: Option<TimeDelta>) -> Notification {
    let schedule_time = Some(t.after(start));
    let expire_time = expire.map(|expire| t.after(expire));
    send(t, NotificationInput { schedule_time, expire_time, ..reminder(t, "pat", &EVERY) }).await
}

on_a_server! {
    async fn a_scheduled_notification_waits_for_its_time_on_each_channel(t: &mut TestApp) {
        practice(t).await;
        let hour = t.now() + TimeDelta::hours(1);
        let waiting = scheduled(t, TimeDelta::hours(1), None).await;
        assert_eq!(time(waiting.schedule_time), Some(hour));
        assert_eq!(time(waiting.expire_time), Some(hour + TimeDelta::hours(12)));
        assert!(waiting.deliveries.iter().all(|it| state(it) == "PENDING" && time(it.next_action_time) == Some(hour)));

        // What is due goes meanwhile, which shows that the queue was worked through.
        t.advance(TimeDelta::minutes(59));
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!(texts(t, PHONE).len(), 1);
        for one in &waiting.deliveries {
            let now = delivery(t, &one.delivery_id).await;
            assert_eq!((state(&now), now.revision), ("PENDING", 1));
        }

        t.advance(TimeDelta::minutes(1));
        let [in_app, mail, text] = settled(t, &waiting.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        for one in [&in_app, &mail, &text] {
            assert_eq!((time(one.send_time), one.attempts), (Some(hour), 1));
        }
        assert_eq!(states(t, &in_app.delivery_id).await, ["PENDING", "DELIVERED"]);
    }

    async fn what_expired_while_the_server_was_down_is_not_sent(t: &mut TestApp) {
        practice(t).await;
        let late = scheduled(t, TimeDelta::minutes(10), Some(TimeDelta::minutes(20))).await;
        let still = scheduled(t, TimeDelta::minutes(10), Some(TimeDelta::minutes(40))).await;
        t.stop().await;
        t.advance(TimeDelta::minutes(30));
        t.start().await;
        for one in settled(t, &late.deliveries, ["SKIPPED", "SKIPPED", "SKIPPED"]).await {
            assert_eq!((skipped(&one), one.attempts), ("EXPIRED", 0));
            assert!(one.next_action_time.is_none() && one.send_time.is_none());
        }
        settled(t, &still.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        let [text] = &texts(t, PHONE)[..] else { panic!("one was sent") };
        assert_eq!(text.validity, Some(600), "Twilio is told how long it may try");
    }

    async fn a_reminder_never_comes_after_the_visit_began(t: &mut TestApp) {
        practice(t).await;
        let soon = || AppointmentDetails { start_time: Some(t.after(TimeDelta::hours(1))), ..visit(t) };
        let input = || NotificationInput {
            payload: Some(Payload::AppointmentReminder(soon())),
            expire_time: Some(t.after(TimeDelta::hours(9))),
            ..reminder(t, "pat", &EVERY)
        };
        let visit_time = t.now() + TimeDelta::hours(1);
        let now = send(t, input()).await;
        assert_eq!(time(now.expire_time), Some(visit_time));
        settled(t, &now.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        assert_eq!(texts(t, PHONE)[0].validity, Some(3_600));

        let schedule_time = Some(t.after(TimeDelta::hours(2)));
        let late = send(t, NotificationInput { schedule_time, ..input() }).await;
        assert_eq!(time(late.expire_time), Some(visit_time));
        assert!(late.deliveries.iter().all(|one| state(one) == "SKIPPED" && skipped(one) == "EXPIRED"));
        assert!(late.deliveries.iter().all(|one| one.next_action_time.is_none()));
        // Only reminders are bound to the visit.
        let confirmed = Some(Payload::AppointmentConfirmed(soon()));
        let confirmed = send(t, NotificationInput { payload: confirmed, ..input() }).await;
        assert_eq!(time(confirmed.expire_time), Some(t.now() + TimeDelta::hours(9)));
    }

    async fn scheduled_work_survives_a_restart(t: &mut TestApp) {
        practice(t).await;
        let waiting = scheduled(t, TimeDelta::hours(1), None).await;
        t.stop().await;
        t.start().await;
        assert!(everything(t).await.iter().all(|one| state(one) == "PENDING" && one.revision == 1));
        t.advance(TimeDelta::hours(1));
        settled(t, &waiting.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        assert_eq!(texts(t, PHONE).len(), 1);
    }
}
