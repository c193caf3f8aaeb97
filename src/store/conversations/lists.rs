//! Lists of conversations and of their messages. Nothing is counted: what a view needs stands in the row, and is in an index.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, ExprTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    Select,
    sea_query::{Expr, Query},
};
use uuid::Uuid;

use super::{
    attachments, found_on,
    rows::{self, Owner},
};
use crate::{
    domain::{
        Channel, Conversation, ConversationFilter, ConversationId, ConversationMessage, ConversationState, Delivery,
        DeliveryState, MessageId, PatientId, Scope, Side, Subset,
    },
    store::{
        Keyset, Store, StoreError,
        entity::{conversation, conversation_message, delivery, patient},
        image,
        rows::{padded, these},
        subjects,
        vault::PracticeKeys,
    },
};

/// Most patients that are named as those who may have written. A number that more have is a switchboard's.
const MOST_CANDIDATES: usize = 20;
/// A page ends before its messages are longer than this together, in bytes: answers have a limit.
const LONGEST_PAGE: usize = 1024 * 1024;

/// A page of conversations, latest activity first.
#[derive(Debug)]
pub struct ConversationPage {
    /// The conversations.
    pub conversations: Vec<Conversation>,
    /// Set when there may be more.
    pub next: Option<Keyset>,
}

/// A page of messages, newest first.
#[derive(Debug)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<ConversationMessage>,
    /// Set when there may be more: the last of these.
    pub next: Option<MessageId>,
}

impl Store {
    /// Lists conversations as one side sees them: patients, and the portal for them, those of patients alone.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn conversations_list(
        &self,
        scope: &Scope,
        filter: &ConversationFilter,
        after: Option<Keyset>,
        limit: u64,
    ) -> Result<ConversationPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let mut query = matching(scope, filter);
        if let Some(after) = after {
            // `last_time <= t` beside the pair lets an index serve the page on both databases.
            let same = Condition::all()
                .add(conversation::Column::LastTime.eq(after.time))
                .add(conversation::Column::Id.lt(after.id));
            let older = Condition::any().add(conversation::Column::LastTime.lt(after.time)).add(same);
            query = query.filter(conversation::Column::LastTime.lte(after.time)).filter(older);
        }
        let mut rows = query
            .order_by_desc(conversation::Column::LastTime)
            .order_by_desc(conversation::Column::Id)
            .limit(limit + 1)
            .all(&self.within(scope))
            .await?;
        let more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let next = rows.last().filter(|_| more).map(|row| Keyset { time: row.last_time, id: row.id });
        Ok(ConversationPage { conversations: all_shown_on(&self.within(scope), &keys, rows).await?, next })
    }

    /// These conversations as they are now, by id.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn conversations_of(
        &self,
        scope: &Scope,
        ids: &[ConversationId],
    ) -> Result<BTreeMap<ConversationId, Conversation>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        use conversation::Column::{Id, PracticeId};
        let rows = conversation::Entity::find().filter(these(
            Id,
            ids.iter().map(|id| id.0),
            PracticeId,
            scope.practice().as_str(),
        ));
        let shown = all_shown_on(&self.within(scope), &keys, rows.all(&self.within(scope)).await?).await?;
        Ok(shown.into_iter().map(|it| (it.id, it)).collect())
    }

    /// Lists the messages of a conversation, newest first.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation.
    pub async fn messages_list(
        &self,
        scope: &Scope,
        id: ConversationId,
        after: Option<MessageId>,
        limit: u64,
    ) -> Result<MessagePage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let home = found_on(&self.within(scope), scope, id).await?;
        let mut query = conversation_message::Entity::find()
            .filter(conversation_message::Column::ConversationId.eq(home.id))
            .order_by_desc(conversation_message::Column::Id)
            .limit(limit + 1);
        if let Some(after) = after {
            query = query.filter(conversation_message::Column::Id.lt(after.0));
        }
        let mut rows = query.all(&self.within(scope)).await?;
        let mut more = rows.len() as u64 > limit;
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        more |= cut(&mut rows);
        let next = rows.last().filter(|_| more).map(|row| MessageId(row.id));
        Ok(MessagePage { messages: messages_on(&self.within(scope), &keys, rows).await?, next })
    }

    /// These messages as they are now, by id.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn messages_of(
        &self,
        scope: &Scope,
        ids: &[MessageId],
    ) -> Result<BTreeMap<MessageId, ConversationMessage>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        use conversation_message::Column::{Id, PracticeId};
        let rows = conversation_message::Entity::find().filter(these(
            Id,
            ids.iter().map(|id| id.0),
            PracticeId,
            scope.practice().as_str(),
        ));
        let messages = messages_on(&self.within(scope), &keys, rows.all(&self.within(scope)).await?).await?;
        Ok(messages.into_iter().map(|it| (it.id, it)).collect())
    }
}

/// The conversations that a filter names.
fn matching(scope: &Scope, filter: &ConversationFilter) -> Select<conversation::Entity> {
    use conversation::Column::{AssigneeId, MovedTo, Owner as OwnerKey, PatientId as OfPatient, PracticeId, State};
    let side = Side::of(scope.author());
    let states: Vec<i16> = filter.states.iter().copied().map(ConversationState::number).collect();
    let all = states.is_empty() || states.len() == ConversationState::ALL.len();
    let conditions = Condition::all()
        .add(PracticeId.eq(scope.practice().as_str()))
        .add(MovedTo.is_null())
        .add_option((side == Side::Patient).then(|| OfPatient.ne("")))
        .add_option((!all).then(|| State.is_in(states)))
        .add_option((!filter.assignees.is_empty()).then(|| AssigneeId.is_in(&filter.assignees)))
        .add_option(filter.patient.as_ref().map(|patient| OwnerKey.eq(Owner::Patient(patient.clone()).key())));
    let subset = filter.subset.map(|subset| match subset {
        Subset::Unassigned => AssigneeId.eq(""),
        // Word for word as the indexes have it: only then are they used.
        Subset::Unread => Expr::cust(match side {
            Side::Staff => "\"staff_unread\" > 0",
            Side::Patient => "\"patient_unread\" > 0",
        }),
        Subset::Waiting => conversation::Column::WaitingSince.is_not_null(),
        Subset::Unlinked => Expr::cust("\"patient_id\" = ''"),
        Subset::StopRequested => Expr::cust("\"stop_requested\""),
    });
    conversation::Entity::find().filter(conditions.add_option(subset))
}

/// A conversation as it is shown.
pub(super) async fn shown_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    row: conversation::Model,
) -> Result<Conversation, StoreError> {
    let shown = all_shown_on(db, keys, vec![row]).await?.pop();
    shown.ok_or(StoreError::Corrupt("conversation"))
}

/// Conversations as they are shown, in their order.
async fn all_shown_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    rows: Vec<conversation::Model>,
) -> Result<Vec<Conversation>, StoreError> {
    let mut candidates = candidates_on(db, keys, &rows).await?;
    let mut candidates = |row: &conversation::Model| candidates.remove(&row.id).unwrap_or_default();
    let keys = subjects::opening(db, keys, rows.iter().filter_map(|row| row.sender_ct.as_deref())).await?;
    rows.iter().map(|row| rows::to_conversation(&keys, row, candidates(row))).collect()
}

/// Who has the number of each conversation that is of a number, the one last written to by text first.
async fn candidates_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    rows: &[conversation::Model],
) -> Result<BTreeMap<Uuid, Vec<PatientId>>, StoreError> {
    let numbers: BTreeMap<Vec<u8>, Uuid> =
        rows.iter().filter_map(|row| Some((rows::number_index(row)?, row.id))).collect();
    if numbers.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut candidates = BTreeMap::<Uuid, Vec<(Option<DateTime<Utc>>, PatientId)>>::new();
    for row in db.query_all(&holders(keys, numbers.keys().cloned())).await? {
        let (id, number): (String, Vec<u8>) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let Some(conversation) = numbers.get(&number) else { continue };
        let id = id.parse().map_err(|_| StoreError::Corrupt("patient"))?;
        candidates.entry(*conversation).or_default().push((row.try_get_by_index(2)?, id));
    }
    let latest_first = |mut found: Vec<(Option<DateTime<Utc>>, PatientId)>| {
        found.sort_by(|one, other| other.0.cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
        found.into_iter().map(|(_, id)| id).take(MOST_CANDIDATES).collect()
    };
    Ok(candidates.into_iter().map(|(id, found)| (id, latest_first(found))).collect())
}

/// The patients who have these numbers, each with the number and the time of the latest text to them.
fn holders(keys: &PracticeKeys, numbers: impl Iterator<Item = Vec<u8>>) -> sea_orm::sea_query::SelectStatement {
    let own = |column: delivery::Column| Expr::col((delivery::Entity, column));
    let unsent = [DeliveryState::Skipped, DeliveryState::Cancelled].map(DeliveryState::number);
    let latest = Query::select()
        .column((delivery::Entity, delivery::Column::CreateTime))
        .from(delivery::Entity)
        .and_where(own(delivery::Column::PracticeId).eq(keys.practice()))
        .and_where(own(delivery::Column::PatientId).equals((patient::Entity, patient::Column::PatientId)))
        .and_where(own(delivery::Column::Channel).eq(Channel::Sms.number()))
        .and_where(own(delivery::Column::State).is_not_in(unsent))
        .order_by((delivery::Entity, delivery::Column::CreateTime), Order::Desc)
        .limit(1)
        .to_owned();
    Query::select()
        .column((patient::Entity, patient::Column::PatientId))
        .column((patient::Entity, patient::Column::PhoneBi))
        .expr(Expr::SubQuery(None, Box::new(latest.into())))
        .from(patient::Entity)
        .and_where(Expr::col((patient::Entity, patient::Column::PracticeId)).eq(keys.practice()))
        .and_where(Expr::col((patient::Entity, patient::Column::PhoneBi)).is_in(padded(numbers)))
        .limit(1_000)
        .to_owned()
}

/// Messages as they are shown, in their order.
pub(super) async fn messages_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    rows: Vec<conversation_message::Model>,
) -> Result<Vec<ConversationMessage>, StoreError> {
    let ids: Vec<Uuid> = rows.iter().filter_map(|row| row.delivery_id).collect();
    let mut deliveries = BTreeMap::<Uuid, Delivery>::new();
    if !ids.is_empty() {
        let found = delivery::Entity::find().filter(delivery::Column::Id.is_in(padded(ids))).all(db).await?;
        for row in found {
            deliveries.insert(row.id, image::to_delivery(&row)?);
        }
    }
    let mut files = attachments::of_messages_on(db, keys, rows.iter().map(|row| row.id)).await?;
    let mut files = |row: &conversation_message::Model| files.remove(&row.id).unwrap_or_default();
    let keys = subjects::opening(db, keys, rows.iter().map(|row| row.body_ct.as_slice())).await?;
    rows.iter().map(|row| rows::to_message(&keys, row, &deliveries, files(row))).collect()
}

/// Cuts messages off that would make a page too long, but for the first. True: there were some.
fn cut(rows: &mut Vec<conversation_message::Model>) -> bool {
    let mut total = 0;
    let kept = rows.iter().take_while(|row| {
        total += row.body_ct.len();
        total <= LONGEST_PAGE
    });
    let kept = kept.count().max(1);
    let cut = rows.len() > kept;
    rows.truncate(kept);
    cut
}
