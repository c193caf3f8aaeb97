//! What somebody learns who has the database and not the key file: no name, address, text, secret or link.

use chrono::TimeDelta;
use heedwell::{
    crypto::KeyFile,
    domain::{
        Channel, ChannelSet, DkimKey, DkimSettings, Facts, FailureReason, Kind, KindChannels, Patient, Phi,
        ServiceAccount, SmsSender, Verdict,
    },
    store::{NewLink, Receipt},
};

use super::{
    given::{NORTH, Order, accepted, claim, email, patient, phone, practice, settings, settle},
    templates::wording,
    *,
};
use crate::support::Backend;

/// Each stands for something that must not be found. None has a meaning that it could have by chance.
const CANARIES: [&str; 21] = [
    "Quetzalina",
    "Ptarmigansson",
    "kookaburra.lark",
    "5550177",
    "capercaillie-text",
    "cassowary-subject",
    "hoatzin-html",
    "corncrake-auth-token",
    "corncrake-second-token",
    "bittern-key-secret",
    "dotterel-password",
    "oystercatcher-user",
    "redshank-private-key",
    "sandpiper-bounce-secret",
    "whimbrel-target",
    "phalarope-name",
    "turnstone-body",
    "sanderling-push-key",
    "knot-device-token",
    "dunlin-device-name",
    "lapwing-wording",
];

async fn fill(t: &TestStore) {
    let scope = t.scope(NORTH);
    t.store.practice_put(&scope, practice(NORTH), None).await.unwrap();
    let mut settings = settings();
    settings.sms.auth_token = Some("corncrake-auth-token".to_owned().into());
    settings.sms.secondary_auth_token = Some("corncrake-second-token".to_owned().into());
    settings.sms.api_key_sid = "SK1".into();
    settings.sms.api_key_secret = Some("bittern-key-secret".to_owned().into());
    settings.sms.sender = Some(SmsSender::Number(phone("+12025550199")));
    settings.email.from_name = "phalarope-name".into();
    if let Some(heedwell::domain::EmailProvider::Smtp(smtp)) = &mut settings.email.provider {
        smtp.username = "oystercatcher-user".into();
        smtp.password = Some("dotterel-password".to_owned().into());
    }
    settings.push.service_account = Some(ServiceAccount {
        project_id: "north".into(),
        client_email: "push@north.iam.gserviceaccount.com".into(),
        private_key: "sanderling-push-key".to_owned().into(),
    });
    let key = DkimKey { pem: "redshank-private-key".to_owned().into(), record: "v=DKIM1".into() };
    settings.email.dkim = DkimSettings { domain: "example.com".into(), selector: "s1".into(), key: Some(key) };
    settings.email.bounces.secret = Some("sandpiper-bounce-secret".to_owned().into());
    let everywhere = KindChannels { channels: ChannelSet::ALL, offered: None };
    settings.kind_channels.insert(Kind::AppointmentReminder, everywhere);
    t.store.settings_put(&scope, settings, 0).await.unwrap();
    let maria = Patient {
        first_name: Phi::new("Quetzalina".into()),
        last_name: Phi::new("Ptarmigansson".into()),
        email: Some(email("kookaburra.lark@example.com")),
        mobile_phone: Some(phone("+12025550177")),
        ..patient("maria")
    };
    t.store.patients_put(&scope, vec![maria]).await.unwrap();
    let token = "knot-device-token".parse().unwrap();
    t.store.device_register(&scope, &"maria".parse().unwrap(), &token, "dunlin-device-name").await.unwrap();
    t.store.template_version_add(&scope, wording("lapwing-wording")).await.unwrap();
    let link = NewLink {
        token_digest: [5; 32],
        target_url: "https://portal.example.com/whimbrel-target".into(),
        expire_time: t.now() + TimeDelta::days(1),
        max_opens: 0,
    };
    let order = Order { links: vec![link], ..Order::new("r1", &[Channel::Sms, Channel::Email, Channel::InApp]) };
    let mut new = order.prepare(t, &scope).await;
    for delivery in &mut new.deliveries {
        let content = delivery.content.as_mut().unwrap();
        content.text = Phi::new("capercaillie-text for Quetzalina, turnstone-body".into());
        content.subject = Phi::new("cassowary-subject".into());
        content.html = Phi::new("<p>hoatzin-html</p>".into());
    }
    t.store.notification_accept(&scope, new).await.unwrap();
    for claimed in claim(t, &scope, 10).await {
        if claimed.channel == Channel::Sms {
            settle(t, &claimed, accepted("SM1")).await;
            let receipt = Receipt {
                token: claimed.token,
                provider_ref: "SM1".into(),
                facts: Facts::UNDELIVERED,
                status: "undelivered".into(),
                code: "30003".into(),
                failure: Some(FailureReason::InvalidAddress),
            };
            t.store.receipt_apply(&scope, receipt).await.unwrap();
        } else {
            settle(t, &claimed, Verdict::Unknown { code: "timeout".into() }).await;
        }
    }
    t.store.link_open(&t.engine, [5; 32]).await.unwrap();
}

/// Every byte that the database keeps.
async fn bytes(t: &TestStore) -> Vec<u8> {
    match t.home.backend {
        Backend::Sqlite => ["heedwell.db", "heedwell.db-wal"]
            .iter()
            .flat_map(|name| std::fs::read(t.home.path(name)).unwrap_or_default())
            .collect(),
        Backend::Postgres => {
            let mut all = Vec::new();
            for table in t.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").await {
                let table: String = table.try_get_by_index(0).unwrap();
                // `escape` shows printable bytes of a bytea as they are.
                t.execute("SET bytea_output = 'escape'").await;
                for row in t.rows(&format!("SELECT row_to_json(x)::text || x::text FROM {table} x")).await {
                    all.extend(row.try_get_by_index::<String>(0).unwrap().into_bytes());
                }
            }
            all
        }
    }
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

on_both! {
    async fn nothing_about_a_patient_and_no_secret_can_be_read_without_the_key_file(t: &TestStore) {
        fill(t).await;
        let bytes = bytes(t).await;
        let found: Vec<_> = CANARIES.iter().filter(|canary| holds(&bytes, canary)).collect();
        assert!(found.is_empty(), "{found:?}");
        // What may be read is found, so that the search is known to work: in columns of text and in images of the feed.
        for known in ["maria", "north Primary Care", "(•••) •••-0177", "SM1", "\"provider_ref\""] {
            assert!(holds(&bytes, known), "{known}");
        }
    }

    async fn equal_addresses_of_two_practices_cannot_be_told_to_be_equal(t: &TestStore) {
        for id in [NORTH, given::SOUTH] {
            let scope = given::ready_practice(t, id).await;
            t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        }
        assert_eq!(t.number("SELECT count(*) FROM patient").await, 4);
        assert_eq!(t.number("SELECT count(DISTINCT phone_bi) FROM patient").await, 2);
        assert_eq!(t.number("SELECT count(DISTINCT contact_ct) FROM patient").await, 4);
    }

    async fn a_sealed_value_opens_in_its_own_place_only(t: &TestStore) {
        let scope = given::ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        let swap = "UPDATE patient SET contact_ct = (SELECT contact_ct FROM patient WHERE patient_id = 'ann') \
                    WHERE patient_id = 'maria'";
        t.execute(swap).await;
        let read = t.store.patient_get(&scope, &"maria".parse().unwrap()).await;
        assert!(matches!(read, Err(heedwell::store::StoreError::Corrupt("patient"))), "{read:?}");
    }
}

/// Every blind index of an address that the database has.
async fn blind_indexes(t: &TestStore) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for query in [
        "SELECT phone_bi FROM patient WHERE phone_bi IS NOT NULL",
        "SELECT email_bi FROM patient WHERE email_bi IS NOT NULL",
        "SELECT address_bi FROM delivery WHERE address_bi IS NOT NULL",
        "SELECT address_bi FROM attempt",
        "SELECT subject FROM recipient_gate WHERE subject_kind = 2",
        "SELECT address_bi FROM consent_ledger WHERE address_bi IS NOT NULL",
    ] {
        let rows = t.rows(query).await;
        found.extend(rows.iter().map(|row| row.try_get_by_index::<Vec<u8>>(0).unwrap()));
    }
    found
}

on_both! {
    async fn whoever_tries_all_numbers_without_the_key_finds_nobody(t: &TestStore) {
        fill(t).await;
        given::ready_practice(t, given::SOUTH).await;
        let kept = blind_indexes(t).await;
        assert!(kept.len() >= 8);
        let addresses = [("phone", "+12025550177"), ("phone", "+12025550142"), ("email", "kookaburra.lark@example.com")];
        let hits = |key: &dyn Fn(&str, &str) -> Vec<u8>| {
            addresses.iter().filter(|(kind, address)| kept.contains(&key(kind, address))).count()
        };
        // The right key of the right practice finds whom it is asked about, or this would prove nothing.
        let north = t.home.keys().blind_index(NORTH);
        assert_eq!(hits(&|kind, address| north.index(kind, address).to_vec()), 2);
        for practice in ["", "North", "east"] {
            let other = t.home.keys().blind_index(practice);
            assert_eq!(hits(&|kind, address| other.index(kind, address).to_vec()), 0, "{practice}");
        }
        for n in 0..100 {
            let wrong = KeyFile::create(&t.home.path(&format!("wrong-{n}"))).unwrap().blind_index(NORTH);
            assert_eq!(hits(&|kind, address| wrong.index(kind, address).to_vec()), 0);
        }
        // Nor is it a digest that needs no key.
        let plain = |_: &str, address: &str| ring::digest::digest(&ring::digest::SHA256, address.as_bytes()).as_ref()[..16].to_vec();
        assert_eq!(hits(&plain), 0);
    }
}
