//! Deliveries whose outcome is unknown. A look is leased like a claim before the provider is asked, so that replicas do not
//! ask twice.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};

use super::{
    Destination, Store, StoreError,
    directory::stored_practice,
    entity::{attempt, content, delivery, practice},
    grounds,
    image::{Draft, Note, POSSIBLE_DUPLICATE, QUARANTINED, RECONCILING, WAITING},
    notifications, preferences,
    queue::{attempts_on, closed_as_sent, drafts_on, ref_is_free_on, save_all_on, verdict},
};
use crate::domain::{
    Account, AfterLook, Author, Channel, Content, DeliveryId, Engine, Facts, Inquiry, Look, PracticeId, Provider,
};

/// Whoever dies in mid-look is followed by another after this long.
const LOOK_LEASE: Duration = Duration::from_secs(45);

/// A delivery to be looked for at its provider.
#[derive(Debug)]
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
    /// What.
    pub content: Option<Content>,
    /// When the attempt began.
    pub intent_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

impl Store {
    /// Takes the looks that are due.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn doubts_due(&self, _: &Engine, limit: u64) -> Result<Vec<Doubt>, StoreError> {
        let rows = self
            .write(move |tx| {
                Box::pin(async move {
                    let untaken = Condition::any()
                        .add(delivery::Column::LeaseUntil.is_null())
                        .add(delivery::Column::LeaseUntil.lte(tx.now));
                    let rows = delivery::Entity::find()
                        .filter(delivery::Column::Phase.eq(RECONCILING))
                        .filter(delivery::Column::NotBefore.lte(tx.now))
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
                    Ok(rows)
                })
            })
            .await?;
        let mut doubts = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id;
            match self.doubt(row).await {
                Ok(doubt) => doubts.extend(doubt),
                // One practice whose rows cannot be read must not hold up the others.
                Err(error) => {
                    tracing::error!(delivery.id = %id, error = %crate::telemetry::chain(&error), "a doubt cannot be read");
                }
            }
        }
        Ok(doubts)
    }

    async fn doubt(&self, row: delivery::Model) -> Result<Option<Doubt>, StoreError> {
        let corrupt = || StoreError::Corrupt("delivery");
        let practice: PracticeId = row.practice_id.parse().map_err(|_| corrupt())?;
        let channel = Channel::from_number(row.channel).ok_or_else(corrupt)?;
        let keys = self.keys(&practice).await?;
        let db = self.read();
        let Some(last) = attempt::Entity::find_by_id((row.id, row.attempts)).one(db).await? else { return Ok(None) };
        let home = practice::Entity::find_by_id(practice.as_str()).one(db).await?;
        let home = stored_practice(home.ok_or(StoreError::NotFound("practice"))?)?.value;
        let settings = preferences::load(db, &keys).await?.value;
        let patients = grounds::patients_on(db, &keys, [row.patient_id.clone()], false).await?;
        // A number that changed since the attempt would be looked for in vain: no destination, so no look-up.
        let patient = patients
            .get(&row.patient_id)
            .filter(|patient| grounds::address_index(&keys, channel, patient) == row.address_bi);
        let content = content::Entity::find_by_id(row.id).one(db).await?;
        Ok(Some(Doubt {
            practice,
            id: DeliveryId(row.id),
            attempt: last.n,
            inquiry: Inquiry {
                channel,
                looks: row.looks,
                absences: row.absences,
                since: row.doubt_since.unwrap_or(last.intent_at),
                resent: row.flags & POSSIBLE_DUPLICATE != 0,
            },
            // Another account or sender does not have it, which proves nothing.
            account: settings.account(channel, &home).filter(|account| account.sender() == last.sender),
            destination: patient.and_then(|patient| match channel {
                Channel::Sms => patient.mobile_phone.clone().map(Destination::Phone),
                _ => None,
            }),
            content: content.map(|row| notifications::to_content(&keys, &row)).transpose()?,
            intent_at: last.intent_at,
            ended_at: last.ended_at.unwrap_or(last.intent_at),
        }))
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
            .filter(attempt::Column::PracticeId.eq(practice.as_str()))
            .filter(attempt::Column::Provider.eq(provider as i16))
            .filter(attempt::Column::ProviderRef.is_in(refs.iter().map(String::as_str)))
            .into_tuple::<String>()
            .all(self.read())
            .await?;
        Ok(bound.into_iter().collect())
    }

    /// Writes what a look found. `facts` is what the provider's word means, when it was found.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn doubt_settle(
        &self,
        _: &Engine,
        doubt: &Doubt,
        look: Look,
        facts: Facts,
        random: f64,
    ) -> Result<(), StoreError> {
        let (practice, id, n, inquiry) = (doubt.practice.clone(), doubt.id, doubt.attempt, doubt.inquiry);
        self.write(move |tx| {
            Box::pin(async move {
                let mut drafts = drafts_on(tx, std::iter::once(id)).await?;
                let attempts = attempts_on(tx, std::iter::once(id.0)).await?;
                let (Some(draft), Some(attempt)) = (drafts.get_mut(&id.0), attempts.iter().find(|row| row.n == n))
                else {
                    return Ok(());
                };
                // A callback may have settled it while the provider was asked.
                if draft.row.phase != RECONCILING || draft.row.attempts != n || draft.row.looks != inquiry.looks {
                    return Ok(());
                }
                draft.row.absences = inquiry.absences_after(&look);
                settle_on(tx, draft, attempt, (&look, facts), inquiry.after(&look, random)).await?;
                save_all_on(tx, &practice, std::mem::take(&mut drafts)).await
            })
        })
        .await
    }
}

async fn settle_on(
    tx: &super::tx::Tx,
    draft: &mut Draft,
    attempt: &attempt::Model,
    (look, facts): (&Look, Facts),
    after: AfterLook,
) -> Result<(), StoreError> {
    let mut row = attempt.clone().into_active_model();
    let mut note = Note { attempt: attempt.n, ..Note::new(Author::system(), "") };
    draft.row.looks += 1;
    draft.release();
    match after {
        AfterLook::Bind => {
            if let Look::Found { provider_ref, status, code } = look {
                if ref_is_free_on(tx, attempt, provider_ref).await? {
                    row.provider_ref = Set(provider_ref.clone());
                    draft.row.provider_ref.clone_from(provider_ref);
                }
                note.status.clone_from(status);
                note.code.clone_from(code);
            }
            row.verdict = Set(Some(verdict::RECONCILED));
            row.facts = Set(Facts::from_bits(attempt.facts).and(facts).bits());
            draft.add(facts.and(Facts::ACCEPTED), tx.now)?;
            draft.explain(&note.code, tx.now);
            closed_as_sent(draft, tx.now);
            note.detail = "The provider has it after all.";
        }
        AfterLook::LookAt(at) => {
            draft.row.not_before = hastened!(tx.now, at.max(tx.now));
            note.detail = "The provider was asked; it is asked again.";
        }
        AfterLook::SendAgain if draft.row.flags & QUARANTINED == 0 => {
            row.verdict = Set(Some(verdict::ABSENT));
            draft.row.phase = WAITING;
            draft.row.not_before = tx.now;
            draft.row.doubt_since = None;
            note.detail = "The provider twice did not have it: it is sent again.";
        }
        AfterLook::ResendFlagged if draft.row.flags & QUARANTINED == 0 => {
            draft.row.phase = WAITING;
            draft.row.not_before = tx.now;
            draft.row.flags |= POSSIBLE_DUPLICATE;
            note.detail = "Whether it arrived cannot be found out: it is sent once more.";
        }
        AfterLook::Close | AfterLook::SendAgain | AfterLook::ResendFlagged => {
            draft.add(Facts::UNKNOWN_CLOSED, tx.now)?;
            draft.close();
            note.detail = "Whether it arrived cannot be found out; nothing more is done by itself.";
        }
    }
    row.update(&tx.db).await?;
    draft.note(note, tx.now);
    Ok(())
}
