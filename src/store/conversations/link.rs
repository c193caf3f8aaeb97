//! Giving the conversation of a number to a patient. Its messages move to the patient's own, and the old id leads there.

use std::sync::Arc;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, Func, IntoIden, Query, TableRef, UpdateStatement, WindowStatement},
};
use uuid::Uuid;

use super::{
    found_on, lists,
    rows::{self, Owner},
    thread::{FOR_STAFF, FOR_THE_PATIENT, Thread},
};
use crate::{
    domain::{Conversation, ConversationId, MessageId, Newness, PatientId, PhoneNumber, Scope},
    store::{
        Store, StoreError, directory, draft,
        entity::{conversation, conversation_message},
        feed::{self, Change},
        subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// Most moved messages of which watches are told one by one, the newest. Whoever wants the rest lists them, as whoever begins to
/// watch does.
const MOST_TOLD: u64 = 256;

impl Store {
    /// Gives the conversation of a number to a patient; `store_number` also puts the number into the patient's record. A repeat
    /// changes nothing.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation or patient; StateForbids when it is another patient's, or there is
    /// no number to be stored.
    pub async fn conversation_link(
        &self,
        scope: &Scope,
        id: ConversationId,
        patient: &PatientId,
        store_number: bool,
    ) -> Result<Conversation, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, patient) = (scope.clone(), patient.clone());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move { link_on(tx, &keys, &scope, (id, &patient, store_number)).await })
        })
        .await
    }
}

async fn link_on(
    tx: &Tx,
    keys: &Arc<PracticeKeys>,
    scope: &Scope,
    (id, patient, store_number): (ConversationId, &PatientId, bool),
) -> Result<Conversation, StoreError> {
    // What was begun from a number keeps that number, also when it has moved.
    let asked = super::row_on(&tx.db, scope, id).await?;
    let number = if store_number { Some(number_to_store_on(tx, keys, &asked).await?) } else { None };
    // The patient before their gates, and those before any conversation.
    let drafts = directory::number_put_on(tx, keys, scope.author(), patient, number).await?;
    let mut changes = draft::write_all_on(tx, drafts).await?;
    let known = found_on(&tx.db, scope, id).await?;
    let row = match rows::patient(&known)? {
        Some(theirs) if theirs == *patient => known,
        Some(_) => return Err(ANOTHERS),
        None => {
            let (row, told) = give_on(tx, keys, scope, id, patient).await?;
            tx.note(scope, Some(patient), format_args!("conversation/{id}"));
            changes.extend(told);
            row
        }
    };
    feed::append_on(tx, changes).await?;
    lists::shown_on(&tx.db, keys, row).await
}

const ANOTHERS: StoreError =
    StoreError::StateForbids { state: "linked", message: "the conversation is another patient's already" };

async fn number_to_store_on(
    tx: &Tx,
    keys: &PracticeKeys,
    asked: &conversation::Model,
) -> Result<PhoneNumber, StoreError> {
    rows::number_on(&tx.db, keys, asked).await?.ok_or(StoreError::StateForbids {
        state: "no_number",
        message: "the conversation was not begun from a phone number that could be stored",
    })
}

/// Moves everything from the conversation of a number to that of a patient. Yields the latter, and the changes for the feed.
async fn give_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    id: ConversationId,
    patient: &PatientId,
) -> Result<(conversation::Model, Vec<Change>), StoreError> {
    let mut from = Thread::lock_on(tx, scope, id).await?;
    match rows::patient(&from.row)? {
        Some(theirs) if theirs == *patient => return Ok((from.row, Vec::new())),
        // Somebody else was quicker.
        Some(_) => return Err(ANOTHERS),
        None => {}
    }
    let mut to = Thread::begin_on(tx, keys, &Owner::Patient(patient.clone()), None).await?;
    let told = moved_on(tx, from.row.id, to.row.id).await?;
    let theirs = from.tally()?;
    to.change(|tally| tally.join(&theirs))?;
    take_over_on(tx, keys, &mut to.row, &from.row).await?;
    subjects::give_on(tx, keys.practice(), &from.row.owner, patient).await?;
    for message in told {
        to.tell(Some((MessageId(message), Newness::MovedHere)))?;
    }
    from.row.owner = Owner::Moved(from.row.id).key();
    patient.as_str().clone_into(&mut from.row.patient_id);
    from.row.moved_to = Some(to.row.id);
    from.change(|tally| {
        (tally.staff_unread, tally.waiting_since, tally.stop_requested) = (0, None, false);
    })?;
    let mut changes = from.save_on(tx).await?;
    changes.extend(to.save_on(tx).await?);
    Ok((to.row, changes))
}

/// What the row of a patient's conversation has from one that is given to it, besides what is counted.
async fn take_over_on(
    tx: &Tx,
    keys: &PracticeKeys,
    to: &mut conversation::Model,
    from: &conversation::Model,
) -> Result<(), StoreError> {
    let later = to.last_message_id.is_none() || from.last_time > to.last_time;
    if later && !from.reached_at.is_empty() || to.reached_at.is_empty() {
        to.reached_at.clone_from(&from.reached_at);
    }
    if to.phone_hint.is_empty() {
        to.phone_hint = rows::number_on(&tx.db, keys, from).await?.map(|number| number.mask()).unwrap_or_default();
    }
    if to.assignee_id.is_empty() && !from.assignee_id.is_empty() {
        to.assignee_id.clone_from(&from.assignee_id);
        to.labels += 1;
    }
    to.last_time = if later { from.last_time } else { to.last_time };
    to.last_message_id = Ord::max(to.last_message_id, from.last_message_id);
    Ok(())
}

/// Moves the messages, and gives each of those that are together now its rank anew. Yields the newest of the moved, the oldest
/// first.
async fn moved_on(tx: &Tx, from: Uuid, to: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let mut newest: Vec<Uuid> = conversation_message::Entity::find()
        .select_only()
        .column(conversation_message::Column::Id)
        .filter(conversation_message::Column::ConversationId.eq(from))
        .order_by_desc(conversation_message::Column::Id)
        .limit(MOST_TOLD)
        .into_tuple()
        .all(&tx.db)
        .await?;
    newest.reverse();
    conversation_message::Entity::update_many()
        .col_expr(conversation_message::Column::ConversationId, Expr::val(to))
        .filter(conversation_message::Column::ConversationId.eq(from))
        .exec(&tx.db)
        .await?;
    tx.db.execute(&ranks_anew(to)).await?;
    Ok(newest)
}

/// Counts the messages of a conversation through, each with those before it: for staff, and for the patient.
fn ranks_anew(conversation: Uuid) -> UpdateStatement {
    use conversation_message::{
        Column::{ConversationId, Id, InboundRank, NewsFor, OutboundRank},
        Entity,
    };
    let so_far = |side: i16| {
        let counts = Expr::case(Expr::col(NewsFor).eq(side), 1).finally(0);
        let window = WindowStatement::new().order_by(Id, Order::Asc).to_owned();
        (Func::sum(counts), window)
    };
    let ((inbound, up_to), (outbound, up_to_it)) = (so_far(FOR_STAFF), so_far(FOR_THE_PATIENT));
    let ranked = Query::select()
        .column(Id)
        .expr_window_as(inbound, up_to, "inbound")
        .expr_window_as(outbound, up_to_it, "outbound")
        .from(Entity)
        .and_where(Expr::col(ConversationId).eq(conversation))
        .to_owned();
    Query::update()
        .table(Entity)
        .value(InboundRank, Expr::col(("ranked", "inbound")))
        .value(OutboundRank, Expr::col(("ranked", "outbound")))
        .from(TableRef::SubQuery(Box::new(ranked), "ranked".into_iden()))
        .and_where(Expr::col((Entity, ConversationId)).eq(conversation))
        .and_where(Expr::col((Entity, Id)).equals(("ranked", "id")))
        .to_owned()
}
