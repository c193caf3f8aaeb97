#![expect(clippy::unwrap_used, reason = "tests")]

use prost_types::FieldMask;

use super::*;
use crate::{
    domain::Stored,
    grpc::proto::{EmailSettings as NewEmail, SendGridSettings, SmsSettings as NewSms, SmtpSettings as NewSmtp},
    service::Error,
};

const SID: &str = "AC0123456789abcdef0123456789ABCDEF";

const WEBHOOK_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";

fn request(settings: proto::PracticeSettings, paths: &[&str]) -> proto::UpdatePracticeSettingsRequest {
    proto::UpdatePracticeSettingsRequest {
        practice_id: "a".into(),
        settings: Some(settings),
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
    }
}

fn sms(sms: NewSms) -> proto::PracticeSettings {
    proto::PracticeSettings { sms: Some(sms), ..Default::default() }
}

fn email(email: NewEmail) -> proto::PracticeSettings {
    proto::PracticeSettings { email: Some(email), ..Default::default() }
}

fn smtp(smtp: NewSmtp) -> proto::PracticeSettings {
    email(NewEmail { provider: Some(Provider::Smtp(smtp)), ..Default::default() })
}

fn apply(before: PracticeSettings, new: proto::PracticeSettings, paths: &[&str]) -> PracticeSettings {
    Update::read(request(new, paths), false).ok().unwrap().apply(before).unwrap()
}

fn faults(new: proto::PracticeSettings, paths: &[&str]) -> Vec<(String, String)> {
    match Update::read(request(new, paths), false).err() {
        Some(Error::FieldInvalid(found)) => found.into_iter().map(|it| (it.field, it.description)).collect(),
        _ => Vec::new(),
    }
}

fn secret(secret: Option<&SecretString>) -> &str {
    secret.map(ExposeSecret::expose_secret).unwrap_or_default()
}

/// Everything set, by one update of the whole.
fn full() -> PracticeSettings {
    let settings = proto::PracticeSettings {
        sms: Some(NewSms {
            account_sid: SID.into(),
            auth_token: "token".into(),
            sender: Some(Sender::FromNumber("+12025550142".into())),
            prefix: "Acme".into(),
            ..Default::default()
        }),
        email: Some(NewEmail {
            provider: Some(Provider::Smtp(NewSmtp {
                host: "Mail.example.com".into(),
                port: 587,
                security: 1,
                username: "acme".into(),
                password: "word".into(),
                ..Default::default()
            })),
            from_address: "front@example.com".into(),
            from_name: "Acme".into(),
            ..Default::default()
        }),
        link_hosts: vec!["Portal.Example.com".into()],
        ..Default::default()
    };
    apply(PracticeSettings::default(), settings, &["sms", "email", "link_hosts"])
}

#[test]
fn a_form_sent_back_as_it_was_read_keeps_the_secrets() {
    let before = full();
    let view = SettingsView {
        settings: Stored { value: before.clone(), update_time: chrono::DateTime::UNIX_EPOCH, revision: 3 },
        statuses: Vec::new(),
        content_retention: None,
        inbound_webhook_url: "https://example.com/inbound".into(),
        event_webhook_url: "https://example.com/events".into(),
        bounce_webhook_url: "https://example.com/bounces".into(),
    };
    let read = shown(view);
    let (sms, email) = (read.sms.clone().unwrap(), read.email.clone().unwrap());
    assert!(sms.auth_token_set && sms.auth_token.is_empty() && !sms.api_key_secret_set);
    assert!(matches!(email.provider, Some(Provider::Smtp(smtp)) if smtp.password_set && smtp.password.is_empty()));
    assert_eq!((read.etag.as_str(), read.kind_channels.len()), ("3", Kind::ALL.len()));

    let after = apply(before.clone(), read, &["sms", "email", "link_hosts", "kind_channels"]);
    assert_eq!(secret(after.sms.auth_token.as_ref()), "token");
    let Some(EmailProvider::Smtp(smtp)) = &after.email.provider else { panic!("the relay is kept") };
    assert_eq!((smtp.host.as_str(), smtp.port, secret(smtp.password.as_ref())), ("mail.example.com", 587, "word"));
    assert_eq!(Kind::ALL.map(|kind| after.kind_channels[&kind]), Kind::ALL.map(|kind| before.kind(kind)));
    assert_eq!((after.sms.sender, after.link_hosts), (before.sms.sender, before.link_hosts));
}

#[test]
fn a_whole_message_replaces_all_but_its_secrets() {
    let after = apply(full(), sms(NewSms::default()), &["sms"]);
    assert!(after.sms.account_sid.is_empty() && after.sms.sender.is_none() && after.sms.prefix.is_empty());
    assert_eq!(secret(after.sms.auth_token.as_ref()), "token");
    let after = apply(full(), proto::PracticeSettings::default(), &["email"]);
    assert!(after.email.provider.is_none() && after.email.from_address.is_none());
}

#[test]
fn a_named_secret_is_set_or_cleared() {
    let new = sms(NewSms { auth_token: "next".into(), secondary_auth_token: "old".into(), ..Default::default() });
    let after = apply(full(), new, &["sms.auth_token", "sms.secondary_auth_token"]);
    assert_eq!(secret(after.sms.auth_token.as_ref()), "next");
    assert_eq!(secret(after.sms.secondary_auth_token.as_ref()), "old");
    assert_eq!(after.sms.account_sid, SID, "what is not named stays");
    let after = apply(after, sms(NewSms::default()), &["sms.auth_token"]);
    assert!(after.sms.auth_token.is_none() && after.sms.secondary_auth_token.is_some());
    let after = apply(full(), smtp(NewSmtp::default()), &["email.smtp.password"]);
    assert!(matches!(after.email.provider, Some(EmailProvider::Smtp(it)) if it.password.is_none() && it.port == 587));
}

#[test]
fn the_arms_of_a_choice_are_set_one_by_one() {
    let service = format!("MG{}", &SID[2..]);
    let new = sms(NewSms { sender: Some(Sender::MessagingServiceSid(service.clone())), ..Default::default() });
    for paths in [["sms.from_number", "sms.messaging_service_sid"], ["sms.messaging_service_sid", "sms.from_number"]] {
        let after = apply(full(), new.clone(), &paths);
        assert_eq!(after.sms.sender, Some(SmsSender::MessagingService(service.clone())));
    }
    let after = apply(full(), sms(NewSms::default()), &["sms.messaging_service_sid"]);
    assert!(after.sms.sender.is_some(), "the other arm is left alone");
    let after = apply(full(), sms(NewSms::default()), &["sms.from_number"]);
    assert!(after.sms.sender.is_none());
    let sendgrid = SendGridSettings { api_key: "SG.1".into(), ..Default::default() };
    let new = email(NewEmail { provider: Some(Provider::Sendgrid(sendgrid)), ..Default::default() });
    let after = apply(full(), new, &["email.sendgrid"]);
    assert!(matches!(after.email.provider, Some(EmailProvider::SendGrid(it)) if secret(it.api_key.as_ref()) == "SG.1"));
}

#[test]
fn the_key_of_an_event_webhook_is_shown_and_its_address_beside_it() {
    let sendgrid = |key: &str| {
        let sendgrid =
            SendGridSettings { api_key: "SG.1".into(), webhook_public_key: key.into(), ..Default::default() };
        email(NewEmail { provider: Some(Provider::Sendgrid(sendgrid)), ..Default::default() })
    };
    let value = apply(full(), sendgrid(WEBHOOK_KEY), &["email"]);
    let view = SettingsView {
        settings: Stored { value, update_time: chrono::DateTime::UNIX_EPOCH, revision: 1 },
        statuses: Vec::new(),
        content_retention: None,
        inbound_webhook_url: String::new(),
        event_webhook_url: "https://example.com/events".into(),
        bounce_webhook_url: "https://example.com/bounces".into(),
    };
    let Some(Provider::Sendgrid(shown)) = shown(view).email.unwrap().provider else { panic!("another provider") };
    assert!(shown.api_key_set && shown.api_key.is_empty());
    assert_eq!((&*shown.webhook_public_key, &*shown.event_webhook_url), (WEBHOOK_KEY, "https://example.com/events"));
    for mask in ["email", "email.sendgrid", "email.sendgrid.webhook_public_key"] {
        let found = faults(sendgrid("MFkw"), &[mask]);
        assert_eq!(found.len(), 1, "{mask}");
        assert_eq!(found[0].0, "settings.email.sendgrid.webhook_public_key");
        assert!(!found[0].1.contains("MFkw"));
    }
    let cleared = apply(apply(full(), sendgrid(WEBHOOK_KEY), &["email"]), sendgrid(""), &["email.sendgrid"]);
    assert!(cleared.email.webhook_key().is_none());
}

const SETTABLE: &[&str] = &[
    "kind_channels",
    "link_hosts",
    "test_contacts",
    "sms",
    "sms.account_sid",
    "sms.auth_token",
    "sms.secondary_auth_token",
    "sms.api_key_sid",
    "sms.api_key_secret",
    "sms.from_number",
    "sms.messaging_service_sid",
    "sms.prefix",
    "after_hours_reply",
    "after_hours_reply.text",
    "after_hours_reply.open_spans",
    "email",
    "email.smtp",
    "email.smtp.host",
    "email.smtp.port",
    "email.smtp.security",
    "email.smtp.username",
    "email.smtp.password",
    "email.sendgrid",
    "email.sendgrid.api_key",
    "email.sendgrid.webhook_public_key",
    "email.from_address",
    "email.from_name",
    "email.reply_to_address",
    "email.phi_permitted",
    "push",
    "push.fcm_service_account_json",
    "email.dkim_domain",
    "email.dkim_selector",
    "email.dkim_private_key",
    "email.bounce_address",
    "email.bounce_secret",
];

const OUTPUT_ONLY: &[&str] = &[
    "channel_statuses",
    "content_retention",
    "update_time",
    "etag",
    "sms.auth_token_set",
    "sms.api_key_secret_set",
    "sms.secondary_auth_token_set",
    "sms.inbound_webhook_url",
    "email.smtp.password_set",
    "email.sendgrid.api_key_set",
    "email.sendgrid.event_webhook_url",
    "push.fcm_service_account_set",
    "email.dkim_key_set",
    "email.dkim_record_name",
    "email.dkim_record",
    "email.bounce_secret_set",
    "email.bounce_webhook_url",
];

const NO_SETTINGS: &[&str] = &[
    "",
    "sms.",
    "sms.sender",
    "sms.auth_token.x",
    "email.smtp.host.x",
    "email.push",
    "push.x",
    "Sms",
    "*",
    "nope",
    "after_hours_reply.x",
];

#[test]
fn every_path_of_the_contract_is_known_or_output_only() {
    for path in SETTABLE {
        assert!(faults(proto::PracticeSettings::default(), &[*path]).is_empty(), "{path}");
    }
    let whole = ["quiet_hours.start", "quiet_hours.end", "quiet_hours.end.hours"];
    let groups = [(OUTPUT_ONLY, "output only"), (&whole, "as a whole"), (NO_SETTINGS, "no setting")];
    for (paths, word) in groups {
        for path in paths {
            let found = faults(proto::PracticeSettings::default(), &["sms", path]);
            let [(field, description)] = found.as_slice() else { panic!("{path}: {found:?}") };
            assert_eq!(field, "update_mask");
            assert!(description.starts_with("path 2 ") && description.contains(word), "{path}: {description}");
        }
    }
}

#[test]
fn a_mask_is_required() {
    let mut bare = request(proto::PracticeSettings::default(), &[]);
    bare.update_mask = None;
    for request in [request(proto::PracticeSettings::default(), &[]), bare] {
        assert!(
            matches!(Update::read(request, false), Err(Error::FieldInvalid(found)) if found[0].field == "update_mask")
        );
    }
    let mut request = request(proto::PracticeSettings::default(), &["sms"]);
    request.settings = None;
    assert!(matches!(Update::read(request, false), Err(Error::FieldInvalid(found)) if found[0].field == "settings"));
}

#[test]
fn a_prefix_that_does_not_say_who_writes_is_refused() {
    for prefix in ["...", "STOP", "Reply YES", "evil.zone"] {
        let update = sms(NewSms { prefix: prefix.into(), ..Default::default() });
        assert_eq!(faults(update, &["sms.prefix"])[0].0, "settings.sms.prefix", "{prefix}");
    }
}

#[test]
fn a_relay_is_at_a_port_of_relays_unless_any_is_allowed() {
    let at = |port| smtp(NewSmtp { host: "mail.example.com".into(), port, ..Default::default() });
    for mask in ["email", "email.smtp", "email.smtp.port"] {
        for port in [1, 22, 25, 80, 443, 5432, 65_535] {
            let wrong = ("settings.email.smtp.port".to_owned(), "must be 465, 587 or 2525".to_owned());
            assert_eq!(faults(at(port), &[mask]), vec![wrong], "{mask} {port}");
            let allowed = Update::read(request(at(port), &[mask]), true).unwrap().apply(full()).unwrap();
            assert_eq!(i32::from(relay_port(&allowed)), port, "{mask}");
        }
        for port in [0, 465, 587, 2525] {
            assert!(faults(at(port), &[mask]).is_empty(), "{mask} {port}");
        }
    }
    // What was stored before does not stand in the way of anything else, and is not taken up again.
    let older = Update::read(request(at(25), &["email.smtp.port"]), true).unwrap().apply(full()).unwrap();
    let renamed =
        apply(older.clone(), email(NewEmail { from_name: "Acme".into(), ..Default::default() }), &["email.from_name"]);
    assert_eq!(relay_port(&renamed), 25);
    let mended = apply(older, at(587), &["email.smtp.port"]);
    assert_eq!(relay_port(&mended), 587);
}

fn relay_port(settings: &PracticeSettings) -> u16 {
    match &settings.email.provider {
        Some(EmailProvider::Smtp(smtp)) => smtp.port,
        _ => 0,
    }
}

#[test]
fn malformed_values_are_refused_under_their_paths() {
    let sender = |sender| sms(NewSms { sender: Some(sender), ..Default::default() });
    let rows = [
        ("sms.account_sid", sms(NewSms { account_sid: "AC12".into(), ..Default::default() })),
        ("sms.account_sid", sms(NewSms { account_sid: SID.replace("AC", "SK"), ..Default::default() })),
        ("sms.api_key_sid", sms(NewSms { api_key_sid: SID.into(), ..Default::default() })),
        ("sms.auth_token", sms(NewSms { auth_token: "a\nb".into(), ..Default::default() })),
        ("sms.from_number", sender(Sender::FromNumber("1".into()))),
        ("sms.messaging_service_sid", sender(Sender::MessagingServiceSid(SID.into()))),
        ("sms.prefix", sms(NewSms { prefix: "x".repeat(31), ..Default::default() })),
        ("sms.prefix", sms(NewSms { prefix: "a\nb".into(), ..Default::default() })),
        ("email.from_address", email(NewEmail { from_address: "front".into(), ..Default::default() })),
        ("email.from_name", email(NewEmail { from_name: "a\r\nb".into(), ..Default::default() })),
        ("email.from_name", email(NewEmail { from_name: "\u{3164}".into(), ..Default::default() })),
        ("email.reply_to_address", email(NewEmail { reply_to_address: "x".into(), ..Default::default() })),
        ("email.smtp.host", smtp(NewSmtp { host: "smtp://mail.example.com".into(), ..Default::default() })),
        ("email.smtp.host", smtp(NewSmtp { host: "mail example.com".into(), ..Default::default() })),
        ("email.smtp.host", smtp(NewSmtp { host: "x".repeat(254), ..Default::default() })),
        ("email.smtp.port", smtp(NewSmtp { port: 65_536, ..Default::default() })),
        ("email.smtp.port", smtp(NewSmtp { port: -1, ..Default::default() })),
        ("email.smtp.security", smtp(NewSmtp { security: 3, ..Default::default() })),
        ("email.dkim_domain", email(NewEmail { dkim_domain: "example".into(), ..Default::default() })),
        ("email.dkim_domain", email(NewEmail { dkim_domain: "a@example.com".into(), ..Default::default() })),
        ("email.dkim_domain", email(NewEmail { dkim_domain: "127.0.0.1".into(), ..Default::default() })),
        ("email.dkim_selector", email(NewEmail { dkim_selector: "a b".into(), ..Default::default() })),
        ("email.dkim_selector", email(NewEmail { dkim_selector: "a;d=evil.test".into(), ..Default::default() })),
        ("email.dkim_selector", email(NewEmail { dkim_selector: "a..b".into(), ..Default::default() })),
        ("email.dkim_selector", email(NewEmail { dkim_selector: "x".repeat(64), ..Default::default() })),
        ("email.dkim_private_key", email(NewEmail { dkim_private_key: "key".into(), ..Default::default() })),
        ("email.dkim_private_key", email(NewEmail { dkim_private_key: SHORT_KEY.into(), ..Default::default() })),
        ("email.dkim_private_key", email(NewEmail { dkim_private_key: ODD_KEY.into(), ..Default::default() })),
        ("sms.prefix", sms(NewSms { prefix: "Acme\u{202e}".into(), ..Default::default() })),
        ("email.from_name", email(NewEmail { from_name: "Ac\u{200b}me".into(), ..Default::default() })),
        (
            "email.bounce_address",
            email(NewEmail { bounce_address: "bounces.example.com".into(), ..Default::default() }),
        ),
        ("email.bounce_address", email(NewEmail { bounce_address: "a+b@example.com".into(), ..Default::default() })),
        (
            "email.bounce_address",
            email(NewEmail { bounce_address: format!("{}@example.com", "x".repeat(32)), ..Default::default() }),
        ),
        ("email.bounce_secret", email(NewEmail { bounce_secret: "x".repeat(23), ..Default::default() })),
        ("email.bounce_secret", email(NewEmail { bounce_secret: "x".repeat(201), ..Default::default() })),
        (
            "email.bounce_secret",
            email(NewEmail { bounce_secret: "a secret with spaces in it".into(), ..Default::default() }),
        ),
        (
            "email.bounce_secret",
            email(NewEmail { bounce_secret: format!("{}\n", "x".repeat(30)), ..Default::default() }),
        ),
    ];
    for (path, settings) in rows {
        let whole = path.split('.').next().unwrap();
        for mask in [whole, path] {
            let found = faults(settings.clone(), &[mask]);
            assert_eq!(
                found.first().map(|(field, _)| field.as_str()),
                Some(format!("settings.{path}").as_str()),
                "{mask}"
            );
            assert_eq!(found.len(), 1, "{found:?}");
        }
    }
}

#[test]
fn a_host_is_a_name_and_nothing_more() {
    let hosts = |hosts: Vec<String>| proto::PracticeSettings { link_hosts: hosts, ..Default::default() };
    let long = format!("{}.example.com", "x".repeat(64));
    for bad in [
        "https://example.com",
        "example.com/x",
        "example.com:443",
        "",
        "a b",
        "*.example.com",
        "*",
        "example.*",
        ".",
        "example.com..",
        ".example.com",
        "a..b",
        "a,b.example",
        &long,
    ] {
        assert_eq!(faults(hosts(vec![bad.into()]), &["link_hosts"])[0].0, "settings.link_hosts[0]", "{bad}");
    }
    // With a dot at its end it is the same host, and one is kept of the two.
    let same = hosts(vec!["Portal.example.com.".into(), "portal.example.com".into(), "b\u{fc}cher.example".into()]);
    let stored = apply(PracticeSettings::default(), same, &["link_hosts"]).link_hosts;
    assert_eq!(stored.into_iter().collect::<Vec<_>>(), ["portal.example.com", "xn--bcher-kva.example"]);
    assert_eq!(faults(hosts(vec!["example.com".into(); 51]), &["link_hosts"])[0].0, "settings.link_hosts");
}

const RSA_KEY: &str = include_str!("../../../../tests/vectors/keys/rsa-2048.pem");
const ED25519_KEY: &str = include_str!("../../../../tests/vectors/keys/ed25519.pem");
const SHORT_KEY: &str = include_str!("../../../../tests/vectors/keys/rsa-1024.pem");
const ODD_KEY: &str = include_str!("../../../../tests/vectors/keys/rsa-2560.pem");

fn signed(pem: &str) -> proto::PracticeSettings {
    email(NewEmail {
        from_address: "no-reply@mail.acme.example".into(),
        dkim_domain: "Acme.example".into(),
        dkim_selector: "S1".into(),
        dkim_private_key: pem.into(),
        bounce_address: "bounce@bounces.acme.example".into(),
        bounce_secret: "a-secret-that-nobody-would-guess".into(),
        ..Default::default()
    })
}

#[test]
fn a_key_that_signs_mail_is_kept_and_never_shown_but_what_to_publish_is() {
    let show = |value: &PracticeSettings| {
        let view = SettingsView {
            settings: Stored { value: value.clone(), update_time: chrono::DateTime::UNIX_EPOCH, revision: 1 },
            statuses: Vec::new(),
            content_retention: None,
            inbound_webhook_url: String::new(),
            event_webhook_url: String::new(),
            bounce_webhook_url: "https://example.com/bounces".into(),
        };
        shown(view)
    };
    for (pem, kind) in [(RSA_KEY, "rsa"), (ED25519_KEY, "ed25519")] {
        let value = apply(PracticeSettings::default(), signed(pem), &["email"]);
        let form = show(&value);
        let email = form.email.clone().unwrap();
        assert!(email.dkim_key_set && email.dkim_private_key.is_empty());
        assert!(email.bounce_secret_set && email.bounce_secret.is_empty());
        assert_eq!((&*email.dkim_domain, &*email.dkim_selector), ("acme.example", "s1"));
        assert_eq!(email.dkim_record_name, "s1._domainkey.acme.example");
        assert!(email.dkim_record.starts_with(&format!("v=DKIM1; k={kind}; p=")), "{}", email.dkim_record);
        assert_eq!(email.bounce_webhook_url, "https://example.com/bounces");
        assert!(!format!("{value:?}").contains("PRIVATE KEY"));
        // Sent back as it was read, it keeps both.
        let again = apply(value, form, &["email"]);
        let email = show(&again).email.unwrap();
        assert!(email.dkim_key_set && email.bounce_secret_set && email.dkim_record.contains(kind));
        // Named and empty, they go.
        let cleared =
            apply(again, proto::PracticeSettings::default(), &["email.dkim_private_key", "email.bounce_secret"]);
        let email = show(&cleared).email.unwrap();
        assert!(!email.dkim_key_set && !email.bounce_secret_set);
        assert!(email.dkim_record.is_empty() && email.dkim_record_name.is_empty());
    }
}

#[test]
fn another_key_that_signs_is_put_under_another_selector() {
    let stored = || apply(PracticeSettings::default(), signed(ED25519_KEY), &["email"]);
    let new = |pem: &str, selector: &str| {
        email(NewEmail { dkim_private_key: pem.into(), dkim_selector: selector.into(), ..Default::default() })
    };
    let both = ["email.dkim_private_key", "email.dkim_selector"];
    for (settings, paths) in [(new(RSA_KEY, ""), &both[..1]), (new(RSA_KEY, "s1"), &both[..])] {
        let refused = Update::read(request(settings, paths), false).unwrap().apply(stored());
        let Err(Error::FieldInvalid(found)) = refused else { panic!("taken") };
        assert_eq!(found.iter().map(|it| it.field.as_str()).collect::<Vec<_>>(), ["settings.email.dkim_selector"]);
        assert!(found[0].description.contains("another one for another key"));
    }
    for (settings, paths) in [
        (new(RSA_KEY, "s2"), &both[..]),
        (new(ED25519_KEY, ""), &both[..1]),
        (new("", ""), &both[..1]),
        (new("", "s2"), &both[1..]),
    ] {
        apply(stored(), settings, paths);
    }
}

#[test]
fn the_domain_that_signs_has_to_be_that_of_the_sender_or_one_above_it() {
    let paths = ["email.dkim_domain", "email.from_address"];
    for domain in ["mail.acme.example", "acme.example", ""] {
        let new =
            NewEmail { dkim_domain: domain.into(), from_address: "a@mail.acme.example".into(), ..Default::default() };
        assert!(faults(email(new), &paths).is_empty(), "{domain}");
    }
    for domain in ["other.example", "me.example", "x.mail.acme.example"] {
        let new =
            NewEmail { dkim_domain: domain.into(), from_address: "a@mail.acme.example".into(), ..Default::default() };
        let found = faults(email(new), &paths);
        assert_eq!(
            found.iter().map(|(field, _)| field.as_str()).collect::<Vec<_>>(),
            ["settings.email.dkim_domain"],
            "{domain}"
        );
        assert!(!found[0].1.contains(domain));
    }
    // Whichever of the two changes: what is stored counts as well.
    let stored = apply(PracticeSettings::default(), signed(ED25519_KEY), &["email"]);
    for (path, new) in [
        ("email.from_address", NewEmail { from_address: "a@other.example".into(), ..Default::default() }),
        ("email.dkim_domain", NewEmail { dkim_domain: "other.example".into(), ..Default::default() }),
    ] {
        let update = Update::read(request(email(new), &[path]), false).unwrap();
        let refused = update.apply(stored.clone());
        assert!(
            matches!(refused, Err(Error::FieldInvalid(found)) if found[0].field == "settings.email.dkim_domain"),
            "{path}"
        );
    }
}

#[test]
fn channels_of_kinds_make_sense_together() {
    let row = |kind, channels: &[i32], offered: &[i32]| proto::KindChannels {
        kind,
        channels: channels.to_vec(),
        offered_channels: offered.to_vec(),
    };
    let kinds =
        |rows: &[proto::KindChannels]| proto::PracticeSettings { kind_channels: rows.to_vec(), ..Default::default() };
    let good = kinds(&[row(4, &[2, 3], &[2, 3, 1]), row(10, &[], &[]), row(1, &[], &[])]);
    let after = apply(full(), good, &["kind_channels"]);
    assert_eq!(after.kind_channels.len(), 3);
    assert_eq!(after.kind_channels[&Kind::AppointmentReminder], KindChannels::default());
    let rows = [
        ("kind_channels[1].kind", vec![row(4, &[2], &[]), row(4, &[3], &[])]),
        ("kind_channels[0].kind", vec![row(0, &[2], &[])]),
        ("kind_channels[0].kind", vec![row(12, &[2], &[])]),
        ("kind_channels[0].channels", vec![row(10, &[2], &[])]),
        ("kind_channels[0].channels[1]", vec![row(4, &[2, 2], &[])]),
        ("kind_channels[0].channels[0]", vec![row(4, &[7], &[])]),
        ("kind_channels[0].offered_channels", vec![row(4, &[2, 3], &[2])]),
    ];
    for (field, rows) in rows {
        let found = faults(kinds(&rows), &["kind_channels"]);
        assert_eq!(found.first().map(|(field, _)| field.as_str()), Some(format!("settings.{field}").as_str()));
    }
}

#[test]
fn an_etag_that_was_not_made_here_matches_nothing() {
    use crate::grpc::convert::revision;
    assert_eq!([revision(""), revision("0"), revision("12")], [None, Some(0), Some(12)]);
    for bad in ["x", "-5", "1.0", "99999999999999999999"] {
        assert_eq!(revision(bad), Some(-1), "{bad}");
    }
}

fn quiet(start: Option<(i32, i32)>, end: Option<(i32, i32)>) -> proto::PracticeSettings {
    let time = |(hours, minutes)| proto::TimeOfDay { hours, minutes };
    let quiet_hours = proto::QuietHours { start: start.map(time), end: end.map(time) };
    proto::PracticeSettings { quiet_hours: Some(quiet_hours), ..Default::default() }
}

#[test]
fn quiet_hours_are_set_whole_and_shown_and_taken_away() {
    let before = apply(full(), quiet(Some((21, 30)), Some((8, 0))), &["quiet_hours"]);
    let hours = before.quiet_hours.unwrap();
    assert_eq!((hours.start().to_string().as_str(), hours.end().to_string().as_str()), ("21:30:00", "08:00:00"));
    assert_eq!(before.link_hosts, full().link_hosts);
    let settings = Stored { value: before.clone(), update_time: chrono::DateTime::UNIX_EPOCH, revision: 1 };
    let view = SettingsView {
        settings,
        statuses: Vec::new(),
        content_retention: None,
        inbound_webhook_url: String::new(),
        event_webhook_url: String::new(),
        bounce_webhook_url: "https://example.com/bounces".into(),
    };
    assert!(shown(view).quiet_hours == quiet(Some((21, 30)), Some((8, 0))).quiet_hours);
    assert_eq!(apply(before, proto::PracticeSettings::default(), &["quiet_hours"]).quiet_hours, None);
}

#[test]
fn quiet_hours_that_are_none_are_refused() {
    let cases: [(proto::PracticeSettings, &[&str]); 6] = [
        (quiet(None, None), &["start", "end"]),
        (quiet(Some((21, 0)), None), &["end"]),
        (quiet(Some((24, 0)), Some((8, 60))), &["start.hours", "end.minutes"]),
        (quiet(Some((-1, -1)), Some((8, 0))), &["start.hours", "start.minutes"]),
        // From eight to eight, day after day: nothing would ever go.
        (quiet(Some((8, 0)), Some((8, 0))), &["end"]),
        (quiet(Some((0, 0)), Some((0, 0))), &["end"]),
    ];
    for (settings, expected) in cases {
        let found: Vec<_> = faults(settings, &["quiet_hours"]).into_iter().map(|(field, _)| field).collect();
        let expected: Vec<_> = expected.iter().map(|field| format!("settings.quiet_hours.{field}")).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn channels_that_want_an_opt_in_are_named_once_each() {
    let of = |channels: &[i32]| proto::PracticeSettings { opt_in_channels: channels.into(), ..Default::default() };
    let settings = apply(full(), of(&[3, 4]), &["opt_in_channels"]);
    assert_eq!(settings.opt_in_channels.iter().collect::<Vec<_>>(), [Channel::Sms, Channel::Push]);
    assert!(apply(settings, of(&[]), &["opt_in_channels"]).opt_in_channels.is_empty());
    let found: Vec<_> = faults(of(&[3, 3, 0, 9]), &["opt_in_channels"]).into_iter().map(|(field, _)| field).collect();
    assert_eq!(found, [1, 2, 3].map(|place| format!("settings.opt_in_channels[{place}]")));
}

/// A day of the week, and the hours and minutes of start and end.
type Span = (i32, (i32, i32), (i32, i32));

fn closed(text: &str, spans: &[Span]) -> proto::PracticeSettings {
    let time = |(hours, minutes)| Some(proto::TimeOfDay { hours, minutes });
    let open_spans = spans.iter().map(|&(weekday, start, end)| proto::after_hours_reply::OpenSpan {
        weekday,
        start: time(start),
        end: time(end),
    });
    let reply = proto::AfterHoursReply { text: text.into(), open_spans: open_spans.collect() };
    proto::PracticeSettings { after_hours_reply: Some(reply), ..Default::default() }
}

#[test]
fn the_hours_of_a_practice_are_set_whole_or_in_part_and_shown_as_set() {
    let spans = [(1, (9, 0), (12, 0)), (1, (12, 0), (17, 30)), (7, (20, 0), (0, 0))];
    let after = apply(full(), closed("We are closed.", &spans), &["after_hours_reply"]);
    assert!(shown_reply(&after.after_hours) == closed("We are closed.", &spans).after_hours_reply.unwrap());
    let after = apply(after, closed("Gone", &[]), &["after_hours_reply.text"]);
    assert!(shown_reply(&after.after_hours) == closed("Gone", &spans).after_hours_reply.unwrap());
    let after = apply(after, closed("", &spans[..1]), &["after_hours_reply.open_spans"]);
    assert!(shown_reply(&after.after_hours) == closed("Gone", &spans[..1]).after_hours_reply.unwrap());
    let after = apply(after, proto::PracticeSettings::default(), &["after_hours_reply"]);
    assert_eq!(after.after_hours, AfterHours::default());
}

#[test]
fn spans_that_make_no_sense_are_all_told_at_once() {
    let spans = [
        (0, (9, 0), (8, 0)),
        (8, (9, 0), (17, 0)),
        (1, (9, 0), (9, 0)),
        (1, (24, 0), (17, 60)),
        (2, (9, 0), (17, 0)),
        (2, (16, 59), (0, 0)),
        (3, (0, 0), (0, 0)),
    ];
    let found = faults(closed("Closed\u{7}", &spans), &["after_hours_reply"]);
    let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
    let at = |place: &str| format!("settings.after_hours_reply.{place}");
    let expected = [
        "text",
        "open_spans[0].weekday",
        "open_spans[0].end",
        "open_spans[1].weekday",
        "open_spans[2].end",
        "open_spans[3].start.hours",
        "open_spans[3].end.minutes",
        "open_spans[5]",
    ]
    .map(at);
    assert_eq!(fields, expected);
    for text in ["x".repeat(321), " \n".into(), "\u{200b}\u{2800}".into()] {
        let found = faults(closed(&text, &[]), &["after_hours_reply.text"]);
        assert_eq!((found.len(), found[0].0.as_str()), (1, "settings.after_hours_reply.text"));
    }
    assert!(faults(closed(&"x".repeat(320), &[]), &["after_hours_reply"]).is_empty());
    let many = faults(closed("", &[(1, (0, 0), (1, 0)); 71]), &["after_hours_reply.open_spans"]);
    assert_eq!(many[0].0, "settings.after_hours_reply.open_spans");
}
