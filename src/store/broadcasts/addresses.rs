//! The addresses that a broadcast has written to, each once a channel. They are there while it is planned, since whoever has one of
//! them too is not written to; nobody asks for them after that.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{AddressKey, PlanTurn};
use crate::{
    domain::{Channel, Engine},
    store::{
        Store, StoreError,
        entity::{broadcast, broadcast_address},
        rows::padded,
        tx::Tx,
    },
};

impl Store {
    /// Which of these addresses the broadcast has written to before.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn broadcast_taken(
        &self,
        turn: &PlanTurn,
        addresses: impl IntoIterator<Item = (Channel, AddressKey)>,
    ) -> Result<BTreeSet<(Channel, AddressKey)>, StoreError> {
        let asked: BTreeSet<(Channel, AddressKey)> = addresses.into_iter().collect();
        let keys = padded(asked.iter().map(|(_, AddressKey(key))| key.to_vec()));
        let rows = broadcast_address::Entity::find()
            .filter(broadcast_address::Column::BroadcastId.eq(turn.broadcast.id.0))
            .filter(broadcast_address::Column::Channel.is_in(Channel::ALL.map(Channel::number)))
            .filter(broadcast_address::Column::AddressBi.is_in(keys))
            .all(&self.within(&turn.scope))
            .await?;
        let taken = rows
            .into_iter()
            .filter_map(|row| Some((Channel::from_number(row.channel)?, AddressKey(row.address_bi.try_into().ok()?))));
        Ok(taken.filter(|one| asked.contains(one)).collect())
    }

    /// Forgets the addresses of broadcasts all of whose deliveries are made, at most `limit` of them. Says how many went; there may
    /// be more as long as it is not 0.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn broadcast_addresses_forget(&self, _: &Engine, limit: u64) -> Result<u64, StoreError> {
        self.write_across(move |tx| {
            Box::pin(async move {
                let (mut gone, mut after) = (0, Uuid::nil());
                while gone < limit {
                    let Some(next) = next_on(tx, after).await? else { break };
                    let row = broadcast::Entity::find_by_id(next).one(&tx.db).await?;
                    if row.is_none_or(|row| row.planned) {
                        gone += forget_on(tx, next, limit - gone).await?;
                    }
                    after = next;
                }
                Ok(gone)
            })
        })
        .await
    }
}

/// The next broadcast that has addresses: one probe of the index for each.
async fn next_on(tx: &Tx, after: Uuid) -> Result<Option<Uuid>, StoreError> {
    let next = broadcast_address::Entity::find()
        .select_only()
        .column(broadcast_address::Column::BroadcastId)
        .filter(broadcast_address::Column::BroadcastId.gt(after))
        .order_by_asc(broadcast_address::Column::BroadcastId)
        .limit(1)
        .into_tuple()
        .one(&tx.db)
        .await?;
    Ok(next)
}

/// Deletes the first addresses of a broadcast, in the order of their key.
async fn forget_on(tx: &Tx, id: Uuid, limit: u64) -> Result<u64, StoreError> {
    use broadcast_address::Column::{AddressBi, BroadcastId, Channel};
    let beyond: Option<(i16, Vec<u8>)> = broadcast_address::Entity::find()
        .select_only()
        .columns([Channel, AddressBi])
        .filter(BroadcastId.eq(id))
        .order_by_asc(Channel)
        .order_by_asc(AddressBi)
        .offset(limit)
        .limit(1)
        .into_tuple()
        .one(&tx.db)
        .await?;
    let mut delete = broadcast_address::Entity::delete_many().filter(BroadcastId.eq(id));
    if let Some((channel, address)) = beyond {
        let same = Condition::all().add(Channel.eq(channel)).add(AddressBi.lt(address));
        delete = delete.filter(Condition::any().add(Channel.lt(channel)).add(same));
    }
    Ok(delete.exec(&tx.db).await?.rows_affected)
}
