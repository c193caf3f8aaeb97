//! Signed reports whose token is unknown: of an attempt that a restored backup lacks, or that this replica cannot see yet.
//! They are kept, sealed, and tried again for three days. What a practice may have waiting is bounded, so that no flood of
//! them fills the disk.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use serde::{Deserialize, Serialize};

use super::{
    Applied, Receipt, Store, StoreError,
    entity::callback_inbox,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{Author, Engine, Facts, FailureReason, PracticeId, Provider, Scope};

const BODY: Sealed = Sealed { table: "callback_inbox", column: "body_ct" };

/// Most reports that wait for one practice.
const MOST: u64 = 2_000;
/// How long a report is tried for.
const KEPT: TimeDelta = TimeDelta::hours(72);
/// The first pause between two tries; each is four times the one before.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);
/// The longest.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// Whether a report was parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// It waits, or did so already.
    Kept,
    /// Too many wait for the practice.
    Full,
}

/// A receipt as it is kept.
#[derive(Serialize, Deserialize)]
struct Body {
    token: [u8; 16],
    provider_ref: String,
    facts: i32,
    status: String,
    code: String,
    failure: Option<i16>,
}

impl From<&Receipt> for Body {
    fn from(receipt: &Receipt) -> Self {
        Self {
            token: receipt.token,
            provider_ref: receipt.provider_ref.clone(),
            facts: receipt.facts.bits(),
            status: receipt.status.clone(),
            code: receipt.code.clone(),
            failure: receipt.failure.map(FailureReason::number),
        }
    }
}

impl From<Body> for Receipt {
    fn from(body: Body) -> Self {
        Self {
            token: body.token,
            provider_ref: body.provider_ref,
            facts: Facts::from_bits(body.facts),
            status: body.status,
            code: body.code,
            failure: body.failure.and_then(FailureReason::from_number),
        }
    }
}

/// Equal for a report and its repeats.
fn dedupe_key(keys: &PracticeKeys, receipt: &Receipt) -> Vec<u8> {
    let Receipt { token, provider_ref, status, code, .. } = receipt;
    keys.digest("callback", &format!("{token:?} {provider_ref} {status} {code}"))
}

impl Store {
    /// Keeps a receipt that [`Self::receipt_apply`] had no attempt for, to be tried again.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; the provider must repeat it then.
    pub async fn receipt_park(
        &self,
        scope: &Scope,
        provider: Provider,
        receipt: &Receipt,
    ) -> Result<Parked, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let key = dedupe_key(&keys, receipt);
        let body_ct = keys.seal(BODY, &key, &Body::from(receipt))?;
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let known = callback_inbox::Entity::find_by_id((provider as i16, key.clone())).one(&tx.db).await?;
                if known.is_some() {
                    return Ok(Parked::Kept);
                }
                if is_full_on(tx, keys.practice()).await? {
                    return Ok(Parked::Full);
                }
                let row = callback_inbox::ActiveModel {
                    provider: Set(provider as i16),
                    dedupe_key: Set(key),
                    practice_id: Set(keys.practice().to_owned()),
                    token: Set(None),
                    body_ct: Set(body_ct),
                    received_at: Set(tx.now),
                    applied_at: Set(None),
                    tries: Set(0),
                    try_at: Set(Some(hastened!(tx.now, tx.now + FIRST_PAUSE))),
                };
                // Its twin may be on its way at the same time.
                let key = [callback_inbox::Column::Provider, callback_inbox::Column::DedupeKey];
                callback_inbox::Entity::insert(row)
                    .on_conflict_do_nothing_on(key)
                    .exec_without_returning(&tx.db)
                    .await?;
                Ok(Parked::Kept)
            })
        })
        .await
    }

    /// Tries up to `limit` parked receipts that are due: one whose attempt is there now is applied and goes, and one that
    /// has waited too long goes too. Says how many were due.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn parked_retry(&self, engine: &Engine, limit: u64) -> Result<usize, StoreError> {
        let (rows, dropped) = self.write_across(move |tx| Box::pin(take_on(tx, limit))).await?;
        self.tell_dropped(dropped);
        let due = rows.len() + usize::try_from(dropped).unwrap_or_default();
        for row in rows {
            match self.retry(engine, &row).await {
                // What cannot be read now cannot be read later; it goes when its time is over.
                Err(error @ (StoreError::Corrupt(_) | StoreError::NotFound(_))) => {
                    tracing::error!(error = %crate::telemetry::chain(&error), "a parked report cannot be read");
                }
                retried => retried?,
            }
        }
        Ok(due)
    }

    async fn retry(&self, engine: &Engine, row: &callback_inbox::Model) -> Result<(), StoreError> {
        let corrupt = || StoreError::Corrupt("callback_inbox");
        let practice: PracticeId = row.practice_id.parse().map_err(|_| corrupt())?;
        let provider = Provider::from_number(row.provider).ok_or_else(corrupt)?;
        let keys = self.keys(&practice).await?;
        let body: Body = keys.open(BODY, &row.dedupe_key, &row.body_ct)?;
        let scope = engine.scope(practice, Author::provider(provider.name()));
        failpoint!("F12");
        if self.receipt_apply(&scope, body.into()).await? == Applied::UnknownToken {
            return Ok(());
        }
        // One that is another practice's goes as well. Whoever dies before this applies it again, which changes nothing.
        let row = row.clone();
        self.write_across(move |tx| {
            Box::pin(async move {
                row.delete(&tx.db).await?;
                Ok(())
            })
        })
        .await
    }
}

/// Whether as many wait for the practice as may. Several who ask at once may each find room for one more.
async fn is_full_on(tx: &Tx, practice: &str) -> Result<bool, StoreError> {
    let last = callback_inbox::Entity::find()
        .select_only()
        .column(callback_inbox::Column::Provider)
        .filter(callback_inbox::Column::PracticeId.eq(practice))
        .offset(MOST - 1)
        .limit(1)
        .into_tuple::<i16>()
        .one(&tx.db)
        .await?;
    Ok(last.is_some())
}

/// Takes what is due: each moves to its next time before it is tried, so that replicas do not try it twice. What has waited
/// too long is deleted and counted.
async fn take_on(tx: &Tx, limit: u64) -> Result<(Vec<callback_inbox::Model>, u64), StoreError> {
    let due = callback_inbox::Entity::find()
        .filter(callback_inbox::Column::TryAt.lte(tx.now))
        .order_by_asc(callback_inbox::Column::TryAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    let (mut rows, mut dropped) = (Vec::new(), 0);
    for row in due {
        if tx.now - row.received_at >= KEPT {
            row.delete(&tx.db).await?;
            dropped += 1;
            continue;
        }
        let mut update = row.clone().into_active_model();
        update.tries = Set(row.tries + 1);
        update.try_at = Set(Some(hastened!(tx.now, next_try(&row, tx.now))));
        update.update(&tx.db).await?;
        rows.push(row);
    }
    Ok((rows, dropped))
}

/// The last try is at the end of its time.
fn next_try(row: &callback_inbox::Model, now: DateTime<Utc>) -> DateTime<Utc> {
    let quadruplings = row.tries.clamp(0, 8).unsigned_abs() + 1;
    let pause = (FIRST_PAUSE * 4_i32.pow(quadruplings)).min(LONGEST_PAUSE);
    (now + pause).min(row.received_at + KEPT)
}
