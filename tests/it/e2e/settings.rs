//! Settings of a practice: what a mask changes, what two writers do to each other, and that a secret never comes back.

use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ChannelStatus, EmailSettings, GetPracticeSettingsRequest, KindChannels, NotificationView,
        PracticeSettings, PutPracticeRequest, SmsSettings, SmtpSettings, UpdatePracticeSettingsRequest,
        channel_status::State, email_settings::Provider, sms_settings::Sender, smtp_settings::Security,
    },
};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    given::{ACCOUNT, bare_practice, home, mask, practice, send_over},
    seen::{metadata, notification_id, read, refused, until},
};
use crate::support::app::{ACME, TestApp, on_a_server};

/// In each secret; it must never come back.
const CANARY: &str = "canary";

async fn update(t: &TestApp, paths: &[&str], settings: PracticeSettings) -> Result<PracticeSettings, Status> {
    let request = UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(settings),
        update_mask: Some(mask(paths)),
    };
    let answer = t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await?.into_inner();
    Ok(no_secret(answer.settings.unwrap()))
}

async fn get(t: &TestApp) -> PracticeSettings {
    let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
    let answer = t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap().into_inner();
    no_secret(answer.settings.unwrap())
}

fn no_secret(settings: PracticeSettings) -> PracticeSettings {
    let encoded = settings.encode_to_vec();
    assert!(!encoded.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()), "a secret came back");
    settings
}

fn sms(sms: SmsSettings) -> PracticeSettings {
    PracticeSettings { sms: Some(sms), ..Default::default() }
}

fn relay(smtp: SmtpSettings) -> PracticeSettings {
    let provider = Some(Provider::Smtp(smtp));
    PracticeSettings { email: Some(EmailSettings { provider, ..Default::default() }), ..Default::default() }
}

fn relay_of(settings: &PracticeSettings) -> SmtpSettings {
    match settings.email.as_ref().and_then(|email| email.provider.as_ref()) {
        Some(Provider::Smtp(smtp)) => smtp.clone(),
        _ => panic!("there is a relay"),
    }
}

fn status(settings: &PracticeSettings, channel: Channel) -> &ChannelStatus {
    settings.channel_statuses.iter().find(|status| status.channel() == channel).unwrap()
}

/// The fields that keep a channel from sending.
fn missing(settings: &PracticeSettings, channel: Channel) -> Vec<&str> {
    let findings = status(settings, channel).findings.iter().filter(|finding| finding.blocking);
    findings.map(|finding| finding.field.as_str()).collect()
}

on_a_server! {
    async fn a_new_practice_is_told_what_is_missing(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let settings = get(t).await;
        assert_eq!(settings.channel_statuses.len(), 4);
        assert!(status(&settings, Channel::InApp).state() == State::Ready);
        for channel in [Channel::Email, Channel::Sms, Channel::Push] {
            let status = status(&settings, channel);
            assert!(status.state() == State::NotSetUp && status.last_success_time.is_none());
            assert!(status.findings.iter().all(|finding| finding.message.len() > 20));
        }
        assert_eq!(missing(&settings, Channel::Sms), ["sms.account_sid", "sms.auth_token", "sms.from_number"]);
        assert_eq!(missing(&settings, Channel::Email), ["email.smtp", "email.from_address"]);
        // Defaults stand where nothing was set.
        let kinds: Vec<_> = settings.kind_channels.iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds, (1..=11).collect::<Vec<_>>());
        assert_eq!(settings.kind_channels[0].channels, [2, 3]);
        assert!(settings.kind_channels[9].channels.is_empty());

        // Step by step until nothing is missing.
        let some =
            update(t, &["sms.account_sid"], sms(SmsSettings { account_sid: ACCOUNT.into(), ..Default::default() }))
                .await;
        assert_eq!(missing(&some.unwrap(), Channel::Sms), ["sms.auth_token", "sms.from_number"]);
        let token = SmsSettings { auth_token: CANARY.into(), ..Default::default() };
        let some = update(t, &["sms.auth_token"], sms(token)).await.unwrap();
        assert!(some.sms.as_ref().is_some_and(|sms| sms.auth_token_set && sms.account_sid == ACCOUNT));
        let from = SmsSettings { sender: Some(Sender::FromNumber("+12025550199".into())), ..Default::default() };
        let all = update(t, &["sms.from_number"], sms(from)).await.unwrap();
        assert!(missing(&all, Channel::Sms).is_empty() && status(&all, Channel::Sms).state() == State::Ready);
        assert!(status(&all, Channel::Email).state() == State::NotSetUp);
        let url = all.sms.unwrap().inbound_webhook_url;
        assert!(url.starts_with(&t.url("/webhooks/twilio/acme/inbound")), "{url}");
    }

    async fn a_mask_changes_what_it_names_and_nothing_else(t: &mut TestApp) {
        practice(t).await;
        let before = get(t).await;
        let everything = PracticeSettings { link_hosts: vec!["Other.Example".into()], ..Default::default() };
        let after = update(t, &["link_hosts"], everything).await.unwrap();
        assert_eq!(after.link_hosts, ["other.example"]);
        assert!(after.sms == before.sms && after.email == before.email && after.kind_channels == before.kind_channels);
        assert_ne!(after.etag, before.etag);
        assert!(get(t).await == after, "what the update showed is what was stored");

        // A list is replaced whole: what it no longer names has its default again.
        let one = vec![KindChannels { kind: 9, channels: vec![1], offered_channels: vec![1, 2] }];
        let after =
            update(t, &["kind_channels"], PracticeSettings { kind_channels: one, ..Default::default() }).await.unwrap();
        assert_eq!(after.kind_channels[8].offered_channels, [1, 2]);
        assert_eq!(after.kind_channels[0].channels, [2, 3]);

        // A part of a message leaves the others; a whole message clears what it leaves out.
        let prefix = SmsSettings { prefix: "Acme".into(), account_sid: "ignored".into(), ..Default::default() };
        let after = update(t, &["sms.prefix"], sms(prefix)).await.unwrap().sms.unwrap();
        assert_eq!((after.prefix.as_str(), after.account_sid.as_str()), ("Acme", ACCOUNT));
        let whole = SmsSettings { account_sid: ACCOUNT.into(), ..Default::default() };
        let after = update(t, &["sms"], sms(whole)).await.unwrap().sms.unwrap();
        assert!(after.prefix.is_empty() && after.sender.is_none());
        assert!(after.auth_token_set, "a secret that was left empty is kept");
    }

    async fn a_secret_goes_in_and_never_comes_out(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let secrets = SmsSettings {
            account_sid: ACCOUNT.into(),
            auth_token: format!("{CANARY}-1"),
            secondary_auth_token: format!("{CANARY}-2"),
            api_key_sid: "SK00000000000000000000000000000001".into(),
            api_key_secret: format!("{CANARY}-3"),
            sender: Some(Sender::FromNumber("+12025550199".into())),
            ..Default::default()
        };
        let shown = update(t, &["sms"], sms(secrets)).await.unwrap().sms.unwrap();
        assert!(shown.auth_token_set && shown.secondary_auth_token_set && shown.api_key_secret_set);
        let smtp = SmtpSettings {
            host: "relay.example.com".into(),
            port: 587,
            security: Security::Starttls.into(),
            username: "acme".into(),
            password: format!("{CANARY}-4"),
            ..Default::default()
        };
        let shown = update(t, &["email"], relay(smtp.clone())).await.unwrap();
        assert!(relay_of(&shown).password_set);

        // Left empty in a message that is replaced, kept; named and empty, cleared.
        let shown = update(t, &["email.smtp"], relay(SmtpSettings { password: String::new(), port: 465, ..smtp }))
            .await
            .unwrap();
        assert!(relay_of(&shown).password_set && relay_of(&shown).port == 465);
        let shown = update(t, &["email.smtp.password"], relay(SmtpSettings::default())).await.unwrap();
        assert!(!relay_of(&shown).password_set && relay_of(&shown).port == 465);
        assert_eq!(missing(&shown, Channel::Email), ["email.smtp.password", "email.from_address"]);
        let shown = update(t, &["sms.secondary_auth_token"], sms(SmsSettings::default())).await.unwrap().sms.unwrap();
        assert!(shown.auth_token_set && !shown.secondary_auth_token_set && shown.api_key_secret_set);

        // Not even in what was refused.
        let bad = SmsSettings { auth_token: format!("{CANARY}\n"), ..Default::default() };
        let status = refused(update(t, &["sms"], sms(bad)).await, Code::InvalidArgument, "FIELD_INVALID");
        let said = [status.message().as_bytes(), status.details()].concat();
        assert!(!said.windows(CANARY.len()).any(|bytes| bytes == CANARY.as_bytes()));
    }

    async fn a_relay_at_a_port_of_something_else_is_refused_and_an_older_one_is_not_connected_to(t: &mut TestApp) {
        practice(t).await;
        // Stored while private providers were allowed, at a port that the system chose; the host is told to be a public one.
        let odd = t.sandbox.smtp_addr().port();
        assert!(![465, 587, 2525].contains(&odd));
        let at = |port: u16| {
            relay(SmtpSettings {
                host: "8.8.8.8".into(),
                port: port.into(),
                security: Security::Starttls.into(),
                ..Default::default()
            })
        };
        update(t, &["email.smtp"], at(odd)).await.unwrap();
        t.restart_with(|config| config.providers.allow_private = false).await;
        for port in [25, 80, 5432] {
            let status = refused(update(t, &["email.smtp"], at(port)).await, Code::InvalidArgument, "FIELD_INVALID");
            let violations = status.get_details_bad_request().unwrap().field_violations;
            let [violation] = violations.as_slice() else { panic!("one fault: {violations:?}") };
            assert_eq!(violation.field, "settings.email.smtp.port");
            assert!(["465", "587", "2525"].iter().all(|port| violation.description.contains(port)));
        }
        assert_eq!(relay_of(&get(t).await).port, i32::from(odd), "what was stored stays");
        let delivery = send_over(t, "pat", Channel::Email).await;
        let tried = until(t, &delivery, |delivery| delivery.attempts > 0 && delivery.next_action_time.is_some()).await;
        let events = read(t, notification_id(&tried), NotificationView::Basic).await.details.remove(0).events;
        assert!(events.iter().any(|event| event.provider_code == "port"), "it was not connected to");
        update(t, &["email.smtp.port"], at(587)).await.unwrap();
    }

    async fn of_two_writers_who_read_the_same_one_is_told(t: &mut TestApp) {
        practice(t).await;
        let read = get(t).await;
        let hosts = |host: &str, etag: &str| PracticeSettings {
            link_hosts: vec![host.into()],
            etag: etag.into(),
            ..Default::default()
        };
        let first = update(t, &["link_hosts"], hosts("first.example", &read.etag)).await.unwrap();
        let second = update(t, &["link_hosts"], hosts("second.example", &read.etag)).await;
        let status = refused(second, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status, "current_etag"), first.etag);
        assert_eq!(get(t).await.link_hosts, ["first.example"]);
        for odd in ["-1", "canary", "999999999999999999999"] {
            let odd = update(t, &["link_hosts"], hosts("odd.example", odd)).await;
            assert_eq!(metadata(&refused(odd, Code::Aborted, "ETAG_MISMATCH"), "current_etag"), first.etag);
        }
        let third = update(t, &["link_hosts"], hosts("third.example", &first.etag)).await.unwrap();
        assert_eq!(third.link_hosts, ["third.example"]);
        // Without an etag the last one wins.
        update(t, &["link_hosts"], hosts("fourth.example", "")).await.unwrap();

        let mut operator = t.caller(Role::Operator).directory;
        let stored = PutPracticeRequest { practice_id: ACME.into(), practice: Some(home()) };
        let stored = operator.put_practice(stored).await.unwrap().into_inner().practice.unwrap();
        let renamed = |etag: &str| PutPracticeRequest {
            practice_id: ACME.into(),
            practice: Some(heedwell::grpc::proto::Practice {
                display_name: "Acme Care".into(),
                etag: etag.into(),
                ..home()
            }),
        };
        let now = operator.put_practice(renamed(&stored.etag)).await.unwrap().into_inner().practice.unwrap();
        assert!(now.display_name == "Acme Care" && now.etag != stored.etag);
        let status = refused(operator.put_practice(renamed(&stored.etag)).await, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&status, "current_etag"), now.etag);
    }

    async fn writers_of_different_settings_do_not_undo_each_other(t: &mut TestApp) {
        practice(t).await;
        let prefixes = (0..8)
            .map(|n| update(t, &["sms.prefix"], sms(SmsSettings { prefix: format!("p-{n}"), ..Default::default() })));
        let names = (0..8).map(|n| {
            let email = EmailSettings { from_name: format!("n-{n}"), ..Default::default() };
            update(t, &["email.from_name"], PracticeSettings { email: Some(email), ..Default::default() })
        });
        let (prefixes, names) =
            futures::future::join(futures::future::join_all(prefixes), futures::future::join_all(names)).await;
        assert!(prefixes.iter().chain(&names).all(Result::is_ok));
        let settings = get(t).await;
        assert!(settings.sms.unwrap().prefix.starts_with("p-") && settings.email.unwrap().from_name.starts_with("n-"));
    }
}
