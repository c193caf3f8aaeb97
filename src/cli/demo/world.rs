//! The practice of the demo, its patients, and what is sent to them.

use std::{collections::BTreeMap, time::SystemTime};

use anyhow::Context;

use super::client::{Client, Expected, PRACTICE};
use crate::{
    grpc::proto::{
        self, AppointmentDetails, Channel, DeliveryState, DocumentDetails, MessageReceivedDetails, Money,
        NotificationInput, NotificationKind, PaymentDetails, SecureLink, SystemDetails, document_details::Action,
        email_settings, notification_input::Payload, sms_settings, smtp_settings::Security,
    },
    sandbox::{SERVICE_ACCOUNT, Sandbox},
};

/// Makes the practice, its patients and its settings.
pub(super) async fn furnish(client: &mut Client, sandbox: &Sandbox) -> anyhow::Result<()> {
    let practice = proto::Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: "+12025550100".into(),
        time_zone: "America/New_York".into(),
        portal_url: "https://portal.acme.example".into(),
        postal_address: "1 Main Street, Springfield".into(),
        ..Default::default()
    };
    let request = client.request(proto::PutPracticeRequest { practice_id: PRACTICE.into(), practice: Some(practice) });
    client.directory.put_practice(request).await?;

    // The stand-ins do as the number or mailbox says; see `heedwell sandbox`.
    let patients = [
        ("pat", "Pat", "pat@example.com", "+12025550142"),
        ("sam", "Sam", "nouser@example.com", "+12025550110"),
        ("lee", "Lee", "lee@example.com", "+12025550116"),
    ];
    let patients = patients.map(|(id, name, email, phone)| proto::Patient {
        patient_id: id.into(),
        first_name: name.into(),
        email: email.into(),
        mobile_phone: phone.into(),
        portal_enabled: true,
        ..Default::default()
    });
    let request = proto::BatchPutPatientsRequest { practice_id: PRACTICE.into(), patients: patients.into() };
    let request = client.request(request);
    client.directory.batch_put_patients(request).await?;

    for (patient, token) in
        [("pat", "phone-of-pat:made-up"), ("pat", "gone:tablet-of-pat"), ("sam", "gone:phone-of-sam")]
    {
        let request = proto::RegisterPushDeviceRequest {
            practice_id: PRACTICE.into(),
            patient_id: patient.into(),
            fcm_token: token.into(),
            device_name: "Phone".into(),
        };
        let request = client.request(request);
        client.inbox.register_push_device(request).await?;
    }

    let paths = ["sms", "email", "push", "kind_channels", "link_hosts"].map(str::to_owned).to_vec();
    let request = proto::UpdatePracticeSettingsRequest {
        practice_id: PRACTICE.into(),
        settings: Some(settings(sandbox)),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    let request = client.request(request);
    client.preferences.update_practice_settings(request).await?;
    Ok(())
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
            account_sid: "AC00000000000000000000000000000001".into(),
            auth_token: "a-made-up-token-for-the-demo".into(),
            sender: Some(sms_settings::Sender::FromNumber("+12025550199".into())),
            ..Default::default()
        }),
        email: Some(proto::EmailSettings {
            provider: Some(email_settings::Provider::Smtp(smtp)),
            from_address: "no-reply@mail.acme.example".into(),
            ..Default::default()
        }),
        push: Some(proto::PushSettings { fcm_service_account_json: SERVICE_ACCOUNT.into(), ..Default::default() }),
        link_hosts: vec!["portal.acme.example".into()],
        ..Default::default()
    }
}

/// Sends one of each kind to Pat, and what goes wrong to the others. Says what each delivery must end as.
pub(super) async fn send(client: &mut Client) -> anyhow::Result<Expected> {
    let mut expected = BTreeMap::new();
    for (number, payload) in payloads().into_iter().enumerate() {
        // What goes by push or mail without reports ends as sent.
        let well = [DeliveryState::Delivered, DeliveryState::Sent, DeliveryState::Delivered, DeliveryState::Sent];
        expected.extend(notify(client, &format!("demo-{number}"), "pat", payload, well).await?);
    }
    // Sam's mailbox does not exist, the phone is off and its app is gone; Lee has no app, and the answer to the text is lost on
    // the way.
    let reminder = || Payload::AppointmentReminder(visit());
    let failing = [DeliveryState::Delivered, DeliveryState::Failed, DeliveryState::Failed, DeliveryState::Skipped];
    expected.extend(notify(client, "demo-sam", "sam", reminder(), failing).await?);
    let well = [DeliveryState::Delivered, DeliveryState::Sent, DeliveryState::Delivered, DeliveryState::Skipped];
    expected.extend(notify(client, "demo-lee", "lee", reminder(), well).await?);
    Ok(expected)
}

/// Sends over in-app, email, SMS and push, which must end as `wanted`, in that order.
async fn notify(
    client: &mut Client,
    request_id: &str,
    patient: &str,
    payload: Payload,
    wanted: [DeliveryState; 4],
) -> anyhow::Result<Expected> {
    let input = NotificationInput { patient_id: patient.into(), payload: Some(payload), ..Default::default() };
    let request = proto::SendNotificationRequest {
        practice_id: PRACTICE.into(),
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
        Payload::AppointmentReminder(visit()),
        Payload::AppointmentConfirmed(visit()),
        Payload::AppointmentCancelled(visit()),
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

fn visit() -> AppointmentDetails {
    AppointmentDetails {
        start_time: Some(in_days(2)),
        provider_name: "Dr. Ray".into(),
        location_name: "Main office".into(),
        location_address: "1 Main Street, Springfield".into(),
        link: Some(link("/visits/8842")),
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
