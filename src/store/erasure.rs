//! Erasing patients. At once their record, their devices and their key go, and with the key all that was said to and by them; then,
//! page by page, the rows that held it. Deliveries, timelines and the ledger stay, and tell nothing of a person any more.
//!
//! What was under way at that moment may still write a row, and be done before long: so a duty looks once more, later.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, LockType, OnConflict},
};
use uuid::Uuid;

use super::{
    Store, StoreError, conversations,
    draft::{self, Draft, Note},
    entity::{
        content, delivery, delivery_event, erasure, inbox_item, link, notification, patient, patient_tag, push_device,
        subject_key,
    },
    feed,
    image::{NOTIFICATION, WAITING},
    queue::tries,
    rows::padded,
    tx::Tx,
};
use crate::domain::{ActorType, Author, Ending, Engine, Facts, PatientId, PracticeId, Scope, SkipReason};

/// No transaction lives that long.
const LAST_LOOK_AFTER: TimeDelta = TimeDelta::minutes(5);
/// Deliveries, notifications or files that are dealt with in one transaction.
const PAGE: u64 = 200;

/// A patient who is being erased.
#[derive(Clone, Debug)]
pub struct Erasure {
    practice: PracticeId,
    patient: PatientId,
    before: DateTime<Utc>,
}

impl Store {
    /// Erases a patient. A repeat looks for what may be left.
    ///
    /// # Errors
    /// NotFound when the practice has no such patient, and never had.
    pub async fn patient_erase(&self, scope: &Scope, id: &PatientId) -> Result<(), StoreError> {
        self.keys(scope.practice()).await?;
        let (whose, practice, patient) = (scope.clone(), scope.practice().clone(), id.clone());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                erase_on(tx, &practice, &patient).await?;
                tx.note(&whose, Some(&patient), format_args!("patient/{patient}"));
                Ok(())
            })
        })
        .await?;
        let (practice, patient) = (scope.practice().clone(), id.clone());
        // From here on nobody finds the patient: whatever is theirs was written before.
        let erasure = self
            .write_within(scope.practice().clone(), move |tx| {
                Box::pin(async move {
                    let erasure = Erasure { practice, patient, before: tx.now };
                    put_on(tx, &erasure, Some(tx.now)).await?;
                    Ok(erasure)
                })
            })
            .await?;
        self.sweep(&erasure, scope.author()).await
    }

    /// Those for whom it is time to look for what is left.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn erasures_due(&self, _: &Engine) -> Result<Vec<Erasure>, StoreError> {
        let rows = erasure::Entity::find()
            .filter(erasure::Column::SweepAt.lte(self.now().await?))
            .order_by_asc(erasure::Column::SweepAt)
            .limit(PAGE)
            .all(self.across())
            .await?;
        let corrupt = |_| StoreError::Corrupt("erasure");
        let erasure = |row: erasure::Model| {
            let practice = row.practice_id.parse().map_err(corrupt)?;
            Ok(Erasure { practice, patient: row.patient_id.parse().map_err(corrupt)?, before: row.erase_time })
        };
        rows.into_iter().map(erasure).collect()
    }

    /// Looks for what is left of somebody, and removes it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses: it is looked for once more.
    pub async fn erasure_sweep(&self, _: &Engine, erasure: &Erasure) -> Result<(), StoreError> {
        self.sweep(erasure, &Author::system()).await
    }

    async fn sweep(&self, erasure: &Erasure, author: &Author) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let (of, author) = (erasure.clone(), author.clone());
            let page = self
                .write_within(erasure.practice.clone(), move |tx| {
                    Box::pin(async move { deliveries_on(tx, &of, &author, after).await })
                })
                .await?;
            let Some((last, sources)) = page else { break };
            // By itself: a cancel locks the notification first, and its deliveries then.
            self.write_within(erasure.practice.clone(), move |tx| {
                Box::pin(async move { notifications_on(tx, sources).await })
            })
            .await?;
            after = last;
        }
        loop {
            let of = erasure.clone();
            let more = self
                .write_within(erasure.practice.clone(), move |tx| {
                    Box::pin(async move {
                        let (practice, patient) = (of.practice.as_str(), of.patient.as_str());
                        conversations::erase_on(tx, (practice, patient), of.before, PAGE).await
                    })
                })
                .await?;
            if !more {
                break;
            }
        }
        let of = erasure.clone();
        self.write_within(erasure.practice.clone(), move |tx| {
            Box::pin(async move {
                keys_on(tx, &of).await?;
                let last_look = of.before + LAST_LOOK_AFTER;
                put_on(tx, &of, (tx.now < last_look).then_some(last_look)).await
            })
        })
        .await
    }
}

/// Takes the patient out of the directory, and destroys their key.
async fn erase_on(tx: &Tx, practice: &PracticeId, id: &PatientId) -> Result<(), StoreError> {
    let key = (practice.as_str().to_owned(), id.as_str().to_owned());
    let known = patient::Entity::find_by_id(key.clone()).lock_exclusive().one(&tx.db).await?;
    if known.is_none() && erasure::Entity::find_by_id(key.clone()).one(&tx.db).await?.is_none() {
        return Err(StoreError::NotFound("patient"));
    }
    patient::Entity::delete_by_id(key).exec(&tx.db).await?;
    patient_tag::Entity::delete_many()
        .filter(patient_tag::Column::PracticeId.eq(practice.as_str()))
        .filter(patient_tag::Column::PatientId.eq(id.as_str()))
        .exec(&tx.db)
        .await?;
    push_device::Entity::delete_many()
        .filter(push_device::Column::PracticeId.eq(practice.as_str()))
        .filter(push_device::Column::PatientId.eq(id.as_str()))
        .exec(&tx.db)
        .await?;
    let erasure = Erasure { practice: practice.clone(), patient: id.clone(), before: tx.now };
    keys_on(tx, &erasure).await?;
    put_on(tx, &erasure, Some(tx.now)).await
}

async fn keys_on(tx: &Tx, erasure: &Erasure) -> Result<(), StoreError> {
    subject_key::Entity::delete_many()
        .filter(subject_key::Column::PracticeId.eq(erasure.practice.as_str()))
        .filter(subject_key::Column::PatientId.eq(erasure.patient.as_str()))
        .filter(subject_key::Column::CreateTime.lte(erasure.before))
        .exec(&tx.db)
        .await?;
    Ok(())
}

async fn put_on(tx: &Tx, erasure: &Erasure, sweep_at: Option<DateTime<Utc>>) -> Result<(), StoreError> {
    let row = erasure::ActiveModel {
        practice_id: Set(erasure.practice.as_str().to_owned()),
        patient_id: Set(erasure.patient.as_str().to_owned()),
        erase_time: Set(erasure.before),
        sweep_at: Set(sweep_at),
    };
    let known = OnConflict::columns([erasure::Column::PracticeId, erasure::Column::PatientId])
        .update_columns([erasure::Column::EraseTime, erasure::Column::SweepAt])
        .to_owned();
    erasure::Entity::insert(row).on_conflict(known).exec_without_returning(&tx.db).await?;
    Ok(())
}

/// Ends what waits of a page of deliveries, and removes their texts and what is shown of their addresses. Yields the last of
/// them and what they came from; unset after the last page.
async fn deliveries_on(
    tx: &Tx,
    erasure: &Erasure,
    author: &Author,
    after: Uuid,
) -> Result<Option<(Uuid, BTreeSet<Uuid>)>, StoreError> {
    let rows = delivery::Entity::find()
        .filter(delivery::Column::PracticeId.eq(erasure.practice.as_str()))
        .filter(delivery::Column::PatientId.eq(erasure.patient.as_str()))
        .filter(delivery::Column::CreateTime.lte(erasure.before))
        .filter(delivery::Column::Id.gt(after))
        .order_by_asc(delivery::Column::Id)
        .limit(PAGE)
        .lock(LockType::Update)
        .all(&tx.db)
        .await?;
    let Some(last) = rows.last().map(|row| row.id) else { return Ok(None) };
    let ids = padded(rows.iter().map(|row| row.id));
    content::Entity::delete_many().filter(content::Column::DeliveryId.is_in(ids.clone())).exec(&tx.db).await?;
    inbox_item::Entity::delete_many().filter(inbox_item::Column::DeliveryId.is_in(ids.clone())).exec(&tx.db).await?;
    // Their name, where they did something themselves.
    delivery_event::Entity::update_many()
        .col_expr(delivery_event::Column::ActorName, Expr::value(""))
        .filter(delivery_event::Column::DeliveryId.is_in(ids))
        .filter(delivery_event::Column::ActorType.eq(ActorType::Patient as i16))
        .exec(&tx.db)
        .await?;
    let sources = rows.iter().filter(|row| row.source_kind == NOTIFICATION).map(|row| row.source_id).collect();
    let mut drafts = Vec::with_capacity(rows.len());
    for row in rows {
        let mut draft = Draft::of(row);
        draft.row.address_hint.clear();
        if draft.row.phase == WAITING {
            skip(&mut draft, author, tx.now)?;
        }
        drafts.push(draft);
    }
    let changes = draft::write_all_on(tx, drafts).await?;
    feed::append_on(tx, changes).await?;
    Ok(Some((last, sources)))
}

fn skip(draft: &mut Draft, author: &Author, now: DateTime<Utc>) -> Result<(), StoreError> {
    let fact = Ending::Skipped.fact(tries(&draft.row));
    let detail = if fact == Facts::SKIPPED {
        "The patient was erased before it was sent: not sent."
    } else {
        "The patient was erased: not sent again; whether the earlier attempt arrived is unknown."
    };
    draft.row.skip_reason = Some(SkipReason::PatientInactive.number());
    draft.add(fact, now)?;
    draft.close();
    draft.note(Note::new(author.clone(), detail), now);
    Ok(())
}

/// Removes what was decided about notifications, where their links lead, and the name of the patient who had made one.
async fn notifications_on(tx: &Tx, ids: BTreeSet<Uuid>) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids = padded(ids);
    notification::Entity::update_many()
        .col_expr(notification::Column::DecisionsCt, Expr::value(Vec::<u8>::new()))
        .filter(notification::Column::Id.is_in(ids.clone()))
        .exec(&tx.db)
        .await?;
    notification::Entity::update_many()
        .col_expr(notification::Column::CreatorName, Expr::value(""))
        .filter(notification::Column::Id.is_in(ids.clone()))
        .filter(notification::Column::CreatorType.eq(ActorType::Patient as i16))
        .exec(&tx.db)
        .await?;
    link::Entity::update_many()
        .col_expr(link::Column::TargetCt, Expr::value(Vec::<u8>::new()))
        .col_expr(link::Column::RevokeTime, Expr::value(tx.now))
        .filter(link::Column::NotificationId.is_in(ids))
        .exec(&tx.db)
        .await?;
    Ok(())
}
