//! The one decision on whether a channel may be used, for sending, for the check just before each attempt, and for
//! previews. Rules are tried in the order of [`SkipReason`]; the first that refuses is reported.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{
    Channel, ChannelSet, Choices, Effective, FailureReason, Kind, Patient, PracticeSettings, SkipReason, Textability,
};

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
    /// Why the address failed for good before; unset: it did not, or was entered anew since.
    pub suppressed: Option<FailureReason>,
}

impl Gates {
    /// Whether the patient agrees to the channel, all in all: an opt-out by either counts, an opt-in only if it is the
    /// patient's own, since an address can pass to somebody else.
    #[must_use]
    pub fn consent(self) -> ConsentState {
        if self.address == ConsentState::OptedOut { ConsentState::OptedOut } else { self.patient }
    }
}

/// Everything that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// The patient as they are now.
    pub patient: &'a Patient,
    /// What the patient chose.
    pub choices: &'a Choices,
    /// Where the practice's clock is: the patient's, unless theirs is known.
    pub practice_zone: Tz,
    /// The practice's settings as they are now.
    pub settings: &'a PracticeSettings,
    /// Whether the patient registered a device for push.
    pub has_device: bool,
    /// The kind of message; unset: what staff write in a conversation, for which neither the practice nor the patient chose
    /// channels: whoever writes chooses, and names it.
    pub kind: Option<Kind>,
    /// The channels asked for; unset: those effective.
    pub requested: Option<ChannelSet>,
    /// It is not held while hours are quiet.
    pub urgent: bool,
    /// It is a test, which goes to a contact of the practice itself: what counts are its address and the account alone.
    pub test: bool,
    /// The gates of the channels; one that is not in it is open.
    pub gates: &'a BTreeMap<Channel, Gates>,
    /// The channels on which another recipient of the same broadcast has the address.
    pub duplicates: ChannelSet,
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
    /// The channels effective for the patient and kind, before consent. An announcement has no default of the practice: the
    /// channels that its broadcast names take that place.
    #[must_use]
    pub fn effective(&self) -> Effective {
        let named = Effective::ByPractice(self.requested.unwrap_or_default());
        let Some(kind) = self.kind else { return named };
        match self.settings.effective(kind, self.choices) {
            Effective::ByPractice(_) if kind == Kind::Announcement => named,
            effective => effective,
        }
    }

    /// The channels that are thought of at all: those asked for, or else those effective.
    #[must_use]
    pub fn considered(&self) -> ChannelSet {
        self.requested.unwrap_or_else(|| self.effective().channels())
    }

    /// When it may first go over `channel`, if it may: when it is due, or when quiet hours are over.
    #[must_use]
    pub fn first_time(&self, channel: Channel) -> DateTime<Utc> {
        let due = self.not_before.max(self.now);
        match self.settings.quiet_hours {
            Some(hours) if channel.rings() && !self.urgent => hours.after(due, self.zone()),
            _ => due,
        }
    }

    /// Where the patient's clock is.
    fn zone(&self) -> Tz {
        self.patient.time_zone.unwrap_or(self.practice_zone)
    }

    /// Decides on `channel`.
    #[must_use]
    pub fn decide(&self, channel: Channel) -> Decision {
        let mut decision = Decision {
            channel,
            considered: self.considered().contains(channel),
            skip_reason: None,
            attempt_time: self.first_time(channel),
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
            // Rules for patients: staff have neither a record nor a choice, and asked for it themselves.
            SkipReason::PatientInactive
            | SkipReason::ChannelOffForKind
            | SkipReason::NotPreferred
            | SkipReason::NoConsent
                if self.test =>
            {
                None
            }
            SkipReason::ChannelOffForKind | SkipReason::NotPreferred if self.kind.is_none() => None,
            SkipReason::PatientInactive => Some(self.active()),
            SkipReason::ChannelOffForKind => self.on_for_kind(channel),
            SkipReason::NotPreferred => self.preferred(channel),
            SkipReason::OptedOut => Some(self.not_opted_out(channel)),
            SkipReason::NoConsent => self.opted_in(channel),
            SkipReason::NoAddress => Some(self.address_known(channel)),
            SkipReason::AddressNotAllowed => (channel == Channel::Sms).then(|| self.address_allowed()),
            SkipReason::AddressSuppressed => Some(self.address_alive(channel)),
            SkipReason::DuplicateAddress => self
                .duplicates
                .contains(channel)
                .then(|| refused("Another recipient of the same broadcast has this address.")),
            SkipReason::ChannelNotConfigured => Some(self.set_up(channel)),
            SkipReason::Expired => Some(self.in_time(channel)),
        }
    }

    fn gates(&self, channel: Channel) -> Gates {
        self.gates.get(&channel).copied().unwrap_or_default()
    }

    fn active(&self) -> (Outcome, String) {
        if self.patient.inactive {
            refused("The patient record is inactive.")
        } else {
            passed("The patient is active.")
        }
    }

    /// Where the practice's word counts.
    fn on_for_kind(&self, channel: Channel) -> Option<(Outcome, String)> {
        let Effective::ByPractice(channels) = self.effective() else { return None };
        let whose = if self.kind == Some(Kind::Announcement) {
            "The broadcast's channels"
        } else {
            "The practice's channels for this kind"
        };
        Some(unless(channels.contains(channel), format!("{whose}: {}.", channels.label())))
    }

    /// Where the patient's word counts.
    fn preferred(&self, channel: Channel) -> Option<(Outcome, String)> {
        let Effective::ByPatient(channels) = self.effective() else { return None };
        Some(unless(channels.contains(channel), format!("Chosen by the patient: {}.", channels.label())))
    }

    fn not_opted_out(&self, channel: Channel) -> (Outcome, String) {
        let gates = self.gates(channel);
        match (gates.patient, gates.address) {
            (_, ConsentState::OptedOut) => refused(format!("The {} address was opted out.", channel.label())),
            (ConsentState::OptedOut, _) => refused(format!("The patient opted out of {}.", channel.label())),
            _ => passed("No opt-out is on record."),
        }
    }

    /// Where the practice demands an opt-in.
    fn opted_in(&self, channel: Channel) -> Option<(Outcome, String)> {
        self.settings.opt_in_channels.contains(channel).then(|| match self.gates(channel).consent() {
            ConsentState::OptedIn => passed(format!("The patient opted in to {}.", channel.label())),
            _ => refused(format!("The practice demands an opt-in to {}, and none is on record.", channel.label())),
        })
    }

    fn address_known(&self, channel: Channel) -> (Outcome, String) {
        let (known, what) = match channel {
            Channel::InApp => (self.patient.portal_enabled, "portal account"),
            Channel::Email => (self.patient.email.is_some(), "email address"),
            Channel::Sms => (self.patient.mobile_phone.is_some(), "mobile number"),
            Channel::Push => (self.has_device, "registered device"),
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

    fn address_alive(&self, channel: Channel) -> (Outcome, String) {
        match self.gates(channel).suppressed {
            Some(reason) => refused(format!("The address failed for good before. {}", reason.message())),
            None => passed("The address has not failed for good."),
        }
    }

    fn set_up(&self, channel: Channel) -> (Outcome, String) {
        if self.settings.is_set_up(channel) {
            passed(format!("{} is set up.", channel.label()))
        } else {
            refused(format!("The practice has not set up {}.", channel.label()))
        }
    }

    fn in_time(&self, channel: Channel) -> (Outcome, String) {
        let (due, first) = (self.not_before.max(self.now), self.first_time(channel));
        let quiet = || {
            let end = first.with_timezone(&self.zone()).format("%H:%M");
            format!("Quiet hours last until {end} ({}).", self.zone().name())
        };
        if self.expires_at <= due {
            refused("It would come too late.")
        } else if self.expires_at <= first {
            refused(format!("It would come too late. {}", quiet()))
        } else if first > due {
            (Outcome::Held, quiet())
        } else if due > self.now {
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

/// Refuses unless `good`, on the same evidence.
fn unless(good: bool, detail: String) -> (Outcome, String) {
    (if good { Outcome::Passed } else { Outcome::Refused }, detail)
}

#[cfg(test)]
mod tests;
