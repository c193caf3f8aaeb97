//! Deliveries that a provider took and of which it has not said more since. They are asked about a few times, since reports
//! get lost on the way.

use std::fmt;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};

use super::{
    Store, StoreError,
    entity::{attempt, delivery},
    evidence::{Evidence, EvidenceSource, Findings, Hearing},
    instance::may_send,
    receipts,
    reconcile::legible,
    tx::Tx,
};
use crate::domain::{Account, Author, Channel, DeliveryId, Engine, Facts, FailureReason, PracticeId, next_poll};

/// A message to be asked about by its id.
pub struct Poll {
    /// Its practice.
    pub practice: PracticeId,
    /// The delivery.
    pub id: DeliveryId,
    /// The attempt that made it.
    pub attempt: i32,
    /// The provider's id.
    pub provider_ref: String,
    /// The account that may ask; unset when the practice has none any more.
    pub account: Option<Account>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll")
            .field("practice", &self.practice)
            .field("id", &self.id)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

/// What a provider says of a message that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it means.
    pub facts: Facts,
    /// The provider's word.
    pub status: String,
    /// The provider's code; may be empty.
    pub code: String,
    /// Why it failed, where it did.
    pub failure: Option<FailureReason>,
}

impl Store {
    /// Takes up to `limit` messages that are due to be asked about. Each is due again only at its next time, whatever comes of
    /// this one: whoever dies with it is not followed by another.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn polls_due(&self, _: &Engine, limit: u64) -> Result<Vec<Poll>, StoreError> {
        let rows = self.write_across(move |tx| Box::pin(take_on(tx, limit))).await?;
        let mut polls = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id;
            match self.poll(row).await {
                Ok(poll) => polls.extend(poll),
                Err(error) => {
                    tracing::error!(delivery.id = %id, error = %crate::telemetry::chain(&error), "a poll cannot be read");
                }
            }
        }
        Ok(polls)
    }

    async fn poll(&self, row: delivery::Model) -> Result<Option<Poll>, StoreError> {
        let corrupt = || StoreError::Corrupt("delivery");
        let practice: PracticeId = row.practice_id.parse().map_err(|_| corrupt())?;
        let channel = Channel::from_number(row.channel).ok_or_else(corrupt)?;
        let keys = self.keys(&practice).await?;
        let attempt = attempt::Entity::find()
            .filter(attempt::Column::DeliveryId.eq(row.id))
            .filter(attempt::Column::ProviderRef.eq(&row.provider_ref))
            .one(self.across())
            .await?;
        let Some(attempt) = attempt.filter(|attempt| !attempt.provider_ref.is_empty()) else { return Ok(None) };
        let account = legible(row.id, self.account(&keys, channel).await)?.flatten();
        Ok(Some(Poll {
            practice,
            id: DeliveryId(row.id),
            attempt: attempt.n,
            provider_ref: attempt.provider_ref,
            // Another account does not know the message, and its answer would say nothing.
            account: account.and_then(|account| account.as_sender(&attempt.sender)),
        }))
    }

    /// Writes what the provider said of a message that it was asked about.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn poll_settle(&self, _: &Engine, poll: &Poll, answer: Answer) -> Result<(), StoreError> {
        let (id, attempt) = (poll.id, poll.attempt);
        let provider_ref = poll.provider_ref.clone();
        let findings = self
            .write_across(move |tx| {
                Box::pin(async move {
                    let mut hearing = Hearing::open_on(tx, std::iter::once(id), std::iter::empty()).await?;
                    // The id may have passed to another attempt while the provider was asked.
                    if hearing.attempts.get((id.0, attempt)).is_none_or(|row| row.provider_ref != provider_ref) {
                        return Ok(Findings::default());
                    }
                    let evidence = Evidence {
                        attempt,
                        provider_ref,
                        source: EvidenceSource::Asked,
                        detail: receipts::detail(answer.facts),
                        author: Author::system(),
                        facts: answer.facts,
                        status: answer.status,
                        code: answer.code,
                        failure: answer.failure,
                    };
                    hearing.apply_on(tx, id, &evidence).await?;
                    hearing.close_on(tx).await
                })
            })
            .await?;
        self.tell(&findings);
        Ok(())
    }
}

async fn take_on(tx: &Tx, limit: u64) -> Result<Vec<delivery::Model>, StoreError> {
    let rows = delivery::Entity::find()
        .filter(delivery::Column::PollAt.lte(tx.now))
        .filter(may_send(tx.dialect))
        .order_by_asc(delivery::Column::PollAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    for row in &rows {
        let mut update = row.clone().into_active_model();
        update.poll_at = Set(next(row, tx.now));
        update.update(&tx.db).await?;
    }
    Ok(rows)
}

fn next(row: &delivery::Model, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    next_poll(row.send_time?, now)
}
