//! Invented data to try wording with. Nobody of that name is in any practice's directory.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::own::{Purpose, TemplateRef};
use crate::domain::{
    Appointment, Custom, DocumentAction, Documents, Kind, MessageReceived, Money, Notice, Patient, PatientId, Payload,
    Payment, Phi, SecureLink,
};

/// What a message with invented data is made from.
#[derive(Clone, Debug)]
pub struct Invented {
    /// What it is about.
    pub payload: Payload,
    /// Who reads it.
    pub patient: Patient,
    /// What the sender typed.
    pub custom_content: Phi<String>,
}

impl Invented {
    /// For that wording. `variables` are those of a template of the practice's own. Nothing for announcements, which have no
    /// wording but their own.
    #[must_use]
    pub fn new(at: &TemplateRef, variables: BTreeMap<String, Phi<String>>) -> Option<Self> {
        let patient = reader(at.locale.as_str())?;
        let payload = match &at.purpose {
            Purpose::Kind(kind) => payload(*kind)?,
            Purpose::Custom(key) => Payload::Custom(Custom { template_key: key.clone(), variables }),
        };
        Some(Self { payload, patient, custom_content: phi("Please bring your insurance card.") })
    }
}

/// Whoever reads it.
pub(super) fn reader(locale: &str) -> Option<Patient> {
    Some(Patient {
        id: "invented".parse::<PatientId>().ok()?,
        first_name: phi("Maria"),
        last_name: phi("Sample"),
        email: None,
        mobile_phone: None,
        locale: Some(locale.to_owned()),
        time_zone: None,
        portal_enabled: true,
        inactive: false,
        tags: Default::default(),
    })
}

fn payload(kind: Kind) -> Option<Payload> {
    Some(match kind {
        Kind::AppointmentReminder => Payload::AppointmentReminder(visit()),
        Kind::AppointmentConfirmed => Payload::AppointmentConfirmed(visit()),
        Kind::AppointmentCancelled => Payload::AppointmentCancelled(visit()),
        Kind::PaymentDue => Payload::PaymentDue(payment()),
        Kind::PaymentReceived => Payload::PaymentReceived(payment()),
        Kind::PaymentFailed => Payload::PaymentFailed(payment()),
        Kind::MessageReceived => Payload::MessageReceived(MessageReceived {
            sender_name: phi("Front Desk"),
            conversation_id: None,
            link: Some(link()),
        }),
        Kind::DocumentShared => Payload::DocumentShared(Documents {
            action: DocumentAction::Sign,
            document_count: 2,
            titles: vec![phi("New Patient Form"), phi("Privacy Notice")],
            link: link(),
            due_time: Some(DAY + TimeDelta::days(3)),
        }),
        Kind::System => Payload::System(Notice {
            title: phi("New sign-in"),
            body: phi("Someone signed in to your account from a new device."),
            security: true,
        }),
        Kind::Announcement | Kind::Custom => return None,
    })
}

/// A Tuesday, 9:30 in the morning in New York.
const DAY: DateTime<Utc> = match DateTime::from_timestamp(1_898_951_400, 0) {
    Some(day) => day,
    None => DateTime::UNIX_EPOCH,
};

fn visit() -> Appointment {
    Appointment {
        start_time: DAY,
        duration: Some(TimeDelta::minutes(30)),
        time_zone: None,
        provider_name: phi("Dr. Ray"),
        location_name: phi("North Office"),
        location_address: phi("500 Elm Street, Suite 3"),
        link: Some(link()),
    }
}

fn payment() -> Payment {
    Payment {
        amount: Money { currency_code: "USD".into(), units: 1_234, nanos: 500_000_000 },
        invoice_number: phi("INV-0001"),
        payment_time: Some(DAY),
        method_hint: phi("Visa 4242"),
        link: Some(link()),
    }
}

/// Where it leads does not matter: what is shown is the short address that stands for it.
fn link() -> SecureLink {
    SecureLink { target_url: String::new(), ttl: None, max_opens: 0 }
}

fn phi(text: &str) -> Phi<String> {
    text.to_owned().into()
}
