//! A conversation that is being changed: its locked row, the messages that are new in it, and what watches see of it, until all
//! of them are written together.

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Select, sea_query::LockType};
use uuid::Uuid;

use super::rows::{self, Body, Owner, Sender};
use crate::{
    crypto,
    domain::{
        Author, ConsentSource, ConversationId, ConversationNews, ConversationState, DeliveryId, Direction, MessageId,
        MessageRoute, Newness, PracticeId, Said, Scope, Side, Tally,
    },
    store::{
        StoreError,
        entity::{conversation, conversation_message},
        feed::{Change, News},
        subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// How often one that somebody else gives away meanwhile is looked for.
const TRIES: usize = 5;

/// What is said in it.
pub(super) struct Saying<'a> {
    pub(super) direction: Direction,
    pub(super) route: MessageRoute,
    pub(super) said: Said,
    pub(super) author: &'a Author,
    pub(super) body: Body,
    pub(super) delivery: Option<DeliveryId>,
    pub(super) consent_source: Option<ConsentSource>,
}

/// A conversation under its lock.
pub(super) struct Thread {
    before: Option<conversation::Model>,
    pub(super) row: conversation::Model,
    messages: Vec<conversation_message::Model>,
    told: Vec<News>,
}

fn of_practice(practice: &str) -> Select<conversation::Entity> {
    conversation::Entity::find().filter(conversation::Column::PracticeId.eq(practice))
}

impl Thread {
    fn of(row: conversation::Model) -> Self {
        Self { before: Some(row.clone()), row, messages: Vec::new(), told: Vec::new() }
    }

    /// Locks the conversation of an owner, if there is one.
    pub(super) async fn owned_on(tx: &Tx, practice: &str, owner: &Owner) -> Result<Option<Self>, StoreError> {
        let row = of_practice(practice).filter(conversation::Column::Owner.eq(owner.key())).lock(LockType::Update);
        Ok(row.one(&tx.db).await?.map(Self::of))
    }

    /// Locks the conversation of an owner, and begins it if there is none; `sender` is who writes, where that is no patient.
    pub(super) async fn begin_on(
        tx: &Tx,
        keys: &PracticeKeys,
        owner: &Owner,
        sender: Option<&Sender>,
    ) -> Result<Self, StoreError> {
        for _ in 0..TRIES {
            if let Some(thread) = Self::owned_on(tx, keys.practice(), owner).await? {
                return Ok(thread);
            }
            let keys = subjects::take_on(tx, keys, [owner.key()]).await?;
            let row = new_row(tx, &keys, owner, sender)?.into_active_model();
            // Whoever begins the same one at this moment is waited for, and theirs is found next.
            let key = [conversation::Column::PracticeId, conversation::Column::Owner];
            conversation::Entity::insert(row).on_conflict_do_nothing_on(key).exec_without_returning(&tx.db).await?;
        }
        Err(StoreError::Abandoned)
    }

    /// Locks the conversation of that id, or the one that it leads to.
    pub(super) async fn lock_on(tx: &Tx, scope: &Scope, id: ConversationId) -> Result<Self, StoreError> {
        let mut next = id.0;
        // One that was given away leads to a patient's, which never is.
        for _ in 0..2 {
            let row = of_practice(scope.practice().as_str())
                .filter(conversation::Column::Id.eq(next))
                .lock(LockType::Update)
                .one(&tx.db)
                .await?
                .ok_or(StoreError::NotFound("conversation"))?;
            match row.moved_to {
                None => return Ok(Self::of(row)),
                Some(id) => next = id,
            }
        }
        Err(StoreError::Corrupt("conversation"))
    }

    pub(super) fn tally(&self) -> Result<Tally, StoreError> {
        rows::tally(&self.row)
    }

    fn count(&mut self, tally: &Tally) {
        self.row.inbound_count = tally.inbound;
        self.row.outbound_count = tally.outbound;
        self.row.staff_unread = tally.staff_unread;
        self.row.patient_unread = tally.patient_unread;
        self.row.waiting_since = tally.waiting_since;
        self.row.stop_requested = tally.stop_requested;
        self.label(tally.state);
    }

    /// Changes what is counted.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Tally)) -> Result<(), StoreError> {
        let mut tally = self.tally()?;
        change(&mut tally);
        self.count(&tally);
        Ok(())
    }

    /// Puts the mark of staff on it; who edits it at the same time is to notice.
    pub(super) fn label(&mut self, state: ConversationState) {
        if self.row.state != state.number() {
            self.row.state = state.number();
            self.row.labels += 1;
        }
    }

    /// Adds a message, which comes after all that are there.
    pub(super) async fn say_on(
        &mut self,
        tx: &Tx,
        keys: &PracticeKeys,
        saying: Saying<'_>,
    ) -> Result<MessageId, StoreError> {
        let keys = subjects::take_on(tx, keys, [self.row.owner.clone()]).await?;
        let id = match self.row.last_message_id {
            Some(last) => crypto::new_id_after(tx.now, last),
            None => crypto::new_id(tx.now),
        };
        let time = self.after(tx.now);
        let mut tally = self.tally()?;
        tally.add(saying.said, time);
        self.count(&tally);
        self.row.last_message_id = Some(id);
        self.row.last_time = time;
        self.messages.push(conversation_message::Model {
            id,
            practice_id: keys.practice().to_owned(),
            conversation_id: self.row.id,
            direction: saying.direction.number(),
            route: saying.route.number(),
            news_for: news_for(saying.said),
            inbound_rank: tally.rank(Side::Staff),
            outbound_rank: tally.rank(Side::Patient),
            author_type: saying.author.kind as i16,
            author_id: saying.author.id.clone(),
            author_name: saying.author.display_name.clone(),
            body_ct: rows::seal_body(&keys, (&self.row.owner, id), &saying.body)?,
            create_time: time,
            delivery_id: saying.delivery.map(|id| id.0),
            consent_source: saying.consent_source.map(ConsentSource::number),
        });
        self.tell(Some((MessageId(id), Newness::Said)))?;
        Ok(MessageId(id))
    }

    /// Clocks of replicas differ, and the order of the messages is that of the locks.
    fn after(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.row.last_message_id.is_some() { now.max(self.row.last_time) } else { now }
    }

    /// Tells whoever watches of the conversation and of a message in it.
    pub(super) fn tell(&mut self, message: Option<(MessageId, Newness)>) -> Result<(), StoreError> {
        self.row.revision += 1;
        let news = ConversationNews {
            conversation: ConversationId(self.row.id),
            patient: rows::patient(&self.row)?,
            message,
            moved_to: self.row.moved_to.map(ConversationId),
        };
        self.told.push(News::Conversation(news, self.row.revision));
        Ok(())
    }

    /// Writes what changed. Yields the changes for the feed; none where nothing did.
    pub(super) async fn save_on(&mut self, tx: &Tx) -> Result<Vec<Change>, StoreError> {
        let Some(before) = self.before.take() else { return Ok(Vec::new()) };
        if self.told.is_empty() && before != self.row {
            self.tell(None)?;
        }
        let practice: PracticeId = self.row.practice_id.parse().map_err(|_| StoreError::Corrupt("conversation"))?;
        tx.update_all(&[(before, self.row.clone())]).await?;
        tx.insert_all(std::mem::take(&mut self.messages)).await?;
        Ok(self.told.drain(..).map(|news| Change::of(practice.clone(), news)).collect())
    }
}

/// A message that staff read, as it stands in its row.
pub(super) const FOR_STAFF: i16 = 1;
/// A message that the patient reads.
pub(super) const FOR_THE_PATIENT: i16 = 2;

fn news_for(said: Said) -> i16 {
    match said {
        Said::ByPatient { quiet: false, .. } => FOR_STAFF,
        Said::ByStaff(MessageRoute::Portal) => FOR_THE_PATIENT,
        Said::ByPatient { quiet: true, .. } | Said::ByStaff(MessageRoute::Sms) | Said::Automatic => 0,
    }
}

fn new_row(
    tx: &Tx,
    keys: &PracticeKeys,
    owner: &Owner,
    sender: Option<&Sender>,
) -> Result<conversation::Model, StoreError> {
    let id: Uuid = crypto::new_id(tx.now);
    let patient_id = match owner {
        Owner::Patient(id) => id.as_str().to_owned(),
        Owner::Number(_) | Owner::Other(_) | Owner::Moved(_) => String::new(),
    };
    Ok(conversation::Model {
        id,
        practice_id: keys.practice().to_owned(),
        owner: owner.key(),
        patient_id,
        sender_ct: sender.map(|sender| rows::seal_sender(keys, (&owner.key(), id), sender)).transpose()?,
        phone_hint: String::new(),
        reached_at: String::new(),
        state: Tally::NEW.state.number(),
        assignee_id: String::new(),
        inbound_count: 0,
        outbound_count: 0,
        staff_unread: 0,
        patient_unread: 0,
        staff_read_id: None,
        patient_read_id: None,
        waiting_since: None,
        stop_requested: false,
        last_message_id: None,
        last_time: tx.now,
        create_time: tx.now,
        labels: 0,
        revision: 0,
        moved_to: None,
    })
}
