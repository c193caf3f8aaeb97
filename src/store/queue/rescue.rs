//! Rescue: deliveries whose worker is gone are taken over, and what may have left is looked into.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};

use super::{attempts_on, closed_as_sent, verdict};
use crate::{
    domain::{Author, Engine, FIRST_LOOK, Facts},
    store::{
        Store, StoreError,
        entity::{attempt, delivery},
        image::{Draft, IN_FLIGHT, Note, QUARANTINED, RECONCILING, save_all_on},
        tx::Tx,
    },
};

/// A delivery whose worker died this often is not tried again.
const MOST_CRASHES: i16 = 5;

/// Stands where the provider's code would, when the worker died before there was one.
const WORKER_GONE: &str = "worker gone";

impl Store {
    /// Takes over deliveries whose worker is gone: the outcome of a call that may have been made is unknown, and is looked
    /// into before anything is sent again. With `all`, every claim is taken over, for the start of the only process.
    /// Says how many.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn rescue(&self, _: &Engine, all: bool) -> Result<usize, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let mut query = delivery::Entity::find().filter(delivery::Column::Phase.eq(IN_FLIGHT));
                if !all {
                    query = query.filter(delivery::Column::LeaseUntil.lt(tx.now));
                }
                let rows = query
                    .order_by_asc(delivery::Column::LeaseUntil)
                    .limit(200)
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .all(&tx.db)
                    .await?;
                let rescued = rows.len();
                let attempts = attempts_on(tx, rows.iter().map(|row| row.id)).await?;
                let mut drafts = Vec::with_capacity(rescued);
                for row in rows {
                    let mut draft = Draft::of(row);
                    let last =
                        attempts.iter().filter(|attempt| attempt.delivery_id == draft.row.id).max_by_key(|it| it.n);
                    rescue_on(tx, &mut draft, last).await?;
                    drafts.push(draft);
                }
                save_all_on(tx, drafts).await?;
                Ok(rescued)
            })
        })
        .await
    }
}

async fn rescue_on(tx: &Tx, draft: &mut Draft, last: Option<&attempt::Model>) -> Result<(), StoreError> {
    draft.row.epoch += 1;
    draft.release();
    if let Some(attempt) = last.filter(|attempt| attempt.verdict.is_none()) {
        let mut row = attempt.clone().into_active_model();
        row.verdict = Set(Some(if attempt.facts != 0 { verdict::RECONCILED } else { verdict::UNKNOWN }));
        row.ended_at = Set(Some(tx.now));
        row.code = Set(WORKER_GONE.into());
        row.update(&tx.db).await?;
    }
    if draft.facts().left_us() {
        closed_as_sent(draft, tx.now);
        return Ok(());
    }
    draft.row.crashes += 1;
    draft.add(Facts::UNKNOWN_OPEN, tx.now)?;
    draft.row.phase = RECONCILING;
    draft.row.looks = 0;
    draft.row.absences = 0;
    draft.row.doubt_since = Some(last.map_or(tx.now, |attempt| attempt.intent_at));
    draft.row.not_before = hastened!(tx.now, tx.now + FIRST_LOOK);
    if draft.row.crashes >= MOST_CRASHES {
        draft.row.flags |= QUARANTINED;
        tracing::error!(delivery.id = %draft.row.id, "delivery quarantined: its worker died too often");
    }
    let note = Note {
        attempt: draft.row.attempts,
        code: WORKER_GONE.into(),
        ..Note::new(Author::system(), "The server stopped in mid-attempt: the provider is asked.")
    };
    draft.note(note, tx.now);
    Ok(())
}
