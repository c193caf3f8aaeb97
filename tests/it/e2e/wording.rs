//! Wording that goes wrong with the values of one message, and lists of it that are long.

use std::collections::BTreeSet;

use heedwell::grpc::proto::{
    AppointmentDetails, Channel, KindChannels, NotificationInput, NotificationKind as Kind, PracticeSettings,
    TemplateContent, TemplateRef, notification_input::Payload, template_ref::Target,
};
use prost::Message;
use tonic::Code;

use super::{
    given::{PHONE, new_key, practice, reminder, send, try_send},
    preferences::set,
    preview,
    seen::{everything, fields, refused, settled, texts},
    templates::{contents, create, custom, flu, list, reminders, text, try_create, try_out, version},
};
use crate::support::app::{TestApp, on_a_server};

/// A reminder without anything that may be left out.
fn bare(t: &TestApp, channels: &[Channel]) -> NotificationInput {
    let input = reminder(t, "pat", channels);
    let Some(Payload::AppointmentReminder(visit)) = input.payload else { panic!() };
    let visit = AppointmentDetails {
        duration: None,
        provider_name: String::new(),
        location_name: String::new(),
        location_address: String::new(),
        ..visit
    };
    NotificationInput { payload: Some(Payload::AppointmentReminder(visit)), ..input }
}

on_a_server! {
    sqlite:
    async fn a_message_that_would_be_empty_or_too_long_is_in_our_words(t: &mut TestApp) {
        practice(t).await;
        create(t, reminders(Channel::Sms), text("Appointment {{visit_time}} ({{visit_length}}) {{link}}"), &[]).await;
        let sent = send(t, bare(t, &[Channel::Sms])).await;
        settled(t, &sent.deliveries, ["DELIVERED"]).await;
        let kept = contents(t, &sent.notification_id).await.remove(0);
        assert_eq!((kept.template_key.as_str(), kept.template_version), ("builtin/appointment_reminder", 0));
        assert!(texts(t, PHONE)[0].body.contains("You have an appointment on Wednesday, March 4 at 10:00 AM."));
        let channels = preview::preview(t, bare(t, &[])).await.unwrap();
        assert!(channels[2].warnings.iter().any(|it| it.contains("ours goes out")), "{:?}", channels[2].warnings);
        let tried = try_out(t, reminders(Channel::Sms), Some(text("Visit {{visit_time}} ({{visit_length}})")), &[]).await;
        let told = tried.unwrap().warnings;
        assert_eq!(told, ["Line 1 of the text is left out without {{visit_length}}, and with it all that is said."]);
        create(t, reminders(Channel::Sms), text(&format!("{{{{custom_content}}}}{}", "x".repeat(560))), &[]).await;
        let long = NotificationInput { custom_content: "y".repeat(1_000), ..reminder(t, "pat", &[Channel::Sms]) };
        let sent = send(t, long).await;
        settled(t, &sent.deliveries, ["DELIVERED"]).await;
        assert_eq!(contents(t, &sent.notification_id).await[0].template_key, "own/appointment_reminder/en-US");
    }

    async fn a_template_that_says_nothing_and_words_that_make_a_link_are_refused(t: &mut TestApp) {
        practice(t).await;
        let kind = KindChannels { kind: Kind::Custom.into(), channels: vec![3], ..Default::default() };
        set(t, PracticeSettings { kind_channels: vec![kind], ..Default::default() }, &["kind_channels"]).await;
        create(t, custom(Channel::Sms), text("Come {{when}}."), &["when"]).await;
        create(t, reminders(Channel::Sms), text("Bring {{custom_content}}."), &[]).await;
        let words = |words: &str| NotificationInput { custom_content: words.into(), ..reminder(t, "pat", &[Channel::Sms]) };
        for (input, wrong, why) in [
            (flu(t, &[("when", " ")], &[Channel::Sms]), "notification.custom.variables.when", "SMS"),
            (flu(t, &[("when", "\u{200b}")], &[Channel::Sms]), "notification.custom.variables.when", "SMS"),
            (flu(t, &[("when", "evil.example/x")], &[Channel::Sms]), "notification.custom.variables.when", "address"),
            (flu(t, &[("when", "evil.zone:443/x")], &[Channel::Sms]), "notification.custom.variables.when", "address"),
            (flu(t, &[("when", "and reply YES")], &[Channel::Sms]), "notification.custom.variables.when", "keyword"),
            (flu(t, &[("when", "\u{202e}noon")], &[Channel::Sms]), "notification.custom.variables.when", "turned"),
            (words("https://evil.example"), "notification.custom_content", "address"),
            (words("Reply YES"), "notification.custom_content", "keyword"),
        ] {
            let status = refused(try_send(t, &new_key(), input.clone()).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), [wrong], "{why}");
            let status = refused(preview::preview(t, input).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), [wrong], "{why}");
        }
        assert!(everything(t).await.is_empty());
    }

    async fn html_leads_where_the_link_leads_and_numbers_stay_small(t: &mut TestApp) {
        practice(t).await;
        let mail = TemplateContent { html: "<p><a href=\"{{link}}\">See</a></p>".into(), ..text("See {{link}}") };
        create(t, reminders(Channel::Email), mail, &[]).await;
        let sent = send(t, reminder(t, "pat", &[Channel::Email])).await;
        settled(t, &sent.deliveries, ["SENT"]).await;
        let html = contents(t, &sent.notification_id).await.remove(0).html;
        assert!(html.contains("<div class=\"own\"><p><a href=\"http"), "{html}");
        for bad in ["{{first_name | truncate: 99999999999999999999}}", "{{first_name | truncate: -5}}", "{{link | upcase}}", "{{link}}x"] {
            let status = try_create(t, version(reminders(Channel::Sms), text(bad), &[])).await;
            assert_eq!(fields(&refused(status, Code::InvalidArgument, "FIELD_INVALID")), ["content.text"], "{bad}");
        }
    }

    async fn a_list_of_long_templates_fits_its_answers(t: &mut TestApp) {
        practice(t).await;
        let long = TemplateContent {
            html: format!("<p>{}</p>", "x".repeat(16_000)),
            ..text(&"x".repeat(16_000))
        };
        for number in 0..80 {
            let key = Target::Key(format!("template-{number:03}"));
            let at = TemplateRef { target: Some(key), channel: Channel::Email.into(), locale: String::new() };
            create(t, at, long.clone(), &[]).await;
        }
        let (mut refs, mut token) = (BTreeSet::new(), String::new());
        loop {
            let (page, next) = list(t, 500, &token).await;
            let size: usize = page.iter().map(Message::encoded_len).sum();
            assert!(!page.is_empty() && size < 2_400_000, "{size}");
            refs.extend(page.iter().map(|it| it.r#ref.as_ref().unwrap().encode_to_vec()));
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(refs.len(), 72 + 80);
    }
}
