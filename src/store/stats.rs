//! Statistics: deliveries counted by the hour in which they were made. The counters follow the feed, so that no sender and no
//! settlement pays for them: a page of changes and how far it goes commit together, and what is not counted yet is added when
//! somebody asks. Each answer is exact.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, LockBehavior, LockType, OnConflict, Query},
};

use super::{
    Store, StoreError,
    entity::{delivery_count, delivery_count_head, feed, feed_head},
    feed::{DELIVERIES, Was},
    image,
    tx::Tx,
};
use crate::domain::{Channel, DeliveryState, DeliveryStats, Engine, FailureReason, Hours, Kind, Scope};

/// The kind of a conversation's message, which has none.
const NO_KIND: i16 = 0;
/// Why a delivery failed that did not.
const NO_REASON: i16 = 0;
/// How many changes are read at once.
const PAGE: u64 = 1_000;
/// How many counters one statement moves: seven values each, far below what any database takes.
const MOVED_AT_ONCE: usize = 500;

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    hour: i64,
    kind: i16,
    channel: i16,
    state: i16,
    failure_reason: i16,
}

type Counts = BTreeMap<Key, i64>;

impl Store {
    /// What became of the deliveries that were made in `hours`, of those kinds; of all, conversations' messages
    /// included, when there are none.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn delivery_stats(
        &self,
        scope: &Scope,
        hours: Hours,
        kinds: &[Kind],
    ) -> Result<DeliveryStats, StoreError> {
        let practice = scope.practice().clone();
        let kinds: Vec<i16> = kinds.iter().map(|kind| kind.number()).collect();
        self.snapshot_within(scope.practice().clone(), move |db| {
            Box::pin(async move {
                let head = feed_head::Entity::find_by_id(practice.as_str()).one(db).await?;
                head.ok_or(StoreError::NotFound("practice"))?;
                let mut counts = stored_on(db, practice.as_str(), &hours, &kinds).await?;
                let mut position = counted_on(db, practice.as_str()).await?;
                loop {
                    let page = page_on(db, practice.as_str(), position, PAGE).await?;
                    let of_them =
                        |key: &Key| hours.contain(key.hour) && (kinds.is_empty() || kinds.contains(&key.kind));
                    for (key, count) in page.moved.into_iter().filter(|(key, _)| of_them(key)) {
                        *counts.entry(Key { hour: 0, kind: 0, ..key }).or_default() += count;
                    }
                    match page.last {
                        Some(last) => position = last,
                        None => return to_stats(&counts),
                    }
                }
            })
        })
        .await
    }

    /// Counts the next changes of each practice that has any, at most `limit` in all. Says how many it took; there may be more
    /// as long as it is not 0.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn deliveries_count(&self, _: &Engine, limit: u64) -> Result<u64, StoreError> {
        let (mut taken, mut after) = (0, String::new());
        while taken < limit {
            let Some(practice) = self.next_uncounted(&after).await? else { break };
            match self.count(&practice, limit - taken).await {
                Ok(count) => taken += count,
                // It goes on once it can be read. That is no reason to leave out the others.
                Err(error @ StoreError::Corrupt(_)) => {
                    tracing::error!(practice.id = %practice, %error, "deliveries of a practice could not be counted");
                }
                Err(error) => return Err(error),
            }
            after = practice;
        }
        Ok(taken)
    }

    async fn next_uncounted(&self, after: &str) -> Result<Option<String>, StoreError> {
        let practice = (feed_head::Entity, feed_head::Column::PracticeId);
        let counted = (delivery_count_head::Entity, delivery_count_head::Column::Counted);
        let its_head =
            Expr::col((delivery_count_head::Entity, delivery_count_head::Column::PracticeId)).equals(practice);
        let query = Query::select()
            .column(practice)
            .from(feed_head::Entity)
            .left_join(delivery_count_head::Entity, its_head)
            .and_where(Expr::col(practice).gt(after))
            .and_where(Expr::col((feed_head::Entity, feed_head::Column::Seq)).gt(Expr::col(counted).if_null(0_i64)))
            .order_by(practice, sea_orm::Order::Asc)
            .limit(1)
            .to_owned();
        let row = self.across().query_one(&query).await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }

    async fn count(&self, practice: &str, limit: u64) -> Result<u64, StoreError> {
        let practice = practice.to_owned();
        self.write_across(move |tx| {
            Box::pin(async move {
                // Whoever else counts this practice does it for all.
                let Some(counted) = lock_on(tx, &practice).await? else { return Ok(0) };
                let page = page_on(&tx.db, &practice, counted, Ord::min(limit, PAGE)).await?;
                let Some(last) = page.last else { return Ok(0) };
                move_on(tx, &practice, page.moved).await?;
                delivery_count_head::Entity::update_many()
                    .col_expr(delivery_count_head::Column::Counted, Expr::value(last))
                    .filter(delivery_count_head::Column::PracticeId.eq(&practice))
                    .exec(&tx.db)
                    .await?;
                Ok(page.len)
            })
        })
        .await
    }
}

/// Up to where the practice is counted.
pub(super) async fn counted_on(db: &impl ConnectionTrait, practice: &str) -> Result<i64, StoreError> {
    let head = delivery_count_head::Entity::find_by_id(practice).one(db).await?;
    Ok(head.map_or(0, |head| head.counted))
}

/// The same, held until COMMIT; unset while somebody else holds it.
async fn lock_on(tx: &Tx, practice: &str) -> Result<Option<i64>, StoreError> {
    let row = delivery_count_head::Model { practice_id: practice.to_owned(), counted: 0 };
    let key = [delivery_count_head::Column::PracticeId];
    delivery_count_head::Entity::insert(delivery_count_head::ActiveModel::from(row))
        .on_conflict_do_nothing_on(key)
        .exec_without_returning(&tx.db)
        .await?;
    let head = delivery_count_head::Entity::find_by_id(practice)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .one(&tx.db)
        .await?;
    Ok(head.map(|head| head.counted))
}

/// What a page of the feed moves.
struct Page {
    moved: Counts,
    /// The position of its last change, of whatever stream; unset: it has none.
    last: Option<i64>,
    len: u64,
}

async fn page_on(db: &impl ConnectionTrait, practice: &str, after: i64, limit: u64) -> Result<Page, StoreError> {
    let rows = feed::Entity::find()
        .filter(feed::Column::PracticeId.eq(practice))
        .filter(feed::Column::Seq.gt(after))
        .order_by_asc(feed::Column::Seq)
        .limit(limit)
        .all(db)
        .await?;
    let (last, len) = (rows.last().map(|row| row.seq), rows.len() as u64);
    let mut moved = Counts::new();
    for row in rows.into_iter().filter(|row| row.stream == DELIVERIES) {
        let state = row.state.ok_or(StoreError::Corrupt("feed"))?;
        let now = image::decode(row.entity_id, row.revision, state, &row.image)?;
        let reason = now.failure.as_ref().map(|failure| failure.reason);
        let key = |was: Was| Key {
            hour: Hours::of(now.create_time),
            kind: now.kind.map_or(NO_KIND, Kind::number),
            channel: now.channel.number(),
            state: was.state.number(),
            failure_reason: was.failure.map_or(NO_REASON, FailureReason::number),
        };
        *moved.entry(key(Was { state: now.state, failure: reason })).or_default() += 1;
        if let Some(was) = Was::of(&row) {
            *moved.entry(key(was)).or_default() -= 1;
        }
    }
    moved.retain(|_, count| *count != 0);
    Ok(Page { moved, last, len })
}

async fn move_on(tx: &Tx, practice: &str, moved: Counts) -> Result<(), StoreError> {
    let keys: Vec<(Key, i64)> = moved.into_iter().collect();
    for part in keys.chunks(MOVED_AT_ONCE) {
        let rows = part.iter().map(|(key, count)| {
            delivery_count::ActiveModel::from(delivery_count::Model {
                practice_id: practice.to_owned(),
                hour: key.hour,
                kind: key.kind,
                channel: key.channel,
                state: key.state,
                failure_reason: key.failure_reason,
                count: *count,
            })
        });
        let sum = Expr::col((delivery_count::Entity, delivery_count::Column::Count))
            .add(Expr::col((Alias::new("excluded"), delivery_count::Column::Count)));
        let known = OnConflict::columns([
            delivery_count::Column::PracticeId,
            delivery_count::Column::Hour,
            delivery_count::Column::Kind,
            delivery_count::Column::Channel,
            delivery_count::Column::State,
            delivery_count::Column::FailureReason,
        ])
        .value(delivery_count::Column::Count, sum)
        .to_owned();
        delivery_count::Entity::insert_many(rows).on_conflict(known).exec_without_returning(&tx.db).await?;
    }
    // States that deliveries only pass through would leave most of the rows behind.
    let hours = keys.iter().map(|(key, _)| key.hour).collect::<BTreeSet<_>>();
    delivery_count::Entity::delete_many()
        .filter(delivery_count::Column::PracticeId.eq(practice))
        .filter(delivery_count::Column::Hour.is_in(hours))
        .filter(delivery_count::Column::Count.eq(0))
        .exec(&tx.db)
        .await?;
    Ok(())
}

/// What is counted of those hours and kinds, neither hour nor kind told apart.
async fn stored_on(
    db: &impl ConnectionTrait,
    practice: &str,
    hours: &Hours,
    kinds: &[i16],
) -> Result<Counts, StoreError> {
    let (first, after) = hours.bounds();
    let mut query = delivery_count::Entity::find()
        .select_only()
        .column(delivery_count::Column::Channel)
        .column(delivery_count::Column::State)
        .column(delivery_count::Column::FailureReason)
        .column_as(Expr::col(delivery_count::Column::Count).sum().cast_as(Alias::new("bigint")), "count")
        .filter(delivery_count::Column::PracticeId.eq(practice))
        .filter(delivery_count::Column::Hour.gte(first))
        .filter(delivery_count::Column::Hour.lt(after))
        .group_by(delivery_count::Column::Channel)
        .group_by(delivery_count::Column::State)
        .group_by(delivery_count::Column::FailureReason);
    if !kinds.is_empty() {
        query = query.filter(delivery_count::Column::Kind.is_in(kinds.iter().copied()));
    }
    let rows: Vec<(i16, i16, i16, i64)> = query.into_tuple().all(db).await?;
    let key = |channel, state, failure_reason| Key { hour: 0, kind: 0, channel, state, failure_reason };
    Ok(rows.into_iter().map(|(channel, state, reason, count)| (key(channel, state, reason), count)).collect())
}

fn to_stats(counts: &Counts) -> Result<DeliveryStats, StoreError> {
    let corrupt = || StoreError::Corrupt("counter");
    let mut stats = DeliveryStats::default();
    for (key, count) in counts.iter().filter(|(_, count)| **count != 0) {
        let channel = Channel::from_number(key.channel).ok_or_else(corrupt)?;
        let state = DeliveryState::from_number(key.state).ok_or_else(corrupt)?;
        stats.states.entry(channel).or_default().add(state, *count);
        if let Some(reason) = FailureReason::from_number(key.failure_reason) {
            *stats.failures.entry((channel, reason)).or_default() += count;
        }
    }
    Ok(stats)
}
