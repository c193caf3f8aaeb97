//! Channels, kinds of notification, and the channels that each kind uses unless a practice says otherwise.

/// A way to reach a patient; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Shown in the patient portal.
    InApp = 1,
    /// Mail.
    Email = 2,
    /// Text message.
    Sms = 3,
    /// Push to a registered device.
    Push = 4,
}

impl Channel {
    /// Every channel, in the order of the contract.
    pub const ALL: [Self; 4] = [Self::InApp, Self::Email, Self::Sms, Self::Push];

    /// The channel with that number of the contract.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::InApp),
            2 => Some(Self::Email),
            3 => Some(Self::Sms),
            4 => Some(Self::Push),
            _ => None,
        }
    }

    /// The number of the contract.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Whether a message over it makes a phone ring, so that it waits while hours are quiet.
    #[must_use]
    pub const fn rings(self) -> bool {
        match self {
            Self::Sms | Self::Push => true,
            Self::InApp | Self::Email => false,
        }
    }

    /// The name shown to staff.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::InApp => "In-app",
            Self::Email => "Email",
            Self::Sms => "SMS",
            Self::Push => "Push",
        }
    }
}

/// A set of channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChannelSet(u8);

impl ChannelSet {
    /// No channel.
    pub const NONE: Self = Self(0);
    /// Every channel.
    pub const ALL: Self = Self(0b1_1110);

    const fn bit(channel: Channel) -> u8 {
        1 << channel as u8
    }

    /// Whether `channel` is in it.
    #[must_use]
    pub const fn contains(self, channel: Channel) -> bool {
        self.0 & Self::bit(channel) != 0
    }

    /// This set and `channel`.
    #[must_use]
    pub const fn with(self, channel: Channel) -> Self {
        Self(self.0 | Self::bit(channel))
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub const fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its channels, in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Channel> {
        Channel::ALL.into_iter().filter(move |channel| self.contains(*channel))
    }

    /// The names shown to staff, or "none".
    #[must_use]
    pub fn label(self) -> String {
        if self.is_empty() { "none".into() } else { self.iter().map(Channel::label).collect::<Vec<_>>().join(", ") }
    }
}

impl FromIterator<Channel> for ChannelSet {
    fn from_iter<I: IntoIterator<Item = Channel>>(channels: I) -> Self {
        channels.into_iter().fold(Self::NONE, Self::with)
    }
}

/// What a notification is about; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Before a visit.
    AppointmentReminder = 1,
    /// Staff confirmed a visit.
    AppointmentConfirmed = 2,
    /// A visit is cancelled.
    AppointmentCancelled = 3,
    /// An invoice is issued, or its due date comes near.
    PaymentDue = 4,
    /// A receipt.
    PaymentReceived = 5,
    /// A payment was refused.
    PaymentFailed = 6,
    /// A message waits in the portal.
    MessageReceived = 7,
    /// Documents to sign or read.
    DocumentShared = 8,
    /// Account updates and security alerts.
    System = 9,
    /// One recipient's share of a broadcast.
    Announcement = 10,
    /// Rendered from a template that the practice made.
    Custom = 11,
}

impl Kind {
    /// Every kind, in the order of the contract.
    pub const ALL: [Self; 11] = [
        Self::AppointmentReminder,
        Self::AppointmentConfirmed,
        Self::AppointmentCancelled,
        Self::PaymentDue,
        Self::PaymentReceived,
        Self::PaymentFailed,
        Self::MessageReceived,
        Self::DocumentShared,
        Self::System,
        Self::Announcement,
        Self::Custom,
    ];

    /// The kind with that number of the contract.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The number of the contract.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The kind whose notices lose their point when one of this kind is accepted for the same patient and reference.
    #[must_use]
    pub const fn voids(self) -> Option<Self> {
        match self {
            Self::AppointmentCancelled => Some(Self::AppointmentReminder),
            Self::PaymentReceived => Some(Self::PaymentDue),
            Self::AppointmentReminder
            | Self::AppointmentConfirmed
            | Self::PaymentDue
            | Self::PaymentFailed
            | Self::MessageReceived
            | Self::DocumentShared
            | Self::System
            | Self::Announcement
            | Self::Custom => None,
        }
    }

    /// The channels in use unless the practice or the patient says otherwise (mission 2.1). An announcement has none:
    /// each broadcast names its own.
    #[must_use]
    pub fn default_channels(self) -> ChannelSet {
        match self {
            Self::AppointmentReminder | Self::DocumentShared => ChannelSet::from_iter([Channel::Email, Channel::Sms]),
            Self::MessageReceived => ChannelSet::from_iter([Channel::InApp, Channel::Email]),
            Self::System => ChannelSet::from_iter([Channel::InApp]),
            Self::AppointmentConfirmed
            | Self::AppointmentCancelled
            | Self::PaymentDue
            | Self::PaymentReceived
            | Self::PaymentFailed
            | Self::Custom => ChannelSet::from_iter([Channel::Email]),
            Self::Announcement => ChannelSet::NONE,
        }
    }
}
