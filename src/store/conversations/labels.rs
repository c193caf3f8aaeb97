//! What people do to a conversation without saying anything in it: who takes care of it, whether it is done, how far it is read.

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{lists, rows, thread::Thread};
use crate::{
    domain::{Conversation, ConversationId, ConversationState, MessageId, Scope, Side},
    store::{Store, StoreError, entity::conversation_message, feed, tx::Tx},
};

/// Labels of staff to be changed; what is unset stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The subject of whoever takes care of it; empty: nobody.
    pub assignee: Option<String>,
    /// The mark.
    pub state: Option<ConversationState>,
}

impl Store {
    /// Changes labels. `expected`, if given, must be how often they were changed before.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation; Conflict.
    pub async fn conversation_label(
        &self,
        scope: &Scope,
        id: ConversationId,
        expected: Option<i64>,
        labels: Labels,
    ) -> Result<Conversation, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let mut thread = Thread::lock_on(tx, &scope, id).await?;
                let current = thread.row.labels;
                if expected.is_some_and(|expected| expected != current) {
                    return Err(StoreError::Conflict { current });
                }
                if let Some(assignee) = labels.assignee.filter(|assignee| *assignee != thread.row.assignee_id) {
                    thread.row.assignee_id = assignee;
                    thread.row.labels += 1;
                }
                if let Some(state) = labels.state {
                    thread.label(state);
                }
                if thread.row.labels != current {
                    note(tx, &scope, &thread)?;
                }
                let changes = thread.save_on(tx).await?;
                feed::append_on(tx, changes).await?;
                lists::shown_on(&tx.db, &keys, thread.row).await
            })
        })
        .await
    }

    /// Moves the mark of a side forward to a message; one that lies before it changes nothing.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation, or it no such message.
    pub async fn conversation_read(
        &self,
        scope: &Scope,
        id: ConversationId,
        message: MessageId,
    ) -> Result<Conversation, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let mut thread = Thread::lock_on(tx, &scope, id).await?;
                let side = Side::of(scope.author());
                let rank = rank_on(tx, &thread, message, side).await?;
                let mark = match side {
                    Side::Staff => &mut thread.row.staff_read_id,
                    Side::Patient => &mut thread.row.patient_read_id,
                };
                // At the mark itself: what was given to this conversation since, with earlier times, is read by it.
                if mark.is_none_or(|mark| mark <= message.0) {
                    let moved = mark.replace(message.0) != Some(message.0);
                    if moved {
                        note(tx, &scope, &thread)?;
                    }
                    thread.change(|tally| tally.read(side, rank))?;
                }
                let changes = thread.save_on(tx).await?;
                feed::append_on(tx, changes).await?;
                lists::shown_on(&tx.db, &keys, thread.row).await
            })
        })
        .await
    }
}

/// Puts on the trail what the caller did to it.
fn note(tx: &Tx, scope: &Scope, thread: &Thread) -> Result<(), StoreError> {
    let id = ConversationId(thread.row.id);
    tx.note(scope, rows::patient(&thread.row)?.as_ref(), format_args!("conversation/{id}"));
    Ok(())
}

/// How many messages up to this one count for a side.
async fn rank_on(tx: &Tx, thread: &Thread, message: MessageId, side: Side) -> Result<i64, StoreError> {
    let row = conversation_message::Entity::find_by_id(message.0)
        .filter(conversation_message::Column::ConversationId.eq(thread.row.id))
        .one(&tx.db)
        .await?
        .ok_or(StoreError::NotFound("message"))?;
    Ok(match side {
        Side::Staff => row.inbound_rank,
        Side::Patient => row.outbound_rank,
    })
}
