//! Claims: what is due, decided on anew under the locks of its gates, and made ours with an attempt.

mod ends;
mod world;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use uuid::Uuid;

use self::{ends::give_up, world::World};
use super::{
    Claimed,
    due::{ready, ready_at, waiting},
};
use crate::{
    domain::{Account, Class, DeliveryId, Engine, FailureReason, PracticeId},
    store::{
        Store, StoreError,
        draft::{Draft, save_all_on},
        entity::{attempt, delivery, inbox_item},
        instance::may_send,
        tx::Tx,
    },
};

/// Whose turn it is, and for how many deliveries.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Whoever claims.
    pub worker: Uuid,
    /// The practice.
    pub practice: PracticeId,
    /// The class.
    pub class: Class,
    /// Most deliveries to look at: no more than have a free slot.
    pub limit: u64,
    /// Nothing that was due before this is looked at; unset: everything is.
    pub mark: Option<DateTime<Utc>>,
}

/// What a claim took.
#[derive(Debug)]
pub struct Taken {
    /// Ours to send, each with an attempt.
    pub claimed: Vec<Claimed>,
    /// How many were looked at; as many as the limit: there may be more.
    pub seen: u64,
    /// Before this nothing was left that is due, but for what comes late.
    pub mark: DateTime<Utc>,
}

/// A delivery that every rule lets go, just before it does.
#[derive(Debug)]
pub struct Handover<'a> {
    /// Its practice.
    pub practice: &'a PracticeId,
    /// The delivery.
    pub id: DeliveryId,
    /// Its class.
    pub class: Class,
    /// The account that would send it.
    pub account: &'a Account,
    /// How many segments it counts for, at least 1.
    pub segments: u32,
    /// It was tried before, and each time certainly not taken. What goes out once more after a doubt is no burden to an account
    /// that is well: looks pace it.
    pub again: bool,
    /// It has been parked already, so that its turn has come.
    pub parked: bool,
    /// The time of the claim.
    pub now: DateTime<Utc>,
}

/// Whether it leaves now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It does.
    Now,
    /// It is parked.
    Later {
        /// Until then.
        at: DateTime<Utc>,
        /// What is wrong with its account, if that is why.
        failing: Option<Failing>,
    },
}

/// Why nothing leaves by an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// In terms that staff can act on.
    pub reason: FailureReason,
    /// What the provider said last.
    pub code: String,
}

/// A replica may have begun to write what is due this much later than it is due.
const LATE: TimeDelta = TimeDelta::seconds(5);

impl Store {
    /// Takes due deliveries of one practice and class. Those that may go, and whom `leave` lets go, become ours, each with an
    /// attempt; whom it does not let go are parked, which shows nothing; those that may not go are skipped; in-app ones are
    /// filed at once.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is claimed then.
    pub async fn claim(
        &self,
        _: &Engine,
        turn: Turn,
        leave: impl Fn(&Handover<'_>) -> Leave + Send + Sync + 'static,
    ) -> Result<Taken, StoreError> {
        let keys = self.keys(&turn.practice).await?;
        let store = self.clone();
        self.write_across(move |tx| {
            Box::pin(async move {
                tx.dialect.bound_claim(&tx.db).await?;
                let due = due_on(tx, &turn).await?;
                let seen = due.len() as u64;
                let all = seen < turn.limit;
                let newest = due.last().filter(|_| !all).map_or(tx.now, ready_at);
                let mut taken = Taken { claimed: Vec::new(), seen, mark: newest - LATE };
                if due.is_empty() {
                    return Ok(taken);
                }
                let world = World::load_on(tx, &keys, &store, &turn, &due).await?;
                let (mut made, mut drafts) = (Made::default(), Vec::with_capacity(due.len()));
                for row in due {
                    let mut draft = Draft::of(row.clone());
                    match world.claim(tx, &mut draft, &mut made, &leave) {
                        Ok(()) => {}
                        // One row that means nothing must not hold up the others behind it for ever.
                        Err(StoreError::Corrupt(what)) => {
                            tracing::error!(delivery.id = %row.id, what, "a delivery cannot be read and is given up");
                            draft = Draft::of(row);
                            give_up(tx, &mut draft, FailureReason::Internal)?;
                        }
                        Err(error) => return Err(error),
                    }
                    drafts.push(draft);
                }
                tx.insert_all(made.attempts).await?;
                tx.insert_all(made.items).await?;
                save_all_on(tx, drafts).await?;
                failpoint!("F5");
                taken.claimed = made.claimed;
                Ok(taken)
            })
        })
        .await
    }
}

/// Locks what is due, the oldest first.
async fn due_on(tx: &Tx, turn: &Turn) -> Result<Vec<delivery::Model>, StoreError> {
    let mut query = delivery::Entity::find()
        .filter(delivery::Column::PracticeId.eq(turn.practice.as_str()))
        .filter(waiting(turn.class))
        .filter(may_send(tx.dialect))
        .filter(ready().lte(tx.now));
    if let Some(mark) = turn.mark {
        query = query.filter(ready().gte(mark));
    }
    let rows = query
        .order_by_asc(ready())
        .limit(turn.limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    Ok(rows)
}

/// The rows that a claim adds, table by table.
#[derive(Default)]
struct Made {
    claimed: Vec<Claimed>,
    attempts: Vec<attempt::Model>,
    items: Vec<inbox_item::Model>,
}
