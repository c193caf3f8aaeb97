//! What is due, asked without taking anything: which practices have something open, and which of their classes something to
//! do now. Neither question walks over what is finished.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Query, SelectStatement},
};

use crate::{
    domain::{Class, Engine, PracticeId},
    store::{
        Store, StoreError,
        entity::{delivery, feed_head},
        instance::may_send,
        rows::padded,
    },
};

/// Practices in one page.
const PAGE: u64 = 64;

/// How many classes there are.
pub const CLASSES: usize = Class::ALL.len();

/// A practice that is asked about, and where the look at each of its classes begins.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The practice.
    pub practice: PracticeId,
    /// Nothing before this is looked at; unset: everything is.
    pub marks: [Option<DateTime<Utc>>; CLASSES],
}

impl Store {
    /// A page of the practices that have something open, in the order of their ids, after that one.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn practices_open(&self, _: &Engine, after: Option<&PracticeId>) -> Result<Vec<PracticeId>, StoreError> {
        let open = Condition::any()
            .add(feed_head::Column::Open0.gt(0))
            .add(feed_head::Column::Open1.gt(0))
            .add(feed_head::Column::Open2.gt(0));
        let mut query = feed_head::Entity::find().filter(open);
        if let Some(after) = after {
            query = query.filter(feed_head::Column::PracticeId.gt(after.as_str()));
        }
        let names = query
            .select_only()
            .column(feed_head::Column::PracticeId)
            .order_by_asc(feed_head::Column::PracticeId)
            .limit(PAGE)
            .into_tuple::<String>()
            .all(self.across())
            .await?;
        names.iter().map(|name| practice(name)).collect()
    }

    /// Which classes of the practices asked about have something due now.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn practices_due(&self, _: &Engine, asked: &[Asked]) -> Result<Vec<(PracticeId, Class)>, StoreError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.inner.connections.dialect;
        let now = dialect.now_expr(&self.inner.time);
        let rows = padded(asked).into_iter().map(|asked| {
            let mark = |class: Class| asked.marks.get(place(class)).copied().flatten().unwrap_or_default();
            (asked.practice.as_str(), mark(Class::Urgent), mark(Class::Normal), mark(Class::Bulk))
        });
        let mut query = Query::select();
        query.column(("asked", "column1")).from_values(rows, "asked").and_where(may_send(dialect));
        for &class in Class::ALL {
            let mark = Expr::col(("asked", format!("column{}", place(class) + 2)));
            query.expr(Expr::exists(due(Expr::col(("asked", "column1")), class, mark, now.clone())));
        }
        let (mut due, mut heard) = (Vec::new(), BTreeSet::new());
        for row in self.across().query_all(&query).await? {
            let practice = practice(&row.try_get_by_index::<String>(0)?)?;
            if !heard.insert(practice.clone()) {
                continue;
            }
            for &class in Class::ALL {
                if row.try_get_by_index(place(class) + 1)? {
                    due.push((practice.clone(), class));
                }
            }
        }
        Ok(due)
    }
}

/// Where a class stands among all.
pub const fn place(class: Class) -> usize {
    class as usize
}

fn practice(name: &str) -> Result<PracticeId, StoreError> {
    name.parse().map_err(|_| StoreError::Corrupt("feed_head"))
}

/// One delivery that is due.
fn due(practice: Expr, class: Class, mark: Expr, now: Expr) -> SelectStatement {
    Query::select()
        .expr(Expr::val(1))
        .from(delivery::Entity)
        .and_where(Expr::col((delivery::Entity, delivery::Column::PracticeId)).eq(practice))
        .and_where(waiting(class))
        .and_where(ready().gte(mark))
        .and_where(ready().lte(now))
        .to_owned()
}

/// That a delivery waits in that class. As words and not as values, since a plan that is made for any value cannot use an
/// index of some rows.
pub(super) fn waiting(class: Class) -> Expr {
    Expr::cust(format!("phase = 0 AND class = {}", class.number()))
}

/// That something may still happen to a delivery by itself. Said beside a single phase, since SQLite does not conclude it.
pub(in crate::store) fn open() -> Expr {
    Expr::cust("phase < 3")
}

/// When the queue looks at a delivery: at its time, or when it need not be parked any longer. Word for word as in the index.
pub(super) fn ready() -> Expr {
    Expr::cust("CASE WHEN parked_until > not_before THEN parked_until ELSE not_before END")
}

/// The same of a row that was read.
pub(super) fn ready_at(row: &delivery::Model) -> DateTime<Utc> {
    Ord::max(row.not_before, row.parked_until.unwrap_or(row.not_before))
}
