//! The attempts of deliveries that are being changed: read under the lock of their deliveries, changed in memory, written at
//! the end.

use std::collections::BTreeMap;

use sea_orm::{ColumnTrait, Condition, EntityTrait, sea_query::Expr};
use uuid::Uuid;

use super::{StoreError, entity::attempt, queue::attempts_on, tx::Tx};
use crate::domain::{Facts, Known, PracticeId, Provider};

/// Those attempts of a practice to which `providers` gave one of these ids. All of it belongs to each arm of an `OR`: the index
/// leaves out those without an id, and SQLite uses it for an arm only by what that arm says.
pub(super) fn named_by<'a>(
    practice: &PracticeId,
    providers: &[Provider],
    refs: impl IntoIterator<Item = &'a str>,
) -> Condition {
    Condition::all()
        .add(attempt::Column::PracticeId.eq(practice.as_str()))
        .add(attempt::Column::Provider.is_in(providers.iter().map(|&provider| provider as i16)))
        .add(attempt::Column::ProviderRef.is_in(refs))
        .add(Expr::cust("provider_ref <> ''"))
}

/// A delivery, and the number of an attempt of it.
pub(super) type Key = (Uuid, i32);

/// Attempts as they were, and as they are now.
#[derive(Debug, Default)]
pub(super) struct Attempts(BTreeMap<Key, (attempt::Model, attempt::Model)>);

impl Attempts {
    /// Those of `deliveries`, which the caller has locked.
    pub(super) async fn load_on(tx: &Tx, deliveries: impl Iterator<Item = Uuid>) -> Result<Self, StoreError> {
        let rows = attempts_on(tx, deliveries).await?;
        Ok(Self(rows.into_iter().map(|row| ((row.delivery_id, row.n), (row.clone(), row))).collect()))
    }

    pub(super) fn get(&self, key: Key) -> Option<&attempt::Model> {
        self.0.get(&key).map(|(_, row)| row)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut attempt::Model> {
        self.0.get_mut(&key).map(|(_, row)| row)
    }

    /// The attempts of one delivery, from the first.
    pub(super) fn of(&self, delivery: Uuid) -> impl Iterator<Item = &attempt::Model> + Clone {
        self.0.range((delivery, i32::MIN)..=(delivery, i32::MAX)).map(|(_, (_, row))| row)
    }

    /// The same as they were before.
    pub(super) fn was(&self, delivery: Uuid) -> impl Iterator<Item = &attempt::Model> {
        self.0.range((delivery, i32::MIN)..=(delivery, i32::MAX)).map(|(_, (before, _))| before)
    }

    /// The attempt to which the provider's id belongs.
    pub(super) fn holder(&self, provider: i16, reference: &str) -> Option<Key> {
        let holds = |row: &&attempt::Model| row.provider == provider && row.provider_ref == reference;
        self.0.values().map(|(_, row)| row).find(holds).map(|row| (row.delivery_id, row.n))
    }

    /// Takes an attempt back that was never begun.
    pub(super) async fn delete_on(&mut self, tx: &Tx, key: Key) -> Result<(), StoreError> {
        if self.0.remove(&key).is_some() {
            attempt::Entity::delete_by_id(key).exec(&tx.db).await?;
        }
        Ok(())
    }

    /// Writes what changed. An id that passes from one attempt to another is given up before it is taken, since no two may
    /// have it at any moment.
    pub(super) async fn save_on(self, tx: &Tx) -> Result<(), StoreError> {
        let changed = self.0.into_values().filter(|(before, row)| before != row);
        let (giving, others): (Vec<_>, Vec<_>) =
            changed.partition(|(before, row)| !before.provider_ref.is_empty() && row.provider_ref.is_empty());
        for rows in [giving, others] {
            tx.update_all(&rows).await?;
        }
        Ok(())
    }
}

/// What is known of an attempt; unset while it is under way.
pub(super) fn known(row: &attempt::Model) -> Result<Option<Known>, StoreError> {
    row.verdict.map(|number| Known::from_number(number).ok_or(StoreError::Corrupt("attempt"))).transpose()
}

/// Whether the provider certainly took it.
pub(super) fn arrived(row: &attempt::Model) -> bool {
    let verdict = row.verdict.and_then(Known::from_number);
    matches!(verdict, Some(Known::Accepted | Known::Reconciled)) || Facts::from_bits(row.facts).left_us()
}

/// Whether the provider has it, or may have it. An attempt under way is judged when it has ended.
pub(super) fn may_have_arrived(row: &attempt::Model) -> bool {
    arrived(row) || row.verdict == Some(Known::Unknown.number())
}

/// Whether the attempt's id is certain: the provider gave it in its own answer, or in a report with the attempt's token. One
/// that a look found is not.
pub(super) fn is_proved(row: &attempt::Model) -> bool {
    row.verdict == Some(Known::Accepted.number()) || Facts::from_bits(row.facts).any(Facts::PROVED)
}
