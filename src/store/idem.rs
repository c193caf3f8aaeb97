//! The keys of requests: each makes one thing of its kind, and lives as long as that thing.

use std::collections::BTreeSet;

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryTrait, sea_query::Query};
use uuid::Uuid;

use super::{StoreError, entity::idem, rows::padded, tx::Tx};

/// Notifications.
pub(super) const NOTIFICATIONS: i16 = 1;
/// Retries of deliveries.
pub(super) const RETRIES: i16 = 2;
/// Decisions on consent.
pub(super) const CONSENTS: i16 = 3;
/// Test messages.
pub(super) const TESTS: i16 = 4;
/// Messages of conversations.
pub(super) const MESSAGES: i16 = 5;
/// Broadcasts.
pub(super) const BROADCASTS: i16 = 6;
/// Files that were uploaded.
pub(super) const ATTACHMENTS: i16 = 7;

/// A key that a caller chose, and what it shall stand for. Keys are ordered as they are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key<'a> {
    pub(super) practice: &'a str,
    pub(super) resource: i16,
    pub(super) request_id: &'a str,
    /// A keyed digest of the request without its key.
    pub(super) fingerprint: &'a [u8; 32],
    /// The thing that it makes, if it is new.
    pub(super) makes: Uuid,
}

/// What a key made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prior {
    /// Nothing.
    None,
    /// This, by the same request.
    Same(Uuid),
    /// This, by another request.
    Other(Uuid),
}

impl Key<'_> {
    /// What the key made before.
    pub(super) async fn prior_on(&self, db: &impl ConnectionTrait) -> Result<Prior, StoreError> {
        let key = (self.practice.to_owned(), self.resource, self.request_id.to_owned());
        Ok(match idem::Entity::find_by_id(key).one(db).await? {
            None => Prior::None,
            Some(row) if row.fingerprint == self.fingerprint => Prior::Same(row.resource_id),
            Some(row) => Prior::Other(row.resource_id),
        })
    }
}

/// Frees a key whose thing is gone, or was never made.
pub(super) async fn free_on(tx: &Tx, practice: &str, resource: i16, request_id: &str) -> Result<(), StoreError> {
    let key = (practice.to_owned(), resource, request_id.to_owned());
    idem::Entity::delete_by_id(key).exec(&tx.db).await?;
    Ok(())
}

/// Has a key that was taken stand for `made`, which had no id yet when it was.
pub(super) async fn stands_for_on(tx: &Tx, key: Key<'_>, made: Uuid) -> Result<(), StoreError> {
    idem::Entity::update_many()
        .set(idem::ActiveModel { resource_id: Set(made), ..Default::default() })
        .filter(idem::Column::PracticeId.eq(key.practice))
        .filter(idem::Column::Resource.eq(key.resource))
        .filter(idem::Column::RequestId.eq(key.request_id))
        .exec(&tx.db)
        .await?;
    Ok(())
}

/// Takes keys of one kind of thing, each named once; a twin under way is waited for on the unique index. Yields the things
/// whose key is theirs. What the others made before is seen by a new statement.
pub(super) async fn take_on(tx: &Tx, mut keys: Vec<Key<'_>>) -> Result<BTreeSet<Uuid>, StoreError> {
    keys.sort();
    // A key that is named twice is taken once.
    let rows = padded(&keys).into_iter().map(|key| idem::ActiveModel {
        practice_id: Set(key.practice.to_owned()),
        resource: Set(key.resource),
        request_id: Set(key.request_id.to_owned()),
        fingerprint: Set(key.fingerprint.to_vec()),
        resource_id: Set(key.makes),
    });
    let insert = idem::Entity::insert_many(rows)
        .on_conflict_do_nothing_on([idem::Column::PracticeId, idem::Column::Resource, idem::Column::RequestId])
        .into_query()
        .returning(Query::returning().column(idem::Column::ResourceId))
        .to_owned();
    let taken = tx.db.query_all(&insert).await?;
    Ok(taken.iter().map(|row| row.try_get_by_index(0)).collect::<Result<_, _>>()?)
}
