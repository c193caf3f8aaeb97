//! Tests of wording and of accounts. Each is a delivery, and goes the way of all others: claim, call, settlement. It has no
//! patient, since it goes to a contact of the practice itself. Neither lists nor the feed have
//! it, so that it is in nobody's history.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    Store, StoreError, draft,
    entity::{content, delivery, delivery_event},
    feed::{self, Change},
    grounds::{self, GateKey},
    idem::{self, Prior},
    image::{self, TEST},
    notifications, stand_ins,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::{
    crypto,
    domain::{Channel, Class, Content, Delivery, DeliveryId, Facts, Kind, Scope, TestContact, TraceContext},
};

/// Most tests of a practice in [`WINDOW`].
const MOST: usize = 10;
const WINDOW: TimeDelta = TimeDelta::minutes(1);
/// How long one waits for an account that is out of order. Whoever tests is waiting too.
const PATIENCE: TimeDelta = TimeDelta::seconds(20);
/// How long one may go, should the server be gone in between.
const LASTS: TimeDelta = TimeDelta::minutes(10);

/// A test to be accepted.
#[derive(Clone, Debug)]
pub struct NewTestMessage {
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// What its wording is for.
    pub kind: Kind,
    /// To whom it goes.
    pub contact: TestContact,
    /// The text.
    pub content: Content,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestAccepted {
    /// It is in the queue.
    New(DeliveryId),
    /// The key made this before, by the same request.
    Replayed(DeliveryId),
    /// The key was used for another request, which made this.
    KeyReused(DeliveryId),
    /// The practice has sent as many as it may for so long.
    Full(Duration),
}

impl Store {
    /// Puts a test into the queue, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn test_message_accept(&self, scope: &Scope, new: NewTestMessage) -> Result<TestAccepted, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let id = DeliveryId(crypto::new_id(tx.now));
                let key = key(&scope, &new.request_id, &new.fingerprint, id);
                if let Some(before) = before_on(&tx.db, key).await? {
                    return Ok(before);
                }
                if let Some(wait) = full_on(tx, &scope).await? {
                    return Ok(TestAccepted::Full(wait));
                }
                if idem::take_on(tx, vec![key]).await?.is_empty() {
                    // A twin came at the same moment.
                    return before_on(&tx.db, key).await?.ok_or(StoreError::Corrupt("idem"));
                }
                insert_on(tx, &keys, &scope, (id, &new)).await?;
                failpoint!("F2");
                Ok(TestAccepted::New(id))
            })
        })
        .await
    }

    /// What the key `request_id` made before; unset when it is new.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn test_message_prior(
        &self,
        scope: &Scope,
        request_id: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<TestAccepted>, StoreError> {
        before_on(&self.within(scope), key(scope, request_id, fingerprint, DeliveryId(Uuid::nil()))).await
    }

    /// A test as it is now.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn test_message_get(&self, scope: &Scope, id: DeliveryId) -> Result<Delivery, StoreError> {
        let row = delivery::Entity::find_by_id(id.0)
            .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(delivery::Column::SourceKind.eq(TEST))
            .one(&self.within(scope))
            .await?;
        image::to_delivery(&row.ok_or(StoreError::NotFound("test message"))?)
    }
}

fn key<'a>(scope: &'a Scope, request_id: &'a str, fingerprint: &'a [u8; 32], makes: DeliveryId) -> idem::Key<'a> {
    idem::Key { practice: scope.practice().as_str(), resource: idem::TESTS, request_id, fingerprint, makes: makes.0 }
}

async fn before_on(db: &impl ConnectionTrait, key: idem::Key<'_>) -> Result<Option<TestAccepted>, StoreError> {
    Ok(match key.prior_on(db).await? {
        Prior::Same(id) => Some(TestAccepted::Replayed(DeliveryId(id))),
        Prior::Other(id) => Some(TestAccepted::KeyReused(DeliveryId(id))),
        Prior::None => None,
    })
}

/// How long until the practice may send another one, if it has sent as many as it may. What is accepted elsewhere at the same
/// moment is not counted yet.
async fn full_on(tx: &Tx, scope: &Scope) -> Result<Option<Duration>, StoreError> {
    let recent: Vec<DateTime<Utc>> = delivery::Entity::find()
        .select_only()
        .column(delivery::Column::CreateTime)
        .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
        // Word for word as the index has it: only then is it used.
        .filter(Expr::cust(format!("\"source_kind\" = {TEST}")))
        .filter(delivery::Column::CreateTime.gt(tx.now - WINDOW))
        .order_by_desc(delivery::Column::CreateTime)
        .limit(MOST as u64)
        .into_tuple()
        .all(&tx.db)
        .await?;
    let oldest = recent.get(MOST - 1);
    Ok(oldest.map(|oldest| (*oldest + WINDOW - tx.now).to_std().unwrap_or_default()))
}

async fn insert_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    (id, new): (DeliveryId, &NewTestMessage),
) -> Result<(), StoreError> {
    let channel = new.contact.channel();
    let reader = stand_ins::stand_in(id.0, new.contact.clone())?;
    let row = delivery::Model {
        practice_id: keys.practice().to_owned(),
        source_kind: TEST,
        source_id: id.0,
        kind: new.kind.number(),
        // Somebody waits for it, and nobody's night is disturbed who did not ask for it.
        class: Class::Urgent.number(),
        address_bi: grounds::address_index(keys, channel, &reader),
        address_hint: reader.address_hint(channel),
        give_up_at: tx.now + PATIENCE,
        expires_at: tx.now + LASTS,
        sms_segments: new.content.sms_segments,
        trace: scope.trace().map(TraceContext::to_bytes),
        ..draft::fresh(id.0, Facts::NONE, channel, tx.now)
    };
    let gate = row.address_bi.as_deref().map(|address| grounds::address_gate(channel, address));
    let gates: BTreeSet<_> = gate.into_iter().map(|gate| (keys.practice().to_owned(), gate)).collect();
    grounds::gates_insert_on(tx, gates).await?;
    delivery::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx.db).await?;
    let text = notifications::addressed_row(keys, id, &new.content, &new.contact)?;
    content::Entity::insert(text.into_active_model()).exec_without_returning(&tx.db).await?;
    let event = draft::first_event(&row, scope.author(), "Accepted for sending, as a test.").into_active_model();
    delivery_event::Entity::insert(event).exec_without_returning(&tx.db).await?;
    let made = image::to_delivery(&row)?;
    tx.note(scope, None, format_args!("test message/{id}"));
    feed::append_on(tx, vec![Change::created(&row, made)?]).await
}

/// The gates of the patients who have the address of a test, by the test: what they do not want as patients they do not want as
/// contacts either.
pub(super) async fn holders_on(
    tx: &Tx,
    keys: &PracticeKeys,
    due: &[delivery::Model],
) -> Result<BTreeMap<Uuid, Vec<GateKey>>, StoreError> {
    let mut holders = BTreeMap::new();
    for row in due.iter().filter(|row| row.source_kind == TEST) {
        let (Some(channel), Some(address)) = (Channel::from_number(row.channel), &row.address_bi) else { continue };
        let patients = grounds::holders_on(tx, keys.practice(), channel, address).await?;
        holders.insert(row.id, patients.iter().map(|patient| grounds::patient_gate(channel, patient)).collect());
    }
    Ok(holders)
}
