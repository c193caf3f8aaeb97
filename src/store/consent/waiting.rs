//! What waits on a channel when it is opted out of, and what is under way.

use std::collections::BTreeSet;

use sea_orm::{
    ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use uuid::Uuid;

use crate::{
    domain::{Author, Channel, Ending, Facts, PatientId, Scope, SkipReason},
    store::{
        Store, StoreError,
        draft::{Draft, Note},
        entity::delivery,
        image::{IN_FLIGHT, WAITING},
        queue::{open, tries},
        rows::padded,
        tx::Tx,
    },
};

/// Ends what waits for these patients on the channel. What a claim holds at this moment is passed by: it waits for the gates
/// that we hold, and will find them shut. To wait for it in turn would be a deadlock.
pub(super) async fn skip_on(
    tx: &Tx,
    practice: &str,
    channel: Channel,
    patients: &BTreeSet<String>,
    author: &Author,
    except: &BTreeSet<Uuid>,
) -> Result<Vec<Draft>, StoreError> {
    if patients.is_empty() {
        return Ok(Vec::new());
    }
    let rows = delivery::Entity::find()
        .filter(delivery::Column::PracticeId.eq(practice))
        .filter(delivery::Column::PatientId.is_in(padded(patients.iter().cloned())))
        .filter(delivery::Column::Channel.eq(channel.number()))
        .filter(delivery::Column::Phase.eq(WAITING))
        .filter(open())
        .order_by_asc(delivery::Column::Id)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    let drafts = rows.into_iter().filter(|row| !except.contains(&row.id)).map(|row| {
        let mut draft = Draft::of(row);
        let fact = Ending::Skipped.fact(tries(&draft.row));
        let detail = if fact == Facts::SKIPPED {
            "Opted out before it was sent: not sent."
        } else {
            "Opted out: not sent again; whether the earlier attempt arrived is unknown."
        };
        draft.row.skip_reason = Some(SkipReason::OptedOut.number());
        draft.add(fact, tx.now)?;
        draft.close();
        draft.note(Note::new(author.clone(), detail), tx.now);
        Ok(draft)
    });
    drafts.collect()
}

/// How many of them are skipped now, and not closed as unknown.
pub(super) fn skipped(drafts: &[Draft]) -> i32 {
    let count = drafts.iter().filter(|draft| draft.facts().any(Facts::SKIPPED)).count();
    i32::try_from(count).unwrap_or(i32::MAX)
}

impl Store {
    /// How many attempts to reach the patient over the channel are under way.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn attempts_under_way(
        &self,
        scope: &Scope,
        patient: &PatientId,
        channel: Channel,
    ) -> Result<u64, StoreError> {
        let count = delivery::Entity::find()
            .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(delivery::Column::PatientId.eq(patient.as_str()))
            .filter(delivery::Column::Channel.eq(channel.number()))
            .filter(delivery::Column::Phase.eq(IN_FLIGHT))
            .filter(open())
            .count(&self.within(scope))
            .await?;
        Ok(count)
    }
}
