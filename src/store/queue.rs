//! The queue, which is the deliveries themselves: claim, settle, rescue. A claim is committed before the call, with a token
//! of its own for the callback; a settlement counts as schedule only while the claim is still ours, and as evidence always.

mod claim;
mod due;
mod rescue;
mod settle;
mod state;

use std::{collections::BTreeMap, fmt, time::Duration};

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::{
    Store, StoreError,
    draft::Draft,
    entity::{attempt, delivery},
    rows::padded,
    tx::Tx,
};
use crate::{
    crypto,
    domain::{
        Account, AttachmentId, Channel, Content, DeliveryId, Device, EmailAddress, Facts, NotificationId, Phi,
        PhoneNumber, PracticeId, Provider, Registration, TraceContext, Tries, Verdict, next_poll,
    },
};
pub use claim::{Failing, Handover, Leave, Taken, Turn};
pub(super) use due::open;
pub use due::{Asked, CLASSES, place};
pub(super) use settle::{settle_on, suppress_on};

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A phone.
    Phone(PhoneNumber),
    /// A mailbox, and the name beside it.
    Mailbox(EmailAddress, Phi<String>),
    /// Devices, at least one.
    Devices(Vec<Device>),
}

/// A delivery that is ours to send until its lease ends.
pub struct Claimed {
    /// Its practice.
    pub practice: PracticeId,
    /// Its id.
    pub id: DeliveryId,
    /// The channel.
    pub channel: Channel,
    /// The claim's number: a settlement with another one is from a claim that was lost.
    pub epoch: i32,
    /// The attempt, from 1.
    pub attempt: i32,
    /// The attempt's own token.
    pub token: [u8; 16],
    /// The account that sends.
    pub account: Account,
    /// To where.
    pub destination: Destination,
    /// What it belongs to.
    pub notification: NotificationId,
    /// What.
    pub content: Content,
    /// The files that go along.
    pub media: Vec<AttachmentId>,
    /// How long it had been due.
    pub late: Duration,
    /// Where the call that asked for it stands in its trace, if that is recorded.
    pub trace: Option<TraceContext>,
    /// No attempt after this.
    pub expires_at: DateTime<Utc>,
    /// The moment of the claim, by the queue's clock.
    pub claimed_at: DateTime<Utc>,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither to whom nor what, and no token.
        f.debug_struct("Claimed")
            .field("practice", &self.practice)
            .field("id", &self.id)
            .field("channel", &self.channel)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

impl Claimed {
    /// The token as it stands in the callback's address.
    #[must_use]
    pub fn callback_token(&self) -> String {
        crypto::base64url(&self.token)
    }

    /// The token as it stands in the address that a mail comes back to: in digits alone, since not every mail system keeps the
    /// case of letters.
    #[must_use]
    pub fn bounce_token(&self) -> String {
        Uuid::from_bytes(self.token).simple().to_string()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// Its practice.
    pub practice: PracticeId,
    /// The delivery.
    pub id: DeliveryId,
    /// The claim's number.
    pub epoch: i32,
    /// The attempt.
    pub attempt: i32,
    /// How it ended.
    pub verdict: Verdict,
    /// Devices that the provider does not know any more, whatever became of the rest.
    pub gone: Vec<Registration>,
    /// Uniform in 0..1, for jitter.
    pub random: f64,
}

impl Store {
    /// How long a claim holds.
    #[must_use]
    pub fn lease(&self) -> std::time::Duration {
        self.inner.lease
    }
}

/// Locks deliveries in the order of their ids.
pub(super) async fn drafts_on(
    tx: &Tx,
    ids: impl Iterator<Item = DeliveryId>,
) -> Result<BTreeMap<Uuid, Draft>, StoreError> {
    let rows = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(padded(ids.map(|id| id.0))))
        .order_by_asc(delivery::Column::Id)
        .lock_exclusive()
        .all(&tx.db)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, Draft::of(row))).collect())
}

pub(super) async fn attempts_on(
    tx: &Tx,
    deliveries: impl Iterator<Item = Uuid>,
) -> Result<Vec<attempt::Model>, StoreError> {
    Ok(attempt::Entity::find().filter(attempt::Column::DeliveryId.is_in(padded(deliveries))).all(&tx.db).await?)
}

/// After one of these no further report is waited for.
pub(super) const LAST_WORD: Facts = Facts::DELIVERED.and(Facts::READ).and(Facts::UNDELIVERED).and(Facts::BOUNCED);

/// A provider has it: only its reports can change anything now, and it is asked if they stay away.
pub(super) fn closed_as_sent(draft: &mut Draft, now: DateTime<Utc>) {
    draft.close();
    let can_be_asked = draft.row.provider == Some(Provider::Twilio as i16) && !draft.row.provider_ref.is_empty();
    draft.row.poll_at = if can_be_asked && !draft.facts().any(LAST_WORD) {
        draft.row.poll_at.or_else(|| next_poll(draft.row.send_time.unwrap_or(now), now))
    } else {
        None
    };
}

/// What the tries of a delivery came to, while none is under way: a doubt has its beginning until it is resolved.
pub(super) fn tries(row: &delivery::Model) -> Tries {
    let unknown = row.doubt_since.is_some();
    let absent = !unknown && Facts::from_bits(row.facts).any(Facts::UNKNOWN_OPEN);
    Tries { count: row.attempts, unknown, absent }
}
