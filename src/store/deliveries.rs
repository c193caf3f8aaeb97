//! Lists of deliveries: the activity feed, a patient's history and a broadcast's report are one query.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

use super::{Keyset, Store, StoreError, entity::delivery, image};
use crate::domain::{Channel, Delivery, DeliveryFilter, DeliveryState, Kind, PatientId, Scope};

/// A page of deliveries, newest first.
#[derive(Debug)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Delivery>,
    /// Set when there may be more.
    pub next: Option<Keyset>,
}

impl Store {
    /// Lists deliveries, newest first, created in `[start, end)`.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn deliveries_list(
        &self,
        scope: &Scope,
        filter: &DeliveryFilter,
        (start, end): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        after: Option<Keyset>,
        limit: u64,
    ) -> Result<DeliveryPage, StoreError> {
        let mut query = delivery::Entity::find()
            .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
            // Tests are in nobody's history.
            .filter(delivery::Column::SourceKind.ne(image::TEST))
            .filter(condition(filter));
        if let Some(start) = start {
            query = query.filter(delivery::Column::CreateTime.gte(start));
        }
        if let Some(end) = end {
            query = query.filter(delivery::Column::CreateTime.lt(end));
        }
        if let Some(after) = after {
            // `create_time <= t` beside the pair lets an index serve the page on both databases.
            let same = Condition::all()
                .add(delivery::Column::CreateTime.eq(after.time))
                .add(delivery::Column::Id.lt(after.id));
            let older = Condition::any().add(delivery::Column::CreateTime.lt(after.time)).add(same);
            query = query.filter(delivery::Column::CreateTime.lte(after.time)).filter(older);
        }
        let mut rows = query
            .order_by_desc(delivery::Column::CreateTime)
            .order_by_desc(delivery::Column::Id)
            .limit(limit + 1)
            .all(&self.within(scope))
            .await?;
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().filter(|_| more).map(|row| Keyset { time: row.create_time, id: row.id });
        Ok(DeliveryPage { deliveries: rows.iter().map(image::to_delivery).collect::<Result<_, _>>()?, next })
    }
}

/// What staff look for, word for word as its indexes have it: only then are they used. Beside a patient's, which is narrower,
/// neither is of use.
const IN_TROUBLE: &str = "state IN (2, 5, 6, 7)";
const HAS_REFERENCE: &str = "reference <> ''";

const fn is_trouble(state: &DeliveryState) -> bool {
    use DeliveryState::{Cancelled, Failed, Skipped, Unconfirmed};
    matches!(state, Unconfirmed | Failed | Skipped | Cancelled)
}

fn condition(filter: &DeliveryFilter) -> Condition {
    let in_trouble = filter.patients.is_empty() && !filter.states.is_empty() && filter.states.iter().all(is_trouble);
    let referred = filter.patients.is_empty() && !filter.reference.is_empty();
    let numbers = |numbers: Vec<i16>| (!numbers.is_empty()).then_some(numbers);
    let patients: Vec<&str> = filter.patients.iter().map(PatientId::as_str).collect();
    let channels = numbers(filter.channels.iter().copied().map(Channel::number).collect());
    let kinds = numbers(filter.kinds.iter().copied().map(Kind::number).collect());
    let states = numbers(filter.states.iter().copied().map(DeliveryState::number).collect());
    Condition::all()
        .add_option((!patients.is_empty()).then(|| delivery::Column::PatientId.is_in(patients)))
        .add_option(channels.map(|channels| delivery::Column::Channel.is_in(channels)))
        .add_option(kinds.map(|kinds| delivery::Column::Kind.is_in(kinds)))
        .add_option(states.map(|states| delivery::Column::State.is_in(states)))
        .add_option(filter.notification.map(|id| delivery::Column::SourceId.eq(id.0)))
        .add_option(filter.broadcast.map(|id| delivery::Column::BroadcastId.eq(id)))
        .add_option((!filter.reference.is_empty()).then(|| delivery::Column::Reference.eq(&filter.reference)))
        .add_option(in_trouble.then(|| Expr::cust(IN_TROUBLE)))
        .add_option(referred.then(|| Expr::cust(HAS_REFERENCE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_trouble_has_the_numbers_of_the_contract() {
        let numbers =
            DeliveryState::ALL.iter().filter(|state| is_trouble(state)).map(|state| state.number().to_string());
        assert_eq!(IN_TROUBLE, format!("state IN ({})", numbers.collect::<Vec<_>>().join(", ")));
    }
}
