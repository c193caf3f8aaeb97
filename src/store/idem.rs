//! The keys of requests: each makes one thing of its kind, and lives as long as that thing.

use sea_orm::{ActiveValue::Set, EntityTrait, TryInsertResult};
use uuid::Uuid;

use super::{StoreError, entity::idem, tx::Tx};

/// Retries of deliveries. Notifications have number 1.
pub(super) const RETRIES: i16 = 2;

/// A key that a caller chose, and what it shall stand for.
#[derive(Debug)]
pub(super) struct Key<'a> {
    pub(super) practice: &'a str,
    pub(super) resource: i16,
    pub(super) request_id: &'a str,
    pub(super) fingerprint: &'a [u8; 32],
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is ours now.
    New,
    /// The same request took it before, and made this.
    Same(Uuid),
    /// Another request took it before, and made this.
    Other(Uuid),
}

/// Takes a key for the thing with this id; a twin under way is waited for on the unique index.
pub(super) async fn take_on(tx: &Tx, key: &Key<'_>, id: Uuid) -> Result<Taken, StoreError> {
    let row = idem::ActiveModel {
        practice_id: Set(key.practice.to_owned()),
        resource: Set(key.resource),
        request_id: Set(key.request_id.to_owned()),
        fingerprint: Set(key.fingerprint.to_vec()),
        resource_id: Set(id),
    };
    let taken = idem::Entity::insert(row)
        .on_conflict_do_nothing_on([idem::Column::PracticeId, idem::Column::Resource, idem::Column::RequestId])
        .exec_without_returning(&tx.db)
        .await?;
    if matches!(taken, TryInsertResult::Inserted(1..)) {
        return Ok(Taken::New);
    }
    // A new statement sees what the twin has committed.
    let key_of = (key.practice.to_owned(), key.resource, key.request_id.to_owned());
    let known = idem::Entity::find_by_id(key_of).one(&tx.db).await?.ok_or(StoreError::Corrupt("idem"))?;
    let same = known.fingerprint == key.fingerprint;
    Ok(if same { Taken::Same(known.resource_id) } else { Taken::Other(known.resource_id) })
}
