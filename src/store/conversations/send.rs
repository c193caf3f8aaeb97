//! What is written in a conversation by staff, or by a patient in the portal: the message, its delivery by text or the notice that
//! it waits, and what changes in the conversation, all at once and once per key.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait, IntoActiveModel};
use uuid::Uuid;

use super::{
    Target, attachments, found_on, lists,
    rows::{self, Body, Owner},
    thread::{Saying, Thread},
};
use crate::{
    crypto,
    domain::{
        AttachmentId, Author, Channel, Class, Content, Conversation, ConversationId, ConversationMessage, DeliveryId,
        Direction, Facts, GIVE_UP_AFTER, MessageId, MessageRoute, Patient, Phi, PhoneNumber, Said, Scope, Side,
        TraceContext,
    },
    store::{
        NewNotification, Store, StoreError, draft,
        entity::{content, conversation_message, delivery, delivery_event},
        feed::{self, Change},
        grounds,
        idem::{self, Prior},
        image::{self, CONVERSATION_MESSAGE},
        notifications, subjects,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// A message to be added.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// Where it belongs.
    pub target: Target,
    /// What it says; may be empty where files go along.
    pub body: Phi<String>,
    /// The files that it takes along, in their order.
    pub attachments: Vec<AttachmentId>,
    /// Set where it goes out as a text; else it is read in the portal.
    pub text: Option<NewText>,
    /// Tells the patient that it waits in the portal.
    pub notice: Option<NewNotification>,
}

/// The text message that carries it.
#[derive(Clone, Debug)]
pub struct NewText {
    /// To whom, as the decision saw them.
    pub reader: Patient,
    /// Their number, where they are not in the directory.
    pub number: Option<PhoneNumber>,
    /// To which number of a service they wrote last; empty: to none.
    pub reached_at: String,
    /// With the practice's name before it.
    pub content: Content,
    /// No attempt after.
    pub expire_time: DateTime<Utc>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the conversation, which is as it is now.
    New(Box<(ConversationMessage, Conversation)>),
    /// The key made this before, by the same request.
    Replayed(Box<(ConversationMessage, Conversation)>),
    /// The key was used for another request, which made this.
    KeyReused(MessageId),
}

impl Store {
    /// Adds a message, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when the practice has no such conversation, or a file is not the caller's to send any more.
    pub async fn message_send(&self, scope: &Scope, new: NewMessage) -> Result<Sent, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let key = key(&scope, &new.request_id, &new.fingerprint, crypto::new_id(tx.now));
                if idem::take_on(tx, vec![key]).await?.is_empty() {
                    return before_on(&tx.db, &keys, &scope, key).await?.ok_or(StoreError::Corrupt("idem"));
                }
                let id = send_on(tx, &keys, &scope, &new).await?;
                // Its id says where it is in the conversation, which was not known before its turn came.
                idem::stands_for_on(tx, key, id.0).await?;
                failpoint!("F2");
                Ok(Sent::New(Box::new(shown_on(&tx.db, &keys, &scope, id).await?)))
            })
        })
        .await
    }

    /// What the key `request_id` made before; unset when it is new.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn message_prior(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<Sent>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        before_on(&self.within(scope), &keys, scope, key(scope, request_id, fingerprint, Uuid::nil())).await
    }
}

fn key<'a>(scope: &'a Scope, request_id: &'a str, fingerprint: &'a [u8; 32], makes: Uuid) -> idem::Key<'a> {
    idem::Key { practice: scope.practice().as_str(), resource: idem::MESSAGES, request_id, fingerprint, makes }
}

async fn before_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    scope: &Scope,
    key: idem::Key<'_>,
) -> Result<Option<Sent>, StoreError> {
    Ok(match key.prior_on(db).await? {
        Prior::Same(id) => Some(Sent::Replayed(Box::new(shown_on(db, keys, scope, MessageId(id)).await?))),
        Prior::Other(id) => Some(Sent::KeyReused(MessageId(id))),
        Prior::None => None,
    })
}

/// A message and its conversation as they are now.
async fn shown_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    scope: &Scope,
    id: MessageId,
) -> Result<(ConversationMessage, Conversation), StoreError> {
    let row = conversation_message::Entity::find_by_id(id.0).one(db).await?.ok_or(StoreError::Corrupt("idem"))?;
    let home = found_on(db, scope, ConversationId(row.conversation_id)).await?;
    let message = lists::messages_on(db, keys, vec![row]).await?.pop().ok_or(StoreError::Corrupt("idem"))?;
    Ok((message, lists::shown_on(db, keys, home).await?))
}

/// Writes everything, in the order of the locks: the notice with its gates, then the conversation, the feed last.
async fn send_on(tx: &Tx, keys: &Arc<PracticeKeys>, scope: &Scope, new: &NewMessage) -> Result<MessageId, StoreError> {
    let mut changes = match &new.notice {
        Some(notice) => notifications::store_on(tx, keys, scope, vec![notice.clone()]).await?,
        None => Vec::new(),
    };
    let delivery = new.text.as_ref().map(|_| DeliveryId(crypto::new_id(tx.now)));
    if let Some(text) = &new.text {
        gates_on(tx, keys, text).await?;
    }
    let mut thread = match &new.target {
        Target::Conversation(id) => Thread::lock_on(tx, scope, *id).await?,
        Target::Patient(patient) => Thread::begin_on(tx, keys, &Owner::Patient(patient.clone()), None).await?,
    };
    let route = if new.text.is_some() { MessageRoute::Sms } else { MessageRoute::Portal };
    let (direction, said) = match Side::of(scope.author()) {
        Side::Staff => (Direction::Outbound, Said::ByStaff(route)),
        Side::Patient => (Direction::Inbound, Said::ByPatient { quiet: false, asks_to_stop: false }),
    };
    let body = Body { text: new.body.expose().clone() };
    let saying = Saying { direction, route, said, author: scope.author(), body, delivery, consent_source: None };
    let id = thread.say_on(tx, keys, saying).await?;
    attachments::attach_on(tx, scope, id, &new.attachments).await?;
    tx.note(scope, rows::patient(&thread.row)?.as_ref(), format_args!("message/{id}"));
    if let (Some(text), Some(delivery)) = (&new.text, delivery) {
        changes
            .push(text_on(tx, keys, (&thread.row.owner, scope.author(), scope.trace()), (id, delivery), text).await?);
        if text.number.is_none() {
            thread.row.phone_hint = text.reader.address_hint(Channel::Sms);
        }
    }
    changes.extend(thread.save_on(tx).await?);
    feed::append_on(tx, changes).await?;
    Ok(id)
}

/// Makes sure that the gates have rows, since only a row can be locked.
pub(super) async fn gates_on(tx: &Tx, keys: &PracticeKeys, text: &NewText) -> Result<(), StoreError> {
    let gates = grounds::gate_keys(keys, Channel::Sms, &text.reader).into_iter();
    // Whoever is not in the directory has none but that of the number.
    let gates = gates.filter(|gate| text.number.is_none() || gate.kind == grounds::ADDRESS);
    let gates: BTreeSet<_> = gates.map(|gate| (keys.practice().to_owned(), gate)).collect();
    grounds::gates_insert_on(tx, gates).await
}

/// Writes the delivery of a message.
pub(super) async fn text_on(
    tx: &Tx,
    keys: &PracticeKeys,
    (owner, author, trace): (&str, &Author, Option<TraceContext>),
    (message, id): (MessageId, DeliveryId),
    text: &NewText,
) -> Result<Change, StoreError> {
    let patient_id = if text.number.is_some() { String::new() } else { text.reader.id.as_str().to_owned() };
    let row = delivery::Model {
        practice_id: keys.practice().to_owned(),
        patient_id,
        source_kind: CONVERSATION_MESSAGE,
        source_id: message.0,
        // Somebody waits for it.
        class: Class::Urgent.number(),
        address_bi: grounds::address_index(keys, Channel::Sms, &text.reader),
        address_hint: text.reader.address_hint(Channel::Sms),
        give_up_at: tx.now + GIVE_UP_AFTER,
        expires_at: text.expire_time,
        sms_segments: text.content.sms_segments,
        trace: trace.map(TraceContext::to_bytes),
        ..draft::fresh(id.0, Facts::NONE, Channel::Sms, tx.now)
    };
    delivery::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx.db).await?;
    let from = (text.number.as_ref(), text.reached_at.as_str());
    let keys = subjects::take_on(tx, keys, [owner.to_owned()]).await?;
    let sealed = notifications::reply_row(&keys, (owner, id), &text.content, from)?.into_active_model();
    content::Entity::insert(sealed).exec_without_returning(&tx.db).await?;
    let event = draft::first_event(&row, author, "Accepted for sending.").into_active_model();
    delivery_event::Entity::insert(event).exec_without_returning(&tx.db).await?;
    Change::created(&row, image::to_delivery(&row)?)
}
