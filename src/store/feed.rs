//! The feed: every change of a practice, numbered without gaps in the order of the commits. The head row that numbers it is
//! updated last in each writing transaction and held until COMMIT, so that the order of the numbers is the order in which
//! readers may see them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Query},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    entity::{feed, feed_head},
    image,
    queue::{CLASSES, place},
    tx::Tx,
};
use crate::domain::{Class, Delivery, DeliveryChange, DeliveryId, DeliveryState, PatientId, PracticeId, Scope};

const DELIVERIES: i16 = 1;
const INBOXES: i16 = 2;

/// One change, before it has a number.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) practice: PracticeId,
    /// The delivery as it is now; unset when the API shows no difference and only the counters move.
    pub(super) image: Option<Delivery>,
    /// An item of a patient's inbox that was marked, where its delivery shows nothing of it.
    pub(super) marked: Option<(PatientId, Uuid)>,
    pub(super) previous_state: Option<DeliveryState>,
    pub(super) class: i16,
    /// +1 when it became open, -1 when it was closed.
    pub(super) opened: i64,
}

/// Changes after a position.
#[derive(Debug)]
pub struct FeedPage {
    /// The changes of deliveries, oldest first.
    pub changes: Vec<DeliveryChange>,
    /// Items of inboxes that were marked though their deliveries did not change, oldest first.
    pub marked: Vec<(PatientId, DeliveryId)>,
    /// Everything up to here is in the page or of another stream.
    pub position: i64,
    /// Whether more may follow at once.
    pub full: bool,
    /// Changes after the position asked for are forgotten already.
    pub gap: bool,
}

/// How many deliveries of a practice are open, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenDeliveries([i64; CLASSES]);

impl OpenDeliveries {
    /// How many of them go before the next one of `class`: however much there is that can wait, it keeps nobody out whose
    /// turn is earlier.
    #[must_use]
    pub fn before_the_next(self, class: Class) -> i64 {
        self.0.iter().take(place(class) + 1).sum()
    }
}

/// The positions between which a cursor may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedBounds {
    /// The oldest position from which nothing is missing.
    pub earliest: i64,
    /// The newest position.
    pub newest: i64,
}

/// Adds changes to the feeds of their practices, in the order of the practices' ids. Always the last thing in a transaction.
pub(super) async fn append_on(tx: &Tx, changes: Vec<Change>) -> Result<(), StoreError> {
    let mut practices = BTreeMap::<PracticeId, Vec<Change>>::new();
    for change in changes {
        practices.entry(change.practice.clone()).or_default().push(change);
    }
    let mut rows = Vec::new();
    for (practice, changes) in practices {
        let mut seq = advance_on(tx, &practice, &changes).await?;
        failpoint!("feed");
        for Change { image, marked, previous_state, .. } in changes {
            if let Some((patient, item)) = marked {
                seq += 1;
                rows.push(marked_row(tx, &practice, seq, &patient, item));
            }
            let Some(delivery) = image else { continue };
            seq += 1;
            rows.push(feed::Model {
                practice_id: practice.as_str().to_owned(),
                seq,
                stream: DELIVERIES,
                entity_id: delivery.id.0,
                revision: delivery.revision,
                state: Some(delivery.state.number()),
                previous_state: previous_state.map(DeliveryState::number),
                image: image::encode(&delivery)?,
                at: tx.now,
            });
        }
        tx.touch(&practice);
    }
    tx.insert_all(rows).await
}

/// The row of an item that was marked. Its image is its patient's id; whoever watches reads the rest.
fn marked_row(tx: &Tx, practice: &PracticeId, seq: i64, patient: &PatientId, item: Uuid) -> feed::Model {
    feed::Model {
        practice_id: practice.as_str().to_owned(),
        seq,
        stream: INBOXES,
        entity_id: item,
        revision: 0,
        state: None,
        previous_state: None,
        image: patient.as_str().as_bytes().to_vec(),
        at: tx.now,
    }
}

/// Moves the head of a practice on by its changes, and yields where it was.
async fn advance_on(tx: &Tx, practice: &PracticeId, changes: &[Change]) -> Result<i64, StoreError> {
    let mut opened = [0_i64; 3];
    for change in changes {
        if let Some(count) = usize::try_from(change.class).ok().and_then(|class| opened.get_mut(class)) {
            *count += change.opened;
        }
    }
    let rows = |change: &Change| usize::from(change.image.is_some()) + usize::from(change.marked.is_some());
    let count = i64::try_from(changes.iter().map(rows).sum::<usize>()).unwrap_or(i64::MAX);
    let update = Query::update()
        .table(feed_head::Entity)
        .value(feed_head::Column::Seq, Expr::col(feed_head::Column::Seq).add(count))
        .value(feed_head::Column::Open0, Expr::col(feed_head::Column::Open0).add(opened[0]))
        .value(feed_head::Column::Open1, Expr::col(feed_head::Column::Open1).add(opened[1]))
        .value(feed_head::Column::Open2, Expr::col(feed_head::Column::Open2).add(opened[2]))
        .and_where(Expr::col(feed_head::Column::PracticeId).eq(practice.as_str()))
        .returning(Query::returning().column(feed_head::Column::Seq))
        .to_owned();
    #[cfg(feature = "mutants")]
    let head =
        if mutant!("serial feed") { tx.aside.query_one(&update).await? } else { tx.db.query_one(&update).await? };
    #[cfg(not(feature = "mutants"))]
    let head = tx.db.query_one(&update).await?;
    let head = head.ok_or(StoreError::NotFound("practice"))?;
    let newest: i64 = head.try_get_by_index(0)?;
    Ok(newest - count)
}

/// How much of a practice is open, by the counters that its transactions keep.
pub(super) async fn open_on(db: &impl ConnectionTrait, practice: &str) -> Result<OpenDeliveries, StoreError> {
    let head = feed_head::Entity::find_by_id(practice).one(db).await?.ok_or(StoreError::NotFound("practice"))?;
    Ok(OpenDeliveries([head.open0, head.open1, head.open2]))
}

impl Store {
    /// The newest position of the practice's feed.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn feed_head(&self, scope: &Scope) -> Result<i64, StoreError> {
        let head = feed_head::Entity::find_by_id(scope.practice().as_str()).one(self.read()).await?;
        Ok(head.ok_or(StoreError::NotFound("practice"))?.seq)
    }

    /// The positions between which a cursor may lie.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn feed_bounds(&self, scope: &Scope) -> Result<FeedBounds, StoreError> {
        let newest = self.feed_head(scope).await?;
        let first = feed::Entity::find()
            .select_only()
            .column(feed::Column::Seq)
            .filter(feed::Column::PracticeId.eq(scope.practice().as_str()))
            .order_by_asc(feed::Column::Seq)
            .limit(1)
            .into_tuple::<i64>()
            .one(self.read())
            .await?;
        Ok(FeedBounds { earliest: first.map_or(newest, |first| first - 1), newest })
    }

    /// The position before the first change at or after `time`.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn feed_position_at(&self, scope: &Scope, time: DateTime<Utc>) -> Result<i64, StoreError> {
        let bounds = self.feed_bounds(scope).await?;
        let first = feed::Entity::find()
            .select_only()
            .column(feed::Column::Seq)
            .filter(feed::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(feed::Column::At.gte(time))
            .order_by_asc(feed::Column::Seq)
            .limit(1)
            .into_tuple::<i64>()
            .one(self.read())
            .await?;
        Ok(first.map_or(bounds.newest, |first| first - 1))
    }

    /// Up to `limit` changes after `position`.
    ///
    /// # Errors
    /// Corrupt when an image cannot be read.
    pub async fn feed_read_after(&self, scope: &Scope, position: i64, limit: u64) -> Result<FeedPage, StoreError> {
        let rows = feed::Entity::find()
            .filter(feed::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(feed::Column::Seq.gt(position))
            .order_by_asc(feed::Column::Seq)
            .limit(limit)
            .all(self.read())
            .await?;
        let full = rows.len() as u64 == limit;
        // The numbers are dense, so that a first one further on means that rows went while the reader was slow.
        let gap = rows.first().is_some_and(|row| row.seq != position + 1) && !mutant!("serial feed");
        let position = rows.last().map_or(position, |row| row.seq);
        let corrupt = || StoreError::Corrupt("feed");
        let (mut changes, mut marked) = (Vec::new(), Vec::new());
        for row in rows {
            match row.stream {
                DELIVERIES => {
                    let state = row.state.ok_or_else(corrupt)?;
                    let delivery = image::decode(row.entity_id, row.revision, state, &row.image)?;
                    let previous_state = row.previous_state.and_then(DeliveryState::from_number);
                    changes.push(DeliveryChange { delivery, previous_state });
                }
                INBOXES => {
                    let patient = std::str::from_utf8(&row.image).ok().and_then(|patient| patient.parse().ok());
                    marked.push((patient.ok_or_else(corrupt)?, DeliveryId(row.entity_id)));
                }
                // Of a later release.
                _ => {}
            }
        }
        Ok(FeedPage { changes, marked, position, full, gap })
    }
}
