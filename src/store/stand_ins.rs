//! Whoever a delivery goes to that is for no patient: a contact of the practice itself, or a number that is not linked to anybody.
//! No directory has them, so that they are sealed beside the text.

use std::{borrow::Cow, collections::BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    StoreError,
    entity::{content, delivery},
    grounds::Recipient,
    image::TEST,
    notifications,
    vault::PracticeKeys,
};
use crate::domain::{Choices, Patient, Phi, Stored, TestContact};

/// Whether the delivery is for nobody in the directory.
pub(super) fn has(row: &delivery::Model) -> bool {
    row.source_kind == TEST || row.patient_id.is_empty()
}

/// By which id a delivery's reader is found among those of a claim: the patient's, or one that it has to itself.
pub(super) fn reader_id(row: &delivery::Model) -> Cow<'_, str> {
    if has(row) { Cow::Owned(own_id(row.id)) } else { Cow::Borrowed(&row.patient_id) }
}

/// Whoever the delivery of this text goes to, as others see a patient.
pub(super) fn recipient(keys: &PracticeKeys, text: &content::Model) -> Result<Recipient, StoreError> {
    of_contact(text.delivery_id, notifications::to_contact(keys, text)?)
}

/// Somebody with one address, no wishes, and no gate but the address's.
pub(super) fn of_contact(id: Uuid, contact: TestContact) -> Result<Recipient, StoreError> {
    let choices = Stored { value: Choices::default(), update_time: DateTime::<Utc>::UNIX_EPOCH, revision: 0 };
    Ok(Recipient { patient: stand_in(id, contact)?, choices, has_device: false })
}

/// No patient can have it before the delivery has, and none learns of it after that.
fn own_id(id: Uuid) -> String {
    format!("nobody:{}", id.simple())
}

pub(super) fn stand_in(id: Uuid, contact: TestContact) -> Result<Patient, StoreError> {
    let (email, mobile_phone) = match contact {
        TestContact::Mailbox(mailbox) => (Some(mailbox), None),
        TestContact::Phone(phone) => (None, Some(phone)),
    };
    Ok(Patient {
        id: own_id(id).parse().map_err(|_| StoreError::Corrupt("delivery"))?,
        first_name: Phi::default(),
        last_name: Phi::default(),
        email,
        mobile_phone,
        locale: None,
        time_zone: None,
        portal_enabled: false,
        inactive: false,
        tags: BTreeSet::new(),
    })
}
