//! The one decision on whether a channel may be used, for sending, for the check just before each attempt, and for
//! previews. Rules are tried in the order of [`SkipReason`]; the first that refuses is reported.

use chrono::{DateTime, Utc};

use super::{Channel, ChannelSet, Kind, Patient, PracticeSettings, SkipReason, Textability};

/// What the ledger says about consent to a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsentState {
    /// Nothing is recorded.
    #[default]
    Unknown,
    /// Agreed.
    OptedIn,
    /// Opted out.
    OptedOut,
}

/// The gates of one channel: of the patient and of the address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// What the patient said.
    pub patient: ConsentState,
    /// What was said from the address, such as STOP.
    pub address: ConsentState,
    /// The address failed for good before.
    pub suppressed: bool,
}

/// Everything that a decision about one channel rests on.
#[derive(Debug)]
pub struct Grounds<'a> {
    /// The patient as they are now.
    pub patient: &'a Patient,
    /// The practice's settings as they are now.
    pub settings: &'a PracticeSettings,
    /// The kind of message.
    pub kind: Kind,
    /// The channels asked for; unset: those effective.
    pub requested: Option<ChannelSet>,
    /// The gates of the channel.
    pub gates: Gates,
    /// Regions that may be texted, such as `US`.
    pub sms_regions: &'a [String],
    /// Not before this.
    pub not_before: DateTime<Utc>,
    /// No attempt after this.
    pub expires_at: DateTime<Utc>,
    /// The moment of the decision.
    pub now: DateTime<Utc>,
}

/// What one rule found; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No objection.
    Passed = 1,
    /// No objection, but not yet.
    Held = 2,
    /// The channel is not used.
    Refused = 3,
}

/// One rule and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionStep {
    /// The rule, named by the reason that it gives.
    pub rule: SkipReason,
    /// What it found.
    pub outcome: Outcome,
    /// What it rested on; a sentence fit to show to staff, without addresses or text.
    pub detail: String,
}

/// The decision on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The channel.
    pub channel: Channel,
    /// False: neither asked for nor effective.
    pub considered: bool,
    /// Unset: it is used, if considered.
    pub skip_reason: Option<SkipReason>,
    /// When it may first go.
    pub attempt_time: DateTime<Utc>,
    /// The rules in the order tried, up to the one that refused.
    pub steps: Vec<DecisionStep>,
}

impl Decision {
    /// Whether the channel is used.
    #[must_use]
    pub const fn uses(&self) -> bool {
        self.considered && self.skip_reason.is_none()
    }
}

impl Grounds<'_> {
    /// The channels effective for the patient and kind, before consent.
    #[must_use]
    pub fn effective(&self) -> ChannelSet {
        self.settings.kind(self.kind).channels
    }

    /// Decides on `channel`.
    #[must_use]
    pub fn decide(&self, channel: Channel) -> Decision {
        let mut decision = Decision {
            channel,
            considered: self.requested.unwrap_or_else(|| self.effective()).contains(channel),
            skip_reason: None,
            attempt_time: self.not_before.max(self.now),
            steps: Vec::with_capacity(SkipReason::ALL.len()),
        };
        for &rule in SkipReason::ALL {
            let Some((outcome, detail)) = self.check(rule, channel) else { continue };
            decision.steps.push(DecisionStep { rule, outcome, detail });
            if outcome == Outcome::Refused {
                decision.skip_reason = Some(rule);
                break;
            }
        }
        decision
    }

    /// What `rule` says; nothing where it does not apply.
    fn check(&self, rule: SkipReason, channel: Channel) -> Option<(Outcome, String)> {
        match rule {
            SkipReason::PatientInactive => Some(self.active()),
            SkipReason::ChannelOffForKind => Some(self.on_for_kind(channel)),
            SkipReason::OptedOut => Some(self.not_opted_out(channel)),
            SkipReason::NoAddress => Some(self.address_known(channel)),
            SkipReason::AddressNotAllowed if channel == Channel::Sms => Some(self.address_allowed()),
            SkipReason::AddressSuppressed => Some(self.address_alive()),
            SkipReason::ChannelNotConfigured => Some(self.set_up(channel)),
            SkipReason::Expired => Some(self.in_time()),
            // No patient has made a choice, no practice demands an opt-in, and nothing shares an address with a broadcast.
            SkipReason::NotPreferred
            | SkipReason::NoConsent
            | SkipReason::DuplicateAddress
            | SkipReason::AddressNotAllowed => None,
        }
    }

    fn active(&self) -> (Outcome, String) {
        if self.patient.inactive {
            refused("The patient record is inactive.")
        } else {
            passed("The patient is active.")
        }
    }

    fn on_for_kind(&self, channel: Channel) -> (Outcome, String) {
        let effective = self.effective();
        let detail = format!("The practice's channels for this kind: {}.", effective.label());
        if effective.contains(channel) { (Outcome::Passed, detail) } else { (Outcome::Refused, detail) }
    }

    fn not_opted_out(&self, channel: Channel) -> (Outcome, String) {
        match (self.gates.patient, self.gates.address) {
            (_, ConsentState::OptedOut) => refused(format!("The {} address was opted out.", channel.label())),
            (ConsentState::OptedOut, _) => refused(format!("The patient opted out of {}.", channel.label())),
            _ => passed("No opt-out is on record."),
        }
    }

    fn address_known(&self, channel: Channel) -> (Outcome, String) {
        let (known, what) = match channel {
            Channel::InApp => (self.patient.portal_enabled, "portal account"),
            Channel::Email => (self.patient.email.is_some(), "email address"),
            Channel::Sms => (self.patient.mobile_phone.is_some(), "mobile number"),
            Channel::Push => (false, "registered device"),
        };
        if known { passed(format!("A {what} is known.")) } else { refused(format!("No {what} is known.")) }
    }

    fn address_allowed(&self) -> (Outcome, String) {
        match self.patient.mobile_phone.as_ref().map(|phone| phone.may_be_texted(self.sms_regions)) {
            Some(Textability::Allowed) | None => passed("The number may be texted."),
            Some(Textability::RegionNotAllowed) => refused(format!(
                "The number lies outside the regions that may be texted: {}.",
                self.sms_regions.join(", ")
            )),
            Some(Textability::TypeNotTextable) => refused("The number is of a type that cannot receive texts."),
        }
    }

    fn address_alive(&self) -> (Outcome, String) {
        if self.gates.suppressed {
            refused("The address failed for good before.")
        } else {
            passed("The address has not failed for good.")
        }
    }

    fn set_up(&self, channel: Channel) -> (Outcome, String) {
        if self.settings.is_set_up(channel) {
            passed(format!("{} is set up.", channel.label()))
        } else {
            refused(format!("The practice has not set up {}.", channel.label()))
        }
    }

    fn in_time(&self) -> (Outcome, String) {
        if self.expires_at <= self.now || self.expires_at <= self.not_before {
            return refused("It would come too late.");
        }
        if self.not_before > self.now {
            (Outcome::Held, "Scheduled for later.".into())
        } else {
            passed("It is in time.")
        }
    }
}

fn passed(detail: impl Into<String>) -> (Outcome, String) {
    (Outcome::Passed, detail.into())
}

fn refused(detail: impl Into<String>) -> (Outcome, String) {
    (Outcome::Refused, detail.into())
}
