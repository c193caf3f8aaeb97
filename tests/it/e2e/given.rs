//! What most tests begin with: a practice that is set up, its patients, and something to tell them.

use std::sync::atomic::{AtomicU32, Ordering};

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        self, AppointmentDetails, BatchPutPatientsRequest, Channel, DocumentDetails, KindChannels,
        MessageReceivedDetails, Money, Notification, NotificationInput, Patient, PaymentDetails, Practice,
        PracticeSettings, PutPracticeRequest, SecureLink, SendNotificationRequest, SendNotificationResponse,
        SystemDetails, UpdatePracticeSettingsRequest, document_details::Action, email_settings,
        notification_input::Payload, sms_settings, smtp_settings::Security,
    },
};
use tonic::Status;

use crate::support::app::{ACME, Pass, TestApp};

/// The practice's account at Twilio.
pub(super) const ACCOUNT: &str = "AC00000000000000000000000000000001";
/// What proves to be Twilio.
pub(super) const AUTH_TOKEN: &str = "twilio-auth-token-canary";
/// Where secure links may lead.
pub(super) const TARGET: &str = "https://portal.acme.example/visits/8842";
/// Where everybody may be reached who has nothing special about them.
pub(super) const PHONE: &str = "+12025550142";

/// Stores the practice, set up for every channel, with patient `pat`, who can be reached over each.
pub(super) async fn practice(t: &TestApp) {
    practice_named(t, ACME).await;
}

/// As [`practice`], under another id.
pub(super) async fn practice_named(t: &TestApp, id: &str) {
    bare_practice(t, id).await;
    put_patient(t, id, patient("pat", "pat@example.com", PHONE)).await;
    let request = UpdatePracticeSettingsRequest {
        practice_id: id.into(),
        settings: Some(all_settings(t)),
        update_mask: Some(mask(&["sms", "email", "kind_channels", "link_hosts"])),
    };
    t.caller_with(&token(t, Role::PracticeAdmin, id)).preferences.update_practice_settings(request).await.unwrap();
}

/// Stores a practice that has nothing set up and nobody in it.
pub(super) async fn bare_practice(t: &TestApp, id: &str) {
    let request = PutPracticeRequest { practice_id: id.into(), practice: Some(home()) };
    t.caller_with(&token(t, Role::Operator, id)).directory.put_practice(request).await.unwrap();
}

pub(super) fn token(t: &TestApp, role: Role, practice: &str) -> String {
    t.token_of(&Pass::new(&[role], &[practice]))
}

pub(super) fn home() -> Practice {
    Practice {
        legal_name: "Acme Primary Care, PLLC".into(),
        display_name: "Acme Primary Care".into(),
        phone: "+12025550100".into(),
        time_zone: "America/New_York".into(),
        portal_url: "https://portal.acme.example/".into(),
        postal_address: "1 Main Street, Springfield".into(),
        ..Default::default()
    }
}

pub(super) fn patient(id: &str, email: &str, phone: &str) -> Patient {
    Patient {
        patient_id: id.into(),
        first_name: "Pat".into(),
        last_name: "Doe".into(),
        email: email.into(),
        mobile_phone: phone.into(),
        portal_enabled: true,
        ..Default::default()
    }
}

pub(super) async fn put_patient(t: &TestApp, practice: &str, patient: Patient) {
    let request = BatchPutPatientsRequest { practice_id: practice.into(), patients: vec![patient] };
    t.caller_with(&token(t, Role::Directory, practice)).directory.batch_put_patients(request).await.unwrap();
}

/// Stores somebody of Acme whose phone does as its last digits say; see the stand-ins' table.
pub(super) async fn somebody_with_phone(t: &TestApp, id: &str, phone: &str) {
    put_patient(t, ACME, patient(id, "", phone)).await;
}

/// Stores somebody of Acme whose mailbox does as its name says.
pub(super) async fn somebody_with_mailbox(t: &TestApp, id: &str, email: &str) {
    put_patient(t, ACME, patient(id, email, "")).await;
}

/// Settings with which every kind may go over in-app, mail and text message, to the stand-ins.
pub(super) fn all_settings(t: &TestApp) -> PracticeSettings {
    let every = [Channel::InApp, Channel::Email, Channel::Sms].map(i32::from).to_vec();
    let kinds = (1..=9).map(|kind| KindChannels { kind, channels: every.clone(), offered_channels: Vec::new() });
    let relay = t.sandbox.smtp_addr();
    let smtp = proto::SmtpSettings {
        host: relay.ip().to_string(),
        port: relay.port().into(),
        security: Security::Starttls.into(),
        ..Default::default()
    };
    PracticeSettings {
        kind_channels: kinds.collect(),
        sms: Some(proto::SmsSettings {
            account_sid: ACCOUNT.into(),
            auth_token: AUTH_TOKEN.into(),
            sender: Some(sms_settings::Sender::FromNumber("+12025550199".into())),
            ..Default::default()
        }),
        email: Some(proto::EmailSettings {
            provider: Some(email_settings::Provider::Smtp(smtp)),
            from_address: "no-reply@mail.acme.example".into(),
            ..Default::default()
        }),
        link_hosts: vec!["portal.acme.example".into()],
        ..Default::default()
    }
}

pub(super) fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() }
}

/// A key that no other request has.
pub(super) fn new_key() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("key-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A reminder of a visit in two days, over these channels.
pub(super) fn reminder(t: &TestApp, patient: &str, channels: &[Channel]) -> NotificationInput {
    NotificationInput {
        patient_id: patient.into(),
        payload: Some(Payload::AppointmentReminder(visit(t))),
        channels: channels.iter().map(|&channel| channel.into()).collect(),
        ..Default::default()
    }
}

pub(super) fn request(key: &str, input: NotificationInput) -> SendNotificationRequest {
    SendNotificationRequest { practice_id: ACME.into(), request_id: key.into(), notification: Some(input) }
}

pub(super) async fn try_send(
    t: &TestApp,
    key: &str,
    input: NotificationInput,
) -> Result<SendNotificationResponse, Status> {
    Ok(t.sender().send_notification(request(key, input)).await?.into_inner())
}

/// Sends for the first time under a key of its own.
pub(super) async fn send(t: &TestApp, input: NotificationInput) -> Notification {
    let sent = try_send(t, &new_key(), input).await.unwrap();
    assert!(!sent.replayed);
    sent.notification.unwrap()
}

/// Sends a reminder over one channel. Yields the id of its delivery.
pub(super) async fn send_over(t: &TestApp, patient: &str, channel: Channel) -> String {
    let notification = send(t, reminder(t, patient, &[channel])).await;
    assert_eq!(notification.deliveries.len(), 1);
    notification.deliveries[0].delivery_id.clone()
}

/// One of each kind that is sent to one patient, in the order of the kinds.
pub(super) fn payloads(t: &TestApp) -> [Payload; 9] {
    [
        Payload::AppointmentReminder(visit(t)),
        Payload::AppointmentConfirmed(visit(t)),
        Payload::AppointmentCancelled(visit(t)),
        Payload::PaymentDue(payment(t)),
        Payload::PaymentReceived(payment(t)),
        Payload::PaymentFailed(payment(t)),
        Payload::MessageReceived(MessageReceivedDetails { sender_name: "Dr. Ray's team".into(), ..Default::default() }),
        Payload::DocumentShared(documents()),
        Payload::System(notice()),
    ]
}

pub(super) fn visit(t: &TestApp) -> AppointmentDetails {
    AppointmentDetails {
        start_time: Some(t.after(TimeDelta::days(2))),
        duration: Some(prost_types::Duration { seconds: 45 * 60, nanos: 0 }),
        provider_name: "Dr. Ray".into(),
        location_name: "North Office".into(),
        location_address: "500 Elm Street".into(),
        link: Some(link()),
        ..Default::default()
    }
}

pub(super) fn payment(t: &TestApp) -> PaymentDetails {
    PaymentDetails {
        amount: Some(Money { currency_code: "USD".into(), units: 1_234, nanos: 500_000_000 }),
        invoice_number: "INV-1042".into(),
        payment_time: Some(t.after(TimeDelta::days(7))),
        method_hint: "Visa 4242".into(),
        link: Some(link()),
    }
}

pub(super) fn documents() -> DocumentDetails {
    DocumentDetails {
        action: Action::Sign.into(),
        document_count: 2,
        titles: vec!["New patient form".into(), "Privacy notice".into()],
        link: Some(link()),
        due_time: None,
    }
}

pub(super) fn notice() -> SystemDetails {
    SystemDetails { title: "New sign-in".into(), body: "Somebody signed in from a new device.".into(), security: true }
}

pub(super) fn link() -> SecureLink {
    SecureLink { target_url: TARGET.into(), ..Default::default() }
}
