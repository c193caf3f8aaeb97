//! Whoever has stolen a key wants texts to go to numbers that they are paid for. A practice has so many in a day, and so many to
//! neighbouring numbers; what exceeds that is refused before anything is stored. And nobody calls without end.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Audience, BatchPutPatientsRequest, BroadcastInput, Channel, CreateBroadcastRequest, DeliveryFilter,
        DeliveryState, MessageRoute, SendMessageRequest,
        audience::{AllPatients, Selection},
        batch_send_notifications_response::batch_result::Outcome,
        send_message_request,
    },
    sandbox::Entry,
};
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    batch::{item, send_all},
    fairness::wait_for,
    given::{new_key, patient, practice, practice_named, put_patient, reminder, request, send, token, try_send},
    seen::{delivery, everything, list, metadata, refused, skipped, state},
    telemetry::{metrics, value},
};
use crate::support::app::{ACME, LIMIT, Pass, TestApp, on_a_server};

/// Checks that it was refused for that limit, and yields when it may be tried again.
#[track_caller]
fn too_much<T>(result: Result<T, Status>, limit: &str) -> Duration {
    let status = refused(result, Code::ResourceExhausted, "RATE_LIMITED");
    assert_eq!(metadata(&status, "limit"), limit);
    status.get_details_retry_info().unwrap().retry_delay.unwrap()
}

async fn text(t: &TestApp, patient: &str) -> Result<(), Status> {
    try_send(t, &new_key(), reminder(t, patient, &[Channel::Sms])).await.map(drop)
}

async fn answer(t: &TestApp) -> Result<(), Status> {
    let request = SendMessageRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        target: Some(send_message_request::Target::PatientId("pat".into())),
        route: MessageRoute::Sms.into(),
        body: "Yes, at 3.".into(),
        ..Default::default()
    };
    t.caller(Role::Staff).conversations.send_message(request).await.map(drop)
}

/// To everybody by text.
async fn announce(t: &TestApp, expected: i64) -> Result<(), Status> {
    let broadcast = BroadcastInput {
        title: "Closed".into(),
        audience: Some(Audience { selection: Some(Selection::All(AllPatients {})) }),
        channels: vec![Channel::Sms.into()],
        subject: "Closed".into(),
        body: "We are closed on Friday.".into(),
        schedule_time: None,
    };
    let request = CreateBroadcastRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        broadcast: Some(broadcast),
        expected_recipients: expected,
    };
    t.caller(Role::PracticeAdmin).broadcasts.create_broadcast(request).await.map(drop)
}

/// How often that alarm was raised.
async fn alarms(t: &TestApp, alarm: &str) -> f64 {
    value(&metrics(t).await, &format!("heedwell_alarms_total{{alarm=\"{alarm}\"}}"))
}

on_a_server! {
    async fn a_practice_texts_so_much_in_a_day_and_no_more(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "other").await;
        t.restart_with(|config| config.admission.texts_per_day = Some(3)).await;
        let one = |t: &TestApp| reminder(t, "pat", &[Channel::Sms]);
        let first = try_send(t, "first", one(t)).await.unwrap().notification.unwrap();
        let segments = delivery(t, &first.deliveries[0].delivery_id).await.sms_segments;
        assert_eq!(segments, 1, "the numbers below count on it");
        text(t, "pat").await.unwrap();
        assert_eq!(alarms(t, "most_of_the_day").await, 0.0);
        answer(t).await.unwrap();
        assert_eq!((alarms(t, "most_of_the_day").await, alarms(t, "day").await), (1.0, 0.0));
        let before = everything(t).await.len();
        let wait = too_much(text(t, "pat").await, "sms_segments_per_day");
        // Ten in the morning in New York: nine hours to go until midnight in UTC.
        assert!((Duration::from_secs(8 * 3_600)..Duration::from_secs(9 * 3_600)).contains(&wait), "{wait:?}");
        too_much(answer(t).await, "sms_segments_per_day");
        too_much(announce(t, 1).await, "sms_segments_per_day");
        too_much(try_send(t, &new_key(), reminder(t, "pat", &[Channel::Email, Channel::Sms])).await, "sms_segments_per_day");
        assert_eq!(everything(t).await.len(), before, "nothing is stored of what is refused");
        assert_eq!(alarms(t, "day").await, 1.0, "once in an hour");

        // What is no text goes on, and so does whatever was accepted before, and everybody else.
        try_send(t, &new_key(), reminder(t, "pat", &[Channel::Email, Channel::InApp])).await.unwrap();
        let again = t.sender().send_notification(request("first", one(t))).await.unwrap().into_inner();
        assert!(again.replayed);
        let other = heedwell::grpc::proto::SendNotificationRequest { practice_id: "other".into(), ..request("x", one(t)) };
        let mut sender = t.caller_with(&token(t, Role::Sender, "other")).notify;
        sender.send_notification(other).await.unwrap();

        t.advance(TimeDelta::days(1));
        for _ in 0..3 {
            text(t, "pat").await.unwrap();
        }
        too_much(text(t, "pat").await, "sms_segments_per_day");
    }

    async fn a_broadcast_is_taken_on_if_the_day_has_room_for_all_of_it(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.admission.texts_per_day = Some(3)).await;
        text(t, "pat").await.unwrap();
        too_much(announce(t, 3).await, "sms_segments_per_day");
        announce(t, 2).await.unwrap();
    }

    async fn neighbouring_numbers_get_so_much_and_one_of_them_less(t: &mut TestApp) {
        practice(t).await;
        for line in 143..148 {
            put_patient(t, ACME, patient(&format!("p-{line}"), "", &format!("+12025550{line}"))).await;
        }
        put_patient(t, ACME, patient("far", "", "+13125550142")).await;
        t.restart_with(|config| config.admission.texts_per_block = Some(20)).await;
        for _ in 0..2 {
            text(t, "pat").await.unwrap();
        }
        let wait = too_much(text(t, "pat").await, "sms_to_number");
        assert!(wait <= Duration::from_secs(600), "{wait:?}");
        t.restart_with(|config| config.admission.texts_per_block = Some(4)).await;
        for line in 143..147 {
            text(t, &format!("p-{line}")).await.unwrap();
        }
        too_much(text(t, "p-147").await, "sms_to_block");
        text(t, "far").await.unwrap();
        assert_eq!(alarms(t, "velocity").await, 1.0);
    }

    async fn numbers_that_cost_extra_get_nothing(t: &mut TestApp) {
        practice(t).await;
        // Premium rate here and abroad, and abroad at all.
        let numbers = ["+19002345678", "+449012345678", "+447400123456", "+18005550199", "+8562023123456"];
        for (at, number) in numbers.iter().enumerate() {
            put_patient(t, ACME, patient(&format!("p-{at}"), "", number)).await;
        }
        for _ in 0..20 {
            for (at, number) in numbers.iter().enumerate() {
                let sent = send(t, reminder(t, &format!("p-{at}"), &[Channel::Sms])).await;
                assert_eq!(skipped(&sent.deliveries[0]), "ADDRESS_NOT_ALLOWED", "{number}");
            }
        }
        assert!(t.sandbox.journal().entries().is_empty(), "nothing left");
        assert_eq!(alarms(t, "odd_numbers").await, 1.0);
        text(t, "pat").await.unwrap();
    }

    async fn a_caller_who_calls_without_end_is_refused_and_nobody_else(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.admission.calls_per_second = Some(1)).await;
        let list = || heedwell::grpc::proto::ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let mut caller = t.staff();
        let endless = async {
            loop {
                if let Err(status) = caller.list_deliveries(list()).await {
                    return status;
                }
            }
        };
        let status = timeout(LIMIT, endless).await.expect("a refusal");
        let wait = too_much::<()>(Err(status), "calls_per_second");
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero(), "{wait:?}");
        let mut other = t.caller_with(&t.token_of(&Pass { subject: "another".into(), ..Pass::new(&[Role::Staff], &[ACME]) })).notify;
        other.list_deliveries(list()).await.unwrap();
    }
}

on_a_server! {
    sqlite:
    async fn of_ten_thousand_numbers_in_a_row_some_of_each_block_are_texted(t: &mut TestApp) {
        practice(t).await;
        t.restart_with(|config| config.admission.texts_per_block = Some(20)).await;
        // Nine blocks of neighbours, and a thousand numbers at premium rate.
        let number = |n: usize| if n < 1_000 { format!("+1900234{n:04}") } else { format!("+1202555{n:04}") };
        let mut directory = t.caller(Role::Directory).directory;
        let mut counts = BTreeMap::new();
        for first in (0..10_000).step_by(500) {
            let patients = (first..first + 500).map(|n| patient(&format!("p-{n}"), "", &number(n))).collect();
            let put = BatchPutPatientsRequest { practice_id: ACME.into(), patients };
            directory.batch_put_patients(put).await.unwrap();
            let text = |n: usize| item(&new_key(), reminder(t, &format!("p-{n}"), &[Channel::Sms]));
            for result in send_all(t, (first..first + 500).map(text).collect()).await.unwrap() {
                let fate = match result.outcome.unwrap() {
                    Outcome::Notification(made) => state(&made.deliveries[0]),
                    Outcome::Error(error) => error.reason().as_str_name(),
                };
                *counts.entry(fate).or_insert(0) += 1;
            }
        }
        let wanted = [("ERROR_REASON_RATE_LIMITED", 9_000 - 180), ("PENDING", 180), ("SKIPPED", 1_000)];
        assert_eq!(counts, wanted.into());
        // No others are on their way: what leaves is what was taken on.
        let texts = |entries: &[Entry]| entries.iter().filter(|it| matches!(it, Entry::TwilioCreate { .. })).count();
        t.sandbox.journal().wait_for(LIMIT, |entries| texts(entries) >= 180).await.expect("what was taken on goes");
        let pending = async || {
            let filter = DeliveryFilter { states: vec![DeliveryState::Pending.into()], ..Default::default() };
            list(t, filter).await.deliveries.len()
        };
        wait_for("nothing waits", async || pending().await == 0).await;
        assert_eq!(texts(&t.sandbox.journal().entries()), 180);
        assert_eq!((alarms(t, "velocity").await, alarms(t, "odd_numbers").await), (1.0, 1.0));
    }
}
