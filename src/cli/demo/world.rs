//! The practices of the demo, their patients, and what is sent to them.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::{Context, bail};

use super::client::{ACME, Client, Expected, NORTH};
use crate::{
    grpc::proto::{
        self, AppointmentDetails, Channel, DeliveryState, DocumentDetails, MessageReceivedDetails, Money,
        NotificationInput, NotificationKind, PaymentDetails, SecureLink, SystemDetails, document_details::Action,
        email_settings, notification_input::Payload, sms_settings, smtp_settings::Security,
    },
    sandbox::{SERVICE_ACCOUNT, Sandbox},
};

/// The account of Acme at Twilio, and its number there.
pub(super) const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub(super) const NUMBER: &str = "+12025550199";
/// Pat's number.
pub(super) const PATS: &str = "+12025550142";
/// Shown by whoever hands mail over that came back to Acme, at an address below this domain.
const BOUNCE_SECRET: &str = "a-made-up-secret-for-the-demo";
const BOUNCES: &str = "bounces.acme.example";
/// What North sends by.
const API_KEY: &str = "SG.made-up-for-the-demo";

/// Makes the practices, their patients and their settings. The stand-ins do as the number or mailbox says; see `heedwell sandbox`.
pub(super) async fn furnish(client: &mut Client, sandbox: &Sandbox) -> anyhow::Result<()> {
    let acme = [
        ("pat", "Pat", "pat@example.com", PATS),
        ("sam", "Sam", "nouser@example.com", "+12025550110"),
        ("lee", "Lee", "lee@example.com", "+12025550116"),
        ("kim", "Kim", "bounces@example.com", ""),
    ];
    found(client, ACME, "Acme Primary Care", &acme).await?;
    for (patient, token) in
        [("pat", "phone-of-pat:made-up"), ("pat", "gone:tablet-of-pat"), ("sam", "gone:phone-of-sam")]
    {
        let request = proto::RegisterPushDeviceRequest {
            practice_id: ACME.into(),
            patient_id: patient.into(),
            fcm_token: token.into(),
            device_name: "Phone".into(),
        };
        let request = client.request(request);
        client.inbox.register_push_device(request).await?;
    }
    let paths = ["sms", "email", "push", "kind_channels", "link_hosts"];
    let shown = set(client, ACME, settings(sandbox), &paths).await?;
    sandbox.bounce_pipe(BOUNCES, &shown.bounce_webhook_url, BOUNCE_SECRET);

    let north = [("ann", "Ann", "ann@example.com", ""), ("ben", "Ben", "nouser@example.com", "")];
    found(client, NORTH, "North Family Practice", &north).await?;
    // SendGrid shows the key that verifies its events once it knows where to send them, and that is shown here.
    let shown = set(client, NORTH, by_sendgrid(String::new()), &["email"]).await?;
    let Some(email_settings::Provider::Sendgrid(sendgrid)) = shown.provider else { bail!("no SendGrid") };
    let key = sandbox.sendgrid_webhook(API_KEY, &sendgrid.event_webhook_url);
    set(client, NORTH, by_sendgrid(key), &["email"]).await?;
    Ok(())
}

/// Makes a practice and its patients: id, name, mailbox and number.
async fn found(
    client: &mut Client,
    practice_id: &str,
    name: &str,
    patients: &[(&str, &str, &str, &str)],
) -> anyhow::Result<()> {
    let practice = proto::Practice {
        legal_name: format!("{name}, PLLC"),
        display_name: name.into(),
        phone: "+12025550100".into(),
        time_zone: "America/New_York".into(),
        portal_url: format!("https://portal.{practice_id}.example"),
        postal_address: "1 Main Street, Springfield".into(),
        ..Default::default()
    };
    let request =
        client.request(proto::PutPracticeRequest { practice_id: practice_id.into(), practice: Some(practice) });
    client.directory.put_practice(request).await?;
    let patients = patients.iter().map(|(id, name, email, phone)| proto::Patient {
        patient_id: (*id).into(),
        first_name: (*name).into(),
        email: (*email).into(),
        mobile_phone: (*phone).into(),
        portal_enabled: true,
        ..Default::default()
    });
    let request = proto::BatchPutPatientsRequest { practice_id: practice_id.into(), patients: patients.collect() };
    let request = client.request(request);
    client.directory.batch_put_patients(request).await?;
    Ok(())
}

/// Changes settings of a practice. Yields those of its mail.
async fn set(
    client: &mut Client,
    practice_id: &str,
    settings: proto::PracticeSettings,
    paths: &[&str],
) -> anyhow::Result<proto::EmailSettings> {
    let request = proto::UpdatePracticeSettingsRequest {
        practice_id: practice_id.into(),
        settings: Some(settings),
        update_mask: Some(prost_types::FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() }),
    };
    let request = client.request(request);
    let shown = client.preferences.update_practice_settings(request).await?.into_inner().settings;
    shown.and_then(|shown| shown.email).context("no settings")
}

fn settings(sandbox: &Sandbox) -> proto::PracticeSettings {
    let every = [Channel::InApp, Channel::Email, Channel::Sms, Channel::Push].map(i32::from).to_vec();
    let kinds = (1..=9).map(|kind| proto::KindChannels { kind, channels: every.clone(), offered_channels: Vec::new() });
    let smtp = proto::SmtpSettings {
        host: sandbox.smtp_addr().ip().to_string(),
        port: i32::from(sandbox.smtp_addr().port()),
        security: Security::Starttls.into(),
        ..Default::default()
    };
    proto::PracticeSettings {
        kind_channels: kinds.collect(),
        sms: Some(proto::SmsSettings {
            account_sid: ACCOUNT.into(),
            auth_token: "a-made-up-token-for-the-demo".into(),
            sender: Some(sms_settings::Sender::FromNumber(NUMBER.into())),
            ..Default::default()
        }),
        email: Some(proto::EmailSettings {
            provider: Some(email_settings::Provider::Smtp(smtp)),
            from_address: "no-reply@mail.acme.example".into(),
            bounce_address: format!("bounce@{BOUNCES}"),
            bounce_secret: BOUNCE_SECRET.into(),
            ..Default::default()
        }),
        push: Some(proto::PushSettings { fcm_service_account_json: SERVICE_ACCOUNT.into(), ..Default::default() }),
        link_hosts: vec!["portal.acme.example".into()],
        ..Default::default()
    }
}

fn by_sendgrid(webhook_public_key: String) -> proto::PracticeSettings {
    let sendgrid = proto::SendGridSettings { api_key: API_KEY.into(), webhook_public_key, ..Default::default() };
    proto::PracticeSettings {
        email: Some(proto::EmailSettings {
            provider: Some(email_settings::Provider::Sendgrid(sendgrid)),
            from_address: "no-reply@mail.north.example".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

const EVERY: [Channel; 4] = [Channel::InApp, Channel::Email, Channel::Sms, Channel::Push];

/// Sends one of each kind to Pat, and what goes wrong to the others. Says what each delivery must end as.
pub(super) async fn send(client: &mut Client) -> anyhow::Result<Expected> {
    use DeliveryState::{Delivered, Failed, Sent, Skipped};
    let mut expected = BTreeMap::new();
    for (number, payload) in payloads().into_iter().enumerate() {
        // What goes by push or mail without reports ends as sent.
        let well = [Delivered, Sent, Delivered, Sent];
        let key = format!("demo-{number}");
        expected.extend(notify(client, (ACME, "pat", &key), payload, EVERY.into_iter().zip(well)).await?);
    }
    // Sam's mailbox does not exist, the phone is off and its app is gone; Lee has no app, and the answer to the text is lost on
    // the way; the relay takes Kim's mail, and it comes back. North's mail goes by SendGrid, which tells that it arrived, or not.
    let everything = |wanted: [DeliveryState; 4]| EVERY.into_iter().zip(wanted).collect::<Vec<_>>();
    for (practice, patient, wanted) in [
        (ACME, "sam", everything([Delivered, Failed, Failed, Skipped])),
        (ACME, "lee", everything([Delivered, Sent, Delivered, Skipped])),
        (ACME, "kim", vec![(Channel::Email, Failed)]),
        (NORTH, "ann", vec![(Channel::Email, Delivered)]),
        (NORTH, "ben", vec![(Channel::Email, Failed)]),
    ] {
        let reminder = Payload::AppointmentReminder(visit(practice));
        expected.extend(notify(client, (practice, patient, &format!("demo-{patient}")), reminder, wanted).await?);
    }
    Ok(expected)
}

/// Sends over the channels of `wanted`, which must end as it says.
async fn notify(
    client: &mut Client,
    (practice, patient, request_id): (&str, &str, &str),
    payload: Payload,
    wanted: impl IntoIterator<Item = (Channel, DeliveryState)>,
) -> anyhow::Result<Expected> {
    let (channels, wanted): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    let input = NotificationInput {
        patient_id: patient.into(),
        payload: Some(payload),
        channels: channels.into_iter().map(i32::from).collect(),
        ..Default::default()
    };
    let request = proto::SendNotificationRequest {
        practice_id: practice.into(),
        request_id: request_id.into(),
        notification: Some(input),
    };
    let request = client.request(request);
    let sent = client.notify.send_notification(request).await?.into_inner();
    let deliveries = sent.notification.context("no notification")?.deliveries;
    anyhow::ensure!(deliveries.len() == wanted.len(), "{} deliveries instead of {}", deliveries.len(), wanted.len());
    Ok(deliveries.into_iter().map(|delivery| delivery.delivery_id).zip(wanted).collect())
}

/// One of each kind that one sends to a patient, in the order of the kinds.
fn payloads() -> Vec<Payload> {
    let message = MessageReceivedDetails { sender_name: "Acme Primary Care".into(), ..Default::default() };
    let documents = DocumentDetails {
        action: Action::Sign.into(),
        document_count: 2,
        titles: vec!["New patient form".into(), "Privacy notice".into()],
        link: Some(link("/documents")),
        due_time: None,
    };
    let notice = SystemDetails {
        title: "New sign-in".into(),
        body: "Somebody signed in to your portal account from a new device.".into(),
        security: true,
    };
    let payloads = vec![
        Payload::AppointmentReminder(visit(ACME)),
        Payload::AppointmentConfirmed(visit(ACME)),
        Payload::AppointmentCancelled(visit(ACME)),
        Payload::PaymentDue(payment()),
        Payload::PaymentReceived(payment()),
        Payload::PaymentFailed(payment()),
        Payload::MessageReceived(message),
        Payload::DocumentShared(documents),
        Payload::System(notice),
    ];
    debug_assert_eq!(payloads.len(), NotificationKind::System as usize, "one of each");
    payloads
}

fn link(path: &str) -> SecureLink {
    SecureLink { target_url: format!("https://portal.acme.example{path}"), ..Default::default() }
}

fn in_days(days: u64) -> prost_types::Timestamp {
    (SystemTime::now() + std::time::Duration::from_secs(days * 86_400)).into()
}

fn visit(practice: &str) -> AppointmentDetails {
    AppointmentDetails {
        start_time: Some(in_days(2)),
        provider_name: "Dr. Ray".into(),
        location_name: "Main office".into(),
        location_address: "1 Main Street, Springfield".into(),
        // North has no host of its own to lead to: its links are those of its portal.
        link: (practice == ACME).then(|| link("/visits/8842")),
        ..Default::default()
    }
}

fn payment() -> PaymentDetails {
    PaymentDetails {
        amount: Some(Money { currency_code: "USD".into(), units: 120, nanos: 0 }),
        invoice_number: "INV-1042".into(),
        payment_time: Some(in_days(7)),
        method_hint: "Visa 4242".into(),
        link: Some(link("/billing")),
    }
}
