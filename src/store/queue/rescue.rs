//! Rescue: deliveries whose worker is gone are taken over, and what may have left is looked into.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use uuid::Uuid;

use super::closed_as_sent;
use crate::{
    domain::{Author, DeliveryId, Engine, Facts, Known, first_look},
    store::{
        Store, StoreError,
        attempts::known,
        draft::{Draft, Note},
        entity::delivery,
        evidence::{self, Findings, Hearing},
        image::{IN_FLIGHT, QUARANTINED, RECONCILING},
        tx::Tx,
    },
};

/// A delivery whose worker died this often is not tried again.
const MOST_CRASHES: i16 = 5;
/// Deliveries in one transaction, so that it stays short.
const PAGE: u64 = 200;

/// Stands where the provider's code would, when the worker died before there was one.
const WORKER_GONE: &str = "worker gone";

/// What a rescue did.
#[derive(Debug)]
struct Rescued {
    count: usize,
    quarantined: Vec<Uuid>,
    findings: Findings,
}

impl Store {
    /// Takes over deliveries whose worker is gone: the outcome of a call that may have been made is unknown, and is looked
    /// into before anything is sent again. With `all`, every claim is taken over, for the start of the only process.
    /// Says how many; there may be more as long as it is not 0.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn rescue(&self, _: &Engine, all: bool) -> Result<usize, StoreError> {
        let rescued = self.write_across(move |tx| Box::pin(rescue_page_on(tx, all))).await?;
        for id in &rescued.quarantined {
            tracing::error!(delivery.id = %id, "delivery quarantined: its worker died too often");
        }
        self.tell(&rescued.findings);
        self.telemetry().metrics.rescued(rescued.count as u64);
        Ok(rescued.count)
    }
}

async fn rescue_page_on(tx: &Tx, all: bool) -> Result<Rescued, StoreError> {
    let mut query = delivery::Entity::find().filter(delivery::Column::Phase.eq(IN_FLIGHT));
    if !all {
        query = query.filter(delivery::Column::LeaseUntil.lt(tx.now));
    }
    let rows = query
        .order_by_asc(delivery::Column::LeaseUntil)
        .limit(PAGE)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    let mut hearing = Hearing::of_on(tx, rows.into_iter().map(|row| (row.id, Draft::of(row))).collect()).await?;
    let count = hearing.drafts.len();
    let mut quarantined = Vec::new();
    for id in hearing.drafts.keys().copied().collect::<Vec<_>>() {
        if rescue_one(&mut hearing, id, tx.now)? {
            quarantined.push(id);
        }
    }
    Ok(Rescued { count, quarantined, findings: hearing.close_on(tx).await? })
}

/// Takes one over. True if it is not tried again.
fn rescue_one(hearing: &mut Hearing, id: Uuid, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let Hearing { drafts, attempts, findings, .. } = hearing;
    let draft = drafts.get_mut(&id).ok_or(StoreError::Corrupt("delivery"))?;
    // Whoever had it may still say how it ended, and has no say any more in what is done next.
    draft.row.epoch += 1;
    draft.release();
    if let Some(row) = attempts.get_mut((id, draft.row.attempts)).filter(|row| row.verdict.is_none()) {
        row.verdict = Known::after(known(row)?, Known::Unknown, row.facts != 0).map(Known::number);
        row.ended_at = Some(now);
        row.code = WORKER_GONE.into();
    }
    evidence::fold(draft, attempts, findings, now);
    if draft.facts().left_us() {
        closed_as_sent(draft, now);
        return Ok(false);
    }
    draft.row.crashes += 1;
    draft.add(Facts::UNKNOWN_OPEN, now)?;
    draft.row.phase = RECONCILING;
    draft.row.looks = 0;
    draft.row.absences = 0;
    // The call may have been made until now: counted from its beginning, the looks would come before the provider lists it.
    draft.row.doubt_since = Some(now);
    draft.row.not_before = hastened!(now, first_look(now, spread(DeliveryId(id))));
    let quarantined = draft.row.crashes >= MOST_CRASHES;
    if quarantined {
        draft.row.flags |= QUARANTINED;
    }
    let note = Note {
        attempt: draft.row.attempts,
        code: WORKER_GONE.into(),
        ..Note::new(Author::system(), "The server stopped in mid-attempt: the provider is asked.")
    };
    draft.note(note, now);
    Ok(quarantined)
}

/// A number in 0..1 of the delivery's own, so that those rescued together are not looked for all at once.
fn spread(id: DeliveryId) -> f64 {
    let bytes = id.0.as_bytes();
    f64::from(u16::from_be_bytes([bytes[14], bytes[15]])) / 65_536.0
}
