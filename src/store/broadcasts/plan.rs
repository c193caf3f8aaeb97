//! Planning: the deliveries of a broadcast are made page by page, by whichever replica has the turn. A page and how far it goes
//! commit together, and only while the turn is still its maker's: each recipient has their deliveries once, whatever dies when.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockType, Query},
};

use super::{
    audience::{self, AddressKey, Position},
    counts::complete_time,
    rows, text_on,
};
use crate::{
    domain::{Author, Broadcast, BroadcastId, Channel, Engine, Scope},
    store::{
        NewNotification, Store, StoreError,
        entity::{broadcast, broadcast_address},
        feed,
        instance::may_send,
        notifications,
        tx::Tx,
    },
};

/// How long a turn is its holder's after each sign of life.
const HOLD: TimeDelta = TimeDelta::seconds(30);

/// The right to go on with a broadcast.
#[derive(Clone, Debug)]
pub struct PlanTurn {
    /// Its practice, in the name of whoever asked for the broadcast.
    pub scope: Scope,
    /// The broadcast.
    pub broadcast: Broadcast,
    /// When it might have begun.
    pub due_time: DateTime<Utc>,
    /// Who cancelled it, if somebody did: what waits is stopped then, and whom it did not come to is put down as cancelled.
    pub canceller: Option<Author>,
    /// Up to where it is planned.
    pub position: Position,
    /// Whether all of it is planned.
    pub planned: bool,
    reached: i64,
    term: i64,
}

/// The shares of a page of recipients.
#[derive(Debug)]
pub struct SharePage {
    /// One per recipient.
    pub shares: Vec<NewNotification>,
    /// The addresses that they are the first to have.
    pub taken: Vec<(Channel, AddressKey)>,
    /// Where the next page begins; unset: it is the last.
    pub next: Option<Position>,
}

/// Settles the audience of a broadcast that begins. Until they are made, its deliveries count as pending.
pub(super) fn start(row: &mut broadcast::Model, recipients: i64, now: DateTime<Utc>) {
    row.start_time = Some(now);
    row.recipients = recipients;
    row.pending = recipients * width(row.channels);
}

/// Settles what a broadcast that is cancelled did not come to. None of it begins any more, so that it counts as cancelled before it
/// is put down one by one.
pub(super) fn forgo(row: &mut broadcast::Model) {
    let left = (row.recipients - row.reached) * width(row.channels);
    row.pending -= left;
    row.cancelled += left;
}

/// How many deliveries each recipient has.
fn width(channels: i16) -> i64 {
    notifications::unpack(channels).map_or(0, |channels| i64::try_from(channels.iter().count()).unwrap_or_default())
}

impl Store {
    /// Takes the turn of whichever broadcast has waited longest for something to be done; unset when none does. One that is due
    /// begins with it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn broadcast_turn(&self, engine: &Engine) -> Result<Option<PlanTurn>, StoreError> {
        loop {
            let due = broadcast::Entity::find()
                .filter(broadcast::Column::WorkAt.lte(self.now().await?))
                .filter(may_send(self.inner.connections.dialect))
                .order_by_asc(broadcast::Column::WorkAt)
                .one(self.across())
                .await?;
            let Some(row) = due else { return Ok(None) };
            let practice = row.practice_id.parse().map_err(|_| StoreError::Corrupt("broadcast"))?;
            let keys = self.keys(&practice).await?;
            let text = text_on(self.across(), row.id).await?;
            let known = rows::to_broadcast(&keys, row, &text)?;
            let (id, audience) = (known.id, known.audience.clone());
            let taken = self.write_across(move |tx| Box::pin(async move { take_on(tx, id, &audience).await })).await?;
            // Another replica may have been first.
            let Some(row) = taken else { continue };
            let creator = rows::author(row.creator_type, &row.creator_id, &row.creator_name)?;
            let canceller = row.canceller_type.map(|kind| rows::author(kind, &row.canceller_id, &row.canceller_name));
            return Ok(Some(PlanTurn {
                scope: engine.scope(practice, creator),
                due_time: row.due_time,
                canceller: canceller.transpose()?,
                position: Position(row.cursor.clone()),
                planned: row.planned,
                reached: row.reached,
                term: row.term,
                broadcast: rows::moved_on(known, row)?,
            }));
        }
    }

    /// Makes the deliveries of a page. Yields the turn as it is then; unset when the broadcast is planned, or when somebody else
    /// has the turn or cancelled it, in which case nothing of the page was made.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing of the page was made then.
    pub async fn broadcast_plan(&self, turn: PlanTurn, page: SharePage) -> Result<Option<PlanTurn>, StoreError> {
        let keys = self.keys(turn.scope.practice()).await?;
        let next = PlanTurn {
            position: page.next.clone().unwrap_or_default(),
            reached: turn.reached + i64::try_from(page.shares.len()).unwrap_or_default(),
            planned: page.next.is_none(),
            ..turn.clone()
        };
        let done = self
            .write_within(turn.scope.practice().clone(), move |tx| {
                Box::pin(async move {
                    // Before anything is written, so that whoever is too late hears of that and not of a row that is there.
                    if !is_ours_on(tx, &turn).await? {
                        return Err(StoreError::Conflict { current: turn.term });
                    }
                    let address = |(channel, AddressKey(key)): (Channel, AddressKey)| broadcast_address::Model {
                        broadcast_id: turn.broadcast.id.0,
                        channel: channel.number(),
                        address_bi: key.to_vec(),
                    };
                    tx.insert_all(page.taken.into_iter().map(address).collect()).await?;
                    let changes = notifications::store_on(tx, &keys, &turn.scope, page.shares).await?;
                    feed::append_on(tx, changes).await?;
                    move_on(tx, &turn, &next).await
                })
            })
            .await;
        match done {
            Ok(next) => {
                failpoint!("F4");
                Ok(Some(next).filter(|next| !next.planned))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a turn back: the broadcast comes up again at once, or `later`, or, unset, not at all.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; the turn ends by itself then.
    pub async fn broadcast_leave(&self, turn: &PlanTurn, later: Option<TimeDelta>) -> Result<(), StoreError> {
        let (id, term) = (turn.broadcast.id, turn.term);
        self.write_within(turn.scope.practice().clone(), move |tx| {
            Box::pin(async move {
                keep_on(tx, (id, term), later.map(|later| tx.now + later)).await?;
                Ok(())
            })
        })
        .await
    }

    /// Takes up what a process before this one had the turn of, where no other can have it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn broadcasts_recover(&self, _: &Engine) -> Result<(), StoreError> {
        self.write_across(|tx| {
            Box::pin(async move {
                let update = Query::update()
                    .table(broadcast::Entity)
                    .value(broadcast::Column::WorkAt, tx.now)
                    .and_where(broadcast::Column::WorkAt.gt(tx.now))
                    .and_where(broadcast::Column::StartTime.is_not_null())
                    .to_owned();
                tx.db.execute(&update).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Takes the turn of a broadcast, unless somebody else has it.
async fn take_on(
    tx: &Tx,
    id: BroadcastId,
    audience: &crate::domain::Audience,
) -> Result<Option<broadcast::Model>, StoreError> {
    let row = broadcast::Entity::find_by_id(id.0).lock(LockType::NoKeyUpdate).one(&tx.db).await?;
    let Some(before) = row.filter(|row| row.work_at.is_some_and(|at| at <= tx.now)) else { return Ok(None) };
    let mut row = before.clone();
    if row.start_time.is_none() && row.cancel_time.is_none() {
        let count = audience::count_on(&tx.db, &row.practice_id, audience).await?;
        start(&mut row, count, tx.now);
    }
    row.term += 1;
    row.work_at = Some(tx.now + HOLD);
    tx.update_all(&[(before, row.clone())]).await?;
    if let Ok(practice) = row.practice_id.parse() {
        tx.touch(&practice);
    }
    Ok(Some(row))
}

/// Whether the turn holds, as far as can be seen without a lock, which would keep others from counting for as long as a page takes.
async fn is_ours_on(tx: &Tx, turn: &PlanTurn) -> Result<bool, StoreError> {
    // A copy has the turn as well, and may not use it.
    let row = broadcast::Entity::find_by_id(turn.broadcast.id.0).filter(may_send(tx.dialect)).one(&tx.db).await?;
    Ok(row.is_some_and(|row| row.term == turn.term))
}

/// Moves a turn on. The fence: whoever lost it, or planned for a broadcast that was cancelled meanwhile, changes nothing.
async fn move_on(tx: &Tx, turn: &PlanTurn, next: &PlanTurn) -> Result<PlanTurn, StoreError> {
    let known = &turn.broadcast;
    // Deliveries that were counted before they were made, and are counted by themselves now.
    let left = known.recipients - turn.reached;
    let counted = if next.planned { left } else { Ord::min(left, next.reached - turn.reached) };
    let recipients = if next.planned { next.reached } else { Ord::max(known.recipients, next.reached) };
    let width = i64::try_from(known.channels.iter().count()).unwrap_or_default();
    let cancelled = broadcast::Column::CancelTime;
    let counted_as = if turn.canceller.is_some() { broadcast::Column::Cancelled } else { broadcast::Column::Pending };
    let mut update = Query::update();
    update
        .table(broadcast::Entity)
        .value(broadcast::Column::Cursor, next.position.0.as_str())
        .value(broadcast::Column::Reached, next.reached)
        .value(broadcast::Column::Recipients, recipients)
        .value(broadcast::Column::Planned, next.planned)
        .value(counted_as, Expr::col(counted_as).sub(counted * width))
        .value(broadcast::Column::WorkAt, (!next.planned).then_some(tx.now + HOLD))
        .and_where(broadcast::Column::Id.eq(known.id.0))
        .and_where(broadcast::Column::Term.eq(turn.term))
        .and_where(if turn.canceller.is_some() { cancelled.is_not_null() } else { cancelled.is_null() });
    if tx.db.execute(&update).await?.rows_affected() == 0 {
        return Err(StoreError::Conflict { current: turn.term });
    }
    if next.planned {
        // Everybody may have been skipped: nothing of this broadcast would change any more.
        let mut update = Query::update();
        update
            .table(broadcast::Entity)
            .value(broadcast::Column::CompleteTime, complete_time(tx, 0))
            .and_where(broadcast::Column::Id.eq(known.id.0));
        tx.db.execute(&update).await?;
        tx.touch(turn.scope.practice());
    }
    Ok(PlanTurn { broadcast: Broadcast { recipients, ..known.clone() }, ..next.clone() })
}

/// Keeps a turn, or sets when the broadcast comes up again. False: it is somebody else's by now.
pub(super) async fn keep_on(
    tx: &Tx,
    (id, term): (BroadcastId, i64),
    work_at: Option<DateTime<Utc>>,
) -> Result<bool, StoreError> {
    let update = Query::update()
        .table(broadcast::Entity)
        .value(broadcast::Column::WorkAt, work_at)
        .and_where(broadcast::Column::Id.eq(id.0))
        .and_where(broadcast::Column::Term.eq(term))
        .to_owned();
    Ok(tx.db.execute(&update).await?.rows_affected() > 0)
}

impl PlanTurn {
    /// Keeps the turn for as long as it may take to stop a page.
    pub(super) async fn hold_on(&self, tx: &Tx) -> Result<(), StoreError> {
        match keep_on(tx, (self.broadcast.id, self.term), Some(tx.now + HOLD)).await? {
            true => Ok(()),
            false => Err(StoreError::Conflict { current: self.term }),
        }
    }
}
