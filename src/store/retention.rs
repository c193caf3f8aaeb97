//! Texts and histories whose time is over: what was sent, said and linked to goes, and the steps on the way to what became of it,
//! which stays. The audit trail of each practice says how much went.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Func, LockBehavior, LockType, Query, SelectStatement},
};
use uuid::Uuid;

use super::{
    Store, StoreError, conversations,
    entity::{attempt, content, conversation_message, delivery, delivery_event, inbox_item, link},
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
    Histories,
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
        let over = Query::select()
            .expr(Expr::val(1))
            .from(delivery::Entity)
            .and_where(
                Expr::col((delivery::Entity, delivery::Column::Id))
                    .equals((content::Entity, content::Column::DeliveryId)),
            )
            .and_where(Expr::col((delivery::Entity, delivery::Column::Phase)).eq(CLOSED))
            .and_where(Expr::col((delivery::Entity, delivery::Column::CreateTime)).lt(before))
            .and_where(Expr::exists(opens(now)).not())
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

    /// Removes the steps of deliveries that have come to their end, and of which nothing was heard since that moment: their timelines,
    /// attempts and links. What became of them stays. They are looked for among the deliveries of `limit` lines of timelines after
    /// `after`, whether any of them goes or not. Yields the last one that was looked at; unset: there are no more.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn histories_remove(
        &self,
        _: &Engine,
        (before, after): (DateTime<Utc>, Uuid),
        limit: u64,
    ) -> Result<Option<Uuid>, StoreError> {
        // Every delivery has lines until its history goes. Which of them may go is asked by itself: a page is as long as it is,
        // however many have to stay.
        let mut seen = delivery_event::Entity::find()
            .select_only()
            .column(delivery_event::Column::DeliveryId)
            .filter(delivery_event::Column::DeliveryId.gt(after))
            .filter(delivery_event::Column::DeliveryId.lt(first_id_of(before)))
            .order_by_asc(delivery_event::Column::DeliveryId)
            .limit(limit)
            .into_tuple::<Uuid>()
            .all(self.across())
            .await?;
        seen.dedup();
        let Some(last) = seen.last().copied() else { return Ok(None) };
        let old = delivery::Entity::find()
            .select_only()
            .columns([delivery::Column::PracticeId, delivery::Column::Id])
            .filter(delivery::Column::Id.is_in(padded(seen)))
            .filter(is_history(before, self.now().await?))
            .into_tuple::<Of>()
            .all(self.across())
            .await?;
        for (practice, ids) in by_practice(old)? {
            self.remove(Old::Histories, practice, ids, before).await?;
        }
        Ok(Some(last))
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
                    Old::Histories => ("histories", histories_on(tx, ids, before).await?),
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

/// The steps of those that are still history. Says how many there were.
async fn histories_on(tx: &Tx, ids: Vec<Uuid>, before: DateTime<Utc>) -> Result<u64, StoreError> {
    // Whoever hears evidence holds the delivery, and reads its attempts after that. One that is held is no history.
    let held: Vec<(Uuid, Uuid)> = delivery::Entity::find()
        .select_only()
        .columns([delivery::Column::Id, delivery::Column::SourceId])
        .filter(delivery::Column::Id.is_in(padded(ids)))
        .filter(is_history(before, tx.now))
        .order_by_asc(delivery::Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(&tx.db)
        .await?;
    // What they are when they are held may be younger than what the lock was asked for by: another replica may have removed the lines
    // of one, and a retry may have added one.
    let over: BTreeSet<Uuid> = delivery_event::Entity::find()
        .select_only()
        .column(delivery_event::Column::DeliveryId)
        .filter(delivery_event::Column::DeliveryId.is_in(padded(held.iter().map(|(id, _)| *id).collect::<Vec<Uuid>>())))
        .group_by(delivery_event::Column::DeliveryId)
        .having(Func::max(Expr::col(delivery_event::Column::EventTime)).lt(before))
        .into_tuple::<Uuid>()
        .all(&tx.db)
        .await?
        .into_iter()
        .collect();
    let (ids, sources): (Vec<Uuid>, Vec<Uuid>) = held.into_iter().filter(|(id, _)| over.contains(id)).unzip();
    if ids.is_empty() {
        return Ok(0);
    }
    let gone = ids.len() as u64;
    let ids = padded(ids);
    delivery_event::Entity::delete_many()
        .filter(delivery_event::Column::DeliveryId.is_in(ids.clone()))
        .exec(&tx.db)
        .await?;
    attempt::Entity::delete_many().filter(attempt::Column::DeliveryId.is_in(ids)).exec(&tx.db).await?;
    // None of them opens any more, and one that is not there is not told from one that is closed.
    link::Entity::delete_many().filter(link::Column::NotificationId.is_in(padded(sources))).exec(&tx.db).await?;
    Ok(gone)
}

/// Whether a delivery has come to its end, nothing was heard of it since `before`, and nothing is to be heard: neither is its provider
/// still to be asked, nor is there a link whose opening would be told.
fn is_history(before: DateTime<Utc>, now: DateTime<Utc>) -> Condition {
    let heard = Query::select()
        .expr(Expr::val(1))
        .from(delivery_event::Entity)
        .and_where(
            Expr::col((delivery_event::Entity, delivery_event::Column::DeliveryId))
                .equals((delivery::Entity, delivery::Column::Id)),
        )
        .and_where(Expr::col((delivery_event::Entity, delivery_event::Column::EventTime)).gte(before))
        .to_owned();
    Condition::all()
        .add(delivery::Column::Phase.eq(CLOSED))
        .add(delivery::Column::PollAt.is_null())
        .add(Expr::exists(heard).not())
        .add(Expr::exists(opens(now)).not())
}

/// A link of a delivery that has not expired and was not revoked.
fn opens(now: DateTime<Utc>) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(link::Entity)
        .and_where(
            Expr::col((link::Entity, link::Column::NotificationId))
                .equals((delivery::Entity, delivery::Column::SourceId)),
        )
        .and_where(Expr::col((link::Entity, link::Column::ExpireTime)).gt(now))
        .and_where(Expr::col((link::Entity, link::Column::RevokeTime)).is_null())
        .to_owned()
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
