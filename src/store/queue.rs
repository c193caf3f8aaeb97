//! The queue, which is the deliveries themselves: claim, settle, rescue. A claim is committed before the call, with a token
//! of its own for the callback; a settlement counts as schedule only while the claim is still ours, and as evidence always.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, LockBehavior, LockType, Query},
};
use uuid::Uuid;

use super::{
    Store, StoreError,
    directory::stored_practice,
    entity::{attempt, consent_head, content, delivery, feed_head, inbox_item, notification, practice, recipient_gate},
    feed::{self, Change},
    grounds,
    health::{self, Sign},
    image::{CLOSED, Draft, IN_FLIGHT, Note, POSSIBLE_DUPLICATE, QUARANTINED, RECONCILING, WAITING},
    notifications, preferences,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::{
    crypto,
    domain::{
        Account, Author, Channel, Content, DeliveryId, EmailAddress, Engine, FIRST_LOOK, Facts, Failure, FailureReason,
        Grounds, Kind, Next, Patient, Phi, PhoneNumber, Practice, PracticeId, PracticeSettings, Provider, SkipReason,
        Standing, Verdict,
    },
};

/// Verdicts of attempts, as they are stored.
pub(super) mod verdict {
    pub(crate) const ACCEPTED: i16 = 1;
    pub(crate) const NO: i16 = 2;
    pub(crate) const UNKNOWN: i16 = 3;
    pub(crate) const RECONCILED: i16 = 4;
    pub(crate) const ABSENT: i16 = 5;
}

/// A delivery whose worker died this often is not tried again.
const MOST_CRASHES: i16 = 5;

/// Stands where the provider's code would, when the worker died before there was one.
const WORKER_GONE: &str = "worker gone";

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A phone.
    Phone(PhoneNumber),
    /// A mailbox, and the name beside it.
    Mailbox(EmailAddress, Phi<String>),
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
    /// What.
    pub content: Content,
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
    /// Uniform in 0..1, for jitter.
    pub random: f64,
}

impl Store {
    /// The practices that have something due now.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn practices_due(&self, _: &Engine) -> Result<Vec<PracticeId>, StoreError> {
        let now = self.now().await?;
        let open = Expr::col(feed_head::Column::Open0)
            .add(Expr::col(feed_head::Column::Open1))
            .add(Expr::col(feed_head::Column::Open2));
        let practice = (feed_head::Entity, feed_head::Column::PracticeId);
        let due = Query::select()
            .expr(Expr::val(1))
            .from(delivery::Entity)
            .and_where(Expr::col((delivery::Entity, delivery::Column::PracticeId)).equals(practice))
            .and_where(delivery::Column::Class.is_in([0_i16, 1, 2]))
            .and_where(delivery::Column::Phase.eq(WAITING))
            .and_where(delivery::Column::NotBefore.lte(now))
            .to_owned();
        let query = Query::select()
            .expr_as(Expr::col(practice), Alias::new("practice_id"))
            .from(feed_head::Entity)
            .and_where(open.gt(0))
            .and_where(Expr::exists(due))
            .to_owned();
        let rows = self.read().query_all(&query).await?;
        rows.iter()
            .map(|row| row.try_get_by_index::<String>(0)?.parse().map_err(|_| StoreError::Corrupt("feed_head")))
            .collect()
    }

    /// Takes up to `limit` due deliveries of `practice`: those that may go become ours, each with an attempt; those that may
    /// not are skipped; in-app ones are filed at once. The second value says how many were looked at.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is claimed then.
    pub async fn claim(
        &self,
        _: &Engine,
        worker: Uuid,
        practice: &PracticeId,
        limit: u64,
    ) -> Result<(Vec<Claimed>, usize), StoreError> {
        let keys = self.keys(practice).await?;
        let practice = practice.clone();
        let store = self.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let due = delivery::Entity::find()
                    .filter(delivery::Column::PracticeId.eq(practice.as_str()))
                    .filter(delivery::Column::Class.is_in([0_i16, 1, 2]))
                    .filter(delivery::Column::Phase.eq(WAITING))
                    .filter(delivery::Column::NotBefore.lte(tx.now))
                    .order_by_asc(delivery::Column::Class)
                    .order_by_asc(delivery::Column::NotBefore)
                    .limit(limit)
                    .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
                    .all(&tx.db)
                    .await?;
                if due.is_empty() {
                    return Ok((Vec::new(), 0));
                }
                let seen = due.len();
                let world = World::load_on(tx, &keys, &store, &due).await?;
                let (mut claimed, mut changes) = (Vec::new(), Vec::new());
                for row in due {
                    let mut draft = Draft::of(row.clone());
                    match world.claim_on(tx, &store, worker, &mut draft).await {
                        Ok(mine) => claimed.extend(mine),
                        // One row that means nothing must not hold up the others behind it for ever.
                        Err(StoreError::Corrupt(what)) => {
                            tracing::error!(delivery.id = %row.id, what, "a delivery cannot be read and is given up");
                            draft = Draft::of(row);
                            give_up(tx, &mut draft, FailureReason::Internal)?;
                        }
                        Err(error) => return Err(error),
                    }
                    changes.extend(draft.save_on(tx).await?);
                }
                feed::append_on(tx, &practice, changes).await?;
                Ok((claimed, seen))
            })
        })
        .await
    }

    /// Writes how attempts of one practice ended, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is settled then.
    pub async fn settle(&self, _: &Engine, practice: &PracticeId, ended: Vec<Settlement>) -> Result<(), StoreError> {
        let practice = practice.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let mut drafts = drafts_on(tx, ended.iter().map(|settlement| settlement.id)).await?;
                let attempts = attempts_on(tx, drafts.keys().copied()).await?;
                let mut signs = BTreeMap::new();
                let mut dead = BTreeSet::new();
                for settlement in &ended {
                    let Some(draft) = drafts.get_mut(&settlement.id.0) else { continue };
                    let mine = attempts.iter().filter(|row| row.delivery_id == settlement.id.0).collect::<Vec<_>>();
                    if let Some(sign) = sign(&settlement.verdict) {
                        signs.insert(draft.channel()?, sign);
                    }
                    let attempt = mine.iter().find(|row| row.n == settlement.attempt);
                    if let (Verdict::Refused { reason, .. }, Some(attempt)) = (&settlement.verdict, attempt)
                        && reason.suppresses_address()
                    {
                        // The attempt's own address: the patient may have another one by now.
                        dead.insert((draft.row.channel, attempt.address_bi.clone(), reason.number()));
                    }
                    settle_on(tx, draft, &mine, settlement).await?;
                }
                for (channel, address, reason) in dead {
                    suppress_on(tx, practice.as_str(), channel, address, reason).await?;
                }
                for (channel, sign) in &signs {
                    health::note_on(tx, &practice, *channel, sign).await?;
                }
                save_all_on(tx, &practice, drafts).await
            })
        })
        .await
    }

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
                let mut by_practice = BTreeMap::<PracticeId, BTreeMap<Uuid, Draft>>::new();
                for row in rows {
                    let practice = row.practice_id.parse().map_err(|_| StoreError::Corrupt("delivery"))?;
                    let mut draft = Draft::of(row);
                    let last =
                        attempts.iter().filter(|attempt| attempt.delivery_id == draft.row.id).max_by_key(|it| it.n);
                    rescue_on(tx, &mut draft, last).await?;
                    by_practice.entry(practice).or_default().insert(draft.row.id, draft);
                }
                for (practice, drafts) in by_practice {
                    save_all_on(tx, &practice, drafts).await?;
                }
                Ok(rescued)
            })
        })
        .await
    }

    /// How long a claim holds.
    #[must_use]
    pub fn lease(&self) -> std::time::Duration {
        self.inner.lease
    }
}

/// Saves drafts and appends their changes, the last thing of a transaction.
pub(super) async fn save_all_on(
    tx: &Tx,
    practice: &PracticeId,
    drafts: BTreeMap<Uuid, Draft>,
) -> Result<(), StoreError> {
    let mut changes: Vec<Change> = Vec::new();
    for draft in drafts.into_values() {
        changes.extend(draft.save_on(tx).await?);
    }
    feed::append_on(tx, practice, changes).await
}

/// Locks deliveries in the order of their ids.
pub(super) async fn drafts_on(
    tx: &Tx,
    ids: impl Iterator<Item = DeliveryId>,
) -> Result<BTreeMap<Uuid, Draft>, StoreError> {
    let rows = delivery::Entity::find()
        .filter(delivery::Column::Id.is_in(ids.map(|id| id.0)))
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
    Ok(attempt::Entity::find().filter(attempt::Column::DeliveryId.is_in(deliveries)).all(&tx.db).await?)
}

/// What every claim of one practice rests on.
struct World<'a> {
    keys: &'a PracticeKeys,
    practice: Practice,
    settings: PracticeSettings,
    patients: BTreeMap<String, Patient>,
    gates: Vec<recipient_gate::Model>,
    notifications: BTreeMap<Uuid, notification::Model>,
    contents: BTreeMap<Uuid, content::Model>,
    consent_seq: i64,
}

impl<'a> World<'a> {
    async fn load_on(
        tx: &Tx,
        keys: &'a PracticeKeys,
        _store: &Store,
        due: &[delivery::Model],
    ) -> Result<Self, StoreError> {
        let patients = grounds::patients_on(&tx.db, keys, due.iter().map(|row| row.patient_id.clone()), true).await?;
        let mut wanted = Vec::new();
        let mut moved = Vec::new();
        for row in due {
            let channel = Channel::from_number(row.channel).ok_or(StoreError::Corrupt("delivery"))?;
            let Some(patient) = patients.get(&row.patient_id) else { continue };
            let gates = grounds::gate_keys(keys, channel, patient);
            if grounds::address_index(keys, channel, patient) != row.address_bi {
                moved.extend(gates.clone());
            }
            wanted.extend(gates);
        }
        // An address that changed since the accept may have no gate yet, and only a row can be locked.
        grounds::gates_insert_on(tx, keys.practice(), &moved).await?;
        grounds::gates_on(&tx.db, keys.practice(), &wanted, true).await?;
        // A new statement has a new snapshot: an opt-out that was waited for is in it.
        let gates = grounds::gates_on(&tx.db, keys.practice(), &wanted, false).await?;
        let practice = practice::Entity::find_by_id(keys.practice()).one(&tx.db).await?;
        let settings = preferences::load(&tx.db, keys).await?.value;
        let notifications = notification::Entity::find()
            .filter(notification::Column::Id.is_in(due.iter().map(|row| row.source_id)))
            .all(&tx.db)
            .await?;
        let contents = content::Entity::find()
            .filter(content::Column::DeliveryId.is_in(due.iter().map(|row| row.id)))
            .all(&tx.db)
            .await?;
        let head = consent_head::Entity::find_by_id(keys.practice()).one(&tx.db).await?;
        Ok(Self {
            keys,
            practice: stored_practice(practice.ok_or(StoreError::NotFound("practice"))?)?.value,
            settings,
            patients,
            gates,
            notifications: notifications.into_iter().map(|row| (row.id, row)).collect(),
            contents: contents.into_iter().map(|row| (row.delivery_id, row)).collect(),
            consent_seq: head.map_or(0, |head| head.seq),
        })
    }

    /// Decides anew on one due delivery and claims it if it may go.
    async fn claim_on(
        &self,
        tx: &Tx,
        store: &Store,
        worker: Uuid,
        draft: &mut Draft,
    ) -> Result<Option<Claimed>, StoreError> {
        let channel = draft.channel()?;
        let Some(patient) = self.patients.get(&draft.row.patient_id) else {
            refuse(tx, draft, SkipReason::PatientInactive);
            return Ok(None);
        };
        let asked = self.notifications.get(&draft.row.source_id);
        let grounds = Grounds {
            patient,
            settings: &self.settings,
            kind: Kind::from_number(draft.row.kind).ok_or(StoreError::Corrupt("delivery"))?,
            requested: asked.and_then(|row| notifications::unpack(row.requested)),
            gates: grounds::gates_of(&self.gates, self.keys, channel, patient),
            sms_regions: &store.inner.sms_regions,
            not_before: draft.row.not_before,
            expires_at: last_start(channel, draft.row.expires_at),
            now: tx.now,
        };
        let decision = grounds.decide(channel);
        if let Some(reason) = decision.skip_reason {
            refuse(tx, draft, reason);
            return Ok(None);
        }
        if draft.row.attempts > 0 && tx.now >= draft.row.give_up_at {
            give_up(tx, draft, FailureReason::ProviderUnavailable)?;
            return Ok(None);
        }
        draft.row.address_bi = grounds::address_index(self.keys, channel, patient);
        if channel == Channel::InApp {
            let security = asked.is_some_and(|row| row.security);
            return self.file_on(tx, draft, security).await.map(|()| None);
        }
        let (account, destination) =
            match (self.settings.account(channel, &self.practice), destination(channel, patient)) {
                (Some(account), Some(destination)) => (account, destination),
                (None, _) => {
                    refuse(tx, draft, SkipReason::ChannelNotConfigured);
                    return Ok(None);
                }
                (_, None) => {
                    refuse(tx, draft, SkipReason::NoAddress);
                    return Ok(None);
                }
            };
        draft.row.address_hint = match &destination {
            Destination::Phone(phone) => phone.mask(),
            Destination::Mailbox(email, _) => email.mask(),
        };
        let content = self.contents.get(&draft.row.id).ok_or(StoreError::Corrupt("content"))?;
        let content = notifications::to_content(self.keys, content)?;
        let token = self.intend_on(tx, store, worker, draft, &account).await?;
        Ok(Some(Claimed {
            practice: self.keys.practice().parse().map_err(|_| StoreError::Corrupt("practice"))?,
            id: DeliveryId(draft.row.id),
            channel,
            epoch: draft.row.epoch,
            attempt: draft.row.attempts,
            token,
            account,
            destination,
            content,
            expires_at: draft.row.expires_at,
            claimed_at: tx.now,
        }))
    }

    /// Writes the intent: from here on a call may have been made.
    async fn intend_on(
        &self,
        tx: &Tx,
        store: &Store,
        worker: Uuid,
        draft: &mut Draft,
        account: &Account,
    ) -> Result<[u8; 16], StoreError> {
        let token = crypto::random_token();
        let row = &mut draft.row;
        row.epoch += 1;
        row.attempts += 1;
        row.phase = IN_FLIGHT;
        row.facts |= Facts::INTENT.bits();
        row.claimed_by = Some(worker);
        row.lease_until = Some(tx.now + store.inner.lease);
        row.provider = Some(account.provider() as i16);
        let intent = attempt::ActiveModel {
            delivery_id: Set(row.id),
            n: Set(row.attempts),
            epoch: Set(row.epoch),
            practice_id: Set(row.practice_id.clone()),
            token: Set(token.to_vec()),
            address_bi: Set(row.address_bi.clone().unwrap_or_default()),
            consent_seq: Set(self.consent_seq),
            intent_at: Set(tx.now),
            ended_at: Set(None),
            verdict: Set(None),
            facts: Set(0),
            provider: Set(account.provider() as i16),
            sender: Set(account.sender()),
            provider_ref: Set(String::new()),
            code: Set(String::new()),
        };
        attempt::Entity::insert(intent).exec_without_returning(&tx.db).await?;
        let note = Note {
            attempt: row.attempts,
            consent_position: self.consent_seq,
            ..Note::new(Author::system(), "Handing over to the provider.")
        };
        draft.note(note, tx.now);
        Ok(token)
    }

    /// Files an in-app message, which meets no provider.
    async fn file_on(&self, tx: &Tx, draft: &mut Draft, security: bool) -> Result<(), StoreError> {
        draft.row.attempts += 1;
        draft.row.provider = Some(Provider::Inbox as i16);
        draft.add(Facts::INTENT.and(Facts::DELIVERED), tx.now)?;
        draft.close();
        draft.note(Note::new(Author::system(), "Stored in the patient's inbox."), tx.now);
        let mut item = notifications::inbox_row(&draft.row, security);
        item.create_time = tx.now;
        inbox_item::Entity::insert(item.into_active_model()).exec_without_returning(&tx.db).await?;
        Ok(())
    }
}

/// The latest moment at which a call still makes sense. A provider of texts is told how long it may try, and less than this is
/// not worth a try (Twilio, `ValidityPeriod`).
fn last_start(channel: Channel, expires_at: DateTime<Utc>) -> DateTime<Utc> {
    if channel == Channel::Sms { expires_at - TimeDelta::seconds(5) } else { expires_at }
}

fn destination(channel: Channel, patient: &Patient) -> Option<Destination> {
    match channel {
        Channel::Sms => patient.mobile_phone.clone().map(Destination::Phone),
        Channel::Email => {
            let name = format!("{} {}", patient.first_name.expose(), patient.last_name.expose());
            patient.email.clone().map(|email| Destination::Mailbox(email, Phi::new(name.trim().to_owned())))
        }
        Channel::InApp | Channel::Push => None,
    }
}

/// A delivery that may not go. Before any try it is skipped. After tries that were all a definite no it failed; after one
/// that may have arrived it stays unconfirmed, since "skipped" would claim that nothing left.
fn refuse(tx: &Tx, draft: &mut Draft, reason: SkipReason) {
    let absent = draft.row.doubt_since.is_none();
    let doubt = draft.facts().any(Facts::UNKNOWN_OPEN) && !(absent && reason == SkipReason::Expired);
    let (facts, detail) = match (doubt, draft.row.attempts, reason) {
        (true, _, _) => (Facts::UNKNOWN_CLOSED, "Not sent again; whether the earlier attempt arrived is unknown."),
        (false, 0, _) => (Facts::SKIPPED, "Checked again just before sending: not sent."),
        (false, _, SkipReason::Expired) => (Facts::EXPIRED, "It was tried in vain until it was too late."),
        (false, _, _) => (Facts::SKIPPED, "Checked again just before the next try: not sent."),
    };
    draft.row.skip_reason = Some(reason.number());
    if facts == Facts::EXPIRED {
        let code = draft.row.failure_code.clone();
        draft.fail(&Failure { reason: FailureReason::Expired, provider_code: code, fail_time: tx.now });
    }
    // `add` only fails on a channel that cannot be read, which `claim_on` has ruled out.
    let _ = draft.add(facts, tx.now);
    draft.close();
    draft.note(Note::new(Author::system(), detail), tx.now);
}

/// Ends a delivery that is not tried again. After an unknown outcome it stays unconfirmed: "failed" would claim that nothing
/// arrived.
fn give_up(tx: &Tx, draft: &mut Draft, reason: FailureReason) -> Result<(), StoreError> {
    let doubt = draft.facts().any(Facts::UNKNOWN_OPEN) && draft.row.doubt_since.is_some();
    draft.add(if doubt { Facts::UNKNOWN_CLOSED } else { Facts::GAVE_UP }, tx.now)?;
    if !doubt {
        let code = draft.row.failure_code.clone();
        draft.fail(&Failure { reason, provider_code: code, fail_time: tx.now });
    }
    draft.close();
    draft.note(Note::new(Author::system(), "Nothing more is tried."), tx.now);
    Ok(())
}

fn sign(verdict: &Verdict) -> Option<Sign> {
    match verdict {
        Verdict::Accepted { .. } => Some(Sign::Well),
        Verdict::Misconfigured { code } => Some(Sign::Refused(code.clone())),
        Verdict::Refused { reason: FailureReason::ProviderConfig, code } => Some(Sign::Refused(code.clone())),
        _ => None,
    }
}

/// Nothing more goes to an address that failed for good, until it is entered anew.
pub(super) async fn suppress_on(
    tx: &Tx,
    practice: &str,
    channel: i16,
    address: Vec<u8>,
    reason: i16,
) -> Result<(), StoreError> {
    recipient_gate::Entity::update_many()
        .set(recipient_gate::ActiveModel {
            blocked_at: Set(Some(tx.now)),
            block_reason: Set(Some(reason)),
            ..Default::default()
        })
        .filter(recipient_gate::Column::PracticeId.eq(practice))
        .filter(recipient_gate::Column::Channel.eq(channel))
        .filter(recipient_gate::Column::SubjectKind.eq(grounds::ADDRESS))
        .filter(recipient_gate::Column::Subject.eq(address))
        .exec(&tx.db)
        .await?;
    Ok(())
}

async fn settle_on(
    tx: &Tx,
    draft: &mut Draft,
    attempts: &[&attempt::Model],
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let Some(attempt) = attempts.iter().find(|row| row.n == settlement.attempt) else { return Ok(()) };
    // The fence guards the schedule, not the truth: a claim that was lost still brings evidence.
    let ours = draft.row.epoch == settlement.epoch && draft.row.phase == IN_FLIGHT;
    if settlement.verdict == Verdict::NotStarted {
        if ours {
            draft.row.attempts -= 1;
            draft.row.phase = WAITING;
            draft.release();
            (*attempt).clone().into_active_model().delete(&tx.db).await?;
        }
        return Ok(());
    }
    if !ours {
        return evidence_on(tx, draft, attempt, settlement).await;
    }
    record_on(tx, draft, attempt, settlement).await?;
    let undecided = attempts.iter().any(|row| row.n != attempt.n && row.verdict == Some(verdict::UNKNOWN));
    let standing = Standing {
        attempts: draft.row.attempts,
        expires_at: draft.row.expires_at,
        give_up_at: draft.row.give_up_at,
        undecided,
    };
    draft.release();
    match settlement.verdict.next(standing, tx.now, settlement.random) {
        // Evidence that it left may have come in while the call was under way.
        _ if draft.facts().left_us() => closed_as_sent(draft, tx.now),
        Next::Close { facts, failure } => {
            draft.add(facts, tx.now)?;
            if let Some(failure) = failure {
                draft.fail(&failure);
            }
            draft.close();
        }
        Next::TryAt(at) => {
            draft.row.phase = WAITING;
            draft.row.not_before = at;
        }
        Next::GiveBack => draft.row.phase = WAITING,
        Next::LookAt(at) => {
            draft.add(Facts::UNKNOWN_OPEN, tx.now)?;
            draft.row.phase = RECONCILING;
            draft.row.looks = 0;
            draft.row.absences = 0;
            draft.row.doubt_since = Some(tx.now);
            draft.row.not_before = at;
        }
    }
    Ok(())
}

/// A verdict on a claim that was lost, or one that came before. Only an acceptance that nobody knew of tells something.
async fn evidence_on(
    tx: &Tx,
    draft: &mut Draft,
    attempt: &attempt::Model,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let known = Facts::from_bits(attempt.facts).any(Facts::ACCEPTED);
    if known || !matches!(settlement.verdict, Verdict::Accepted { .. }) {
        return Ok(());
    }
    record_on(tx, draft, attempt, settlement).await?;
    if attempt.n < draft.row.attempts {
        // It went out again meanwhile: the patient may have it twice.
        draft.row.flags |= POSSIBLE_DUPLICATE;
    }
    if draft.row.phase != IN_FLIGHT && !is_closed(&draft.row) {
        closed_as_sent(draft, tx.now);
    }
    Ok(())
}

/// After one of these no further report is waited for.
pub(super) const LAST_WORD: Facts = Facts::DELIVERED.and(Facts::READ).and(Facts::UNDELIVERED).and(Facts::BOUNCED);

/// A provider has it: only its reports can change anything now, and it is asked if they stay away.
pub(super) fn closed_as_sent(draft: &mut Draft, now: DateTime<Utc>) {
    draft.close();
    if draft.row.provider == Some(Provider::Twilio as i16) && !draft.facts().any(LAST_WORD) {
        draft.row.poll_at.get_or_insert(now + TimeDelta::minutes(30));
    }
}

/// Whether no other attempt has the provider's id. A look may have bound it to the wrong one of two equal texts: what is
/// proved now counts all the same, without the id.
pub(super) async fn ref_is_free_on(tx: &Tx, attempt: &attempt::Model, reference: &str) -> Result<bool, StoreError> {
    let holder = attempt::Entity::find()
        .filter(attempt::Column::PracticeId.eq(&attempt.practice_id))
        .filter(attempt::Column::Provider.eq(attempt.provider))
        .filter(attempt::Column::ProviderRef.eq(reference))
        .one(&tx.db)
        .await?;
    let free = holder.is_none_or(|holder| (holder.delivery_id, holder.n) == (attempt.delivery_id, attempt.n));
    if !free {
        tracing::error!(delivery.id = %attempt.delivery_id, "a provider's id belongs to two attempts");
    }
    Ok(free)
}

/// Writes the verdict on the attempt and a line in the timeline.
async fn record_on(
    tx: &Tx,
    draft: &mut Draft,
    attempt: &attempt::Model,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let mut row = attempt.clone().into_active_model();
    row.ended_at = Set(Some(attempt.ended_at.unwrap_or(tx.now)));
    let mut note = Note { attempt: settlement.attempt, ..Note::new(Author::system(), "") };
    let (known, code) = match &settlement.verdict {
        Verdict::Accepted { provider_ref, status, sms_segments } => {
            note.status.clone_from(status);
            note.detail = "The provider accepted it.";
            if let Some(reference) = provider_ref
                && ref_is_free_on(tx, attempt, reference).await?
            {
                draft.row.provider_ref.clone_from(reference);
                row.provider_ref = Set(reference.clone());
            }
            if let Some(segments) = sms_segments.filter(|segments| *segments > 0) {
                draft.row.sms_segments = segments;
            }
            draft.add(Facts::ACCEPTED, tx.now)?;
            row.facts = Set(Facts::from_bits(attempt.facts).and(Facts::ACCEPTED).bits());
            // A look that came first may have called it unknown or absent.
            let late = matches!(attempt.verdict, Some(verdict::UNKNOWN | verdict::ABSENT));
            (if late { verdict::RECONCILED } else { verdict::ACCEPTED }, "")
        }
        Verdict::Refused { code, .. } => {
            note.detail = "The provider refused it.";
            (verdict::NO, code.as_str())
        }
        Verdict::NotTaken { code, .. } => {
            note.detail = "The provider could not take it; it is tried again.";
            (verdict::NO, code.as_str())
        }
        Verdict::Misconfigured { code } => {
            note.detail = "The provider refused the practice's account or sender; it is tried again.";
            (verdict::NO, code.as_str())
        }
        Verdict::Unknown { code } => {
            note.detail = "It was handed over, and no answer came: the provider is asked.";
            (verdict::UNKNOWN, code.as_str())
        }
        Verdict::NotStarted => (verdict::NO, ""),
    };
    if !code.is_empty() {
        // Shown if it is too late for another try.
        code.clone_into(&mut draft.row.failure_code);
    }
    code.clone_into(&mut note.code);
    row.code = Set(code.to_owned());
    // What callbacks or looks proved meanwhile is stronger than a verdict that knows less.
    let proved = attempt.verdict == Some(verdict::RECONCILED) || attempt.facts != 0;
    if !(proved && known == verdict::UNKNOWN) && (attempt.verdict.is_none() || known == verdict::RECONCILED) {
        row.verdict = Set(Some(known));
    } else if proved && attempt.verdict.is_none() {
        row.verdict = Set(Some(verdict::RECONCILED));
    }
    row.update(&tx.db).await?;
    draft.note(note, tx.now);
    Ok(())
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
    draft.row.not_before = tx.now + FIRST_LOOK;
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

/// Whether a delivery is closed.
pub(super) const fn is_closed(row: &delivery::Model) -> bool {
    row.phase == CLOSED
}
