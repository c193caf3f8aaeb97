//! Wording: a practice puts its own in the place of ours, makes templates, looks at them, and sends with them.

use std::collections::BTreeSet;

use heedwell::{
    domain::Role,
    grpc::proto::{
        ActivateTemplateVersionRequest, Channel, CreateTemplateVersionRequest, CreateTemplateVersionResponse,
        CustomDetails, EmailSettings, GetTemplateRequest, GetTemplateResponse, KindChannels, ListTemplatesRequest,
        NotificationInput, NotificationKind as Kind, NotificationView, Patient, PracticeSettings,
        PreviewTemplateRequest, PreviewTemplateResponse, RenderedContent, Template, TemplateContent, TemplateRef,
        notification_input::Payload, template_ref::Target,
    },
};
use tonic::{Code, Status};

use super::{
    given::{PHONE, new_key, patient, payloads, practice, put_patient, reminder, request, send, try_send},
    preferences::set,
    preview,
    seen::{everything, fields, mails, metadata, read, refused, settled, texts},
};
use crate::support::app::{ACME, Caller, TestApp, on_a_server};

fn of(kind: Kind, channel: Channel, locale: &str) -> TemplateRef {
    TemplateRef { target: Some(Target::Kind(kind.into())), channel: channel.into(), locale: locale.into() }
}

pub(super) fn reminders(channel: Channel) -> TemplateRef {
    of(Kind::AppointmentReminder, channel, "")
}

pub(super) fn custom(channel: Channel) -> TemplateRef {
    TemplateRef { target: Some(Target::Key("flu-season".into())), channel: channel.into(), locale: String::new() }
}

pub(super) fn text(text: &str) -> TemplateContent {
    TemplateContent { text: text.into(), ..Default::default() }
}

/// A version that is used at once.
pub(super) fn version(at: TemplateRef, content: TemplateContent, variables: &[&str]) -> CreateTemplateVersionRequest {
    CreateTemplateVersionRequest {
        practice_id: ACME.into(),
        r#ref: Some(at),
        content: Some(content),
        variables: variables.iter().map(|&name| name.to_owned()).collect(),
        active: true,
    }
}

pub(super) async fn try_create(
    t: &TestApp,
    request: CreateTemplateVersionRequest,
) -> Result<CreateTemplateVersionResponse, Status> {
    Ok(t.caller(Role::PracticeAdmin).templates.create_template_version(request).await?.into_inner())
}

/// Adds a version and yields its number.
pub(super) async fn create(t: &TestApp, at: TemplateRef, content: TemplateContent, variables: &[&str]) -> i32 {
    try_create(t, version(at, content, variables)).await.unwrap().version.unwrap().version
}

async fn try_get(t: &TestApp, at: TemplateRef) -> Result<GetTemplateResponse, Status> {
    let request = GetTemplateRequest { practice_id: ACME.into(), r#ref: Some(at) };
    Ok(t.caller(Role::Staff).templates.get_template(request).await?.into_inner())
}

async fn get(t: &TestApp, at: TemplateRef) -> Template {
    try_get(t, at).await.unwrap().template.unwrap()
}

async fn activate(t: &TestApp, at: TemplateRef, version: i32, etag: &str) -> Result<Template, Status> {
    let request =
        ActivateTemplateVersionRequest { practice_id: ACME.into(), r#ref: Some(at), version, etag: etag.into() };
    let answer = t.caller(Role::PracticeAdmin).templates.activate_template_version(request).await?;
    Ok(answer.into_inner().template.unwrap())
}

pub(super) async fn try_out(
    t: &TestApp,
    at: TemplateRef,
    content: Option<TemplateContent>,
    variables: &[(&str, &str)],
) -> Result<PreviewTemplateResponse, Status> {
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let request = PreviewTemplateRequest { practice_id: ACME.into(), r#ref: Some(at), content, variables };
    Ok(t.caller(Role::Staff).templates.preview_template(request).await?.into_inner())
}

/// The texts of a notification as they are kept, in the order of its deliveries.
pub(super) async fn contents(t: &TestApp, notification: &str) -> Vec<RenderedContent> {
    let full = read(t, notification, NotificationView::Full).await;
    full.details.into_iter().map(|detail| detail.content.unwrap()).collect()
}

pub(super) fn flu(t: &TestApp, variables: &[(&str, &str)], channels: &[Channel]) -> NotificationInput {
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    let custom = CustomDetails { template_key: "flu-season".into(), variables };
    NotificationInput { payload: Some(Payload::Custom(custom)), ..reminder(t, "pat", channels) }
}

pub(super) async fn list(t: &TestApp, page_size: i32, page_token: &str) -> (Vec<Template>, String) {
    let request = ListTemplatesRequest { practice_id: ACME.into(), page_size, page_token: page_token.into() };
    let page = t.caller(Role::Staff).templates.list_templates(request).await.unwrap().into_inner();
    (page.templates, page.next_page_token)
}

on_a_server! {
    async fn a_practice_s_wording_is_what_is_sent_from_then_on(t: &mut TestApp) {
        practice(t).await;
        let before = send(t, reminder(t, "pat", &[Channel::Sms])).await;
        settled(t, &before.deliveries, ["DELIVERED"]).await;
        assert_eq!(create(t, reminders(Channel::Sms), text("See you {{visit_time}}. Details: {{link}}"), &[]).await, 1);
        let after = send(t, reminder(t, "pat", &[Channel::Sms])).await;
        settled(t, &after.deliveries, ["DELIVERED"]).await;
        let [first, second] = texts(t, PHONE).try_into().ok().unwrap();
        assert!(first.body.starts_with("Acme Primary Care: You have an appointment on"));
        assert!(second.body.starts_with("Acme Primary Care: See you Wednesday, March 4 at 10:00 AM. Details: http"));
        // What was accepted before is as it was, and says by what it was made.
        let [old] = contents(t, &before.notification_id).await.try_into().ok().unwrap();
        assert_eq!((old.template_key.as_str(), old.template_version), ("builtin/appointment_reminder", 0));
        let [new] = contents(t, &after.notification_id).await.try_into().ok().unwrap();
        assert_eq!((new.template_key.as_str(), new.template_version), ("own/appointment_reminder/en-US", 1));
        assert_eq!(new.text, second.body);
        assert_eq!(create(t, reminders(Channel::Sms), text("Until {{visit_time}}."), &[]).await, 2);
        assert_eq!(contents(t, &after.notification_id).await[0].text, second.body);
        // Back to the first, then to ours.
        for (version, words) in [(1, "See you"), (0, "You have an appointment")] {
            activate(t, reminders(Channel::Sms), version, "").await.unwrap();
            let sent = send(t, reminder(t, "pat", &[Channel::Sms])).await;
            let content = contents(t, &sent.notification_id).await.remove(0);
            assert!(content.text.contains(words) && content.template_version == version, "{}", content.text);
            settled(t, &sent.deliveries, ["DELIVERED"]).await;
        }
    }

    async fn versions_are_read_back_newest_first_with_who_wrote_them(t: &mut TestApp) {
        practice(t).await;
        let ours = get(t, reminders(Channel::Sms)).await;
        let at = ours.r#ref.unwrap();
        assert_eq!((at.locale.as_str(), at.channel, ours.active_version, ours.etag.as_str()), ("en-US", 3, 0, "0"));
        assert!(ours.active_content.unwrap().text.contains("You have an appointment on {{visit_time}}."));
        assert!(ours.update_time.is_none() && ours.variables.contains(&"visit_time".to_owned()));
        assert!(!ours.variables.iter().any(|name| ["amount", "provider_name", "location_name"].contains(&name.as_str())));
        create(t, reminders(Channel::Sms), text("One {{link}}"), &[]).await;
        let request = CreateTemplateVersionRequest { active: false, ..version(reminders(Channel::Sms), text("Two"), &[]) };
        let made = try_create(t, request.clone()).await.unwrap();
        let again = try_create(t, request).await.unwrap();
        assert_eq!([made, again].map(|it| it.version.unwrap().version), [2, 2]);
        let history = try_get(t, of(Kind::AppointmentReminder, Channel::Sms, "EN-us")).await.unwrap();
        let said: Vec<_> = history.versions.iter().map(|it| it.content.as_ref().unwrap().text.as_str()).collect();
        assert_eq!(said, ["Two", "One {{link}}"]);
        assert!(history.versions.iter().all(|it| it.creator.as_ref().unwrap().id == "tester" && it.create_time.is_some()));
        let template = history.template.unwrap();
        assert_eq!((template.active_version, template.etag.as_str()), (1, "2"));
        assert_eq!(template.active_content.unwrap().text, "One {{link}}");
        let status = refused(activate(t, reminders(Channel::Sms), 2, "1").await, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status, "current_etag"), "2");
        assert_eq!(activate(t, reminders(Channel::Sms), 2, "2").await.unwrap().etag, "3");
        assert_eq!(activate(t, reminders(Channel::Sms), 2, "3").await.unwrap().etag, "3");
        for (at, version) in [(reminders(Channel::Sms), 3), (reminders(Channel::Email), 1), (custom(Channel::Email), 0)] {
            refused(activate(t, at, version, "").await, Code::NotFound, "NOT_FOUND");
        }
        refused(try_get(t, custom(Channel::Email)).await, Code::NotFound, "NOT_FOUND");
        // Ours is in use where nothing was written: that is nothing to change.
        let ours = activate(t, reminders(Channel::Email), 0, "0").await.unwrap();
        assert_eq!((ours.active_version, ours.etag.as_str()), (0, "0"));
        refused(activate(t, reminders(Channel::Email), 0, "1").await, Code::Aborted, "ETAG_MISMATCH");
    }

    async fn a_template_of_the_practice_s_own_is_sent_with_its_variables_and_with_no_others(t: &mut TestApp) {
        practice(t).await;
        let kind = KindChannels { kind: Kind::Custom.into(), channels: vec![1, 2, 3], ..Default::default() };
        set(t, PracticeSettings { kind_channels: vec![kind], ..Default::default() }, &["kind_channels"]).await;
        let none = try_send(t, &new_key(), flu(t, &[("when", "soon")], &[Channel::Sms])).await;
        let status = refused(none, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["notification.custom.template_key"]);
        // Nor would it be of use where nothing goes out.
        put_patient(t, ACME, patient("none", "", "")).await;
        let nobody = NotificationInput { patient_id: "none".into(), ..flu(t, &[], &[Channel::Sms]) };
        let status = refused(try_send(t, &new_key(), nobody).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["notification.custom.template_key"]);
        create(t, custom(Channel::Sms), text("Flu shots are here {{when}}."), &["when"]).await;
        let mail = TemplateContent {
            subject: "News from {{practice_name}}".into(),
            text: "Hi {{first_name}},\n\ncome {{when}} to {{where}}.".into(),
            html: "<p>Hi {{first_name}},</p>\n<p>come <b>{{when}}</b> to {{where}}.</p>".into(),
        };
        create(t, custom(Channel::Email), mail, &["when", "where"]).await;
        let both = [Channel::Email, Channel::Sms];
        for (given, wrong) in [
            (&[("when", "soon")][..], &["where"][..]),
            (&[], &["when", "where"]),
            (&[("when", "x"), ("where", "y"), ("who", "z")], &["who"]),
        ] {
            let status = refused(
                try_send(t, &new_key(), flu(t, given, &both)).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            let expected: Vec<_> =
                wrong.iter().map(|name| format!("notification.custom.variables.{name}")).collect();
            assert_eq!(fields(&status), expected);
        }
        let good = [("when", "on <Monday>"), ("where", "Suite 3")];
        let status = refused(
            try_send(t, &new_key(), flu(t, &good, &[Channel::InApp])).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["notification.custom.template_key"]);
        assert!(everything(t).await.is_empty());
        let sent = send(t, flu(t, &good, &both)).await;
        settled(t, &sent.deliveries, ["SENT", "DELIVERED"]).await;
        let [mail] = mails(t, "pat@example.com").try_into().ok().unwrap();
        assert_eq!(mail.headers["subject"], "News from Acme Primary Care");
        assert!(mail.text.contains("come on <Monday> to Suite 3.") && mail.text.contains("Acme Primary Care, PLLC"));
        assert!(mail.html.contains("<p>come <b>on &lt;Monday&gt;</b> to Suite 3.</p>"), "{}", mail.html);
        let [sms] = texts(t, PHONE).try_into().ok().unwrap();
        assert_eq!(sms.body, "Acme Primary Care: Flu shots are here on <Monday>.");
        // Switched off, there is none.
        for channel in both {
            activate(t, custom(channel), 0, "").await.unwrap();
        }
        let off = try_send(t, &new_key(), flu(t, &good, &both)).await;
        assert_eq!(fields(&refused(off, Code::InvalidArgument, "FIELD_INVALID")), ["notification.custom.template_key"]);
    }
}

on_a_server! {
    sqlite:
    async fn whoever_reads_spanish_is_written_to_in_spanish(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, Patient { locale: "es-MX".into(), ..patient("ana", "ana@example.com", "+12025550143") }).await;
        for payload in payloads(t) {
            let input = NotificationInput { payload: Some(payload), ..reminder(t, "ana", &[Channel::Email, Channel::Sms]) };
            let sent = send(t, input).await;
            settled(t, &sent.deliveries, ["SENT", "DELIVERED"]).await;
            let kept = contents(t, &sent.notification_id).await;
            assert!(kept.iter().all(|content| content.template_key.ends_with("/es")));
            assert!(kept[0].text.starts_with("Hola, Pat:") && kept[0].html.contains("<html lang=\"es\""));
            assert!(kept[1].sms_gsm7 && kept[1].sms_segments == 1, "{}", kept[1].text);
        }
        let sms = texts(t, "+12025550143");
        assert!(sms[0].body.starts_with("Acme Primary Care: Tiene una cita el 4 de marzo a las 10:00 AM."));
        let mail = mails(t, "ana@example.com");
        assert_eq!(mail[0].headers["subject"], "Recordatorio de cita - Acme Primary Care");
        // The practice's own English does not take it away.
        create(t, reminders(Channel::Sms), text("Hello!"), &[]).await;
        let sent = send(t, reminder(t, "ana", &[Channel::Sms])).await;
        assert!(contents(t, &sent.notification_id).await[0].text.contains("Tiene una cita"));
        create(t, of(Kind::AppointmentReminder, Channel::Sms, "es"), text("Nos vemos el {{visit_time}}."), &[]).await;
        let seen = send(t, reminder(t, "ana", &[Channel::Sms])).await;
        let kept = contents(t, &seen.notification_id).await.remove(0);
        assert_eq!(kept.text, "Acme Primary Care: Nos vemos el 4 de marzo a las 10:00 AM.");
        assert_eq!(kept.template_key, "own/appointment_reminder/es");
        settled(t, &sent.deliveries, ["DELIVERED"]).await;
        settled(t, &seen.deliveries, ["DELIVERED"]).await;
    }

    async fn templates_are_listed_page_by_page_each_once(t: &mut TestApp) {
        practice(t).await;
        let (ours, end) = list(t, 0, "").await;
        // Nine kinds on four channels in two languages.
        assert_eq!((ours.len(), end.as_str()), (72, ""));
        assert!(ours.iter().all(|it| it.active_version == 0 && !it.active_content.as_ref().unwrap().text.is_empty()));
        create(t, reminders(Channel::Sms), text("Hello!"), &[]).await;
        create(t, custom(Channel::Email), text("{{when}}"), &["when"]).await;
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (page, next) = list(t, 10, &token).await;
            assert!(page.len() <= 10 && !page.is_empty());
            all.extend(page);
            token = next;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(all.len(), 73);
        let own: Vec<_> = all.iter().filter(|it| it.active_version > 0).collect();
        assert_eq!(own.len(), 2);
        assert_eq!((own[0].r#ref.as_ref().unwrap().locale.as_str(), own[0].active_version), ("en-US", 1));
        assert_eq!((&own[1].variables[..], own[1].r#ref.as_ref().unwrap().channel), (&["when".to_owned()][..], 2));
        let refs: BTreeSet<_> = all.iter().map(|it| prost::Message::encode_to_vec(it.r#ref.as_ref().unwrap())).collect();
        assert_eq!(refs.len(), 73);
        let request = ListTemplatesRequest { practice_id: ACME.into(), page_token: "x".into(), ..Default::default() };
        let answer = t.caller(Role::Staff).templates.list_templates(request).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    }

    async fn wording_is_tried_before_it_is_stored(t: &mut TestApp) {
        practice(t).await;
        let tried = try_out(t, reminders(Channel::Sms), Some(text("See you {{visit_time}}. {{link}}")), &[]).await.unwrap();
        let content = tried.content.unwrap();
        assert!(content.text.starts_with("Acme Primary Care: See you Tuesday, March 5 at 9:30 AM. http"), "{}", content.text);
        assert_eq!((content.sms_segments, content.sms_gsm7, content.template_version), (1, true, 0));
        assert!(tried.warnings.is_empty(), "{:?}", tried.warnings);
        let long = try_out(t, reminders(Channel::Sms), Some(text(&"Tráigala. ".repeat(20))), &[]).await.unwrap();
        let content = long.content.unwrap();
        assert!(content.sms_segments > 1 && !content.sms_gsm7 && long.warnings.len() == 2);
        let told = try_out(t, reminders(Channel::Sms), Some(text("Bring your insulin. {{custom_content}}")), &[]).await.unwrap();
        assert!(told.warnings.iter().any(|it| it.contains("patient's health")), "{:?}", told.warnings);
        // What is in use: ours, or the practice's own.
        let ours = try_out(t, reminders(Channel::Email), None, &[]).await.unwrap().content.unwrap();
        assert!(ours.template_key == "builtin/appointment_reminder" && ours.html.contains("Dr. Ray"));
        let spanish = try_out(t, of(Kind::PaymentDue, Channel::Email, "es"), None, &[]).await.unwrap().content.unwrap();
        assert!(spanish.text.contains("Monto: $1,234.50") && spanish.text.contains("Vence: 5 de marzo de 2030"));
        create(t, custom(Channel::Email), text("Come {{when}}."), &["when"]).await;
        let own = try_out(t, custom(Channel::Email), None, &[("when", "at noon")]).await.unwrap().content.unwrap();
        assert!(own.text.starts_with("Come at noon.") && own.template_version == 1);
        for (variables, wrong) in [(&[][..], "variables.when"), (&[("when", "x"), ("who", "y")], "variables.who")] {
            let status = refused(
                try_out(t, custom(Channel::Email), None, variables).await,
                Code::InvalidArgument,
                "FIELD_INVALID",
            );
            assert_eq!(fields(&status), [wrong]);
        }
        // While mail may give nothing away, ours goes out, and the preview says so.
        let email = EmailSettings { phi_permitted: Some(false), ..Default::default() };
        set(t, PracticeSettings { email: Some(email), ..Default::default() }, &["email.phi_permitted"]).await;
        let tried = try_out(t, reminders(Channel::Email), Some(text("With {{provider_name}}")), &[]).await.unwrap();
        assert!(tried.content.unwrap().text.contains("With Dr. Ray") && tried.warnings[0].contains("minimal"));
        let minimal = try_out(t, custom(Channel::Email), None, &[("when", "at noon")]).await.unwrap();
        assert!(!minimal.content.unwrap().text.contains("noon") && minimal.warnings[0].contains("minimal"));
        let sent = send(t, flu(t, &[("when", "at noon")], &[Channel::Email])).await;
        let kept = contents(t, &sent.notification_id).await.remove(0);
        assert_eq!((kept.template_key.as_str(), kept.text.contains("noon")), ("builtin/custom", false));
        settled(t, &sent.deliveries, ["SENT"]).await;
        // Nothing was stored but what was created.
        assert!(try_get(t, reminders(Channel::Sms)).await.unwrap().versions.is_empty());
        assert_eq!(everything(t).await.len(), 1);
    }

    async fn while_mail_may_give_nothing_away_the_minimal_wording_is_shown_as_what_is_in_use(t: &mut TestApp) {
        practice(t).await;
        for (channel, at) in [(Channel::Email, reminders(Channel::Email)), (Channel::Sms, reminders(Channel::Sms))] {
            let content = if channel == Channel::Email { "With {{provider_name}}. {{link}}" } else { "See you. {{link}}" };
            create(t, at, text(content), &[]).await;
        }
        create(t, custom(Channel::Email), text("Come {{when}}."), &["when"]).await;
        let permit = async |permitted| {
            let email = EmailSettings { phi_permitted: Some(permitted), ..Default::default() };
            set(t, PracticeSettings { email: Some(email), ..Default::default() }, &["email.phi_permitted"]).await;
        };
        permit(false).await;
        let variables = &[("when", "at noon")][..];
        for (at, variables, input) in [
            (reminders(Channel::Email), &[][..], reminder(t, "pat", &[Channel::Email])),
            (custom(Channel::Email), variables, flu(t, variables, &[Channel::Email])),
        ] {
            let shown = get(t, at.clone()).await;
            let wording = shown.active_content.clone().unwrap();
            assert_eq!(shown.active_version, 0);
            assert!(!wording.text.contains("provider_name") && !wording.text.contains("when"), "{}", wording.text);
            assert!(wording.text.contains("{{first_name}}") && wording.text.contains("{{link}}"), "{}", wording.text);
            // The preview and what goes out are made from it.
            let tried = try_out(t, at.clone(), None, variables).await.unwrap();
            let sent = send(t, input).await;
            let kept = contents(t, &sent.notification_id).await.remove(0);
            let said = wording.text.lines().find(|line| line.len() > 20 && !line.contains("{{")).unwrap();
            for content in [tried.content.unwrap(), kept] {
                assert!(content.text.contains(said) && content.template_version == 0, "{said} in {}", content.text);
            }
            assert!(tried.warnings[0].contains("minimal"));
            settled(t, &sent.deliveries, ["SENT"]).await;
            // So say the list, the history and the answer to a choice, which is kept.
            assert!(list(t, 0, "").await.0.contains(&shown));
            assert_eq!(try_get(t, at.clone()).await.unwrap().versions.len(), 1);
            assert!(activate(t, at.clone(), 1, "").await.unwrap().active_content.unwrap() == wording);
            if matches!(at.target, Some(Target::Key(_))) {
                assert_eq!(shown.variables, ["when"], "which must be given all the same");
            }
        }
        assert_eq!(get(t, reminders(Channel::Sms)).await.active_version, 1, "texts are as they were");
        permit(true).await;
        for at in [reminders(Channel::Email), custom(Channel::Email)] {
            assert_eq!(get(t, at).await.active_version, 1);
        }
        // Switched off there is none, whatever mail may say.
        permit(false).await;
        let off = activate(t, custom(Channel::Email), 0, "").await.unwrap();
        assert!(off.active_version == 0 && off.active_content.is_none());
    }

    async fn a_preview_of_a_notification_shows_the_practice_s_wording_and_warns_of_its_words(t: &mut TestApp) {
        practice(t).await;
        create(t, reminders(Channel::Push), text("{{custom_content}}"), &[]).await;
        create(t, reminders(Channel::Sms), text("See you. {{custom_content}}"), &[]).await;
        let input = NotificationInput { custom_content: "Bring your insulin.".into(), ..reminder(t, "pat", &[]) };
        let channels = preview::preview(t, input).await.unwrap();
        let warned: Vec<_> =
            channels.iter().map(|it| it.warnings.iter().filter(|it| it.contains("patient's health")).count()).collect();
        assert_eq!(warned, [0, 0, 1, 1]);
        assert_eq!(channels[2].content.as_ref().unwrap().text, "Acme Primary Care: See you. Bring your insulin.");
        assert!(channels.iter().all(|it| it.warnings.iter().all(|it| !it.contains("left out") && !it.contains("insulin"))));
    }

    async fn wording_that_cannot_be_used_is_refused_with_all_that_is_wrong_with_it(t: &mut TestApp) {
        practice(t).await;
        let no_ref = CreateTemplateVersionRequest { practice_id: ACME.into(), ..Default::default() };
        let status = refused(try_create(t, no_ref).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["content", "ref"]);
        let at = TemplateRef { target: Some(Target::Key("No Key".into())), channel: 9, locale: "no locale".into() };
        let content = TemplateContent { subject: "s".repeat(201), text: " ".into(), html: "h".repeat(16_385) };
        let status = refused(try_create(t, version(at, content, &[])).await, Code::InvalidArgument, "FIELD_INVALID");
        let shape = ["content.html", "content.subject", "content.text", "ref.channel", "ref.key", "ref.locale"];
        assert_eq!(fields(&status), shape);
        let bad = |text: &str, html: &str| TemplateContent { text: text.into(), html: html.into(), ..Default::default() };
        let bombs = "{{link}}".repeat(2_048);
        for (at, content, wrong) in [
            (of(Kind::Announcement, Channel::Sms, ""), text("x"), "ref.kind"),
            (of(Kind::Custom, Channel::Sms, ""), text("x"), "ref.kind"),
            (of(Kind::Unspecified, Channel::Sms, ""), text("x"), "ref.kind"),
            (TemplateRef { target: None, ..reminders(Channel::Sms) }, text("x"), "ref.target"),
            (reminders(Channel::Sms), text("{% for x in (1..9) %}x{% endfor %}"), "content.text"),
            (reminders(Channel::Sms), text("{{ nobody }}"), "content.text"),
            (reminders(Channel::Sms), text("{{ first_name | append: 'x' }}"), "content.text"),
            (reminders(Channel::Sms), text(&format!("{{{{ {}", "a[".repeat(3_000))), "content.text"),
            (reminders(Channel::Sms), text("{{provider_name}}"), "content.text"),
            (reminders(Channel::Sms), text("{{amount}}"), "content.text"),
            (reminders(Channel::Push), text("{{visit_time}}"), "content.text"),
            (reminders(Channel::Sms), text("See https://acme.example"), "content.text"),
            (reminders(Channel::Sms), text("Reply YES to confirm."), "content.text"),
            (reminders(Channel::Sms), text(&"x".repeat(1_582)), "content.text"),
            (reminders(Channel::Sms), text("one\r\ntwo"), "content.text"),
            (reminders(Channel::Email), text(&format!("{bombs}x")), "content.text"),
            (reminders(Channel::Email), TemplateContent { subject: "a\r\nBcc: b".into(), ..text("x") }, "content.subject"),
            (reminders(Channel::Email), TemplateContent { subject: "{{visit_time}}".into(), ..text("x") }, "content.subject"),
            (reminders(Channel::Sms), TemplateContent { subject: "x".into(), ..text("x") }, "content.subject"),
            (reminders(Channel::Sms), bad("x", "<p>x</p>"), "content.html"),
            (reminders(Channel::Email), bad("x", "<script>x</script>"), "content.html"),
            (reminders(Channel::Email), bad("x", "<form action=\"https://x.example\"></form>"), "content.html"),
            (reminders(Channel::Email), bad("x", "<img src=\"https://x.example/a.gif\">"), "content.html"),
            (reminders(Channel::Email), bad("x", "<a href=\"javascript:x\">x</a>"), "content.html"),
            (reminders(Channel::Email), bad("x", "<p>{{visit_time}}</p>"), "content.text"),
        ] {
            let tried = try_out(t, at.clone(), Some(content.clone()), &[]).await;
            let tried = refused(tried, Code::InvalidArgument, "FIELD_INVALID");
            let made = refused(try_create(t, version(at, content, &[])).await, Code::InvalidArgument, "FIELD_INVALID");
            for status in [tried, made] {
                assert_eq!(fields(&status), [wrong]);
            }
        }
        let variables = ["when", "first_name", "When", "nil_x"];
        let status = refused(
            try_create(t, version(custom(Channel::Email), text("{{x}}\n{{y}}"), &variables)).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        let all = ["content.text", "content.text", "variables[1]", "variables[2]", "variables[3]"];
        assert_eq!(fields(&status), all);
        let status = refused(
            try_create(t, version(reminders(Channel::Email), text("x"), &["when"])).await,
            Code::InvalidArgument,
            "FIELD_INVALID",
        );
        assert_eq!(fields(&status), ["variables[0]"]);
        assert_eq!(list(t, 500, "").await.0.len(), 72);
    }
}

on_a_server! {
    postgres:
    async fn a_change_on_one_server_is_what_the_next_message_on_another_is_made_of(t: &mut TestApp) {
        practice(t).await;
        let replica = t.replica(|_| {}).await;
        let mut there = Caller::new(replica.channel.clone(), &t.token(Role::Sender)).notify;
        for (place, words) in ["One.", "Two.", "Three."].into_iter().enumerate() {
            create(t, reminders(Channel::Sms), text(words), &[]).await;
            let request = request(&new_key(), reminder(t, "pat", &[Channel::Sms]));
            let sent = there.send_notification(request).await.unwrap().into_inner().notification.unwrap();
            let kept = contents(t, &sent.notification_id).await.remove(0);
            assert_eq!(kept.text, format!("Acme Primary Care: {words}"));
            assert_eq!(kept.template_version, i32::try_from(place).unwrap() + 1);
            settled(t, &sent.deliveries, ["DELIVERED"]).await;
        }
        replica.app.stop().await;
    }
}
