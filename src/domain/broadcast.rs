//! ◆ Broadcasts: one announcement to many. Whom it is for, where it stands, and what is decided about one recipient's share, in
//! which the recipients before them count: nobody's address is written to twice.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Author, BroadcastId, Channel, ChannelSet, Decision, DeliveryState, Expiry, Grounds, PatientId, Phi};

/// Which patients. Only active ones are ever meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// These.
    Patients(BTreeSet<PatientId>),
    /// Those with any of these tags.
    Tags(BTreeSet<String>),
    /// All.
    All,
}

/// Where a broadcast stands; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BroadcastState {
    /// Waits for its time.
    Scheduled = 1,
    /// Deliveries are being made or are pending.
    Running = 2,
    /// Nothing is pending any more.
    Completed = 3,
    /// Stopped.
    Cancelled = 4,
}

impl BroadcastState {
    /// The state with that number of the contract.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            1 => Some(Self::Scheduled),
            2 => Some(Self::Running),
            3 => Some(Self::Completed),
            4 => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// The number of the contract.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// Whether it stays as it is.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled)
    }
}

/// How many deliveries are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts([i64; DeliveryState::ALL.len()]);

impl StateCounts {
    /// These, in the order of the states.
    #[must_use]
    pub const fn new(counts: [i64; DeliveryState::ALL.len()]) -> Self {
        Self(counts)
    }

    /// How many are in `state`.
    #[must_use]
    pub fn of(&self, state: DeliveryState) -> i64 {
        self.0.get(Self::place(state)).copied().unwrap_or_default()
    }

    /// Adds `count` to those in `state`.
    pub fn add(&mut self, state: DeliveryState, count: i64) {
        if let Some(known) = self.0.get_mut(Self::place(state)) {
            *known += count;
        }
    }

    /// How many there are in all.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// Whether it counts nothing.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    fn place(state: DeliveryState) -> usize {
        DeliveryState::ALL.iter().position(|known| *known == state).unwrap_or_default()
    }
}

/// What a broadcast says. It may hold tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// For staff.
    pub title: Phi<String>,
    /// Empty if it goes by text message alone.
    pub subject: Phi<String>,
    /// Plain text; blank lines part paragraphs.
    pub body: Phi<String>,
}

/// A broadcast as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broadcast {
    /// Its id.
    pub id: BroadcastId,
    /// What it says.
    pub announcement: Announcement,
    /// To whom.
    pub audience: Audience,
    /// Each is considered for each recipient.
    pub channels: ChannelSet,
    /// Where it stands.
    pub state: BroadcastState,
    /// Deliveries, not patients. From its start on they are those of all recipients over all channels, and what was sent again;
    /// until the delivery of a recipient is made, it counts as pending.
    pub counts: StateCounts,
    /// Patients in the audience; 0 until it started.
    pub recipients: i64,
    /// When it was accepted.
    pub create_time: DateTime<Utc>,
    /// Not before; unset: at once.
    pub schedule_time: Option<DateTime<Utc>>,
    /// When its audience was settled.
    pub start_time: Option<DateTime<Utc>>,
    /// When nothing was pending any more.
    pub complete_time: Option<DateTime<Utc>>,
    /// Who asked for it.
    pub creator: Author,
}

/// What is decided about one recipient.
#[derive(Clone, Debug)]
pub struct Share {
    /// One per channel, considered or not.
    pub decisions: Vec<Decision>,
    /// No attempt after.
    pub expire_time: DateTime<Utc>,
}

/// Decides on one recipient after the other. `A` stands for an address.
#[derive(Clone, Debug)]
pub struct Planner<A> {
    channels: ChannelSet,
    due: DateTime<Utc>,
    taken: BTreeSet<(Channel, A)>,
}

impl<A: Ord + Clone> Planner<A> {
    /// For a broadcast over `channels` that is due at `due`, which has written to the addresses `taken` before.
    #[must_use]
    pub const fn new(channels: ChannelSet, due: DateTime<Utc>, taken: BTreeSet<(Channel, A)>) -> Self {
        Self { channels, due, taken }
    }

    /// Decides on the next recipient. Whatever `grounds` asks for is replaced by what the broadcast wants. An address counts as
    /// taken by whoever is the first to be written to there, not by somebody who does not want it.
    pub fn share(&mut self, grounds: &Grounds, address: impl Fn(Channel) -> Option<A>) -> Share {
        let asked = Grounds { requested: Some(self.channels), urgent: false, not_before: self.due, ..*grounds };
        let expire_time = self.expire_time(&asked);
        let asked = Grounds { expires_at: expire_time, ..asked };
        let mut decide = |channel| {
            let decision = asked.decide(channel);
            match address(channel) {
                Some(address) if decision.uses() && !self.taken.insert((channel, address.clone())) => {
                    Grounds { duplicates: ChannelSet::NONE.with(channel), ..asked }.decide(channel)
                }
                _ => decision,
            }
        };
        let decisions = Channel::ALL.into_iter().map(&mut decide).collect();
        Share { decisions, expire_time }
    }

    /// Its time begins once all of it might have gone if the broadcast had begun when it was due: what an outage holds up for too
    /// long is too late.
    fn expire_time(&self, asked: &Grounds) -> DateTime<Utc> {
        let then = Grounds { now: self.due, ..*asked };
        let first = self.channels.iter().map(|channel| then.first_time(channel)).max();
        Expiry { asked: None, visit_time: None, share: true }.of(first.unwrap_or(self.due))
    }
}

#[cfg(test)]
mod tests;
