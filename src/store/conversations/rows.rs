//! Conversations and messages between their rows and the domain. What patients say, and from which number, is sealed.

use std::collections::BTreeMap;

use sea_orm::ConnectionTrait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{
        ActorType, Attachment, Author, ConsentSource, Conversation, ConversationId, ConversationMessage,
        ConversationState, Delivery, Direction, MessageDelivery, MessageId, MessageRoute, PatientId, Phi, PhoneNumber,
        Tally,
    },
    store::{
        StoreError,
        entity::{conversation, conversation_message},
        subjects,
        vault::{PracticeKeys, Sealed},
    },
};

const SENDER: Sealed = Sealed { table: "conversation", column: "sender_ct" };
const BODY: Sealed = Sealed { table: "conversation_message", column: "body_ct" };

fn corrupt() -> StoreError {
    StoreError::Corrupt("conversation")
}

/// Whose a conversation is. A practice has at most one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Patient(PatientId),
    /// A phone number, by its blind index.
    Number(Vec<u8>),
    /// Whatever else may write, such as a short code, by its digest.
    Other(Vec<u8>),
    /// Nobody any more: it leads to another.
    Moved(Uuid),
}

impl Owner {
    /// As it stands in the row.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Patient(id) => subjects::of_patient(id.as_str()),
            Self::Number(index) => format!("{NUMBER}{}", hex(index)),
            Self::Other(digest) => format!("o:{}", hex(digest)),
            Self::Moved(id) => format!("m:{}", id.simple()),
        }
    }
}

const NUMBER: &str = "n:";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blind index of the number that owns a conversation, if one does.
pub(super) fn number_index(row: &conversation::Model) -> Option<Vec<u8>> {
    index_in(&row.owner)
}

fn index_in(owner: &str) -> Option<Vec<u8>> {
    let digits = owner.strip_prefix(NUMBER)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

/// Who writes from a number that is not linked to a patient.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sender {
    /// In E.164; empty: it is no phone number.
    pub(super) number: String,
    /// As the provider wrote it.
    pub(super) text: String,
}

pub(super) fn seal_sender(
    keys: &PracticeKeys,
    (owner, id): (&str, Uuid),
    sender: &Sender,
) -> Result<Vec<u8>, StoreError> {
    keys.seal_of(owner, SENDER, id.as_bytes(), sender)
}

fn sender(keys: &PracticeKeys, row: &conversation::Model) -> Result<Option<Sender>, StoreError> {
    row.sender_ct.as_ref().map(|sealed| keys.open(SENDER, row.id.as_bytes(), sealed)).transpose()
}

/// The number that a conversation was begun from; unset where it was no phone number, and where a patient began it.
pub(super) async fn number_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    row: &conversation::Model,
) -> Result<Option<PhoneNumber>, StoreError> {
    let keys = &subjects::opening(db, keys, row.sender_ct.as_deref()).await?;
    let number = sender(keys, row)?.map(|sender| sender.number).filter(|number| !number.is_empty());
    Ok(number.map(PhoneNumber::from_trusted))
}

/// What a message says, as it is sealed. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    pub(super) text: String,
}

pub(super) fn seal_body(keys: &PracticeKeys, (owner, id): (&str, Uuid), body: &Body) -> Result<Vec<u8>, StoreError> {
    keys.seal_of(owner, BODY, id.as_bytes(), body)
}

/// Whose a conversation is; unset: nobody's.
pub(super) fn patient(row: &conversation::Model) -> Result<Option<PatientId>, StoreError> {
    if row.patient_id.is_empty() { Ok(None) } else { row.patient_id.parse().map(Some).map_err(|_| corrupt()) }
}

/// What is counted of a conversation.
pub(super) fn tally(row: &conversation::Model) -> Result<Tally, StoreError> {
    Ok(Tally {
        inbound: row.inbound_count,
        outbound: row.outbound_count,
        staff_unread: row.staff_unread,
        patient_unread: row.patient_unread,
        waiting_since: row.waiting_since,
        state: ConversationState::from_number(row.state).ok_or_else(corrupt)?,
        stop_requested: row.stop_requested,
    })
}

/// A conversation as it is shown.
pub(super) fn to_conversation(
    keys: &PracticeKeys,
    row: &conversation::Model,
    candidates: Vec<PatientId>,
) -> Result<Conversation, StoreError> {
    let patient = patient(row)?;
    // Staff must recognise a number that is nobody's; that of a patient they know.
    let phone_hint = match &patient {
        None => sender(keys, row)?.map(|sender| sender.text).unwrap_or_default(),
        Some(_) => row.phone_hint.clone(),
    };
    Ok(Conversation {
        id: ConversationId(row.id),
        patient,
        candidates,
        phone_hint: Phi::new(phone_hint),
        state: ConversationState::from_number(row.state).ok_or_else(corrupt)?,
        assignee: row.assignee_id.clone(),
        staff_unread: row.staff_unread,
        patient_unread: row.patient_unread,
        last_message_time: row.last_time,
        waiting_time: row.waiting_since,
        staff_read: row.staff_read_id.map(MessageId),
        patient_read: row.patient_read_id.map(MessageId),
        create_time: row.create_time,
        labels: row.labels,
    })
}

/// A message as it is shown, with its files; `deliveries` has its own, if it has one.
pub(super) fn to_message(
    keys: &PracticeKeys,
    row: &conversation_message::Model,
    deliveries: &BTreeMap<Uuid, Delivery>,
    attachments: Vec<Attachment>,
) -> Result<ConversationMessage, StoreError> {
    let corrupt = || StoreError::Corrupt("conversation_message");
    // Removed when its time was over.
    let body =
        if row.body_ct.is_empty() { None } else { Some(keys.open::<Body>(BODY, row.id.as_bytes(), &row.body_ct)?) };
    let delivery = row.delivery_id.and_then(|id| deliveries.get(&id));
    Ok(ConversationMessage {
        id: MessageId(row.id),
        conversation: ConversationId(row.conversation_id),
        direction: Direction::from_number(row.direction).ok_or_else(corrupt)?,
        route: MessageRoute::from_number(row.route).ok_or_else(corrupt)?,
        body: Phi::new(body.map(|body| body.text).unwrap_or_default()),
        attachments,
        author: Author {
            kind: ActorType::from_number(row.author_type).ok_or_else(corrupt)?,
            id: row.author_id.clone(),
            display_name: row.author_name.clone(),
        },
        create_time: row.create_time,
        delivery: delivery.map(|it| MessageDelivery { id: it.id, state: it.state, failure: it.failure.clone() }),
        consent_source: row.consent_source.and_then(ConsentSource::from_number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_a_key_of_its_own_and_that_of_a_number_leads_back() {
        let index = vec![0, 1, 0xab, 0xff];
        let owners = [Owner::Number(index.clone()), Owner::Other(index.clone()), Owner::Moved(Uuid::nil())];
        let keys: Vec<_> = owners.iter().map(Owner::key).collect();
        assert_eq!(keys, ["n:0001abff", "o:0001abff", "m:00000000000000000000000000000000"]);
        assert_eq!(keys.iter().map(|key| index_in(key)).collect::<Vec<_>>(), [Some(index), None, None]);
    }
}
