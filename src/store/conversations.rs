//! Conversations. Each has an owner, a patient or a number, and its row is locked by whoever adds to it: so its messages have
//! one order, their ids rise with it, and what is unread or waited for is counted in the row. It is locked after the gates and
//! the ledger, and before the head of the feed; of two, that of a number before that of a patient.

mod after_hours;
mod attachments;
mod inbound;
mod labels;
mod link;
mod lists;
mod media;
mod removal;
mod rows;
mod send;
mod thread;

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};

use super::{
    GroundsRow, OpenDeliveries, Store, StoreError,
    entity::conversation,
    feed::{self, Change},
    stand_ins,
    tx::Tx,
};
use crate::domain::{Conversation, ConversationId, PatientId, PhoneNumber, Scope, TestContact};
pub use attachments::{NewAttachment, Uploaded};
pub(super) use attachments::{files_are_gone_on, sent_with_on};
pub use inbound::{Heard, InboundText};
pub use labels::Labels;
pub use lists::{ConversationPage, MessagePage};
pub use media::{MediaDue, MediaFetched};
pub(super) use removal::{erase_on, remove_on};
use rows::Owner;
pub use send::{NewMessage, NewText, Sent};
use thread::Thread;

/// Where a message belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Into this conversation.
    Conversation(ConversationId),
    /// Into that of this patient, which may begin with it.
    Patient(PatientId),
}

/// Whom a message to a target would reach.
#[derive(Clone, Debug)]
pub struct Correspondent {
    /// Unset: a number that is not linked to anybody.
    pub patient: Option<PatientId>,
    /// That number; unset also where whoever wrote from it cannot be written to, such as a short code.
    pub number: Option<PhoneNumber>,
    /// To which number of a service they wrote last; empty: to none.
    pub reached_at: String,
    /// What a decision to write to them rests on; unset when they are not in the directory, or have no number.
    pub grounds: Option<GroundsRow>,
    /// How much of the practice is open.
    pub open: OpenDeliveries,
}

impl Store {
    /// Whom a message to `target` would reach.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation or patient.
    pub async fn correspondent(&self, scope: &Scope, target: &Target) -> Result<Correspondent, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let open = feed::open_on(&self.within(scope), keys.practice()).await?;
        let (patient, row) = match target {
            Target::Patient(patient) => {
                let grounds = self.grounds(scope, patient).await?;
                let row = owned_on(&self.within(scope), scope, &Owner::Patient(patient.clone())).await?;
                let reached_at = row.map(|row| row.reached_at).unwrap_or_default();
                let patient = Some(patient.clone());
                return Ok(Correspondent { patient, number: None, reached_at, grounds: Some(grounds), open });
            }
            Target::Conversation(id) => {
                let row = found_on(&self.within(scope), scope, *id).await?;
                (rows::patient(&row)?, row)
            }
        };
        let number = if patient.is_none() { rows::number_on(&self.within(scope), &keys, &row).await? } else { None };
        let grounds = match (&patient, &number) {
            (Some(patient), _) => self.grounds_of(&self.within(scope), &keys, [patient.as_str().to_owned()]).await?,
            (None, Some(number)) => {
                let reader = stand_ins::of_contact(row.id, TestContact::Phone(number.clone()))?;
                let readers = BTreeMap::from([(reader.patient.id.as_str().to_owned(), reader)]);
                self.grounds_for(&self.within(scope), &keys, async { Ok(readers) }).await?
            }
            (None, None) => BTreeMap::new(),
        };
        let grounds = grounds.into_values().next();
        Ok(Correspondent { patient, number, reached_at: row.reached_at, grounds, open })
    }

    /// Reads a conversation; one that was given to a patient leads to theirs.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn conversation_get(&self, scope: &Scope, id: ConversationId) -> Result<Conversation, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let row = found_on(&self.within(scope), scope, id).await?;
        lists::shown_on(&self.within(scope), &keys, row).await
    }
}

/// The conversation of an owner, if there is one.
async fn owned_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    owner: &Owner,
) -> Result<Option<conversation::Model>, StoreError> {
    let of_practice = conversation::Column::PracticeId.eq(scope.practice().as_str());
    let rows = conversation::Entity::find().filter(of_practice).filter(conversation::Column::Owner.eq(owner.key()));
    Ok(rows.one(db).await?)
}

/// The conversation of that id, or the one that it leads to.
async fn found_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    id: ConversationId,
) -> Result<conversation::Model, StoreError> {
    let row = row_on(db, scope, id).await?;
    match row.moved_to {
        Some(next) => row_on(db, scope, ConversationId(next)).await,
        None => Ok(row),
    }
}

async fn row_on(
    db: &impl ConnectionTrait,
    scope: &Scope,
    id: ConversationId,
) -> Result<conversation::Model, StoreError> {
    let of_practice = conversation::Column::PracticeId.eq(scope.practice().as_str());
    let row = conversation::Entity::find_by_id(id.0).filter(of_practice).one(db).await?;
    row.ok_or(StoreError::NotFound("conversation"))
}

/// Staff said what a request to stop was: it need not be looked at any more. Yields the changes for the feed.
pub(super) async fn answer_stop_request_on(
    tx: &Tx,
    practice: &str,
    patient: &PatientId,
) -> Result<Vec<Change>, StoreError> {
    let owner = Owner::Patient(patient.clone());
    let Some(mut thread) = Thread::owned_on(tx, practice, &owner).await? else { return Ok(Vec::new()) };
    thread.change(|tally| tally.stop_requested = false)?;
    thread.save_on(tx).await
}
