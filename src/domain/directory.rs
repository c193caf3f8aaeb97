//! Practices and patients: the least that must be known of them.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{Channel, EmailAddress, PatientId, Phi, PhoneNumber};

/// A practice. Nothing in it is about a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Practice {
    /// For email and documents.
    pub legal_name: String,
    /// Short, for the start of a text message; at most 30 characters.
    pub display_name: String,
    /// Shown to patients for questions, in E.164.
    pub phone: Option<PhoneNumber>,
    /// Where its wall clock is.
    pub time_zone: Tz,
    /// BCP 47.
    pub locale: String,
    /// https; where portal links lead.
    pub portal_url: Option<String>,
    /// Postal address; may be empty.
    pub postal_address: String,
}

/// A patient, as the practice's own system describes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patient {
    /// Unique in the practice.
    pub id: PatientId,
    /// Used to address them.
    pub first_name: Phi<String>,
    /// May be empty.
    pub last_name: Phi<String>,
    /// Where mail goes.
    pub email: Option<EmailAddress>,
    /// Where text messages go.
    pub mobile_phone: Option<PhoneNumber>,
    /// BCP 47; unset: the practice's.
    pub locale: Option<String>,
    /// Unset: the practice's.
    pub time_zone: Option<Tz>,
    /// Has a portal account, so that in-app messages can reach.
    pub portal_enabled: bool,
    /// Nothing is sent to an inactive patient.
    pub inactive: bool,
    /// For choosing audiences.
    pub tags: BTreeSet<String>,
}

impl Patient {
    /// Where `channel` would reach them, masked; empty where it has no address.
    #[must_use]
    pub fn address_hint(&self, channel: Channel) -> String {
        let hint = match channel {
            Channel::Email => self.email.as_ref().map(EmailAddress::mask),
            Channel::Sms => self.mobile_phone.as_ref().map(PhoneNumber::mask),
            Channel::InApp | Channel::Push => None,
        };
        hint.unwrap_or_default()
    }
}

/// Something kept here, with when it last changed and the mark by which two writers notice each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The thing.
    pub value: T,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
    /// Grows with each change; the etag of the contract.
    pub revision: i64,
}
