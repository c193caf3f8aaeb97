//! Which channels are used, and what is said where one is not.

use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, KindChannels, NotificationInput, NotificationKind, NotificationView, Patient, PracticeSettings,
        UpdatePracticeSettingsRequest, notification_input::Payload,
    },
};

use super::{
    given::{bare_practice, mask, notice, patient, practice, put_patient, reminder, send},
    seen::{everything, read, settled, skipped, state},
};
use crate::support::{
    Backend,
    app::{ACME, TestApp, on_a_server},
};

async fn set_channels(t: &TestApp, kind: NotificationKind, channels: &[Channel]) {
    let channels = channels.iter().map(|&channel| channel.into()).collect();
    let request = UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(PracticeSettings {
            kind_channels: vec![KindChannels { kind: kind.into(), channels, offered_channels: Vec::new() }],
            ..Default::default()
        }),
        update_mask: Some(mask(&["kind_channels"])),
    };
    t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
}

on_a_server! {
    sqlite:
    async fn without_a_choice_of_the_caller_the_channels_of_the_kind_are_used(t: &mut TestApp) {
        practice(t).await;
        set_channels(t, NotificationKind::System, &[Channel::Sms]).await;
        let notice = NotificationInput {
            patient_id: "pat".into(),
            payload: Some(Payload::System(notice())),
            ..Default::default()
        };
        let sent = send(t, notice).await;
        assert_eq!(sent.deliveries.iter().map(|it| it.channel).collect::<Vec<_>>(), [3]);
        // Other kinds are back to what is built in: mail and text message for a reminder.
        let sent = send(t, reminder(t, "pat", &[])).await;
        assert_eq!(sent.deliveries.iter().map(|it| it.channel).collect::<Vec<_>>(), [2, 3]);
        settled(t, &sent.deliveries, ["SENT", "DELIVERED"]).await;
    }

    async fn asking_for_a_channel_does_not_force_it(t: &mut TestApp) {
        practice(t).await;
        set_channels(t, NotificationKind::AppointmentReminder, &[Channel::Email]).await;
        let sent = send(t, reminder(t, "pat", &[Channel::Sms, Channel::Push])).await;
        assert_eq!(sent.deliveries.iter().map(|it| it.channel).collect::<Vec<_>>(), [3, 4]);
        assert!(sent.deliveries.iter().all(|one| state(one) == "SKIPPED" && skipped(one) == "CHANNEL_OFF_FOR_KIND"));
    }

    async fn each_channel_says_why_it_is_not_used(t: &mut TestApp) {
        practice(t).await;
        let every = [Channel::InApp, Channel::Email, Channel::Sms];
        let nobody = Patient { portal_enabled: false, ..patient("none", "", "") };
        let inactive = Patient { inactive: true, ..patient("gone", "gone@example.com", "+12025550143") };
        // Kingston, Jamaica: +1 as well, and another country. A toll-free number takes no texts.
        let abroad = patient("abroad", "", "+18765550142");
        for one in [nobody, inactive, abroad, patient("landline", "", "+18005550199")] {
            put_patient(t, ACME, one).await;
        }
        for (who, wanted) in [
            ("none", ["NO_ADDRESS", "NO_ADDRESS", "NO_ADDRESS"]),
            ("gone", ["PATIENT_INACTIVE", "PATIENT_INACTIVE", "PATIENT_INACTIVE"]),
            ("abroad", ["UNSPECIFIED", "NO_ADDRESS", "ADDRESS_NOT_ALLOWED"]),
            ("landline", ["UNSPECIFIED", "NO_ADDRESS", "ADDRESS_NOT_ALLOWED"]),
        ] {
            let sent = send(t, reminder(t, who, &every)).await;
            assert_eq!(sent.deliveries.iter().map(skipped).collect::<Vec<_>>(), wanted, "{who}");
            let full = read(t, &sent.notification_id, NotificationView::Full).await;
            for (decision, delivery) in full.decisions.iter().zip(&sent.deliveries) {
                assert_eq!(decision.skip_reason, delivery.skip_reason);
                // The last step is the one that refused; a skipped delivery has no text.
                assert_eq!(decision.steps.last().map(|step| step.outcome == 3), Some(delivery.skip_reason != 0));
            }
            for (detail, delivery) in full.details.iter().zip(&sent.deliveries) {
                assert_eq!(detail.content.is_some(), delivery.skip_reason == 0);
            }
        }
    }

    async fn a_practice_that_set_nothing_up_reaches_the_portal_alone(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        put_patient(t, ACME, patient("pat", "pat@example.com", "+12025550142")).await;
        let input = NotificationInput {
            patient_id: "pat".into(),
            payload: Some(Payload::System(notice())),
            channels: vec![1],
            ..Default::default()
        };
        settled(t, &send(t, input).await.deliveries, ["DELIVERED"]).await;
        let sent = send(t, NotificationInput { channels: vec![2, 3], ..reminder_without_link(t) }).await;
        assert_eq!(
            sent.deliveries.iter().map(skipped).collect::<Vec<_>>(),
            ["CHANNEL_NOT_CONFIGURED", "CHANNEL_NOT_CONFIGURED"]
        );
    }

    async fn a_patient_who_became_inactive_meanwhile_gets_nothing(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(chrono::TimeDelta::hours(1)));
        let waiting = send(t, NotificationInput { schedule_time, ..reminder(t, "pat", &[Channel::Email]) }).await;
        put_patient(t, ACME, Patient { inactive: true, ..patient("pat", "pat@example.com", "") }).await;
        t.advance(chrono::TimeDelta::hours(1));
        let [one] = settled(t, &waiting.deliveries, ["SKIPPED"]).await;
        assert_eq!(skipped(&one), "PATIENT_INACTIVE");
        assert_eq!(everything(t).await.len(), 1);
    }
}

fn reminder_without_link(t: &TestApp) -> NotificationInput {
    let mut input = reminder(t, "pat", &[]);
    if let Some(Payload::AppointmentReminder(visit)) = &mut input.payload {
        visit.link = None;
    }
    input
}

/// Not through [`on_a_server`]: what holds after other tests, that each notification has deliveries, rightly does not here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_channel_is_effective_the_decisions_are_the_record() {
    let mut t = TestApp::spawn(Backend::Sqlite).await.unwrap();
    practice(&t).await;
    set_channels(&t, NotificationKind::AppointmentReminder, &[]).await;
    let sent = send(&t, reminder(&t, "pat", &[])).await;
    assert!(sent.deliveries.is_empty() && !sent.notification_id.is_empty());
    let full = read(&t, &sent.notification_id, NotificationView::Full).await;
    assert!(full.details.is_empty() && full.decisions.len() == 4);
    assert!(full.decisions.iter().all(|decision| !decision.considered && !decision.steps.is_empty()));
    assert!(everything(&t).await.is_empty());
    t.stop().await;
}
