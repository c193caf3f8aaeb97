//! Texts whose time is over: what was sent, said and linked to goes, and what became of it stays. The audit trail of each practice
//! says how much of it went.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Query},
};
use uuid::Uuid;

use super::{
    Store, StoreError, conversations,
    entity::{content, conversation_message, delivery, inbox_item, link},
    image::CLOSED,
    rows::padded,
    tx::Tx,
};
use crate::domain::{AuditEvent, Engine, PracticeId};

/// A row of some practice.
type Of = (String, Uuid);

/// What is removed.
#[derive(Clone, Copy)]
pub(super) enum Old {
    Files,
    Texts,
    Messages,
}

impl Store {
    /// Removes the texts of deliveries that were made before that moment and have come to their end, with the inbox's items and where
    /// their links lead: at most `limit` after `after`. A text waits for the links in it, which promise how long they open. Yields the
    /// last one that was looked at; unset: there are no more.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn texts_remove(
        &self,
        _: &Engine,
        (before, after): (DateTime<Utc>, Uuid),
        limit: u64,
    ) -> Result<Option<Uuid>, StoreError> {
        let now = self.now().await?;
        let opens = Query::select()
            .expr(Expr::val(1))
            .from(link::Entity)
            .and_where(
                Expr::col((link::Entity, link::Column::NotificationId))
                    .equals((delivery::Entity, delivery::Column::SourceId)),
            )
            .and_where(Expr::col((link::Entity, link::Column::ExpireTime)).gt(now))
            .and_where(Expr::col((link::Entity, link::Column::RevokeTime)).is_null())
            .to_owned();
        let over = Query::select()
            .expr(Expr::val(1))
            .from(delivery::Entity)
            .and_where(
                Expr::col((delivery::Entity, delivery::Column::Id))
                    .equals((content::Entity, content::Column::DeliveryId)),
            )
            .and_where(Expr::col((delivery::Entity, delivery::Column::Phase)).eq(CLOSED))
            .and_where(Expr::col((delivery::Entity, delivery::Column::CreateTime)).lt(before))
            .and_where(Expr::exists(opens).not())
            .to_owned();
        let old = content::Entity::find()
            .select_only()
            .columns([content::Column::PracticeId, content::Column::DeliveryId])
            // Ids are in the order in which they were made, so that no index is needed to find the old ones.
            .filter(content::Column::DeliveryId.gt(after).and(content::Column::DeliveryId.lt(first_id_of(before))))
            .filter(Expr::exists(over))
            .order_by_asc(content::Column::DeliveryId)
            .limit(limit)
            .into_tuple::<Of>()
            .all(self.across())
            .await?;
        let last = old.last().map(|(_, id)| *id);
        for (practice, ids) in by_practice(old)? {
            self.remove(Old::Texts, practice, ids, before).await?;
        }
        Ok(last)
    }

    /// Removes what messages of conversations say that are older than `before`: at most `limit` of them. Yields how many went; there
    /// may be more as long as it is not 0. No watch is told: whoever reads the message sees it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn messages_remove(&self, _: &Engine, before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        let old = conversation_message::Entity::find()
            .select_only()
            .columns([conversation_message::Column::PracticeId, conversation_message::Column::Id])
            // Word for word as the index has it: only then is it used.
            .filter(Expr::cust("length(body_ct) > 0"))
            .filter(conversation_message::Column::CreateTime.lt(before))
            .order_by_asc(conversation_message::Column::CreateTime)
            .limit(limit)
            .into_tuple::<Of>()
            .all(self.across())
            .await?;
        let mut gone = 0;
        for (practice, ids) in by_practice(old)? {
            gone += self.remove(Old::Messages, practice, ids, before).await?;
        }
        Ok(gone)
    }

    /// Removes in one transaction, and has the trail tell how much.
    pub(super) async fn remove(
        &self,
        what: Old,
        practice: PracticeId,
        ids: Vec<Uuid>,
        before: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        // Where a practice's keys were destroyed its trail is closed; what they sealed goes all the same.
        let keys = match self.keys(&practice).await {
            Ok(keys) => Some(keys),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        self.write_within(practice.clone(), move |tx| {
            Box::pin(async move {
                let (name, gone) = match what {
                    Old::Files => ("files", conversations::remove_on(tx, keys.as_deref(), ids).await?),
                    Old::Texts => ("texts", texts_on(tx, ids).await?),
                    Old::Messages => ("messages", messages_on(tx, ids).await?),
                };
                if keys.is_some() && gone > 0 {
                    tx.note_event(&practice, AuditEvent::removed(name, gone, before));
                }
                Ok(gone)
            })
        })
        .await
    }
}

/// The texts of deliveries. Says how many there were.
async fn texts_on(tx: &Tx, ids: Vec<Uuid>) -> Result<u64, StoreError> {
    let ids = padded(ids);
    let of_these = content::Column::DeliveryId.is_in(ids.clone());
    let gone = content::Entity::delete_many().filter(of_these).exec(&tx.db).await?.rows_affected;
    inbox_item::Entity::delete_many().filter(inbox_item::Column::DeliveryId.is_in(ids.clone())).exec(&tx.db).await?;
    let sources = Query::select()
        .column(delivery::Column::SourceId)
        .from(delivery::Entity)
        .and_where(Expr::col(delivery::Column::Id).is_in(ids))
        .to_owned();
    link::Entity::update_many()
        .col_expr(link::Column::TargetCt, Expr::value(Vec::<u8>::new()))
        .filter(link::Column::NotificationId.in_subquery(sources))
        .exec(&tx.db)
        .await?;
    Ok(gone)
}

async fn messages_on(tx: &Tx, ids: Vec<Uuid>) -> Result<u64, StoreError> {
    let done = conversation_message::Entity::update_many()
        .col_expr(conversation_message::Column::BodyCt, Expr::value(Vec::<u8>::new()))
        .filter(conversation_message::Column::Id.is_in(padded(ids)))
        // Another replica may be at it, and each counts what it removed itself.
        .filter(Expr::cust("length(body_ct) > 0"))
        .exec(&tx.db)
        .await?;
    Ok(done.rows_affected)
}

/// Rows of several practices, each with its own.
pub(super) fn by_practice(rows: Vec<Of>) -> Result<BTreeMap<PracticeId, Vec<Uuid>>, StoreError> {
    let mut by_practice = BTreeMap::<PracticeId, Vec<Uuid>>::new();
    for (practice, id) in rows {
        let practice = practice.parse().map_err(|_| StoreError::Corrupt("practice"))?;
        by_practice.entry(practice).or_default().push(id);
    }
    Ok(by_practice)
}

/// No id that was made from then on is below it (RFC 9562, section 5.7: 48 bits of milliseconds come first).
fn first_id_of(time: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(time.timestamp_millis()).unwrap_or_default();
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&milliseconds.to_be_bytes()[2..]);
    Uuid::from_bytes(bytes)
}
