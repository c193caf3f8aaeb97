//! Tests that a practice sends to contacts of its own: what they look like, what they tell of the account, and that nobody's
//! history has them.

use std::time::Duration;

use futures::future::join;
use heedwell::{
    domain::Role,
    grpc::proto::{
        self, Channel, DeliveryFilter, DeliveryState, EmailSettings, NotificationKind as Kind, PracticeSettings,
        RetryDeliveryRequest, SendTestMessageRequest, SendTestMessageResponse, SmsSettings, TemplateContent,
        TemplateRef, UpdatePracticeSettingsRequest, email_settings::Provider, template_ref::Target,
    },
    sandbox::{self, Sandbox},
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{
    callbacks::report,
    consent::opts_out,
    given::{ACCOUNT, AUTH_TOKEN, PHONE, all_settings, bare_practice, mask, new_key, practice, send_over},
    inbound::says,
    preferences::set,
    seen::{Watcher, everything, fields, image, list, mails, metadata, refused, texts},
};
use crate::support::app::{ACME, TestApp, on_a_server};

/// A phone of the front desk.
const STAFF: &str = "+12025550160";
/// Its mailbox.
const MAILBOX: &str = "front@acme.example";

/// A practice whose tests may go to these, beside its patient's phone.
async fn with_contacts(t: &TestApp, contacts: &[&str]) {
    practice(t).await;
    let test_contacts = contacts.iter().map(|&contact| contact.to_owned()).collect();
    set(t, PracticeSettings { test_contacts, ..Default::default() }, &["test_contacts"]).await;
}

fn reminder(channel: Channel) -> TemplateRef {
    TemplateRef {
        target: Some(Target::Kind(Kind::AppointmentReminder.into())),
        channel: channel.into(),
        ..Default::default()
    }
}

fn asked(channel: Channel, address: &str) -> SendTestMessageRequest {
    SendTestMessageRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        r#ref: Some(reminder(channel)),
        address: address.into(),
        ..Default::default()
    }
}

async fn tried(
    t: &TestApp,
    request: impl tonic::IntoRequest<SendTestMessageRequest>,
) -> Result<SendTestMessageResponse, Status> {
    Ok(t.caller(Role::PracticeAdmin).templates.send_test_message(request).await?.into_inner())
}

/// The state, and why it failed with the provider's code, as words.
fn told(answer: &SendTestMessageResponse) -> (&'static str, &'static str, &str) {
    let state = answer.state().as_str_name().trim_start_matches("DELIVERY_STATE_");
    let Some(failure) = &answer.failure else { return (state, "", "") };
    assert!(failure.message.len() > 20 && failure.fail_time.is_some());
    (state, failure.reason().as_str_name().trim_start_matches("FAILURE_REASON_"), &failure.provider_code)
}

on_a_server! {
    async fn a_text_goes_to_a_contact_and_is_in_nobodys_history(t: &mut TestApp) {
        with_contacts(t, &[STAFF, MAILBOX]).await;
        let cursor = list(t, DeliveryFilter::default()).await.watch_cursor;
        let request = asked(Channel::Sms, STAFF);
        let sent = tried(t, request.clone()).await.unwrap();
        assert_eq!(told(&sent), ("SENT", "", ""));
        let [text] = texts(t, STAFF).try_into().ok().unwrap();
        assert_eq!(sent.provider_message_id, text.sid);
        assert!(text.body.starts_with("[Test] Acme Primary Care: You have an appointment on"), "{}", text.body);
        // Its reports are taken like all others.
        assert_eq!(report(t, &text, "delivered").await, 204);
        assert_eq!(told(&tried(t, request.clone()).await.unwrap()), ("SENT", "", ""));
        assert_eq!(texts(t, STAFF).len(), 1);

        assert!(everything(t).await.is_empty());
        let pat = send_over(t, "pat", Channel::Email).await;
        let mut watcher = Watcher::from(t, &cursor).await;
        let changes = watcher.until(|delivery| delivery.state() == DeliveryState::Sent).await;
        assert!(changes.iter().all(|change| image(change).delivery_id == pat));
        // Whoever learns of its id all the same gets no further.
        let other = SendTestMessageRequest { address: MAILBOX.into(), r#ref: Some(reminder(Channel::Email)), ..request };
        let reused = refused(tried(t, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
        let delivery_id = reused.get_details_resource_info().unwrap().resource_name;
        let retry = RetryDeliveryRequest { practice_id: ACME.into(), request_id: new_key(), delivery_id };
        refused(t.staff().retry_delivery(retry).await, Code::NotFound, "NOT_FOUND");
    }

    async fn a_mail_is_marked_in_the_language_that_it_is_in(t: &mut TestApp) {
        with_contacts(t, &[MAILBOX]).await;
        let sent = tried(t, asked(Channel::Email, "Front@ACME.example")).await.unwrap();
        assert_eq!(told(&sent), ("SENT", "", ""));
        let content = TemplateContent {
            subject: "Su cita".into(),
            text: "Hola {{first_name}}, le esperamos.".into(),
            html: "<p>Hola {{first_name}}, le <b>esperamos</b>.</p>".into(),
        };
        let r#ref = Some(TemplateRef { locale: "es".into(), ..reminder(Channel::Email) });
        let own = SendTestMessageRequest { content: Some(content), r#ref, ..asked(Channel::Email, MAILBOX) };
        assert_eq!(told(&tried(t, own).await.unwrap()), ("SENT", "", ""));
        let [ours, own] = mails(t, MAILBOX).try_into().ok().unwrap();
        assert!(ours.headers["subject"].starts_with("[Test] "), "{}", ours.headers["subject"]);
        assert!(ours.text.starts_with("[Test]\n\n") && ours.html.contains(">[Test]</p>"), "{}", ours.text);
        assert_eq!(own.headers["subject"], "[Prueba] Su cita");
        assert!(own.text.starts_with("[Prueba]\n\nHola Maria"), "{}", own.text);
        assert!(own.html.contains("<p>[Prueba]</p>") && own.html.contains("<b>esperamos</b>"), "{}", own.html);
    }

    async fn a_wrong_password_is_told_in_the_providers_own_code(t: &mut TestApp) {
        with_contacts(t, &[STAFF, MAILBOX, "nouser@example.com"]).await;
        t.sandbox.rules().set_account(ACCOUNT, "another");
        assert_eq!(told(&tried(t, asked(Channel::Sms, STAFF)).await.unwrap()), ("FAILED", "PROVIDER_CONFIG", "20003"));
        assert!(texts(t, STAFF).is_empty());
        t.sandbox.rules().set_account(ACCOUNT, AUTH_TOKEN);
        assert_eq!(told(&tried(t, asked(Channel::Sms, STAFF)).await.unwrap()), ("SENT", "", ""));
        let nobody = tried(t, asked(Channel::Email, "nouser@example.com")).await.unwrap();
        assert_eq!(told(&nobody), ("FAILED", "INVALID_ADDRESS", "550 5.1.1"));

        let login = Some(("acme".to_owned(), "right".to_owned()));
        let relay = Sandbox::start(sandbox::Settings { smtp_login: login, ..Default::default() }).await.unwrap();
        for (password, expected) in [("wrong", ("FAILED", "PROVIDER_CONFIG", "535 5.7.8")), ("right", ("SENT", "", ""))] {
            let mut email = all_settings(t).email.unwrap();
            if let Some(Provider::Smtp(smtp)) = &mut email.provider {
                smtp.port = relay.smtp_addr().port().into();
                smtp.username = "acme".into();
                smtp.password = password.into();
            }
            set(t, PracticeSettings { email: Some(email), ..Default::default() }, &["email"]).await;
            let answer = tried(t, asked(Channel::Email, MAILBOX)).await.unwrap();
            assert_eq!(told(&answer), expected);
        }
        relay.stop().await;
    }

    async fn everything_that_is_wrong_is_said_at_once_and_nothing_is_sent(t: &mut TestApp) {
        with_contacts(t, &[STAFF, MAILBOX]).await;
        let bad = SendTestMessageRequest { practice_id: ACME.into(), ..Default::default() };
        let status = refused(tried(t, bad).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["address", "ref", "request_id"]);
        for address in [PHONE, MAILBOX, "else@acme.example"] {
            let content = Some(TemplateContent { text: "Hi {{nothing}}".into(), ..Default::default() });
            let request = SendTestMessageRequest { content, ..asked(Channel::Sms, address) };
            let status = refused(tried(t, request).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["address", "content.text"]);
        }
        for channel in [Channel::InApp, Channel::Push] {
            let status = refused(tried(t, asked(channel, STAFF)).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["ref.channel"]);
        }
        let no_sms = PracticeSettings { sms: Some(SmsSettings::default()), ..Default::default() };
        set(t, no_sms, &["sms"]).await;
        let status = refused(tried(t, asked(Channel::Sms, STAFF)).await, Code::FailedPrecondition, "CHANNEL_NOT_CONFIGURED");
        assert_eq!(metadata(&status, "channel"), "SMS");
        let refusal = t.caller(Role::Staff).templates.send_test_message(asked(Channel::Email, MAILBOX)).await;
        refused(refusal, Code::PermissionDenied, "ROLE_REQUIRED");
        assert!(texts(t, STAFF).is_empty() && mails(t, MAILBOX).is_empty());
    }

    async fn contacts_are_kept_as_they_lead_to_somebody(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let put = async |contacts: &[&str]| {
            let test_contacts = contacts.iter().map(|&contact| contact.to_owned()).collect();
            let request = UpdatePracticeSettingsRequest {
                practice_id: ACME.into(),
                settings: Some(PracticeSettings { test_contacts, ..Default::default() }),
                update_mask: Some(mask(&["test_contacts"])),
            };
            t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await
        };
        let kept = put(&["+1 (202) 555-0160", MAILBOX]).await.unwrap().into_inner().settings.unwrap().test_contacts;
        assert_eq!(kept, [STAFF, MAILBOX]);
        let bad = put(&["2025550160", MAILBOX, "FRONT@acme.example", "nobody", ""]).await;
        let status = refused(bad, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), [0, 2, 3, 4].map(|place| format!("settings.test_contacts[{place}]")));
        let many: Vec<_> = (0..11).map(|n| format!("desk{n}@acme.example")).collect();
        let many = put(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(fields(&refused(many, Code::InvalidArgument, "FIELD_INVALID")), ["settings.test_contacts"]);
        let request = proto::GetPracticeSettingsRequest { practice_id: ACME.into() };
        let now = t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap().into_inner();
        assert_eq!(now.settings.unwrap().test_contacts, kept);
    }

    async fn a_contact_who_said_stop_is_not_written_to(t: &mut TestApp) {
        with_contacts(t, &[PHONE]).await;
        says(t, "STOP").await;
        let refusal = tried(t, asked(Channel::Sms, PHONE)).await.unwrap();
        assert_eq!(told(&refusal), ("FAILED", "OPTED_OUT_AT_PROVIDER", ""));
        assert!(refusal.provider_message_id.is_empty() && refusal.failure.unwrap().message.contains("nothing was sent"));
        assert!(texts(t, PHONE).is_empty());
        says(t, "START").await;
        assert_eq!(told(&tried(t, asked(Channel::Sms, PHONE)).await.unwrap()), ("SENT", "", ""));
    }

    async fn a_patient_who_opted_out_gets_no_test_either(t: &mut TestApp) {
        with_contacts(t, &[PHONE, "pat@example.com"]).await;
        for (channel, address) in [(Channel::Sms, PHONE), (Channel::Email, "pat@example.com")] {
            opts_out(t, channel).await;
            let refusal = tried(t, asked(channel, address)).await.unwrap();
            assert_eq!(told(&refusal), ("FAILED", "OPTED_OUT_AT_PROVIDER", ""));
        }
        assert!(texts(t, PHONE).is_empty() && mails(t, "pat@example.com").is_empty());
    }

    async fn a_test_of_mail_that_may_give_nothing_away_is_minimal(t: &mut TestApp) {
        with_contacts(t, &[MAILBOX]).await;
        let email = EmailSettings { phi_permitted: Some(false), ..Default::default() };
        set(t, PracticeSettings { email: Some(email), ..Default::default() }, &["email.phi_permitted"]).await;
        let content = TemplateContent { text: "Secret {{provider_name}} {{link}}".into(), ..Default::default() };
        let custom = TemplateRef { target: Some(Target::Key("news".into())), ..reminder(Channel::Email) };
        for r#ref in [reminder(Channel::Email), custom] {
            let text = if matches!(r#ref.target, Some(Target::Key(_))) { "Secret {{link}}" } else { content.text.as_str() };
            let content = Some(TemplateContent { text: text.into(), ..content.clone() });
            let request = SendTestMessageRequest { content, r#ref: Some(r#ref), ..asked(Channel::Email, MAILBOX) };
            assert_eq!(told(&tried(t, request).await.unwrap()), ("SENT", "", ""));
        }
        let sent = mails(t, MAILBOX);
        assert_eq!(sent.len(), 2);
        for mail in sent {
            assert!(mail.text.starts_with("[Test]") && !mail.text.contains("Secret") && !mail.html.contains("Ray"));
        }
    }

    async fn an_address_is_the_same_however_it_is_written(t: &mut TestApp) {
        with_contacts(t, &[STAFF]).await;
        let request = asked(Channel::Sms, STAFF);
        let first = tried(t, request.clone()).await.unwrap();
        for address in [" +12025550160", "+1 (202) 555-0160"] {
            let again = SendTestMessageRequest { address: address.into(), ..request.clone() };
            assert_eq!(tried(t, again).await.unwrap().provider_message_id, first.provider_message_id);
        }
        assert_eq!(texts(t, STAFF).len(), 1);
    }

    async fn twins_send_one_and_the_eleventh_of_a_minute_waits(t: &mut TestApp) {
        with_contacts(t, &[STAFF]).await;
        let request = asked(Channel::Sms, STAFF);
        let (one, other) = join(tried(t, request.clone()), tried(t, request.clone())).await;
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(told(&one) == ("SENT", "", "") && one.provider_message_id == other.provider_message_id);
        for _ in 1..10 {
            tried(t, asked(Channel::Sms, STAFF)).await.unwrap();
        }
        let status = refused(tried(t, asked(Channel::Sms, STAFF)).await, Code::ResourceExhausted, "RATE_LIMITED");
        assert_eq!(metadata(&status, "limit"), "test_messages_per_minute");
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some_and(|delay| delay.as_secs() <= 60));
        // The first is told what it was told, and would be if its contact were gone.
        set(t, PracticeSettings::default(), &["test_contacts"]).await;
        assert_eq!(tried(t, request).await.unwrap().provider_message_id, one.provider_message_id);
        assert_eq!(texts(t, STAFF).len(), 10);
    }

    async fn who_cannot_wait_hears_of_it_by_asking_again_also_after_a_restart(t: &mut TestApp) {
        with_contacts(t, &["slow@acme.example"]).await;
        t.sandbox.rules().set_slow_reply(Duration::from_secs(4));
        let request = asked(Channel::Email, "slow@acme.example");
        let mut hasty = Request::new(request.clone());
        hasty.set_timeout(Duration::from_secs(2));
        assert_eq!(told(&tried(t, hasty).await.unwrap()), ("UNCONFIRMED", "", ""));
        // The stop lets the call under way end, and settles it.
        t.stop().await;
        t.start().await;
        assert_eq!(told(&tried(t, request).await.unwrap()), ("SENT", "", ""));
        assert_eq!(mails(t, "slow@acme.example").len(), 1);
    }
}
