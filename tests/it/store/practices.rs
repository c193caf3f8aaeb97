//! Practices and their settings.

use futures::future::join_all;
use heedwell::{
    domain::{
        BounceSettings, Channel, ChannelSet, DkimKey, DkimSettings, EmailProvider, Kind, KindChannels, Practice,
        SendGridSettings, SmsSender, SmtpSecurity, WebhookKey,
    },
    store::StoreError,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    given::{NORTH, email, phone, practice, ready_practice, settings},
    *,
};

/// Of a public test of SendGrid's own library (sendgrid/sendgrid-python, test_eventwebhook.py).
const WEBHOOK_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";

on_both! {
    async fn a_practice_comes_back_as_it_was_put(t: &TestStore) {
        let scope = t.scope(NORTH);
        assert!(matches!(t.store.practice_get(&scope).await, Err(StoreError::NotFound(_))));
        let put = t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
        assert_eq!((put.revision, put.update_time), (1, t.now()));
        assert_eq!(t.store.practice_get(&scope).await.unwrap(), put);

        let bare = Practice { phone: None, portal_url: None, postal_address: String::new(), ..practice(NORTH) };
        t.advance(5);
        let put = t.store.practice_put(&scope, bare.clone(), Some(1)).await.unwrap();
        assert_eq!((put.value, put.revision, put.update_time), (bare, 2, t.now()));
    }

    async fn a_repeated_put_changes_nothing_the_etag_included(t: &TestStore) {
        let scope = t.scope(NORTH);
        let first = t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
        t.advance(5);
        for expected in [None, Some(1)] {
            assert_eq!(t.store.practice_put(&scope, practice(NORTH), expected).await.unwrap(), first);
        }
    }

    async fn a_put_with_an_old_etag_changes_nothing(t: &TestStore) {
        let scope = t.scope(NORTH);
        let other = Practice { locale: "es-US".into(), ..practice(NORTH) };
        let absent = t.store.practice_put(&scope, practice(NORTH), Some(1)).await;
        assert!(matches!(absent, Err(StoreError::Conflict { current: 0 })));
        t.store.practice_put(&scope, practice(NORTH), Some(0)).await.unwrap();
        let old = t.store.practice_put(&scope, other, Some(0)).await;
        assert!(matches!(old, Err(StoreError::Conflict { current: 1 })));
        assert_eq!(t.store.practice_get(&scope).await.unwrap().value, practice(NORTH));
    }

    async fn of_writers_who_bring_the_same_new_practice_none_meets_a_fault(t: &TestStore) {
        let scope = t.scope(NORTH);
        let puts = join_all((0..8).map(|n| {
            let value = Practice { postal_address: format!("{n} Elm Street"), ..practice(NORTH) };
            t.store.practice_put(&scope, value, None)
        }))
        .await;
        assert!(puts.iter().any(Result::is_ok));
        assert!(puts.iter().all(|put| matches!(put, Ok(_) | Err(StoreError::Conflict { .. }))), "{puts:?}");
        let done = puts.iter().filter(|put| put.is_ok()).count();
        let stored = t.store.practice_get(&scope).await.unwrap();
        assert_eq!(stored.revision, i64::try_from(done).unwrap());
        assert_eq!(t.number("SELECT count(*) FROM data_key").await, 1);
        // The one key that was made opens what is sealed from now on.
        t.store.settings_put(&scope, settings(), 0).await.unwrap();
        assert_eq!(t.store.settings_get(&scope).await.unwrap().revision, 1);
    }

    async fn nothing_can_be_kept_for_a_practice_that_there_is_not(t: &TestStore) {
        let scope = t.scope("nowhere");
        assert!(matches!(t.store.settings_get(&scope).await, Err(StoreError::NotFound("practice"))));
        assert!(matches!(t.store.settings_put(&scope, settings(), 0).await, Err(StoreError::NotFound("practice"))));
        let patients = t.store.patients_put(&scope, vec![given::patient("maria")]).await;
        assert!(matches!(patients, Err(StoreError::NotFound("practice"))));
        assert!(matches!(t.store.feed_head(&scope).await, Err(StoreError::NotFound("practice"))));
        assert!(matches!(t.store.feed_bounds(&scope).await, Err(StoreError::NotFound("practice"))));
    }

    async fn settings_begin_empty_and_come_back_whole(t: &TestStore) {
        let scope = t.scope(NORTH);
        t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
        let none = t.store.settings_get(&scope).await.unwrap();
        assert_eq!((none.revision, none.value.set_up()), (0, ChannelSet::from_iter([Channel::InApp])));

        let mut value = settings();
        value.sms.secondary_auth_token = Some(SecretString::from("older-token"));
        value.sms.api_key_sid = "SK00000000000000000000000000000001".into();
        value.sms.api_key_secret = Some(SecretString::from("key-secret"));
        value.sms.prefix = "North".into();
        value.email.from_name = "North Primary Care".into();
        value.email.reply_to = Some(email("desk@north.example.com"));
        value.email.phi_permitted = Some(false);
        value.email.dkim = DkimSettings {
            domain: "north.example.com".into(),
            selector: "s1".into(),
            key: Some(DkimKey { pem: SecretString::from("private-key"), record: "v=DKIM1; k=rsa; p=AAAA".into() }),
        };
        value.email.bounces = BounceSettings {
            address: Some(email("bounce@bounces.north.example.com")),
            secret: Some(SecretString::from("bounce-secret")),
        };
        value.link_hosts.insert("portal.example.com".into());
        let email_only = ChannelSet::from_iter([Channel::Email]);
        value.kind_channels.insert(Kind::System, KindChannels { channels: email_only, offered: Some(ChannelSet::ALL) });
        value.kind_channels.insert(Kind::PaymentDue, KindChannels { channels: ChannelSet::NONE, offered: None });
        let put = t.store.settings_put(&scope, value.clone(), 0).await.unwrap();
        assert_eq!((put.revision, put.update_time), (1, t.now()));

        let stored = t.store.settings_get(&scope).await.unwrap();
        assert_eq!((stored.revision, stored.update_time), (1, t.now()));
        let stored = stored.value;
        assert_eq!((&stored.kind_channels, &stored.link_hosts), (&value.kind_channels, &value.link_hosts));
        let secret = |secret: &Option<SecretString>| secret.as_ref().map(|it| it.expose_secret().to_owned());
        assert_eq!(secret(&stored.sms.auth_token).as_deref(), Some("twilio-auth-token"));
        assert_eq!(secret(&stored.sms.secondary_auth_token).as_deref(), Some("older-token"));
        assert_eq!(secret(&stored.sms.api_key_secret).as_deref(), Some("key-secret"));
        assert_eq!(stored.sms.sender, Some(SmsSender::Number(phone("+12025550199"))));
        // `Debug` shows all of it but the secrets.
        assert_eq!(format!("{stored:?}"), format!("{value:?}"));
        let Some(EmailProvider::Smtp(smtp)) = &stored.email.provider else { panic!("another provider") };
        assert_eq!((smtp.port, smtp.security), (587, Some(SmtpSecurity::StartTls)));
        assert_eq!(secret(&smtp.password).as_deref(), Some("relay-password"));
        assert_eq!(secret(&stored.email.bounces.secret).as_deref(), Some("bounce-secret"));
        assert_eq!(secret(&stored.email.dkim.key.map(|key| key.pem)).as_deref(), Some("private-key"));
    }

    async fn every_provider_and_sender_survives_storage(t: &TestStore) {
        let scope = t.scope(NORTH);
        t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
        let mut value = settings();
        value.sms.sender = Some(SmsSender::MessagingService("MG00000000000000000000000000000001".into()));
        value.email.provider = Some(EmailProvider::SendGrid(SendGridSettings {
            api_key: Some(SecretString::from("SG.key")),
            webhook_key: WebhookKey::parse(WEBHOOK_KEY).ok(),
        }));
        t.store.settings_put(&scope, value.clone(), 0).await.unwrap();
        let stored = t.store.settings_get(&scope).await.unwrap().value;
        assert_eq!(format!("{stored:?}"), format!("{value:?}"));
        let Some(EmailProvider::SendGrid(sendgrid)) = stored.email.provider else { panic!("another provider") };
        assert_eq!(sendgrid.api_key.map(|key| key.expose_secret().to_owned()).as_deref(), Some("SG.key"));
        assert_eq!(sendgrid.webhook_key.as_ref().map(WebhookKey::as_str), Some(WEBHOOK_KEY));
    }

    async fn of_two_who_change_the_same_settings_one_is_told(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let puts = join_all((0..8).map(|_| t.store.settings_put(&scope, settings(), 1))).await;
        assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), 1);
        let told = puts.iter().filter(|put| matches!(put, Err(StoreError::Conflict { current: 2 }))).count();
        assert_eq!(told, 7, "{puts:?}");
        assert_eq!(t.store.settings_get(&scope).await.unwrap().revision, 2);
    }

    async fn of_two_who_make_the_first_settings_one_is_told(t: &TestStore) {
        let scope = t.scope(NORTH);
        t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
        let puts = join_all((0..8).map(|_| t.store.settings_put(&scope, settings(), 0))).await;
        assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), 1);
        let told = puts.iter().filter(|put| matches!(put, Err(StoreError::Conflict { current: 1 }))).count();
        assert_eq!(told, 7, "{puts:?}");
    }
}
