//! Claims: what is due, decided on anew under the locks of its gates, and made ours with an attempt.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Alias, Expr, LockBehavior, LockType, Query},
};
use uuid::Uuid;

use super::{Claimed, Destination};
use crate::{
    crypto,
    domain::{
        Account, Author, Channel, DeliveryId, Engine, Facts, Failure, FailureReason, Grounds, Kind, Patient, Phi,
        Practice, PracticeId, PracticeSettings, Provider, SkipReason,
    },
    store::{
        Store, StoreError,
        directory::stored_practice,
        entity::{
            attempt, consent_head, content, delivery, feed_head, inbox_item, notification, practice, recipient_gate,
        },
        feed, grounds,
        image::{Draft, IN_FLIGHT, Note, WAITING},
        notifications, preferences,
        tx::Tx,
        vault::PracticeKeys,
    },
};

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
                failpoint!("F5");
                Ok((claimed, seen))
            })
        })
        .await
    }
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
        // A definite no ends by its settlement, which knows the reason. This ends the round of unknown, absent, sent again.
        if draft.facts().any(Facts::UNKNOWN_OPEN) && tx.now >= draft.row.give_up_at {
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
