//! One message over one channel: what is shown of it, and the reasons it can give.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Author, Channel, DeliveryId, DeliveryState, Kind, MessageId, NotificationId, PatientId, Provider, TraceContext,
};

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $number),+
        }

        impl $name {
            /// Every one, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number of the contract.
            #[must_use]
            pub const fn number(self) -> i16 {
                self as i16
            }

            /// The one with that number of the contract.
            #[must_use]
            pub fn from_number(number: i16) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.number() == number)
            }
        }
    };
}

pub(super) use numbered;

numbered! {
    /// Why a channel was not used; also the rules of the decision, tried in this order.
    SkipReason {
        /// The patient record is inactive.
        PatientInactive = 1,
        /// Off for this kind by the practice's default.
        ChannelOffForKind = 2,
        /// Left out by the patient's choice.
        NotPreferred = 3,
        /// The patient or the number opted out.
        OptedOut = 4,
        /// A recorded opt-in is demanded and there is none.
        NoConsent = 5,
        /// No address is known.
        NoAddress = 6,
        /// The number may not be texted by this deployment.
        AddressNotAllowed = 7,
        /// The address failed for good before.
        AddressSuppressed = 8,
        /// Another recipient of the broadcast has the address.
        DuplicateAddress = 9,
        /// The practice has not set the channel up.
        ChannelNotConfigured = 10,
        /// Too late.
        Expired = 11,
    }
}

numbered! {
    /// Why a delivery failed, in terms that staff can act on.
    FailureReason {
        /// The number or mailbox does not exist.
        InvalidAddress = 1,
        /// Phone off, mailbox full.
        Unreachable = 2,
        /// Carrier or mail host refused content or sender.
        Blocked = 3,
        /// The provider knows of an opt-out.
        OptedOutAtProvider = 4,
        /// Credentials or sender rejected.
        ProviderConfig = 5,
        /// The provider stayed unavailable.
        ProviderUnavailable = 6,
        /// Its time passed after an attempt in vain.
        Expired = 7,
        /// This server could not prepare or hand over the message.
        Internal = 8,
        /// Anything else.
        Other = 9,
    }
}

numbered! {
    /// How soon a delivery goes: a lower class goes before a higher one.
    Class {
        /// What the sender called urgent.
        Urgent = 0,
        /// The rest of what is sent to one patient.
        Normal = 1,
        /// A share of a broadcast.
        Bulk = 2,
    }
}

impl Class {
    /// The class of a notification to one patient.
    #[must_use]
    pub const fn of_one(urgent: bool) -> Self {
        if urgent { Self::Urgent } else { Self::Normal }
    }
}

impl FailureReason {
    /// A sentence fit to show to staff.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::InvalidAddress => "The number or mailbox does not exist. Ask the patient for a new one.",
            Self::Unreachable => "The phone or mailbox could not be reached. It may work later.",
            Self::Blocked => "The carrier or mail host refused the message.",
            Self::OptedOutAtProvider => "The patient has opted out at the provider.",
            Self::ProviderConfig => {
                "The provider rejected the practice's account or sender. An administrator must act."
            }
            Self::ProviderUnavailable => "The provider could not be reached until retries ran out.",
            Self::Expired => "It was tried in vain until it was too late to send.",
            Self::Internal => "The message could not be handed over. The operator must look.",
            Self::Other => "The provider refused the message; see the provider's code.",
        }
    }

    /// Whether the address itself is dead, so that nothing more goes there until it changes.
    #[must_use]
    pub const fn suppresses_address(self) -> bool {
        matches!(self, Self::InvalidAddress)
    }

    /// Whether it speaks against the address without proving it dead: when that is said a second time, it counts as
    /// [`Self::InvalidAddress`]. Relays say the same while their own list of mailboxes is out of order.
    #[must_use]
    pub fn doubts_address(self, code: &str) -> bool {
        self == Self::Unreachable && code == NO_SUCH_USER
    }
}

/// The code of a relay's no that says in words alone that there is no such mailbox (RFC 5321, 4.2.3: 550 says much else).
pub const NO_SUCH_USER: &str = "550 no such user";

/// A failed delivery, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In terms that staff can act on.
    pub reason: FailureReason,
    /// The provider's own code, such as `30003` or `550 5.1.1`.
    pub provider_code: String,
    /// When it became known.
    pub fail_time: DateTime<Utc>,
}

/// What a delivery belongs to; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A notification.
    Notification(NotificationId),
    /// A message of staff that went out by SMS.
    ConversationMessage(MessageId),
    /// A test of wording or of an account, which went to a contact of the practice itself and is shown in no list.
    Test,
}

/// One message over one channel, as the contract shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Unset when it went to a number that is linked to no patient.
    pub patient: Option<PatientId>,
    /// 1 when new, and one more with each change.
    pub revision: i64,
    /// Unset for a conversation message.
    pub kind: Option<Kind>,
    /// The channel.
    pub channel: Channel,
    /// Where it stands.
    pub state: DeliveryState,
    /// Set when skipped.
    pub skip_reason: Option<SkipReason>,
    /// Set when failed.
    pub failure: Option<Failure>,
    /// Masked address.
    pub address_hint: String,
    /// Who carried it.
    pub provider: Option<Provider>,
    /// The provider's id; may be empty.
    pub provider_message_id: String,
    /// How often handing over was tried.
    pub attempts: i32,
    /// When the server acts next.
    pub next_action_time: Option<DateTime<Utc>>,
    /// An earlier attempt may have arrived as well.
    pub possible_duplicate: bool,
    /// When it was made.
    pub create_time: DateTime<Utc>,
    /// When the provider accepted it.
    pub send_time: Option<DateTime<Utc>>,
    /// When receipt was confirmed.
    pub deliver_time: Option<DateTime<Utc>>,
    /// When it last changed.
    pub update_time: DateTime<Utc>,
    /// When the patient first read it or opened its link.
    pub open_time: Option<DateTime<Utc>>,
    /// Segments billed.
    pub sms_segments: i32,
    /// What it belongs to.
    pub source: Source,
    /// Set when part of a broadcast.
    pub broadcast: Option<Uuid>,
    /// As given by the sender.
    pub reference: String,
    /// The delivery that this one repeats.
    pub retry_of: Option<DeliveryId>,
    /// The delivery that repeats this one.
    pub retried_by: Option<DeliveryId>,
    /// Where the call that asked for it stands in its trace, if that is recorded. Nobody is shown it.
    pub trace: Option<TraceContext>,
}

/// One line of a delivery's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryEvent {
    /// When.
    pub event_time: DateTime<Utc>,
    /// State after the event.
    pub state: DeliveryState,
    /// The provider's word; may be empty.
    pub provider_status: String,
    /// The provider's code; may be empty.
    pub provider_code: String,
    /// A sentence fit to show to staff.
    pub detail: String,
    /// Who did it.
    pub actor: Author,
    /// The attempt it is about, from 1; 0: none.
    pub attempt: i32,
    /// The ledger position consulted when an attempt begins; 0: none.
    pub consent_position: i64,
}

/// A change of a delivery, as the feed keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryChange {
    /// As it is after the change.
    pub delivery: Delivery,
    /// Unset when the delivery is new.
    pub previous_state: Option<DeliveryState>,
}

/// Which deliveries are meant: all that are set must match, any value of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of these patients.
    pub patients: Vec<PatientId>,
    /// Over these channels.
    pub channels: Vec<Channel>,
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// In these states; in a watch, before or after the change.
    pub states: Vec<DeliveryState>,
    /// Of this notification.
    pub notification: Option<NotificationId>,
    /// Of this broadcast.
    pub broadcast: Option<Uuid>,
    /// With this reference; empty: any.
    pub reference: String,
}

impl DeliveryFilter {
    /// Whether a watch with this filter shows `change`: the state before or after it may match, so that a delivery is
    /// also seen leaving the filter.
    #[must_use]
    pub fn passes(&self, change: &DeliveryChange) -> bool {
        fn any<T: PartialEq>(wanted: &[T], value: Option<&T>) -> bool {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(value))
        }
        let delivery = &change.delivery;
        any(&self.patients, delivery.patient.as_ref())
            && any(&self.channels, Some(&delivery.channel))
            && any(&self.kinds, delivery.kind.as_ref())
            && (any(&self.states, Some(&delivery.state)) || any(&self.states, change.previous_state.as_ref()))
            && self.notification.is_none_or(|id| delivery.source == Source::Notification(id))
            && self.broadcast.is_none_or(|id| delivery.broadcast == Some(id))
            && (self.reference.is_empty() || self.reference == delivery.reference)
    }
}
