//! Stopping deliveries, because somebody cancels their notification, or because another one makes them pointless. Only what
//! certainly never left is called cancelled. Where a provider may have it, another try is ruled out and the rest goes its way.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::{
    NewNotification, Store, StoreError,
    draft::{Draft, Note, save_all_on},
    entity::{delivery, notification},
    image::{STOP_ASKED, WAITING},
    links,
    queue::{open, tries},
    tx::Tx,
};
use crate::domain::{Author, Ending, Facts, Kind, NotificationId, Scope};

/// What a cancel did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// How many deliveries it stopped.
    pub deliveries: i32,
    /// How many links it revoked.
    pub links: i32,
}

impl Store {
    /// Stops what can still be stopped of a notification, and revokes its links.
    ///
    /// # Errors
    /// NotFound when the practice has none of that id.
    pub async fn notification_cancel(&self, scope: &Scope, id: NotificationId) -> Result<Cancelled, StoreError> {
        let scope = scope.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                // A retry takes this lock too, so that none is added to what is being cancelled.
                let row = notification::Entity::find_by_id(id.0)
                    .filter(notification::Column::PracticeId.eq(scope.practice().as_str()))
                    .lock_exclusive()
                    .one(&tx.db)
                    .await?
                    .ok_or(StoreError::NotFound("notification"))?;
                let of_it = delivery::Entity::find().filter(delivery::Column::SourceId.eq(id.0));
                let (drafts, stopped) = cancel_open_on(tx, of_it, scope.author()).await?;
                let links = links::revoke_on(tx, id).await?;
                let nothing_left = drafts.values().all(Draft::is_unchanged) && links == 0;
                if !nothing_left {
                    tx.note(&scope, row.patient_id.parse().ok().as_ref(), format_args!("notification/{id}"));
                }
                if row.cancel_time.is_none() && !nothing_left {
                    let mut row = row.into_active_model();
                    row.cancel_time = Set(Some(tx.now));
                    row.update(&tx.db).await?;
                }
                save_all_on(tx, drafts.into_values()).await?;
                Ok(Cancelled { deliveries: stopped, links })
            })
        })
        .await
    }
}

/// Locks and stops those that are open, on behalf of `author`. They are not saved yet, since that ends with the feed. Says how
/// many are cancelled now.
pub(super) async fn cancel_open_on(
    tx: &Tx,
    query: sea_orm::Select<delivery::Entity>,
    author: &Author,
) -> Result<(BTreeMap<Uuid, Draft>, i32), StoreError> {
    let mut drafts = open_on(tx, query).await?;
    let stopped = stop_all(&mut drafts, Cause::Cancelled, author, tx.now)?;
    Ok((drafts, stopped))
}

/// Locks and stops the deliveries that `new` makes pointless: a visit that is cancelled needs no reminder, and what was paid
/// is not due. They are not saved yet, since that ends with the feed.
pub(super) async fn void_on(
    tx: &Tx,
    scope: &Scope,
    new: &NewNotification,
) -> Result<BTreeMap<Uuid, Draft>, StoreError> {
    let (Some(kind), false) = (new.kind.voids(), new.reference.is_empty()) else { return Ok(BTreeMap::new()) };
    let void = delivery::Entity::find()
        .filter(delivery::Column::PracticeId.eq(scope.practice().as_str()))
        .filter(delivery::Column::PatientId.eq(new.patient.id.as_str()))
        .filter(delivery::Column::Kind.eq(kind.number()))
        .filter(delivery::Column::Reference.eq(&new.reference));
    let mut drafts = open_on(tx, void).await?;
    let cause = if new.kind == Kind::PaymentReceived { Cause::Paid } else { Cause::VisitCancelled };
    stop_all(&mut drafts, cause, scope.author(), tx.now)?;
    Ok(drafts)
}

/// Locks and stops those of `query` that the original of this database may have handed over since it was copied: what was due by
/// `cut`, and what is in doubt, of which a look would not see that it was sent again meanwhile. They are not saved yet, since that
/// ends with the feed. Says how many are cancelled now.
pub(super) async fn stop_copied_on(
    tx: &Tx,
    query: sea_orm::Select<delivery::Entity>,
    cut: DateTime<Utc>,
) -> Result<(BTreeMap<Uuid, Draft>, i32), StoreError> {
    let begun_or_due =
        Condition::any().add(delivery::Column::Phase.ne(WAITING)).add(delivery::Column::NotBefore.lte(cut));
    let mut drafts = open_on(tx, query.filter(begun_or_due)).await?;
    let stopped = stop_all(&mut drafts, Cause::Copied, &Author::system(), tx.now)?;
    Ok((drafts, stopped))
}

/// Locks those that are not closed, in the order of their ids.
async fn open_on(tx: &Tx, query: sea_orm::Select<delivery::Entity>) -> Result<BTreeMap<Uuid, Draft>, StoreError> {
    let rows = query.filter(open()).order_by_asc(delivery::Column::Id).lock_exclusive().all(&tx.db).await?;
    Ok(rows.into_iter().map(|row| (row.id, Draft::of(row))).collect())
}

/// Why a delivery is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Cancelled,
    VisitCancelled,
    Paid,
    Copied,
}

/// Stops each as far as it can be. Says how many are cancelled now.
fn stop_all(
    drafts: &mut BTreeMap<Uuid, Draft>,
    cause: Cause,
    author: &Author,
    now: DateTime<Utc>,
) -> Result<i32, StoreError> {
    let mut cancelled = 0;
    for draft in drafts.values_mut() {
        if draft.row.phase == WAITING {
            end(draft, now)?;
            cancelled += i32::from(draft.facts().any(Facts::CANCELLED));
        } else if draft.row.flags & STOP_ASKED != 0 || draft.facts().left_us() {
            // It was asked before, or a provider has it.
            continue;
        } else {
            draft.row.flags |= STOP_ASKED;
        }
        draft.note(Note::new(author.clone(), sentence(cause, draft)), now);
    }
    Ok(cancelled)
}

/// What stopping it amounted to.
fn sentence(cause: Cause, draft: &Draft) -> &'static str {
    let never_left = draft.facts().any(Facts::CANCELLED);
    match (cause, never_left) {
        (Cause::Cancelled, true) => "Cancelled before it was sent.",
        (Cause::VisitCancelled, true) => "Not sent: the visit was cancelled.",
        (Cause::Paid, true) => "Not sent: the payment was received.",
        (Cause::Copied, true) => {
            "Not sent from this database, which was restored from a copy: the original may have sent it."
        }
        (Cause::Copied, false) => {
            "The database was restored from a copy: what is under way stays as it is, and it is not tried again."
        }
        (Cause::Cancelled, false) => "Cancelled: what is under way stays as it is, and it is not tried again.",
        (Cause::VisitCancelled, false) => {
            "The visit was cancelled: what is under way stays as it is, and it is not tried again."
        }
        (Cause::Paid, false) => {
            "The payment was received: what is under way stays as it is, and it is not tried again."
        }
    }
}

/// Ends a delivery that waits. After an unknown outcome it stays unconfirmed: "cancelled" would claim that nothing left.
fn end(draft: &mut Draft, now: DateTime<Utc>) -> Result<(), StoreError> {
    draft.add(Ending::Cancelled.fact(tries(&draft.row)), now)?;
    draft.close();
    Ok(())
}

/// Ends a delivery whose broadcast was cancelled before its turn came.
pub(super) fn end_with_broadcast(draft: &mut Draft, now: DateTime<Utc>) -> Result<(), StoreError> {
    end(draft, now)?;
    draft.note(Note::new(Author::system(), sentence(Cause::Cancelled, draft)), now);
    Ok(())
}

/// Ends a delivery that was asked to be stopped while it was under way; true if it was. Whoever would try once more asks here.
pub(super) fn ends_instead(draft: &mut Draft, now: DateTime<Utc>) -> Result<bool, StoreError> {
    if draft.row.flags & STOP_ASKED == 0 {
        return Ok(false);
    }
    end(draft, now)?;
    draft.note(Note::new(Author::system(), "It was stopped meanwhile and is not tried again."), now);
    Ok(true)
}
