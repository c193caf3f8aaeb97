//! Secure links. The token stands in the message only; here is its digest, and the target sealed under the practice's key.

use std::fmt;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    draft::{Draft, Note, save_all_on},
    entity::{delivery, link, notification},
    image::IN_FLIGHT,
    notifications::NewNotification,
    subjects,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{AuditEvent, Author, DeliveryState, Engine, NotificationId, PracticeId};

const TARGET: Sealed = Sealed { table: "link", column: "target_ct" };

/// Openings of a link that the timelines tell one by one. Beyond them they are counted and put on the audit trail, but no
/// delivery is touched: nobody shall hold those up by pressing on.
const MOST_LINES: i32 = 50;

/// A link that is made with a notification.
#[derive(Clone)]
pub struct NewLink {
    /// Digest of the token.
    pub token_digest: [u8; 32],
    /// Where it leads.
    pub target_url: String,
    /// Opens nothing from then on.
    pub expire_time: DateTime<Utc>,
    /// How often it opens; 0: no limit.
    pub max_opens: i32,
}

impl fmt::Debug for NewLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The target may say what the link is about.
        f.debug_struct("NewLink")
            .field("expire_time", &self.expire_time)
            .field("max_opens", &self.max_opens)
            .finish_non_exhaustive()
    }
}

/// What a token amounts to.
#[derive(Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It opens, and leads there.
    Open {
        /// The target.
        target_url: String,
    },
    /// Unknown, expired, revoked or used up: not told apart.
    Closed,
}

impl fmt::Debug for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open { .. } => "Open",
            Self::Closed => "Closed",
        })
    }
}

pub(super) async fn insert_on(tx: &Tx, keys: &PracticeKeys, notification: &NewNotification) -> Result<(), StoreError> {
    let owner = subjects::of_patient(notification.patient.id.as_str());
    for new in &notification.links {
        let row = link::ActiveModel {
            token_digest: Set(new.token_digest.to_vec()),
            practice_id: Set(keys.practice().to_owned()),
            notification_id: Set(notification.id.0),
            target_ct: Set(keys.seal_of(&owner, TARGET, &new.token_digest, &new.target_url)?),
            create_time: Set(tx.now),
            expire_time: Set(new.expire_time),
            max_opens: Set(new.max_opens),
            opens: Set(0),
            revoke_time: Set(None),
            first_open_time: Set(None),
        };
        link::Entity::insert(row).exec_without_returning(&tx.db).await?;
    }
    Ok(())
}

/// Revokes those links of a notification that would still open. Says how many.
pub(super) async fn revoke_on(tx: &Tx, notification: NotificationId) -> Result<i32, StoreError> {
    let revoked = link::Entity::update_many()
        .col_expr(link::Column::RevokeTime, Expr::value(tx.now))
        .filter(link::Column::NotificationId.eq(notification.0))
        .filter(link::Column::RevokeTime.is_null())
        .filter(link::Column::ExpireTime.gt(tx.now))
        .filter(unused())
        .exec(&tx.db)
        .await?;
    Ok(i32::try_from(revoked.rows_affected).unwrap_or(i32::MAX))
}

fn is_open(row: &link::Model, now: DateTime<Utc>) -> bool {
    row.revoke_time.is_none() && now < row.expire_time && has_openings(row)
}

/// As [`has_openings`].
fn unused() -> Condition {
    Condition::any()
        .add(link::Column::MaxOpens.eq(0))
        .add(Expr::col(link::Column::Opens).lt(Expr::col(link::Column::MaxOpens)))
}

const fn has_openings(row: &link::Model) -> bool {
    row.max_opens == 0 || row.opens < row.max_opens
}

impl Store {
    /// Whether the token with that digest would open, without using it.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn link_peek(&self, _: &Engine, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let row = link::Entity::find_by_id(digest.to_vec()).one(self.across()).await?;
        let now = self.now().await?;
        Ok(row.is_some_and(|row| is_open(&row, now)))
    }

    /// Opens the link with that digest: counts it, puts it on the audit trail, and notes it on the notification's deliveries that
    /// went out, or may have. Who opened it is not known, and nothing is kept that could tell.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn link_open(&self, _: &Engine, digest: [u8; 32]) -> Result<LinkState, StoreError> {
        let row = link::Entity::find_by_id(digest.to_vec()).one(self.across()).await?;
        let now = self.now().await?;
        // One that is closed stays so, and nobody shall hold locks by pressing on.
        let Some(row) = row.filter(|row| is_open(row, now)) else { return Ok(LinkState::Closed) };
        let practice: PracticeId = row.practice_id.parse().map_err(|_| StoreError::Corrupt("link"))?;
        let keys = self.keys(&practice).await?;
        let opening = subjects::opening(&self.within(&practice), &keys, [row.target_ct.as_slice()]).await?;
        let Some(target_url) = opening.open_if_kept(TARGET, &digest, &row.target_ct)? else {
            return Ok(LinkState::Closed);
        };
        let counted = if row.opens < MOST_LINES {
            self.write_within(practice.clone(), move |tx| Box::pin(async move { note_on(tx, &practice, row).await }))
                .await?
        } else {
            self.write_within(practice.clone(), move |tx| Box::pin(async move { count_on(tx, &practice, row).await }))
                .await?
        };
        Ok(if counted { LinkState::Open { target_url } } else { LinkState::Closed })
    }
}

/// Counts an opening and notes it on what carried the link. False: it does not open any more.
async fn note_on(tx: &Tx, practice: &PracticeId, row: link::Model) -> Result<bool, StoreError> {
    let drafts = sent_on(tx, &row).await?;
    let notification = row.notification_id;
    let row = link::Entity::find_by_id(row.token_digest).lock_exclusive().one(&tx.db).await?;
    let Some(row) = row.filter(|row| is_open(row, tx.now)) else { return Ok(false) };
    let (first, opens) = (row.first_open_time.is_none(), row.opens + 1);
    let mut update = row.into_active_model();
    update.opens = Set(opens);
    if first {
        update.first_open_time = Set(Some(tx.now));
    }
    update.update(&tx.db).await?;
    audit_on(tx, practice, notification).await?;
    let opened = drafts.into_iter().map(|mut draft| {
        draft.row.open_time.get_or_insert(tx.now);
        if let Some(detail) = detail(opens) {
            draft.note(Note::new(Author::system(), detail), tx.now);
        }
        draft
    });
    save_all_on(tx, opened).await?;
    Ok(true)
}

/// Counts an opening, and touches nothing but the link and the audit trail. False: it does not open any more.
async fn count_on(tx: &Tx, practice: &PracticeId, row: link::Model) -> Result<bool, StoreError> {
    let counted = link::Entity::update_many()
        .col_expr(link::Column::Opens, Expr::col(link::Column::Opens).add(1))
        .filter(link::Column::TokenDigest.eq(row.token_digest))
        .filter(unused())
        .filter(link::Column::RevokeTime.is_null())
        .filter(link::Column::ExpireTime.gt(tx.now))
        .exec(&tx.db)
        .await?;
    if counted.rows_affected == 0 {
        return Ok(false);
    }
    audit_on(tx, practice, row.notification_id).await?;
    Ok(true)
}

/// Puts an opening on the audit trail.
async fn audit_on(tx: &Tx, practice: &PracticeId, notification: Uuid) -> Result<(), StoreError> {
    let patient: Option<String> = notification::Entity::find_by_id(notification)
        .select_only()
        .column(notification::Column::PatientId)
        .into_tuple()
        .one(&tx.db)
        .await?;
    let patient = patient.map(|id| id.parse().map_err(|_| StoreError::Corrupt("notification"))).transpose()?;
    let resource = format!("notification/{notification}");
    tx.note_event(practice, AuditEvent::of_system(AuditEvent::LINK_OPENED, patient, resource));
    Ok(())
}

/// What the timeline says of the opening with that number. A link without a limit shall not fill it.
const fn detail(opens: i32) -> Option<&'static str> {
    match opens {
        ..MOST_LINES => Some("The link was opened."),
        MOST_LINES => Some("The link was opened. What follows is not told one by one."),
        _ => None,
    }
}

/// The deliveries that carried the link, locked in the order of their ids: those that left, and those of which it is not known
/// yet, or never will be.
async fn sent_on(tx: &Tx, row: &link::Model) -> Result<Vec<Draft>, StoreError> {
    let may_have_left = Condition::any()
        .add(delivery::Column::SendTime.is_not_null())
        .add(delivery::Column::Phase.eq(IN_FLIGHT))
        .add(delivery::Column::State.eq(DeliveryState::Unconfirmed.number()));
    let rows = delivery::Entity::find()
        .filter(delivery::Column::SourceId.eq(row.notification_id))
        .filter(may_have_left)
        .order_by_asc(delivery::Column::Id)
        .lock_exclusive()
        .all(&tx.db)
        .await?;
    Ok(rows.into_iter().map(Draft::of).collect())
}
