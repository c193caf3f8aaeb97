//! The counts of broadcasts. They are moved by whatever transaction changes a delivery, in one statement a broadcast, and are
//! never found by counting.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, ExprTrait,
    sea_query::{Expr, Query},
};
use uuid::Uuid;

use crate::{
    domain::{DeliveryState, StateCounts},
    store::{
        StoreError,
        entity::broadcast,
        feed::{Change, News},
        tx::Tx,
    },
};

/// Counts what `changes` tell of shares, broadcast by broadcast in the order of their ids: the last locks before those of the
/// feed.
pub(in crate::store) async fn count_on(tx: &Tx, changes: &[Change]) -> Result<(), StoreError> {
    let mut moved = BTreeMap::<Uuid, StateCounts>::new();
    for change in changes {
        let News::Delivery(delivery, before) = &change.news else { continue };
        let Some(broadcast) = delivery.broadcast else { continue };
        let counts = moved.entry(broadcast).or_default();
        counts.add(delivery.state, 1);
        if let Some(was) = before {
            counts.add(was.state, -1);
        }
    }
    for (id, by) in moved.into_iter().filter(|(_, by)| !by.is_zero()) {
        move_on(tx, id, &by).await?;
    }
    Ok(())
}

async fn move_on(tx: &Tx, id: Uuid, by: &StateCounts) -> Result<(), StoreError> {
    let mut update = Query::update();
    update.table(broadcast::Entity).and_where(broadcast::Column::Id.eq(id));
    for state in DeliveryState::ALL.into_iter().filter(|state| by.of(*state) != 0) {
        update.value(column(state), Expr::col(column(state)).add(by.of(state)));
    }
    update.value(broadcast::Column::CompleteTime, complete_time(tx, by.of(DeliveryState::Pending)));
    tx.db.execute(&update).await?;
    Ok(())
}

/// When it was complete, which it is now if all its deliveries are made and none is pending once `pending` more are. Once
/// complete it stays so: what staff send again is another chance, and not another broadcast.
pub(super) fn complete_time(tx: &Tx, pending: i64) -> Expr {
    let now_complete = Condition::all()
        .add(broadcast::Column::CompleteTime.is_null())
        .add(broadcast::Column::Planned.eq(true))
        .add(Expr::col(broadcast::Column::Pending).add(pending).eq(0));
    Expr::case(now_complete, tx.now).finally(Expr::col(broadcast::Column::CompleteTime)).into()
}

const fn column(state: DeliveryState) -> broadcast::Column {
    match state {
        DeliveryState::Pending => broadcast::Column::Pending,
        DeliveryState::Unconfirmed => broadcast::Column::Unconfirmed,
        DeliveryState::Sent => broadcast::Column::Sent,
        DeliveryState::Delivered => broadcast::Column::Delivered,
        DeliveryState::Failed => broadcast::Column::Failed,
        DeliveryState::Skipped => broadcast::Column::Skipped,
        DeliveryState::Cancelled => broadcast::Column::Cancelled,
    }
}
