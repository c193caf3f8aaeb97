//! ◆ Talking with patients, by text and in the portal: which conversation a text belongs to, and what a message does to its
//! conversation. One conversation per patient; a number that is nobody's, or several patients', has one of its own until staff
//! say whose it is.

mod tally;

use chrono::{DateTime, Utc};

use super::{
    ActorType, Attachment, Author, ConsentSource, ConversationId, DeliveryId, DeliveryState, Failure, MessageId,
    PatientId, Phi, delivery::numbered,
};
pub use tally::{Said, Tally};

numbered! {
    /// How a message travels.
    MessageRoute {
        /// As a text message.
        Sms = 1,
        /// In the portal.
        Portal = 2,
    }
}

numbered! {
    /// Which way a message went.
    Direction {
        /// From the patient.
        Inbound = 1,
        /// To the patient.
        Outbound = 2,
    }
}

numbered! {
    /// A mark of staff for sorting work.
    ConversationState {
        /// There is something to do.
        Open = 1,
        /// There is not.
        Closed = 2,
    }
}

numbered! {
    /// Common views of the conversations of a practice.
    Subset {
        /// With messages that the reader has not read.
        Unread = 1,
        /// Of nobody in particular.
        Unassigned = 2,
        /// In which the patient waits for an answer.
        Waiting = 3,
        /// Of a number that is not linked to a patient.
        Unlinked = 4,
        /// In which a text was taken for a request to stop, and staff have recorded no consent since.
        StopRequested = 5,
    }
}

/// From which side a conversation is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The practice's.
    Staff,
    /// The patient's, or the portal's for the patient.
    Patient,
}

impl Side {
    /// The side of whoever acts.
    #[must_use]
    pub fn of(author: &Author) -> Self {
        if author.kind == ActorType::Patient { Self::Patient } else { Self::Staff }
    }
}

/// Whose conversation a text belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// This patient's.
    Patient(PatientId),
    /// That of the number itself.
    Sender,
}

impl Home {
    /// The home of a text from a number that `holders` have at this moment. What was said from it before does not matter: numbers
    /// change hands. Nobody is chosen among several: that is for staff to say.
    #[must_use]
    pub fn of(holders: &[PatientId]) -> Self {
        match holders {
            [only] => Self::Patient(only.clone()),
            _ => Self::Sender,
        }
    }
}

/// A conversation, as both sides see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Unset while the number is not linked.
    pub patient: Option<PatientId>,
    /// While it is not: those who have the number, the one last written to by text first.
    pub candidates: Vec<PatientId>,
    /// The masked number, or the whole one while it is not linked.
    pub phone_hint: Phi<String>,
    /// The mark of staff.
    pub state: ConversationState,
    /// The subject of a member of staff; empty: nobody.
    pub assignee: String,
    /// Messages that staff have not read.
    pub staff_unread: i64,
    /// Messages in the portal that the patient has not read.
    pub patient_unread: i64,
    /// When the last message came or went; without one, when the conversation began.
    pub last_message_time: DateTime<Utc>,
    /// Since when the patient waits for an answer.
    pub waiting_time: Option<DateTime<Utc>>,
    /// How far staff have read.
    pub staff_read: Option<MessageId>,
    /// How far the patient has read.
    pub patient_read: Option<MessageId>,
    /// When it began.
    pub create_time: DateTime<Utc>,
    /// Counts the changes of state and assignee.
    pub labels: i64,
}

impl Conversation {
    /// How many messages the reader has not read.
    #[must_use]
    pub const fn unread(&self, side: Side) -> i64 {
        match side {
            Side::Staff => self.staff_unread,
            Side::Patient => self.patient_unread,
        }
    }
}

/// Where the text of a message stands that went to a patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageDelivery {
    /// The delivery; after a retry the latest.
    pub id: DeliveryId,
    /// Its state.
    pub state: DeliveryState,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// A message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationMessage {
    /// Its id; ids rise with time.
    pub id: MessageId,
    /// Where it is.
    pub conversation: ConversationId,
    /// Which way it went.
    pub direction: Direction,
    /// How it travelled.
    pub route: MessageRoute,
    /// What it says; may be empty.
    pub body: Phi<String>,
    /// What came with it.
    pub attachments: Vec<Attachment>,
    /// Who wrote it.
    pub author: Author,
    /// When.
    pub create_time: DateTime<Utc>,
    /// Set when it went out by text.
    pub delivery: Option<MessageDelivery>,
    /// Set when it changed consent.
    pub consent_source: Option<ConsentSource>,
}

/// Which conversations are meant: all that are set must match, any value of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConversationFilter {
    /// In these states.
    pub states: Vec<ConversationState>,
    /// Of these members of staff.
    pub assignees: Vec<String>,
    /// Of this patient.
    pub patient: Option<PatientId>,
    /// In this view.
    pub subset: Option<Subset>,
}

/// What is new of a message in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newness {
    /// It was said there.
    Said,
    /// It was said in another, which was given to this one's patient, and brought along what had become of it.
    MovedHere,
    /// It was there before: what came with it stands elsewhere now.
    Changed,
}

/// A change of a conversation, as the feed keeps it. Whoever watches reads the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationNews {
    /// Which changed.
    pub conversation: ConversationId,
    /// Whose it is.
    pub patient: Option<PatientId>,
    /// The message that is new in it, or of which something is.
    pub message: Option<(MessageId, Newness)>,
    /// It was given to a patient: what it held is in this one from now on.
    pub moved_to: Option<ConversationId>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_text_goes_to_the_only_patient_who_has_the_number_and_to_nobody_else() {
        let id = |id: &str| id.parse::<PatientId>().unwrap();
        assert_eq!(Home::of(&[]), Home::Sender);
        assert_eq!(Home::of(&[id("ann")]), Home::Patient(id("ann")));
        assert_eq!(Home::of(&[id("ann"), id("ben")]), Home::Sender);
    }
}
