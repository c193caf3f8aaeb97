//! ◆ Which channels a kind of message uses for a patient: the practice's default, what it offers, and what the patient chose
//! from that.

use std::collections::BTreeMap;

use super::{ChannelSet, Kind, PracticeSettings};

/// What a patient chose, kind by kind. A kind that is not in it follows the practice; no channel at all is a choice too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices(BTreeMap<Kind, ChannelSet>);

impl Choices {
    /// The choice for `kind`, as it was made.
    #[must_use]
    pub fn get(&self, kind: Kind) -> Option<ChannelSet> {
        self.0.get(&kind).copied()
    }

    /// Makes the choice for `kind`, or takes it back.
    pub fn set(&mut self, kind: Kind, channels: Option<ChannelSet>) {
        match channels {
            Some(channels) => drop(self.0.insert(kind, channels)),
            None => drop(self.0.remove(&kind)),
        }
    }

    /// The kinds that the patient chose for, in the order of the contract.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, ChannelSet)> {
        self.0.iter().map(|(kind, channels)| (*kind, *channels))
    }
}

/// The channels effective for a kind, by whose word that is. Consent comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effective {
    /// The patient made no choice, or nothing is left of it.
    ByPractice(ChannelSet),
    /// The patient's choice, which takes the place of the practice's channels, adding and leaving out.
    ByPatient(ChannelSet),
}

impl Effective {
    /// The channels.
    #[must_use]
    pub const fn channels(self) -> ChannelSet {
        match self {
            Self::ByPractice(channels) | Self::ByPatient(channels) => channels,
        }
    }
}

impl PracticeSettings {
    /// What patients may choose from for `kind`: what the practice says, or else every channel that it has set up.
    #[must_use]
    pub fn offered(&self, kind: Kind) -> ChannelSet {
        self.kind(kind).offered.unwrap_or_else(|| self.set_up())
    }

    /// What is effective for `kind`. A chosen channel that is offered no longer is passed over; a choice of which nothing is
    /// left counts as none, so that nobody is cut off by what the practice did.
    #[must_use]
    pub fn effective(&self, kind: Kind, choices: &Choices) -> Effective {
        let choice = choices.get(kind).and_then(|choice| {
            let left = choice.and(self.offered(kind));
            (choice.is_empty() || !left.is_empty()).then_some(left)
        });
        choice.map_or_else(|| Effective::ByPractice(self.kind(kind).channels), Effective::ByPatient)
    }
}
