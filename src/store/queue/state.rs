//! How the queue stands as a whole, for metrics. What it costs grows with the practices that have something open and with what is in
//! doubt, never with what is queued.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Func, Query},
};

use super::{
    CLASSES,
    due::{ready, waiting},
};
use crate::{
    domain::{Class, Engine},
    store::{
        Store, StoreError,
        entity::{data_key, delivery, feed_head},
        image::{IN_FLIGHT, RECONCILING},
        instance,
    },
    telemetry::QueueState,
};

/// The counter of what is open in a class.
const fn open(class: Class) -> feed_head::Column {
    match class {
        Class::Urgent => feed_head::Column::Open0,
        Class::Normal => feed_head::Column::Open1,
        Class::Bulk => feed_head::Column::Open2,
    }
}

impl Store {
    /// How the queue of all practices stands.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn queue_state(&self, engine: &Engine) -> Result<QueueState, StoreError> {
        let (store, engine) = (self.clone(), engine.clone());
        // Whoever goes away in the middle of it must not break the connection off.
        let task = self.inner.tasks.spawn(async move { store.state_now(&engine).await });
        task.await.map_err(|_| StoreError::Abandoned)?
    }

    async fn state_now(&self, engine: &Engine) -> Result<QueueState, StoreError> {
        let now = self.now().await?;
        let since = |time: Option<DateTime<Utc>>| {
            time.map_or_else(Default::default, |time| (now - time).to_std().unwrap_or_default())
        };
        let mut classes = Vec::with_capacity(CLASSES);
        for &class in Class::ALL {
            classes.push((class, self.depth(engine, class).await?, since(self.oldest_due(engine, class).await?)));
        }
        let in_doubt = delivery::Entity::find().filter(delivery::Column::Phase.eq(RECONCILING));
        let lease = delivery::Entity::find()
            .select_only()
            .column(delivery::Column::LeaseUntil)
            .filter(delivery::Column::Phase.eq(IN_FLIGHT))
            .filter(delivery::Column::LeaseUntil.lt(now))
            .order_by_asc(delivery::Column::LeaseUntil)
            .into_tuple::<Option<DateTime<Utc>>>();
        let uses = data_key::Entity::find()
            .select_only()
            .column(data_key::Column::Uses)
            .filter(data_key::Column::RetireTime.is_null())
            .order_by_desc(data_key::Column::Uses)
            .into_tuple::<i64>();
        Ok(QueueState {
            classes,
            unconfirmed: in_doubt.count(self.across()).await?,
            expired_lease: since(lease.one(self.across()).await?.flatten()),
            key_use: uses.one(self.across()).await?.unwrap_or_default() as f64 / self.inner.key_uses as f64,
            connections: self.inner.connections.in_use(),
            quiet: instance::quiet_on(self.across()).await?,
        })
    }

    async fn depth(&self, _: &Engine, class: Class) -> Result<i64, StoreError> {
        let mut sum = Query::select();
        sum.expr(Func::coalesce([Func::sum(Expr::col(open(class))).cast_as("bigint"), Expr::val(0)]))
            .from(feed_head::Entity);
        let row = self.across().query_one(&sum).await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default())
    }

    /// When the first delivery of a class was due, or will be: the first of each practice, by its index, and of these the first.
    async fn oldest_due(&self, _: &Engine, class: Class) -> Result<Option<DateTime<Utc>>, StoreError> {
        let first = Query::select()
            .expr(ready())
            .from(delivery::Entity)
            .and_where(
                Expr::col((delivery::Entity, delivery::Column::PracticeId))
                    .equals((feed_head::Entity, feed_head::Column::PracticeId)),
            )
            .and_where(waiting(class))
            .order_by_expr(ready(), sea_orm::Order::Asc)
            .limit(1)
            .to_owned();
        let firsts = Query::select()
            .expr_as(Expr::SubQuery(None, Box::new(first.into())), "first")
            .from(feed_head::Entity)
            .and_where(Expr::col(open(class)).gt(0))
            .to_owned();
        let query = Query::select()
            .expr(Expr::col("first"))
            .from_subquery(firsts, "firsts")
            .and_where(Expr::col("first").is_not_null())
            .order_by("first", sea_orm::Order::Asc)
            .limit(1)
            .to_owned();
        let row = self.across().query_one(&query).await?;
        Ok(row.map(|row| row.try_get_by_index(0)).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::place, *};

    #[test]
    fn each_class_has_its_counter() {
        let all: Vec<_> = Class::ALL.iter().map(|&class| (place(class), open(class))).collect();
        assert_eq!(all.len(), CLASSES);
        assert!(all.iter().all(|(place, column)| format!("{column:?}") == format!("Open{place}")), "{all:?}");
    }
}
