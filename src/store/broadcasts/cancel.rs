//! Cancelling a broadcast. That it is cancelled is a fact in its row, on which every claim of a share meets it: from then on
//! nothing of it begins. The deliveries that wait are stopped after that, page by page, since there may be very many.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::LockType};
use uuid::Uuid;

use super::{PlanTurn, plan};
use crate::{
    domain::{BroadcastId, DeliveryId, Scope},
    store::{
        Store, StoreError,
        draft::save_all_on,
        entity::{broadcast, delivery},
        rows::padded,
        stop,
        tx::Tx,
    },
};

impl Store {
    /// Notes that a broadcast is cancelled, unless it is over. Once this returns, no share of it is claimed any more. False: there was
    /// nothing left to cancel.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn broadcast_cancel(&self, scope: &Scope, id: BroadcastId) -> Result<bool, StoreError> {
        // A practice that is not there is not told from a foreign one.
        self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let row = broadcast::Entity::find_by_id(id.0)
                    .filter(broadcast::Column::PracticeId.eq(scope.practice().as_str()))
                    // Claims that have asked before are waited for.
                    .lock_exclusive()
                    .one(&tx.db)
                    .await?;
                let before = row.ok_or(StoreError::NotFound("broadcast"))?;
                if before.cancel_time.is_some() || before.complete_time.is_some() {
                    return Ok(false);
                }
                let mut row = before.clone();
                row.cancel_time = Some(tx.now);
                row.canceller_type = Some(scope.author().kind as i16);
                row.canceller_id.clone_from(&scope.author().id);
                row.canceller_name.clone_from(&scope.author().display_name);
                // Whoever is planning it loses the turn.
                row.term += 1;
                if row.start_time.is_some() {
                    plan::forgo(&mut row);
                    row.work_at = Some(tx.now);
                } else {
                    (row.work_at, row.planned, row.complete_time) = (None, true, Some(tx.now));
                }
                tx.update_all(&[(before, row)]).await?;
                tx.touch(scope.practice());
                tx.note(&scope, None, format_args!("broadcast/{id}"));
                Ok(true)
            })
        })
        .await
    }

    /// Stops up to `limit` deliveries of a cancelled broadcast that come after `after`. Yields the last of them; unset: there
    /// are no more. With a turn it is kept meanwhile.
    ///
    /// # Errors
    /// Conflict when the turn is somebody else's by now; nothing was stopped then.
    pub async fn broadcast_stop(
        &self,
        (scope, id): (&Scope, BroadcastId),
        turn: Option<&PlanTurn>,
        after: Option<DeliveryId>,
        limit: u64,
    ) -> Result<Option<DeliveryId>, StoreError> {
        let (scope, turn) = (scope.clone(), turn.cloned());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let after = after.map_or(Uuid::nil(), |id| id.0);
                let of_it = delivery::Entity::find()
                    .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
                    .filter(delivery::Column::BroadcastId.eq(id.0))
                    .filter(delivery::Column::Id.gt(after))
                    .limit(limit);
                let (drafts, _) = stop::cancel_open_on(tx, of_it, scope.author()).await?;
                let last = drafts.keys().next_back().copied().map(DeliveryId);
                save_all_on(tx, drafts.into_values()).await?;
                if let Some(turn) = turn {
                    turn.hold_on(tx).await?;
                }
                Ok(last)
            })
        })
        .await
    }
}

/// Those of these broadcasts that are cancelled. A cancel that is committing is waited for, and a later one waits for this
/// transaction. Planning and counting go on meanwhile: neither changes the key.
pub(in crate::store) async fn cancelled_on(tx: &Tx, broadcasts: BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>, StoreError> {
    if broadcasts.is_empty() {
        return Ok(BTreeSet::new());
    }
    let rows = broadcast::Entity::find()
        .filter(broadcast::Column::Id.is_in(padded(broadcasts)))
        .order_by_asc(broadcast::Column::Id)
        .lock(LockType::KeyShare)
        .all(&tx.db)
        .await?;
    Ok(rows.into_iter().filter(|row| row.cancel_time.is_some()).map(|row| row.id).collect())
}
