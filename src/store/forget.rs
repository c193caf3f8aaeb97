//! Retention: what is old enough is deleted, a page at a time, practice by practice.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Query},
};

use super::{
    Store, StoreError,
    entity::{feed, feed_head},
    stats::counted_on,
    tx::Tx,
};
use crate::domain::Engine;

impl Store {
    /// Forgets changes older than `before`, at most `limit` of them. Says how many went; there may be more as long as it is
    /// not 0.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn feed_forget(&self, _: &Engine, before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let (mut gone, mut practice) = (0, String::new());
                while gone < limit {
                    let Some(next) = next_practice_on(tx, &practice, before).await? else { break };
                    gone += forget_on(tx, &next, before, limit - gone).await?;
                    practice = next;
                }
                Ok(gone)
            })
        })
        .await
    }
}

/// The next practice that has an old change: one probe of the index for each, since a scalar query is never turned into a
/// join that reads the whole feed.
async fn next_practice_on(tx: &Tx, after: &str, before: DateTime<Utc>) -> Result<Option<String>, StoreError> {
    let practice = (feed_head::Entity, feed_head::Column::PracticeId);
    let old = Query::select()
        .column(feed::Column::Seq)
        .from(feed::Entity)
        .and_where(Expr::col((feed::Entity, feed::Column::PracticeId)).equals(practice))
        .and_where(Expr::col((feed::Entity, feed::Column::At)).lt(before))
        .order_by(feed::Column::At, sea_orm::Order::Asc)
        .limit(1)
        .to_owned();
    let query = Query::select()
        .column(practice)
        .from(feed_head::Entity)
        .and_where(Expr::col(practice).gt(after))
        .and_where(Expr::SubQuery(None, Box::new(old.into())).is_not_null())
        .order_by(practice, sea_orm::Order::Asc)
        .limit(1)
        .to_owned();
    let row = tx.db.query_one(&query).await?;
    Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
}

/// Deletes the oldest changes of a practice, up to the newest that is older than `before`: what is left has no gap.
async fn forget_on(tx: &Tx, practice: &str, before: DateTime<Utc>, limit: u64) -> Result<u64, StoreError> {
    let of_practice =
        || feed::Entity::find().select_only().column(feed::Column::Seq).filter(feed::Column::PracticeId.eq(practice));
    let first: Option<i64> = of_practice().order_by_asc(feed::Column::Seq).limit(1).into_tuple().one(&tx.db).await?;
    let newest_old: Option<i64> = of_practice()
        .filter(feed::Column::At.lt(before))
        .order_by_desc(feed::Column::At)
        .order_by_desc(feed::Column::Seq)
        .limit(1)
        .into_tuple()
        .one(&tx.db)
        .await?;
    let (Some(first), Some(newest_old)) = (first, newest_old) else { return Ok(0) };
    // Statistics follow the feed.
    let newest_old = Ord::min(newest_old, counted_on(&tx.db, practice).await?);
    let page = i64::try_from(limit).unwrap_or(i64::MAX);
    let deleted = feed::Entity::delete_many()
        .filter(feed::Column::PracticeId.eq(practice))
        .filter(feed::Column::Seq.lte(Ord::min(newest_old, first.saturating_add(page - 1))))
        .exec(&tx.db)
        .await?;
    Ok(deleted.rows_affected)
}
