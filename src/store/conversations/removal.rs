//! Files whose time is over: what was uploaded and never sent goes without a trace; of what was sent, the messages go on saying
//! that it was there.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockBehavior, LockType},
};
use uuid::Uuid;

use super::attachments::blanked;
use crate::{
    domain::{AttachmentState, Engine},
    store::{
        Store, StoreError,
        entity::{attachment, attachment_part, conversation, conversation_message},
        idem,
        retention::{Old, by_practice},
        rows::padded,
        subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

impl Store {
    /// Forgets files that were uploaded before that moment and never sent, at most `limit` of them, and their keys. Says how many
    /// went; there may be more as long as it is not 0.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn attachments_forget(&self, _: &Engine, before: DateTime<Utc>, limit: u64) -> Result<usize, StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let rows = attachment::Entity::find()
                    .filter(attachment::Column::MessageId.is_null())
                    .filter(attachment::Column::CreateTime.lt(before))
                    .order_by_asc(attachment::Column::CreateTime)
                    .limit(limit)
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .all(&tx.db)
                    .await?;
                for row in &rows {
                    contents_delete_on(tx, row.id).await?;
                    idem::free_on(tx, &row.practice_id, idem::ATTACHMENTS, &row.request_id).await?;
                    attachment::Entity::delete_by_id(row.id).exec(&tx.db).await?;
                }
                Ok(rows.len())
            })
        })
        .await
    }

    /// Removes what files of messages hold and are called that are older than `before`, at most `limit` of them. Says how many
    /// went; there may be more as long as it is not 0. No watch is told: whoever reads the message sees it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn attachments_remove(&self, _: &Engine, before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let old = attachment::Entity::find()
            .select_only()
            .columns([attachment::Column::PracticeId, attachment::Column::Id])
            // Word for word as the index has it: only then is it used.
            .filter(Expr::cust("\"state\" = 2").and(attachment::Column::MessageId.is_not_null()))
            .filter(attachment::Column::CreateTime.lt(before))
            .order_by_asc(attachment::Column::CreateTime)
            .limit(limit)
            .into_tuple::<(String, Uuid)>()
            .all(self.across())
            .await?;
        let mut gone = 0;
        for (practice, ids) in by_practice(old)? {
            gone += self.remove(Old::Files, practice, ids, before).await?;
        }
        Ok(gone)
    }
}

/// Removes those that are still there; another replica may be at it. Without keys, as they were destroyed, no type is left to tell.
pub(in crate::store) async fn remove_on(
    tx: &Tx,
    keys: Option<&PracticeKeys>,
    ids: Vec<Uuid>,
) -> Result<u64, StoreError> {
    let rows = attachment::Entity::find()
        .filter(attachment::Column::Id.is_in(padded(ids)))
        .filter(attachment::Column::State.eq(AttachmentState::Ready.number()))
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    for row in &rows {
        contents_delete_on(tx, row.id).await?;
        let mut update = row.clone().into_active_model();
        update.state = Set(AttachmentState::Removed.number());
        update.about_ct = Set(keys.map(|keys| blanked(keys, row)).transpose()?.unwrap_or_default());
        update.parts = Set(0);
        update.update(&tx.db).await?;
    }
    Ok(rows.len() as u64)
}

async fn contents_delete_on(tx: &Tx, id: Uuid) -> Result<(), StoreError> {
    let parts = attachment_part::Column::AttachmentId.eq(id);
    attachment_part::Entity::delete_many().filter(parts).exec(&tx.db).await?;
    Ok(())
}

/// Removes what was said to and by a patient before that moment, the files included: at most `limit` messages or files at once.
/// True: there is more.
pub(in crate::store) async fn erase_on(
    tx: &Tx,
    (practice, patient): (&str, &str),
    before: DateTime<Utc>,
    limit: u64,
) -> Result<bool, StoreError> {
    let theirs = conversation::Column::Owner
        .eq(subjects::of_patient(patient))
        .or(conversation::Column::PatientId.eq(patient.to_owned()));
    let homes: Vec<Uuid> = conversation::Entity::find()
        .select_only()
        .column(conversation::Column::Id)
        .filter(conversation::Column::PracticeId.eq(practice))
        .filter(theirs)
        .filter(conversation::Column::CreateTime.lte(before))
        .order_by_asc(conversation::Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(&tx.db)
        .await?;
    let messages: Vec<Uuid> = conversation_message::Entity::find()
        .select_only()
        .column(conversation_message::Column::Id)
        .filter(conversation_message::Column::ConversationId.is_in(homes.clone()))
        .limit(limit)
        .into_tuple()
        .all(&tx.db)
        .await?;
    let uploads = attachment::Column::PracticeId
        .eq(practice)
        .and(attachment::Column::PatientId.eq(patient))
        .and(attachment::Column::CreateTime.lte(before));
    let files = attachment::Column::MessageId.is_in(messages.clone()).or(uploads);
    let files: Vec<attachment::Model> =
        attachment::Entity::find().filter(files).limit(limit).lock(LockType::Update).all(&tx.db).await?;
    for file in &files {
        contents_delete_on(tx, file.id).await?;
        attachment::Entity::delete_by_id(file.id).exec(&tx.db).await?;
    }
    if files.len() as u64 == limit {
        return Ok(true);
    }
    conversation_message::Entity::delete_many()
        .filter(conversation_message::Column::Id.is_in(padded(messages.clone())))
        .exec(&tx.db)
        .await?;
    if !messages.is_empty() {
        return Ok(true);
    }
    conversation::Entity::delete_many().filter(conversation::Column::Id.is_in(homes)).exec(&tx.db).await?;
    Ok(false)
}
