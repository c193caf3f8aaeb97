//! What a notification is about, as the sender described it. `Debug` of these types shows the kind and nothing else.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{Kind, Phi};

/// The content; the arm decides the kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// Before a visit.
    AppointmentReminder(Appointment),
    /// Staff confirmed a visit.
    AppointmentConfirmed(Appointment),
    /// A visit is cancelled.
    AppointmentCancelled(Appointment),
    /// An invoice is issued, or its due date comes near.
    PaymentDue(Payment),
    /// A receipt.
    PaymentReceived(Payment),
    /// A payment was refused.
    PaymentFailed(Payment),
    /// A message waits in the portal.
    MessageReceived(MessageReceived),
    /// Documents to sign or read.
    DocumentShared(Documents),
    /// Account updates and security alerts.
    System(Notice),
    /// Content of a template that the practice made.
    Custom(Custom),
    /// A recipient's share of a broadcast, which brings its wording along.
    Announcement,
}

impl Payload {
    /// The kind that it makes a notification.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AppointmentReminder(_) => Kind::AppointmentReminder,
            Self::AppointmentConfirmed(_) => Kind::AppointmentConfirmed,
            Self::AppointmentCancelled(_) => Kind::AppointmentCancelled,
            Self::PaymentDue(_) => Kind::PaymentDue,
            Self::PaymentReceived(_) => Kind::PaymentReceived,
            Self::PaymentFailed(_) => Kind::PaymentFailed,
            Self::MessageReceived(_) => Kind::MessageReceived,
            Self::DocumentShared(_) => Kind::DocumentShared,
            Self::System(_) => Kind::System,
            Self::Custom(_) => Kind::Custom,
            Self::Announcement => Kind::Announcement,
        }
    }

    /// Where it leads, if the sender named a page.
    #[must_use]
    pub const fn link(&self) -> Option<&SecureLink> {
        match self {
            Self::AppointmentReminder(visit)
            | Self::AppointmentConfirmed(visit)
            | Self::AppointmentCancelled(visit) => visit.link.as_ref(),
            Self::PaymentDue(payment) | Self::PaymentReceived(payment) | Self::PaymentFailed(payment) => {
                payment.link.as_ref()
            }
            Self::MessageReceived(message) => message.link.as_ref(),
            Self::DocumentShared(documents) => Some(&documents.link),
            Self::System(_) | Self::Custom(_) | Self::Announcement => None,
        }
    }
}

/// A visit.
#[derive(Clone, PartialEq, Eq)]
pub struct Appointment {
    /// When it begins.
    pub start_time: DateTime<Utc>,
    /// How long it takes.
    pub duration: Option<TimeDelta>,
    /// The zone for showing times; unset: the practice's.
    pub time_zone: Option<Tz>,
    /// For example "Dr. Ray"; may be empty.
    pub provider_name: Phi<String>,
    /// May be empty.
    pub location_name: Phi<String>,
    /// May be empty.
    pub location_address: Phi<String>,
    /// Video visit, check-in or rescheduling page.
    pub link: Option<SecureLink>,
}

/// An invoice or payment.
#[derive(Clone, PartialEq, Eq)]
pub struct Payment {
    /// How much.
    pub amount: Money,
    /// May be empty.
    pub invoice_number: Phi<String>,
    /// When due, paid, or refused, according to the kind.
    pub payment_time: Option<DateTime<Utc>>,
    /// For example "Visa 4242"; may be empty.
    pub method_hint: Phi<String>,
    /// Where to pay, or to see the receipt.
    pub link: Option<SecureLink>,
}

/// An amount of money: `units` and `nanos` billionths, of one sign.
#[derive(Clone, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217, for example `USD`.
    pub currency_code: String,
    /// Whole units.
    pub units: i64,
    /// Billionths of a unit.
    pub nanos: i32,
}

/// A message that waits in the portal. Its text is never here.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageReceived {
    /// How the sender shall be named, for example "Acme Primary Care".
    pub sender_name: Phi<String>,
    /// The conversation, if it is kept here.
    pub conversation_id: Option<String>,
    /// For conversations kept elsewhere.
    pub link: Option<SecureLink>,
}

/// Documents to sign or read.
#[derive(Clone, PartialEq, Eq)]
pub struct Documents {
    /// What the patient is asked to do.
    pub action: DocumentAction,
    /// 1 or more.
    pub document_count: i32,
    /// May be fewer than there are documents.
    pub titles: Vec<Phi<String>>,
    /// Where they are.
    pub link: SecureLink,
    /// Until when.
    pub due_time: Option<DateTime<Utc>>,
}

/// What the patient is asked to do with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentAction {
    /// To sign it.
    Sign,
    /// To read it.
    Review,
}

/// An administrative notice.
#[derive(Clone, PartialEq, Eq)]
pub struct Notice {
    /// At most 120 characters.
    pub title: Phi<String>,
    /// Plain text of at most 2,000 characters.
    pub body: Phi<String>,
    /// A security alert.
    pub security: bool,
}

/// Content of a template that the practice made.
#[derive(Clone, PartialEq, Eq)]
pub struct Custom {
    /// The template.
    pub template_key: String,
    /// A value for each variable that it declares.
    pub variables: BTreeMap<String, Phi<String>>,
}

/// A page that shall only be reached through a short address made by this server.
#[derive(Clone, PartialEq, Eq)]
pub struct SecureLink {
    /// https.
    pub target_url: String,
    /// How long it opens; unset: 14 days.
    pub ttl: Option<TimeDelta>,
    /// How many times it opens; 0: no limit.
    pub max_opens: u32,
}

/// How soon a notification must go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Held while quiet hours last.
    #[default]
    Normal,
    /// Not held by quiet hours, and first in the queue.
    Urgent,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Payload").field(&self.kind()).finish()
    }
}

macro_rules! hide_in_debug {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([hidden])"))
            }
        }
    )*};
}

hide_in_debug!(Appointment Payment Money MessageReceived Documents Notice Custom SecureLink);
