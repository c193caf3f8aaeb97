//! The feed: every change of a practice, numbered without gaps in the order of the commits. The head row that numbers it is
//! updated last in each writing transaction and held until COMMIT, so that the order of the numbers is the order in which
//! readers may see them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Query},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Store, StoreError, audit, broadcasts,
    entity::{feed, feed_head},
    image,
    queue::{CLASSES, place},
    tx::Tx,
};
use crate::domain::{
    Channel, Class, ConversationId, ConversationNews, Delivery, DeliveryChange, DeliveryId, DeliveryState,
    FailureReason, MessageId, Newness, PatientId, PracticeId, Scope,
};

pub(super) const DELIVERIES: i16 = 1;
const INBOXES: i16 = 2;
const CONVERSATIONS: i16 = 3;

/// One change, before it has a number.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) practice: PracticeId,
    pub(super) news: News,
    pub(super) class: i16,
    /// +1 when it became open, -1 when it was closed.
    pub(super) opened: i64,
}

/// What a change tells.
#[derive(Debug)]
pub(super) enum News {
    /// Nothing that the API shows: only the counters move.
    None,
    /// A delivery as it is now, and how it stood before.
    Delivery(Box<Delivery>, Option<Was>),
    /// An item of a patient's inbox that was marked, where its delivery shows nothing of it.
    Marked(PatientId, Uuid),
    /// A conversation, and its revision.
    Conversation(ConversationNews, i64),
}

/// How a delivery stood before a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Was {
    pub(super) state: DeliveryState,
    /// Why it had failed, if it had.
    pub(super) failure: Option<FailureReason>,
}

impl News {
    /// Over which channel a delivery came to another state than to wait, if it tells of that.
    fn settled(&self) -> Option<(Channel, DeliveryState)> {
        let Self::Delivery(delivery, was) = self else { return None };
        let was = was.map_or(DeliveryState::Pending, |was| was.state);
        (delivery.state != was && delivery.state != DeliveryState::Pending)
            .then_some((delivery.channel, delivery.state))
    }
}

impl Was {
    /// What a change of the feed keeps of it; unset for a new delivery.
    pub(super) fn of(row: &feed::Model) -> Option<Self> {
        let state = row.previous_state.and_then(DeliveryState::from_number)?;
        Some(Self { state, failure: row.previous_failure.and_then(FailureReason::from_number) })
    }
}

impl Change {
    /// Of something that is not counted among what is open.
    pub(super) const fn of(practice: PracticeId, news: News) -> Self {
        Self { practice, news, class: 0, opened: 0 }
    }

    /// Segments that it adds to what the practice texts. Tests, which no news tells of, have a limit of their own.
    fn texted(&self) -> i64 {
        match &self.news {
            News::Delivery(delivery, None) if self.opened > 0 && delivery.channel == Channel::Sms => {
                i64::from(Ord::max(delivery.sms_segments, 1))
            }
            _ => 0,
        }
    }
}

/// Changes after a position.
#[derive(Debug)]
pub struct FeedPage {
    /// The changes of deliveries, oldest first.
    pub changes: Vec<DeliveryChange>,
    /// Items of inboxes that were marked though their deliveries did not change, oldest first.
    pub marked: Vec<(PatientId, DeliveryId)>,
    /// Conversations that changed, oldest first, each with how many of the changes of deliveries come before it.
    pub talk: Vec<(usize, ConversationNews)>,
    /// Everything up to here is in the page or of another stream.
    pub position: i64,
    /// Whether more may follow at once.
    pub full: bool,
    /// Changes after the position asked for are forgotten already.
    pub gap: bool,
}

/// How many deliveries of a practice are open, by class, and how much it has texted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenDeliveries {
    classes: [i64; CLASSES],
    text_day: i32,
    text_segments: i64,
}

impl OpenDeliveries {
    /// How many of them go before the next one of `class`: however much there is that can wait, it keeps nobody out whose
    /// turn is earlier.
    #[must_use]
    pub fn before_the_next(self, class: Class) -> i64 {
        self.classes.iter().take(place(class) + 1).sum()
    }

    /// Segments of text messages that were taken on in the day (UTC) of `now`.
    #[must_use]
    pub fn texted(self, now: DateTime<Utc>) -> i64 {
        if self.text_day == day(now) { self.text_segments } else { 0 }
    }
}

/// Days since 1970, in UTC.
fn day(time: DateTime<Utc>) -> i32 {
    i32::try_from(time.timestamp().div_euclid(86_400)).unwrap_or(i32::MAX)
}

/// The positions between which a cursor may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedBounds {
    /// The oldest position from which nothing is missing.
    pub earliest: i64,
    /// The newest position.
    pub newest: i64,
}

/// Counts changes for their broadcasts and adds them to the feeds of their practices, in the order of the practices' ids, once the
/// audit trails tell what was noted. Always the last thing in a transaction.
pub(super) async fn append_on(tx: &Tx, changes: Vec<Change>) -> Result<(), StoreError> {
    broadcasts::count_on(tx, &changes).await?;
    audit::append_noted_on(tx, !changes.is_empty()).await?;
    let mut practices = BTreeMap::<PracticeId, Vec<Change>>::new();
    for change in changes {
        practices.entry(change.practice.clone()).or_default().push(change);
    }
    let mut rows = Vec::new();
    for (practice, changes) in practices {
        let mut seq = advance_on(tx, &practice, &changes).await?;
        failpoint!("feed");
        for Change { news, .. } in changes {
            if let Some((channel, state)) = news.settled() {
                tx.settled(channel, state);
            }
            let Some(mut row) = row(news)? else { continue };
            seq += 1;
            (row.seq, row.at) = (seq, tx.now);
            practice.as_str().clone_into(&mut row.practice_id);
            rows.push(row);
        }
        tx.touch(&practice);
    }
    tx.insert_all(rows).await
}

/// The row that tells it, without its place.
fn row(news: News) -> Result<Option<feed::Model>, StoreError> {
    let row = |stream, entity_id, revision, image| feed::Model {
        practice_id: String::new(),
        seq: 0,
        stream,
        entity_id,
        revision,
        state: None,
        previous_state: None,
        previous_failure: None,
        image,
        at: DateTime::UNIX_EPOCH,
    };
    Ok(match news {
        News::None => None,
        News::Delivery(delivery, before) => Some(feed::Model {
            state: Some(delivery.state.number()),
            previous_state: before.map(|was| was.state.number()),
            previous_failure: before.and_then(|was| was.failure).map(FailureReason::number),
            ..row(DELIVERIES, delivery.id.0, delivery.revision, image::encode(&delivery)?)
        }),
        // Its image is its patient's id; whoever watches reads the rest.
        News::Marked(patient, item) => Some(row(INBOXES, item, 0, patient.as_str().as_bytes().to_vec())),
        News::Conversation(news, revision) => Some(row(CONVERSATIONS, news.conversation.0, revision, talk(&news)?)),
    })
}

/// What the feed keeps of a conversation. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Talk {
    patient: String,
    message: Option<Uuid>,
    moved_here: bool,
    changed: bool,
    moved_to: Option<Uuid>,
}

fn talk(news: &ConversationNews) -> Result<Vec<u8>, StoreError> {
    let talk = Talk {
        patient: news.patient.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        message: news.message.map(|(id, _)| id.0),
        moved_here: news.message.is_some_and(|(_, newness)| newness == Newness::MovedHere),
        changed: news.message.is_some_and(|(_, newness)| newness == Newness::Changed),
        moved_to: news.moved_to.map(|id| id.0),
    };
    serde_json::to_vec(&talk).map_err(|_| StoreError::Corrupt("conversation"))
}

fn to_news(row: &feed::Model) -> Option<ConversationNews> {
    let talk: Talk = serde_json::from_slice(&row.image).ok()?;
    let newness = match (talk.moved_here, talk.changed) {
        (true, _) => Newness::MovedHere,
        (_, true) => Newness::Changed,
        _ => Newness::Said,
    };
    Some(ConversationNews {
        conversation: ConversationId(row.entity_id),
        patient: if talk.patient.is_empty() { None } else { Some(talk.patient.parse().ok()?) },
        message: talk.message.map(|id| (MessageId(id), newness)),
        moved_to: talk.moved_to.map(ConversationId),
    })
}

/// Moves the head of a practice on by its changes, and yields where it was.
async fn advance_on(tx: &Tx, practice: &PracticeId, changes: &[Change]) -> Result<i64, StoreError> {
    let mut opened = [0_i64; 3];
    for change in changes {
        if let Some(count) = usize::try_from(change.class).ok().and_then(|class| opened.get_mut(class)) {
            *count += change.opened;
        }
    }
    let told = changes.iter().filter(|change| !matches!(change.news, News::None));
    let count = i64::try_from(told.count()).unwrap_or(i64::MAX);
    let mut update = Query::update();
    update
        .table(feed_head::Entity)
        .value(feed_head::Column::Seq, Expr::col(feed_head::Column::Seq).add(count))
        .value(feed_head::Column::Open0, Expr::col(feed_head::Column::Open0).add(opened[0]))
        .value(feed_head::Column::Open1, Expr::col(feed_head::Column::Open1).add(opened[1]))
        .value(feed_head::Column::Open2, Expr::col(feed_head::Column::Open2).add(opened[2]))
        .and_where(Expr::col(feed_head::Column::PracticeId).eq(practice.as_str()))
        .returning(Query::returning().column(feed_head::Column::Seq));
    let texted: i64 = changes.iter().map(Change::texted).sum();
    if texted > 0 {
        let (today, column) = (day(tx.now), || Expr::col(feed_head::Column::TextSegments));
        let more = Expr::case(Expr::col(feed_head::Column::TextDay).eq(today), column().add(texted)).finally(texted);
        update.value(feed_head::Column::TextSegments, more).value(feed_head::Column::TextDay, today);
    }
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
    let classes = [head.open0, head.open1, head.open2];
    Ok(OpenDeliveries { classes, text_day: head.text_day, text_segments: head.text_segments })
}

impl Store {
    /// The newest position of the practice's feed.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn feed_head(&self, scope: &Scope) -> Result<i64, StoreError> {
        let head = feed_head::Entity::find_by_id(scope.practice().as_str()).one(&self.within(scope)).await?;
        Ok(head.ok_or(StoreError::NotFound("practice"))?.seq)
    }

    /// How much of the practice is open.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn open_deliveries_of(&self, scope: &Scope) -> Result<OpenDeliveries, StoreError> {
        open_on(&self.within(scope), scope.practice().as_str()).await
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
            .one(&self.within(scope))
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
            .one(&self.within(scope))
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
            .all(&self.within(scope))
            .await?;
        let full = rows.len() as u64 == limit;
        // The numbers are dense, so that a first one further on means that rows went while the reader was slow.
        let gap = rows.first().is_some_and(|row| row.seq != position + 1) && !mutant!("serial feed");
        let position = rows.last().map_or(position, |row| row.seq);
        let corrupt = || StoreError::Corrupt("feed");
        let (mut changes, mut marked, mut talk) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            match row.stream {
                DELIVERIES => {
                    let state = row.state.ok_or_else(corrupt)?;
                    let delivery = image::decode(row.entity_id, row.revision, state, &row.image)?;
                    let previous_state = Was::of(&row).map(|was| was.state);
                    changes.push(DeliveryChange { delivery, previous_state });
                }
                INBOXES => {
                    let patient = std::str::from_utf8(&row.image).ok().and_then(|patient| patient.parse().ok());
                    marked.push((patient.ok_or_else(corrupt)?, DeliveryId(row.entity_id)));
                }
                CONVERSATIONS => talk.push((changes.len(), to_news(&row).ok_or_else(corrupt)?)),
                // Of a later release.
                _ => {}
            }
        }
        Ok(FeedPage { changes, marked, talk, position, full, gap })
    }
}
