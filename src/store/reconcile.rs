//! Deliveries whose outcome is unknown. A look is leased like a claim before the provider is asked, so that replicas do not
//! ask twice.

mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use uuid::Uuid;

use super::{
    Destination, Store, StoreError,
    attempts::named_by,
    entity::{attempt, content, delivery},
    grounds,
    image::RECONCILING,
    instance::may_send,
    notifications, preferences, stand_ins, subjects,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::domain::{Account, Channel, Content, DeliveryId, Engine, Inquiry, Known, Phi, PracticeId, Provider};

/// Whoever dies in mid-look is followed by another after this long.
const LOOK_LEASE: Duration = Duration::from_secs(45);

/// A delivery to be looked for at its provider.
pub struct Doubt {
    /// Its practice.
    pub practice: PracticeId,
    /// The delivery.
    pub id: DeliveryId,
    /// The attempt in doubt.
    pub attempt: i32,
    /// What was asked before.
    pub inquiry: Inquiry,
    /// The account that sent; unset when the practice has none any more.
    pub account: Option<Account>,
    /// To where; unset when the patient has no address any more.
    pub destination: Option<Destination>,
    /// What; unset when it cannot be read any more.
    pub content: Option<Content>,
    /// When the attempt began.
    pub intent_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    address_bi: Vec<u8>,
}

impl fmt::Debug for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither to whom nor what.
        f.debug_struct("Doubt")
            .field("practice", &self.practice)
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .field("inquiry", &self.inquiry)
            .finish_non_exhaustive()
    }
}

/// Another attempt to the same address whose message is not known by its id: one that a look finds may be its own.
#[derive(Clone, Debug)]
pub struct Rival {
    /// When it began.
    pub intent_at: DateTime<Utc>,
    /// When it ended, or the latest time at which it can end.
    pub ended_at: DateTime<Utc>,
    /// Its text; unset when it cannot be read any more.
    pub text: Option<Phi<String>>,
}

impl Store {
    /// Takes the looks that are due.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn doubts_due(&self, _: &Engine, limit: u64) -> Result<Vec<Doubt>, StoreError> {
        let (rows, now) = self.write_across(move |tx| Box::pin(take_on(tx, limit))).await?;
        let mut doubts = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id;
            match self.doubt(row, now).await {
                Ok(doubt) => doubts.extend(doubt),
                // One practice whose rows cannot be read must not hold up the others.
                Err(error) => {
                    tracing::error!(delivery.id = %id, error = %crate::telemetry::chain(&error), "a doubt cannot be read");
                }
            }
        }
        Ok(doubts)
    }

    async fn doubt(&self, row: delivery::Model, now: DateTime<Utc>) -> Result<Option<Doubt>, StoreError> {
        let corrupt = || StoreError::Corrupt("delivery");
        let practice: PracticeId = row.practice_id.parse().map_err(|_| corrupt())?;
        let channel = Channel::from_number(row.channel).ok_or_else(corrupt)?;
        let keys = self.keys(&practice).await?;
        let db = self.across();
        let attempts = attempt::Entity::find().filter(attempt::Column::DeliveryId.eq(row.id)).all(db).await?;
        let Some(last) = attempts.iter().find(|attempt| attempt.n == row.attempts) else { return Ok(None) };
        let unknown =
            |attempt: &&attempt::Model| attempt.n != last.n && attempt.verdict == Some(Known::Unknown.number());
        let inquiry = Inquiry {
            channel,
            looks: row.looks,
            absences: row.absences,
            since: row.doubt_since.unwrap_or(last.intent_at),
            now,
            resent: attempts.iter().any(|attempt| unknown(&attempt)),
        };
        let account = legible(row.id, self.account(&keys, channel).await)?.flatten();
        let destination = legible(row.id, self.destination(&keys, channel, &row).await)?.flatten();
        let content = legible(row.id, self.content(&keys, row.id).await)?.flatten();
        Ok(Some(Doubt {
            practice,
            id: DeliveryId(row.id),
            attempt: last.n,
            inquiry,
            // Another account or sender does not have it, which proves nothing.
            account: account.and_then(|account| account.as_sender(&last.sender)),
            destination,
            content,
            intent_at: last.intent_at,
            ended_at: last.ended_at.unwrap_or(last.intent_at),
            address_bi: last.address_bi.clone(),
        }))
    }

    /// The account over which `channel` goes now.
    pub(super) async fn account(&self, keys: &PracticeKeys, channel: Channel) -> Result<Option<Account>, StoreError> {
        let (home, settings) = preferences::home_on(&self.within(keys), keys).await?;
        Ok(settings.account(channel, &home))
    }

    /// Where it went, if whoever it is for still has that number: another would be looked for in vain.
    async fn destination(
        &self,
        keys: &PracticeKeys,
        channel: Channel,
        row: &delivery::Model,
    ) -> Result<Option<Destination>, StoreError> {
        let reader = if stand_ins::has(row) {
            match content::Entity::find_by_id(row.id).one(&self.within(keys)).await? {
                Some(text) => {
                    let keys = subjects::opening(&self.within(keys), keys, [text.body_ct.as_slice()]).await?;
                    Some(stand_ins::recipient(&keys, &text)?)
                }
                None => None,
            }
        } else {
            let patient = [row.patient_id.clone()];
            grounds::patients_on(&self.within(keys), keys, patient, false).await?.remove(&row.patient_id)
        };
        let reader = reader.map(|found| found.patient);
        let same = reader.filter(|reader| grounds::address_index(keys, channel, reader) == row.address_bi);
        Ok(same.and_then(|reader| match channel {
            Channel::Sms => reader.mobile_phone.map(Destination::Phone),
            _ => None,
        }))
    }

    async fn content(&self, keys: &PracticeKeys, id: Uuid) -> Result<Option<Content>, StoreError> {
        notifications::content_on(&self.within(keys), keys, DeliveryId(id)).await
    }

    /// Those of `refs` that an attempt of the practice has already.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn refs_bound(
        &self,
        _: &Engine,
        practice: &PracticeId,
        provider: Provider,
        refs: &[String],
    ) -> Result<BTreeSet<String>, StoreError> {
        let bound = attempt::Entity::find()
            .select_only()
            .column(attempt::Column::ProviderRef)
            .filter(named_by(practice, &[provider], refs.iter().map(String::as_str)))
            .into_tuple::<String>()
            .all(self.across())
            .await?;
        Ok(bound.into_iter().collect())
    }

    /// The attempts of other deliveries to the same address whose message is not known by its id, and that did not end in a
    /// definite no. A message of one of its own earlier attempts is the delivery's as well. Read it after the provider's list:
    /// whoever made a message of that list wrote the intent before.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn rivals(&self, _: &Engine, doubt: &Doubt) -> Result<Vec<Rival>, StoreError> {
        // More than two clocks differ, whose times are compared more closely by whoever knows the provider's.
        let around = TimeDelta::minutes(30);
        let lease = TimeDelta::from_std(self.inner.lease).unwrap_or(around);
        let ended = Condition::any()
            .add(attempt::Column::EndedAt.is_null())
            .add(attempt::Column::EndedAt.gte(doubt.intent_at - around));
        let rows = attempt::Entity::find()
            .filter(attempt::Column::PracticeId.eq(doubt.practice.as_str()))
            .filter(attempt::Column::AddressBi.eq(doubt.address_bi.clone()))
            .filter(attempt::Column::DeliveryId.ne(doubt.id.0))
            .filter(attempt::Column::Provider.eq(Provider::Twilio as i16))
            .filter(attempt::Column::ProviderRef.eq(""))
            .filter(attempt::Column::IntentAt.lte(doubt.ended_at + around))
            .filter(ended)
            .all(self.across())
            .await?;
        let mut rows: Vec<_> = rows.into_iter().filter(|row| row.verdict != Some(Known::No.number())).collect();
        let keys = self.keys(&doubt.practice).await?;
        let texts = content::Entity::find()
            .filter(content::Column::DeliveryId.is_in(rows.iter().map(|row| row.delivery_id)))
            .all(self.across())
            .await?;
        let keys = subjects::opening(self.across(), &keys, texts.iter().map(|row| row.body_ct.as_slice())).await?;
        let texts: BTreeMap<_, _> = texts
            .into_iter()
            .filter_map(|row| Some((row.delivery_id, notifications::to_content(&keys, &row).ok()?.text)))
            .collect();
        let rivals = rows.drain(..).map(|row| Rival {
            intent_at: row.intent_at,
            ended_at: row.ended_at.unwrap_or(row.intent_at + lease),
            text: texts.get(&row.delivery_id).cloned(),
        });
        Ok(rivals.collect())
    }
}

/// What is left of something that cannot be read any more: nothing, so that the look counts as one in vain and comes to an
/// end. A database that is away is another matter.
pub(super) fn legible<T>(id: Uuid, read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error @ (StoreError::Corrupt(_) | StoreError::NotFound(_))) => {
            let error = crate::telemetry::chain(&error);
            tracing::error!(delivery.id = %id, error = %error, "what a delivery was sent with cannot be read");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

async fn take_on(tx: &Tx, limit: u64) -> Result<(Vec<delivery::Model>, DateTime<Utc>), StoreError> {
    let untaken =
        Condition::any().add(delivery::Column::LeaseUntil.is_null()).add(delivery::Column::LeaseUntil.lte(tx.now));
    let rows = delivery::Entity::find()
        .filter(delivery::Column::Phase.eq(RECONCILING))
        .filter(delivery::Column::NotBefore.lte(tx.now))
        .filter(may_send(tx.dialect))
        .filter(untaken)
        .order_by_asc(delivery::Column::NotBefore)
        .limit(if mutant!("unknown forgotten") { 0 } else { limit })
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    for row in &rows {
        let mut row = row.clone().into_active_model();
        row.lease_until = Set(Some(tx.now + dialled!("look_lease", LOOK_LEASE)));
        row.update(&tx.db).await?;
    }
    Ok((rows, tx.now))
}
