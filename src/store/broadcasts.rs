//! Broadcasts: accepted once per `request_id`, planned page by page, counted in the transactions in which their deliveries
//! change, and stopped at any moment. What a broadcast says and to whom is kept apart from where it stands, so that counting
//! stays cheap.

mod addresses;
mod audience;
mod cancel;
mod counts;
mod plan;
mod rows;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{
    Keyset, Store, StoreError,
    entity::{broadcast, broadcast_text},
    idem::{self, Key, Prior},
    vault::PracticeKeys,
};
use crate::domain::{Announcement, Audience, Broadcast, BroadcastId, BroadcastState, ChannelSet, Scope};
pub use audience::{AddressKey, AudiencePage, Member, Position};
pub(super) use cancel::cancelled_on;
pub(super) use counts::count_on;
pub use plan::{PlanTurn, SharePage};

/// A page of a list ends before its broadcasts are larger than this together, in bytes: answers have a limit.
const LONGEST_PAGE: usize = 1024 * 1024;

/// A broadcast to be accepted.
#[derive(Clone, Debug)]
pub struct NewBroadcast {
    /// Made for it.
    pub id: BroadcastId,
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// What it says.
    pub announcement: Announcement,
    /// To whom.
    pub audience: Audience,
    /// Over which channels.
    pub channels: ChannelSet,
    /// Not before; unset: now.
    pub schedule_time: Option<DateTime<Utc>>,
    /// An audience of more patients is refused.
    pub expected: i64,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// Stored now.
    New(Broadcast),
    /// The key made this before, by the same request.
    Replayed(Broadcast),
    /// The key was used for another request, which made this.
    KeyReused(BroadcastId),
}

/// A page of broadcasts, newest first.
#[derive(Debug)]
pub struct BroadcastPage {
    /// The broadcasts.
    pub broadcasts: Vec<Broadcast>,
    /// Set when there may be more.
    pub next: Option<Keyset>,
}

impl Store {
    /// Stores a broadcast, or yields what its key made before. One that is due has started.
    ///
    /// # Errors
    /// NotFound when there is no such practice; StateForbids when more patients are meant than expected.
    pub async fn broadcast_create(&self, scope: &Scope, new: NewBroadcast) -> Result<Created, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let key = key(&scope, &new.request_id, &new.fingerprint, new.id.0);
                if idem::take_on(tx, vec![key]).await?.is_empty() {
                    return before_on(&tx.db, &keys, &scope, key).await?.ok_or(StoreError::Corrupt("idem"));
                }
                let count = audience::count_on(&tx.db, keys.practice(), &new.audience).await?;
                if count > new.expected {
                    return Err(StoreError::StateForbids {
                        state: "AUDIENCE_LARGER",
                        message: "more patients are meant by now than expected_recipients: preview it again",
                    });
                }
                let mut row = rows::new_row(tx, &scope, &new);
                if row.due_time <= tx.now {
                    plan::start(&mut row, count, tx.now);
                }
                let text = rows::text_row(&keys, &new)?;
                let made = rows::to_broadcast(&keys, row.clone(), &text)?;
                tx.insert_all(vec![row]).await?;
                tx.insert_all(vec![text]).await?;
                tx.touch(scope.practice());
                tx.note(&scope, None, format_args!("broadcast/{}", new.id));
                failpoint!("F2");
                Ok(Created::New(made))
            })
        })
        .await
    }

    /// What the key `request_id` made before; unset when it is new.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn broadcast_prior(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Created>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        before_on(&self.within(scope), &keys, scope, key(scope, request_id, fingerprint, Uuid::nil())).await
    }

    /// Reads a broadcast.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn broadcast_get(&self, scope: &Scope, id: BroadcastId) -> Result<Broadcast, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        shown_on(&self.within(scope), &keys, scope, id).await
    }

    /// A broadcast as it is now, of which only where it stands is read.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn broadcast_again(&self, scope: &Scope, known: Broadcast) -> Result<Broadcast, StoreError> {
        let row = row_on(&self.within(scope), scope, known.id).await?;
        rows::moved_on(known, row)
    }

    /// Lists broadcasts in any of `states`, or in whatever state if that is empty, newest first.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn broadcasts_list(
        &self,
        scope: &Scope,
        states: &[BroadcastState],
        after: Option<Keyset>,
        limit: u64,
    ) -> Result<BroadcastPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let any = states.iter().fold(Condition::any(), |any, state| any.add(rows::is_in(*state)));
        let mut query = broadcast::Entity::find()
            .filter(broadcast::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(if states.is_empty() { Condition::all() } else { any });
        if let Some(after) = after {
            // `create_time <= t` beside the pair lets an index serve the page on both databases.
            let same = Condition::all()
                .add(broadcast::Column::CreateTime.eq(after.time))
                .add(broadcast::Column::Id.lt(after.id));
            let older = Condition::any().add(broadcast::Column::CreateTime.lt(after.time)).add(same);
            query = query.filter(broadcast::Column::CreateTime.lte(after.time)).filter(older);
        }
        let found = query
            .order_by_desc(broadcast::Column::CreateTime)
            .order_by_desc(broadcast::Column::Id)
            .limit(limit + 1)
            .all(&self.within(scope))
            .await?;
        let (most, count) = (usize::try_from(limit).unwrap_or(usize::MAX), found.len());
        let (mut broadcasts, mut next, mut length) = (Vec::new(), None, 0);
        for row in found.into_iter().take(most) {
            let text = text_on(&self.within(scope), row.id).await?;
            length += text.body_ct.len();
            if length > LONGEST_PAGE && !broadcasts.is_empty() {
                break;
            }
            next = Some(Keyset { time: row.create_time, id: row.id });
            broadcasts.push(rows::to_broadcast(&keys, row, &text)?);
        }
        Ok(BroadcastPage { next: next.filter(|_| broadcasts.len() < count), broadcasts })
    }
}

fn key<'a>(scope: &'a Scope, request_id: &'a str, fingerprint: &'a [u8; 32], makes: Uuid) -> Key<'a> {
    Key { practice: scope.practice().as_str(), resource: idem::BROADCASTS, request_id, fingerprint, makes }
}

async fn before_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    scope: &Scope,
    key: Key<'_>,
) -> Result<Option<Created>, StoreError> {
    Ok(match key.prior_on(db).await? {
        Prior::Same(id) => Some(Created::Replayed(shown_on(db, keys, scope, BroadcastId(id)).await?)),
        Prior::Other(id) => Some(Created::KeyReused(BroadcastId(id))),
        Prior::None => None,
    })
}

async fn shown_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    scope: &Scope,
    id: BroadcastId,
) -> Result<Broadcast, StoreError> {
    let row = row_on(db, scope, id).await?;
    rows::to_broadcast(keys, row, &text_on(db, id.0).await?)
}

async fn row_on(db: &impl ConnectionTrait, scope: &Scope, id: BroadcastId) -> Result<broadcast::Model, StoreError> {
    let of_practice = broadcast::Column::PracticeId.eq(scope.practice().as_str());
    let row = broadcast::Entity::find_by_id(id.0).filter(of_practice).one(db).await?;
    row.ok_or(StoreError::NotFound("broadcast"))
}

async fn text_on(db: &impl ConnectionTrait, id: Uuid) -> Result<broadcast_text::Model, StoreError> {
    broadcast_text::Entity::find_by_id(id).one(db).await?.ok_or(StoreError::Corrupt("broadcast"))
}
