//! A preview says what a send would do, and does nothing.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        AppointmentDetails, Channel, CustomDetails, EmailSettings, NotificationInput, PracticeSettings,
        PreviewNotificationRequest, QuietHours, SmsSettings, TimeOfDay, notification_input::Payload,
        preview_notification_response::ChannelPreview,
    },
};
use sea_orm::{ConnectionTrait, Statement};
use tonic::{Code, Status};

use super::{
    given::{bare_practice, link, notice, patient, practice, put_patient, reminder, visit},
    preferences::{choose, set},
    seen::{everything, fields, refused, time},
    templates::{self, create},
};
use crate::support::app::{ACME, TestApp, on_a_server};

pub(super) async fn preview(t: &TestApp, input: NotificationInput) -> Result<Vec<ChannelPreview>, Status> {
    let request = PreviewNotificationRequest { practice_id: ACME.into(), notification: Some(input) };
    Ok(t.sender().preview_notification(request).await?.into_inner().channels)
}

/// How many rows each table has, and how far the feed is.
async fn rows(t: &TestApp) -> Vec<i64> {
    let raw = t.home.raw().await;
    let mut counts = Vec::new();
    for table in [
        "notification",
        "delivery",
        "content",
        "delivery_event",
        "idem",
        "feed",
        "recipient_gate",
        "link",
        "inbox_item",
        "attempt",
        "consent_ledger",
        "patient",
    ] {
        let query = Statement::from_string(raw.get_database_backend(), format!("SELECT count(*) FROM {table}"));
        counts.push(raw.query_one_raw(query).await.unwrap().unwrap().try_get_by_index(0).unwrap());
    }
    raw.close().await.unwrap();
    counts
}

fn decided(channel: &ChannelPreview) -> (i32, bool, i32) {
    let decision = channel.decision.as_ref().unwrap();
    (decision.channel, decision.considered, decision.skip_reason)
}

fn text(channel: &ChannelPreview) -> &str {
    channel.content.as_ref().map(|content| content.text.as_str()).unwrap_or_default()
}

on_a_server! {
    async fn each_channel_is_decided_on_rendered_and_nothing_is_written(t: &mut TestApp) {
        practice(t).await;
        choose(t, "pat", 1, Some(&[Channel::Email, Channel::Sms])).await;
        let before = rows(t).await;
        let channels = preview(t, reminder(t, "pat", &[])).await.unwrap();
        let found: Vec<_> = channels.iter().map(decided).collect();
        assert_eq!(found, [(1, false, 3), (2, true, 0), (3, true, 0), (4, false, 3)]);
        let steps = &channels[0].decision.as_ref().unwrap().steps;
        assert_eq!(steps.iter().map(|step| (step.rule, step.outcome)).collect::<Vec<_>>(), [(1, 1), (3, 3)]);
        assert_eq!(steps[1].detail, "Chosen by the patient: Email, SMS.");
        let now = Some(t.now());
        assert_eq!(time(channels[2].decision.as_ref().unwrap().attempt_time), now);
        assert_eq!(channels[0].decision.as_ref().unwrap().attempt_time, None);
        let hints: Vec<_> = channels.iter().map(|it| it.address_hint.as_str()).collect();
        assert_eq!(hints, ["", "p•••@example.com", "(•••) •••-0142", ""]);
        // Also where it would not be sent, so that the wording can be looked at.
        assert!(channels.iter().all(|it| !text(it).is_empty() && it.warnings.is_empty()));
        let sms = channels[2].content.as_ref().unwrap();
        assert!(sms.text.starts_with("Acme Primary Care: ") && sms.sms_gsm7 && sms.sms_segments == 1);
        // The address in it is as long as a real one, and opens nothing.
        let place = sms.text.find("/l/").unwrap() + 3;
        let token = sms.text[place..].split_whitespace().next().unwrap();
        assert_eq!(token.trim_end_matches('.').len(), 22);
        assert_eq!(rows(t).await, before);
        assert!(everything(t).await.is_empty() && t.sandbox.journal().entries().is_empty());
    }

    async fn quiet_hours_and_schedules_show_as_the_time_of_the_first_try(t: &mut TestApp) {
        practice(t).await;
        let at = |hours| Some(TimeOfDay { hours, minutes: 0 });
        let quiet_hours = Some(QuietHours { start: at(9), end: at(17) });
        set(t, PracticeSettings { quiet_hours, ..Default::default() }, &["quiet_hours"]).await;
        let schedule_time = Some(t.after(TimeDelta::hours(2)));
        let channels = preview(t, NotificationInput { schedule_time, ..reminder(t, "pat", &[]) }).await.unwrap();
        let times: Vec<_> = channels.iter().map(|it| time(it.decision.as_ref().unwrap().attempt_time)).collect();
        let two = Some(t.now() + TimeDelta::hours(2));
        assert_eq!(times, [two, two, Some("2026-03-02T22:00:00Z".parse().unwrap()), None]);
        let last = channels[2].decision.as_ref().unwrap().steps.last().unwrap();
        assert_eq!((last.rule, last.outcome), (11, 2));
        assert_eq!(last.detail, "Quiet hours last until 17:00 (America/New_York).");
    }
}

on_a_server! {
    sqlite:
    async fn what_is_remarkable_about_a_text_is_told(t: &mut TestApp) {
        practice(t).await;
        let input = |id: &str| NotificationInput { custom_content: "Bring your card.".into(), ..reminder(t, id, &[]) };
        let channels = preview(t, input("pat")).await.unwrap();
        let told: Vec<_> = channels.iter().map(|it| it.warnings.clone()).collect();
        let left_out = |label: &str| vec![format!("custom_content is left out of {label}.")];
        assert_eq!(told, [vec![], vec![], left_out("SMS"), left_out("Push")]);
        assert!(text(&channels[1]).contains("Bring your card.") && !text(&channels[2]).contains("Bring your card."));
        // A letter that the 7-bit alphabet does not have makes a part of it shorter, and so two of it at least.
        let sms = Some(SmsSettings { prefix: "Clínica Acme".into(), ..Default::default() });
        set(t, PracticeSettings { sms, ..Default::default() }, &["sms.prefix"]).await;
        let sms = preview(t, reminder(t, "pat", &[])).await.unwrap().swap_remove(2);
        let content = sms.content.unwrap();
        assert!(!content.sms_gsm7 && content.sms_segments > 1 && content.text.starts_with("Clínica Acme: "));
        let segments = format!("The text takes {} segments, each of which is billed.", content.sms_segments);
        assert!(sms.warnings[0] == segments && sms.warnings[1].contains("GSM-7") && sms.warnings.len() == 2);
        let email = EmailSettings { phi_permitted: Some(false), ..Default::default() };
        set(t, PracticeSettings { email: Some(email), ..Default::default() }, &["email.phi_permitted"]).await;
        let mail = preview(t, input("pat")).await.unwrap().swap_remove(1);
        assert!(mail.warnings[0].contains("minimal") && mail.warnings[1] == left_out("Email")[0]);
        assert!(!text(&mail).contains("Bring your card.") && !text(&mail).contains("Dr. Ray"));
    }

    async fn a_text_that_cannot_be_made_refuses_only_what_would_be_sent(t: &mut TestApp) {
        practice(t).await;
        let custom = CustomDetails { template_key: "recall".into(), variables: Default::default() };
        let custom = || NotificationInput { payload: Some(Payload::Custom(custom.clone())), ..reminder(t, "pat", &[]) };
        let status = refused(preview(t, custom()).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["notification.custom.template_key"]);
        // Whether there is such a template does not hang on what the patient wants.
        choose(t, "pat", 11, Some(&[])).await;
        let status = refused(preview(t, custom()).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["notification.custom.template_key"]);
        create(t, templates::custom(Channel::Sms), templates::text("Come."), &[]).await;
        // Where nothing would be sent, nothing stands in the way of saying so.
        let channels = preview(t, templates::flu(t, &[], &[])).await.unwrap();
        assert!(channels.iter().filter(|it| it.content.is_none()).count() == 3 && channels.iter().all(|it| decided(it).2 == 3));
    }

    async fn what_a_send_would_refuse_a_preview_refuses_alike(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        put_patient(t, ACME, patient("pat", "", "")).await;
        let foreign = AppointmentDetails {
            link: Some(heedwell::grpc::proto::SecureLink { target_url: "https://canary.example/".into(), ..link() }),
            ..visit(t)
        };
        let late = NotificationInput {
            payload: Some(Payload::AppointmentConfirmed(foreign)),
            schedule_time: Some(t.after(TimeDelta::days(401))),
            expire_time: Some(t.after(TimeDelta::days(-1))),
            ..reminder(t, "pat", &[])
        };
        let status = refused(preview(t, late).await, Code::InvalidArgument, "FIELD_INVALID");
        let expected = [
            "notification.appointment_confirmed.link.target_url",
            "notification.expire_time",
            "notification.schedule_time",
        ];
        assert_eq!(fields(&status), expected);
        let shapeless = NotificationInput { channels: vec![9], priority: 7, ..Default::default() };
        let status = refused(preview(t, shapeless).await, Code::InvalidArgument, "FIELD_INVALID");
        let expected = [
            "notification.channels[0]",
            "notification.patient_id",
            "notification.payload",
            "notification.priority",
        ];
        assert_eq!(fields(&status), expected);
        let none = PreviewNotificationRequest { practice_id: ACME.into(), notification: None };
        let status = refused(t.staff().preview_notification(none).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["notification"]);
        let unknown = NotificationInput {
            patient_id: "nobody".into(),
            payload: Some(Payload::System(notice())),
            ..Default::default()
        };
        refused(preview(t, unknown).await, Code::NotFound, "NOT_FOUND");
        let known = NotificationInput {
            patient_id: "pat".into(),
            payload: Some(Payload::System(notice())),
            ..Default::default()
        };
        let channels = preview(t, known.clone()).await.unwrap();
        assert_eq!(channels.iter().map(decided).collect::<Vec<_>>(), [(1, true, 0), (2, false, 2), (3, false, 2), (4, false, 2)]);
        let request = PreviewNotificationRequest { practice_id: ACME.into(), notification: Some(known) };
        for role in [Role::Auditor, Role::Portal, Role::Directory] {
            let answer = t.caller(role).notify.preview_notification(request.clone()).await;
            refused(answer, Code::PermissionDenied, "ROLE_REQUIRED");
        }
    }
}
