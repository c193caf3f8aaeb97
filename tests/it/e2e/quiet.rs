//! Quiet hours, as senders and patients see them: what would ring a phone waits until they are over, and then goes.

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::grpc::proto::{
    AppointmentDetails, Channel, NotificationInput, Patient, PracticeSettings, QuietHours, TimeOfDay,
    notification_input::{Payload, Priority},
};

use super::{
    given::{PHONE, patient, practice, put_patient, reminder, send, visit},
    preferences::set,
    seen::{delivery, settled, skipped, state, texts, time, until},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const EVERY: [Channel; 3] = [Channel::InApp, Channel::Email, Channel::Sms];

/// From now on hours are quiet then.
pub(super) async fn quiet(t: &TestApp, start: (i32, i32), end: (i32, i32)) {
    let time = |(hours, minutes)| Some(TimeOfDay { hours, minutes });
    let quiet_hours = Some(QuietHours { start: time(start), end: time(end) });
    set(t, PracticeSettings { quiet_hours, ..Default::default() }, &["quiet_hours"]).await;
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

on_a_server! {
    async fn a_text_waits_for_the_end_of_quiet_hours_while_the_others_go(t: &mut TestApp) {
        practice(t).await;
        // It is ten in the morning in New York.
        quiet(t, (9, 30), (10, 30)).await;
        let end = at("2026-03-02T15:30:00Z");
        let sent = send(t, reminder(t, "pat", &EVERY)).await;
        let [_, _, text] = &sent.deliveries[..] else { panic!("three") };
        assert_eq!((state(text), time(text.next_action_time)), ("PENDING", Some(end)));
        // Its time begins when it may go.
        assert_eq!(time(sent.expire_time), Some(end + TimeDelta::hours(12)));
        settled(t, &sent.deliveries[..2], ["DELIVERED", "SENT"]).await;
        let urgent = NotificationInput { priority: Priority::Urgent.into(), ..reminder(t, "pat", &EVERY[2..]) };
        settled(t, &send(t, urgent).await.deliveries, ["DELIVERED"]).await;
        assert_eq!((texts(t, PHONE).len(), delivery(t, &text.delivery_id).await.revision), (1, 1));
        t.advance(TimeDelta::minutes(30));
        settled(t, &sent.deliveries[2..], ["DELIVERED"]).await;
        assert_eq!(texts(t, PHONE).len(), 2);
    }

    async fn a_night_without_an_end_of_its_own_loses_nothing(t: &mut TestApp) {
        practice(t).await;
        // Twelve hours, as long as a notification usually lives.
        quiet(t, (10, 0), (22, 0)).await;
        let sent = send(t, reminder(t, "pat", &EVERY[2..])).await;
        t.advance(TimeDelta::hours(12));
        settled(t, &sent.deliveries, ["DELIVERED"]).await;
    }

    async fn hours_that_became_quiet_after_the_accept_hold_it_where_the_patient_is(t: &mut TestApp) {
        practice(t).await;
        let at_home = Patient { time_zone: "America/Denver".into(), ..patient("pat", "pat@example.com", PHONE) };
        put_patient(t, ACME, at_home).await;
        let schedule_time = Some(t.after(TimeDelta::hours(1)));
        let waiting = send(t, NotificationInput { schedule_time, ..reminder(t, "pat", &EVERY[1..]) }).await;
        // Nine there when it is due.
        quiet(t, (8, 0), (9, 20)).await;
        t.advance(TimeDelta::hours(1));
        settled(t, &waiting.deliveries[..1], ["SENT"]).await;
        let end = at("2026-03-02T16:20:00Z");
        let held = until(t, &waiting.deliveries[1].delivery_id, |one| one.revision == 2).await;
        assert_eq!((state(&held), held.attempts, time(held.next_action_time)), ("PENDING", 0, Some(end)));
        t.advance(TimeDelta::minutes(20));
        settled(t, &waiting.deliveries[1..], ["DELIVERED"]).await;
    }

    async fn what_would_be_too_late_after_quiet_hours_says_so_at_once(t: &mut TestApp) {
        practice(t).await;
        quiet(t, (9, 0), (17, 0)).await;
        let soon = AppointmentDetails { start_time: Some(t.after(TimeDelta::hours(3))), ..visit(t) };
        let input =
            NotificationInput { payload: Some(Payload::AppointmentReminder(soon)), ..reminder(t, "pat", &EVERY) };
        let sent = send(t, input).await;
        assert_eq!(sent.deliveries.iter().map(skipped).collect::<Vec<_>>(), ["UNSPECIFIED", "UNSPECIFIED", "EXPIRED"]);
        settled(t, &sent.deliveries, ["DELIVERED", "SENT", "SKIPPED"]).await;
    }
}
