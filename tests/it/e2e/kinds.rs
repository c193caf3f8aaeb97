//! Every kind over every channel of this release, from the call to the stand-ins and back.

use heedwell::{
    domain::Role,
    grpc::proto::{
        Delivery, DeliveryFilter, GetNotificationRequest, NotificationInput, NotificationView, RenderedContent,
        notification_input::Payload,
    },
};
use tonic::Code;

use super::{
    given::{PHONE, payloads, practice, send},
    seen::{Mail, list, mails, metadata, read, refused, settled, state, states, texts, time},
};
use crate::support::app::{ACME, TestApp, on_a_server};

/// What a kind must say: the text message after the practice's name, with LINK for our own address; the mail's subject
/// before the practice's name; and something of its details that only mail and portal may hold.
const SAID: [(&str, &str, &str); 9] = [
    ("You have an appointment on Wednesday, March 4 at 10:00 AM.\nDetails: LINK", "Appointment Reminder", "Dr. Ray"),
    (
        "Your appointment is confirmed: Wednesday, March 4 at 10:00 AM.\nDetails: LINK",
        "Appointment Confirmed",
        "Dr. Ray",
    ),
    (
        "Your appointment on Wednesday, March 4 at 10:00 AM is canceled.\nRebook: LINK",
        "Appointment Canceled",
        "North Office",
    ),
    ("Your bill is ready to pay.\nView and pay securely: LINK", "Payment Due", "$1,234.50"),
    ("Thank you! We have received your payment.\nReceipt: LINK", "Payment Received", "Visa 4242"),
    ("We were unable to process your payment.\nTry again: LINK", "Payment Unsuccessful", "INV-1042"),
    ("You have a new message.\nRead it securely: https://portal.acme.example/", "New Message", "Dr. Ray's team"),
    ("You have 2 documents to sign.\nOpen securely: LINK", "Documents to Sign", "New patient form, Privacy notice"),
    (
        "You have a security alert.\nSign in to read it: https://portal.acme.example/",
        "Security Alert",
        "Somebody signed in from a new device.",
    ),
];

on_a_server! {
    async fn each_kind_reaches_the_patient_over_each_channel(t: &mut TestApp) {
        practice(t).await;
        let mut sent = Vec::new();
        for payload in payloads(t) {
            sent.push(send(t, input(payload)).await);
        }
        for (place, (notification, said)) in sent.iter().zip(SAID).enumerate() {
            assert_eq!(notification.kind, i32::try_from(place).unwrap() + 1);
            let channels: Vec<_> = notification.deliveries.iter().map(|delivery| delivery.channel).collect();
            assert_eq!(channels, [1, 2, 3]);
            let [in_app, mail, text] =
                settled(t, &notification.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
            let full = read(t, &notification.notification_id, NotificationView::Full).await;
            let [in_app_text, mail_text, sms_text] = contents(full.details.into_iter().map(|detail| detail.content));
            filed(&in_app, &in_app_text, said);
            mailed(t, &mail, &mail_text, said);
            texted(t, &text, &sms_text, said);
        }
        assert_eq!(texts(t, PHONE).len(), 9);
        assert_eq!(mails(t, "pat@example.com").len(), 9);
    }

    async fn a_notification_is_read_with_its_timelines_and_to_staff_with_text_and_decisions(t: &mut TestApp) {
        practice(t).await;
        let [payload, ..] = payloads(t);
        let sent = send(t, NotificationInput { reference: "appt-8842".into(), ..input(payload) }).await;
        let deliveries = settled(t, &sent.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;

        let basic = read(t, &sent.notification_id, NotificationView::Unspecified).await;
        let shown = basic.notification.unwrap();
        assert_eq!((shown.patient_id.as_str(), shown.reference.as_str(), shown.kind), ("pat", "appt-8842", 1));
        assert_eq!(shown.creator.as_ref().map(|actor| (actor.id.as_str(), actor.r#type)), Some(("tester", 1)));
        assert_eq!(time(shown.create_time), Some(t.now()));
        assert_eq!(basic.details.len(), 3);
        assert!(basic.decisions.is_empty() && basic.details.iter().all(|detail| detail.content.is_none()));
        for (detail, delivery) in basic.details.iter().zip(&deliveries) {
            assert_eq!(detail.delivery_id, delivery.delivery_id);
            assert_eq!(detail.events.last().map(|event| event.state), Some(delivery.state));
            assert!(detail.events.iter().all(|event| !event.detail.is_empty() && event.event_time.is_some()));
            assert_eq!(detail.events[0].actor.as_ref().map(|actor| actor.id.as_str()), Some("tester"));
        }
        let attempts = |channel: usize| basic.details[channel].events.iter().map(|event| event.attempt).max();
        assert_eq!((attempts(0), attempts(1), attempts(2)), (Some(0), Some(1), Some(1)));
        let provider = basic.details[2].events.last().unwrap();
        assert_eq!(provider.provider_status, "delivered");
        assert_eq!(provider.actor.as_ref().map(|actor| (actor.id.as_str(), actor.r#type)), Some(("twilio", 5)));

        let full = read(t, &sent.notification_id, NotificationView::Full).await;
        let texts: Vec<_> = full.details.into_iter().map(|detail| detail.content.unwrap().text).collect();
        assert!(texts.iter().all(|text| text.contains("Wednesday, March 4 at 10:00 AM")));
        let decided: Vec<_> = full.decisions.iter().map(|it| (it.channel, it.considered, it.skip_reason)).collect();
        // Push is not effective for the kind, which is the second rule.
        assert_eq!(decided, [(1, true, 0), (2, true, 0), (3, true, 0), (4, false, 2)]);
        assert!(full.decisions.iter().all(|decision| !decision.steps.is_empty()));
        let rules: Vec<_> = full.decisions[2].steps.iter().map(|step| step.rule).collect();
        assert!(rules.is_sorted() && full.decisions[2].steps.iter().all(|step| step.outcome == 1));

        let filter = DeliveryFilter { notification_id: sent.notification_id.clone(), ..Default::default() };
        let listed = list(t, filter).await.deliveries;
        let mut ids: Vec<_> = listed.iter().map(|delivery| delivery.delivery_id.clone()).collect();
        ids.sort();
        let mut expected = deliveries.map(|delivery| delivery.delivery_id);
        expected.sort();
        assert_eq!(ids, expected);
    }

    async fn text_and_decisions_are_for_staff_alone(t: &mut TestApp) {
        practice(t).await;
        let [payload, ..] = payloads(t);
        let sent = send(t, input(payload)).await;
        let request = |view: NotificationView| GetNotificationRequest {
            practice_id: ACME.into(),
            notification_id: sent.notification_id.clone(),
            view: view.into(),
        };
        for role in [Role::Sender, Role::Auditor] {
            let read = t.caller(role).notify.get_notification(request(NotificationView::Basic)).await;
            assert!(read.unwrap().into_inner().details.iter().all(|detail| detail.content.is_none()));
            let read = t.caller(role).notify.get_notification(request(NotificationView::Full)).await;
            let status = refused(read, Code::PermissionDenied, "ROLE_REQUIRED");
            assert_eq!(metadata(&status, "required_role"), "staff");
        }
        let read = t.caller(Role::PracticeAdmin).notify.get_notification(request(NotificationView::Full)).await;
        assert_eq!(read.unwrap().into_inner().decisions.len(), 4);
    }

    async fn a_watch_shows_each_step_of_a_text_message(t: &mut TestApp) {
        practice(t).await;
        let [payload, ..] = payloads(t);
        let sent = send(t, input(payload)).await;
        let [in_app, mail, text] = settled(t, &sent.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
        assert_eq!(states(t, &in_app.delivery_id).await, ["DELIVERED"]);
        assert_eq!(states(t, &mail.delivery_id).await, ["PENDING", "SENT"]);
        assert_eq!(states(t, &text.delivery_id).await, ["PENDING", "SENT", "DELIVERED"]);
    }
}

fn input(payload: Payload) -> NotificationInput {
    NotificationInput { patient_id: "pat".into(), payload: Some(payload), ..Default::default() }
}

fn contents(all: impl Iterator<Item = Option<RenderedContent>>) -> [RenderedContent; 3] {
    all.map(Option::unwrap).collect::<Vec<_>>().try_into().ok().unwrap()
}

fn filed(delivery: &Delivery, content: &RenderedContent, (_, subject, detail): (&str, &str, &str)) {
    assert_eq!((state(delivery), delivery.provider.as_str(), delivery.attempts), ("DELIVERED", "inbox", 1));
    assert_eq!(delivery.address_hint, "");
    assert!(delivery.deliver_time.is_some() && delivery.next_action_time.is_none());
    let title = if subject == "Security Alert" { "New sign-in" } else { subject };
    assert_eq!(content.subject, title);
    assert!(content.text.contains(detail), "{}", content.text);
}

fn mailed(t: &TestApp, delivery: &Delivery, content: &RenderedContent, said: (&str, &str, &str)) {
    let (_, subject, detail) = said;
    assert_eq!((state(delivery), delivery.provider.as_str(), delivery.attempts), ("SENT", "smtp", 1));
    assert_eq!(delivery.address_hint, "p•••@example.com");
    assert!(delivery.send_time.is_some() && delivery.deliver_time.is_none() && delivery.next_action_time.is_none());
    let message_id = format!("{}@mail.acme.example", delivery.delivery_id.replace('-', ""));
    let mail = mails(t, "pat@example.com").into_iter().find(|mail| mail.message_id == message_id).unwrap();
    let Mail { headers, text, html, .. } = &mail;
    assert_eq!(headers["subject"], format!("{subject} - Acme Primary Care"));
    assert!(headers["from"].contains("Acme Primary Care") && headers["from"].contains("<no-reply@mail.acme.example>"));
    assert!(headers["to"].contains("Pat Doe") && headers["to"].contains("<pat@example.com>"));
    assert_eq!(headers["auto-submitted"], "auto-generated");
    assert!(headers.contains_key("date"));
    // What staff are shown is what the patient got.
    assert_eq!((text.trim_end(), html.trim_end()), (content.text.trim_end(), content.html.trim_end()));
    assert_eq!(content.subject, headers["subject"]);
    for part in [text, &html.replace("&#39;", "'").replace("&#x27;", "'")] {
        assert!(part.contains("Pat") && part.contains(detail), "{part}");
    }
    assert!(html.contains("viewport") && !html.contains("<script") && !html.contains("<img"));
}

fn texted(t: &TestApp, delivery: &Delivery, content: &RenderedContent, (said, _, detail): (&str, &str, &str)) {
    assert_eq!((state(delivery), delivery.provider.as_str(), delivery.attempts), ("DELIVERED", "twilio", 1));
    assert_eq!(delivery.address_hint, "(•••) •••-0142");
    assert!(delivery.send_time.is_some() && delivery.deliver_time.is_some() && delivery.next_action_time.is_none());
    assert_eq!(delivery.sms_segments, 1);
    let text = texts(t, PHONE).into_iter().find(|text| text.sid == delivery.provider_message_id).unwrap();
    let links: Vec<_> = text.body.split_whitespace().filter(|word| word.contains("://")).collect();
    let [link] = links[..] else { panic!("{} links", links.len()) };
    let body = if link.starts_with(&t.url("/l/")) { text.body.replace(link, "LINK") } else { text.body.clone() };
    assert_eq!(body, format!("Acme Primary Care: {said}"));
    assert!(!text.body.contains(detail), "details do not belong into a text message");
    assert_eq!(content.text, text.body);
    assert_eq!((content.sms_segments, content.sms_gsm7), (1, true));
    // Twelve hours are left, and Twilio takes ten at most.
    assert_eq!((text.validity, text.token_uses), (Some(36_000), 1));
    assert!(
        text.callback.starts_with(&t.url("/webhooks/twilio/acme/status/")) && text.callback.ends_with("#rc=3&rp=all")
    );
}
