//! What the claims of one practice rest on, loaded and locked once for all of them, and what that means for each.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{
    Handover, Leave, Made, Turn,
    ends::{file, give_up, hold, last_start, park, refuse},
};
use crate::{
    crypto,
    domain::{
        Account, AttachmentId, Author, Channel, ChannelSet, Class, ConsentState, Decision, DeliveryId, Device, Facts,
        FailureReason, Grounds, NotificationId, Patient, Phi, Practice, PracticeSettings, SkipReason, TraceContext,
    },
    store::{
        Store, StoreError, broadcasts, conversations, devices,
        draft::{Draft, Note},
        entity::{attempt, consent_head, content, delivery, notification, recipient_gate},
        grounds::{self, GateKey, Recipient},
        image::{self, CONVERSATION_MESSAGE, IN_FLIGHT, TEST},
        notifications, preferences,
        queue::{Claimed, Destination, due::ready_at},
        rows::padded,
        stand_ins::{self, reader_id},
        stop, subjects, test_messages,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// What every claim of one practice rests on.
pub(super) struct World<'a> {
    keys: PracticeKeys,
    turn: &'a Turn,
    store: &'a Store,
    practice: Practice,
    settings: PracticeSettings,
    /// By the ids of [`reader_id`]; unset: one that cannot be read.
    readers: BTreeMap<String, Option<Recipient>>,
    gates: Vec<recipient_gate::Model>,
    /// The gates of the patients who have the address of a test, by the test.
    holders: BTreeMap<Uuid, Vec<GateKey>>,
    notifications: BTreeMap<Uuid, notification::Model>,
    /// The broadcasts that are cancelled.
    cancelled: BTreeSet<Uuid>,
    contents: BTreeMap<Uuid, content::Model>,
    /// Of the messages of conversations.
    media: BTreeMap<Uuid, Vec<AttachmentId>>,
    /// Only of patients who are due a push.
    devices: BTreeMap<String, Vec<Device>>,
    consent_seq: i64,
}

impl<'a> World<'a> {
    pub(super) async fn load_on(
        tx: &Tx,
        keys: &PracticeKeys,
        store: &'a Store,
        turn: &'a Turn,
        due: &[delivery::Model],
    ) -> Result<Self, StoreError> {
        let contents = contents_on(tx, due).await?;
        let keys = &subjects::opening(&tx.db, keys, contents.values().map(|row| row.body_ct.as_slice())).await?;
        let mut readers = patients_on(tx, keys, due.iter().map(|row| row.patient_id.clone()).collect()).await?;
        for row in due.iter().filter(|row| stand_ins::has(row)) {
            let contact = contents.get(&row.id).and_then(|text| stand_ins::recipient(keys, text).ok());
            readers.insert(reader_id(row).into_owned(), contact);
        }
        let mut wanted = Vec::new();
        let mut moved = Vec::new();
        for row in due {
            // Whatever is not found here is found again, and dealt with, when the delivery's turn comes.
            let Some(channel) = Channel::from_number(row.channel) else { continue };
            let Some(Some(Recipient { patient, .. })) = readers.get(reader_id(row).as_ref()) else { continue };
            let gates = grounds::gate_keys(keys, channel, patient);
            if grounds::address_index(keys, channel, patient) != row.address_bi {
                moved.extend(gates.clone());
            }
            wanted.extend(gates);
        }
        let holders = test_messages::holders_on(tx, keys, due).await?;
        wanted.extend(holders.values().flatten().cloned());
        moved.extend(holders.values().flatten().cloned());
        // An address that changed since the accept may have no gate yet, and only a row can be locked.
        let moved = moved.into_iter().map(|gate| (keys.practice().to_owned(), gate));
        grounds::gates_insert_on(tx, moved.collect()).await?;
        let in_advance = mutant!("gates read once");
        let old =
            grounds::gates_on(&tx.db, keys.practice(), &wanted, !in_advance && !mutant!("gates not locked")).await?;
        failpoint!("gates");
        // A new statement has a new snapshot: an opt-out that was waited for is in it.
        let new = grounds::gates_on(&tx.db, keys.practice(), &wanted, in_advance).await?;
        let gates = if in_advance { old } else { new };
        let cancelled = broadcasts::cancelled_on(tx, due.iter().filter_map(|row| row.broadcast_id).collect()).await?;
        let (practice, settings) = preferences::home_on(&tx.db, keys).await?;
        let notifications = notification::Entity::find()
            .filter(notification::Column::Id.is_in(padded(due.iter().map(|row| row.source_id))))
            .all(&tx.db)
            .await?;
        let said = due.iter().filter(|row| row.source_kind == CONVERSATION_MESSAGE).map(|row| row.source_id);
        let media = conversations::sent_with_on(tx, said).await?;
        let pushed = due.iter().filter(|row| row.channel == Channel::Push.number()).map(|row| row.patient_id.clone());
        let devices = devices::of_on(&tx.db, keys, pushed.collect()).await?;
        let head = consent_head::Entity::find_by_id(keys.practice()).one(&tx.db).await?;
        Ok(Self {
            keys: keys.clone(),
            turn,
            store,
            practice,
            settings,
            readers,
            gates,
            holders,
            notifications: notifications.into_iter().map(|row| (row.id, row)).collect(),
            cancelled,
            contents,
            media,
            devices,
            consent_seq: head.map_or(0, |head| head.seq),
        })
    }

    /// Decides anew on one due delivery and claims it if it may go.
    pub(super) fn claim(
        &self,
        tx: &Tx,
        draft: &mut Draft,
        made: &mut Made,
        leave: &impl Fn(&Handover<'_>) -> Leave,
    ) -> Result<(), StoreError> {
        let channel = draft.channel()?;
        if stop::ends_instead(draft, tx.now)? {
            return Ok(());
        }
        if draft.row.broadcast_id.is_some_and(|id| self.cancelled.contains(&id)) {
            return stop::end_with_broadcast(draft, tx.now);
        }
        let Some(recipient) = self.readers.get(reader_id(&draft.row).as_ref()) else {
            refuse(tx, draft, SkipReason::PatientInactive);
            return Ok(());
        };
        let recipient = recipient.as_ref().ok_or(StoreError::Corrupt("patient"))?;
        let patient = &recipient.patient;
        let asked = self.notifications.get(&draft.row.source_id);
        let decision = self.decide(tx, &draft.row, channel, (recipient, asked))?;
        if let Some(reason) = decision.skip_reason {
            refuse(tx, draft, reason);
            return Ok(());
        }
        // A definite no ends by its settlement, which knows the reason. This ends the round of unknown, absent, sent again.
        if draft.facts().any(Facts::UNKNOWN_OPEN) && tx.now >= draft.row.give_up_at {
            return give_up(tx, draft, FailureReason::ProviderUnavailable);
        }
        if decision.attempt_time > tx.now {
            hold(tx, draft, decision.attempt_time);
            return Ok(());
        }
        draft.row.address_bi = grounds::address_index(&self.keys, channel, patient);
        if channel == Channel::InApp {
            made.items.push(file(tx, draft, asked.is_some_and(|row| row.security))?);
            return Ok(());
        }
        let (account, destination) =
            match (self.settings.account(channel, &self.practice), self.destination(channel, patient)) {
                (Some(account), Some(destination)) => (account, destination),
                (None, _) => {
                    refuse(tx, draft, SkipReason::ChannelNotConfigured);
                    return Ok(());
                }
                (_, None) => {
                    refuse(tx, draft, SkipReason::NoAddress);
                    return Ok(());
                }
            };
        let content = self.contents.get(&draft.row.id).ok_or(StoreError::Corrupt("content"))?;
        let (content, reached_at) = notifications::to_reply(&self.keys, content)?;
        let account = account.answering(&reached_at);
        // Asked last: whom it lets go is counted as gone.
        if let Leave::Later { at, failing } = leave(&self.handover(tx, draft, &account)) {
            return park(tx, draft, at, failing);
        }
        draft.row.address_hint = patient.address_hint(channel);
        let due_at = ready_at(&draft.row);
        let attempt = self.intend(tx, draft, &account);
        made.claimed.push(Claimed {
            practice: self.turn.practice.clone(),
            id: DeliveryId(draft.row.id),
            channel,
            epoch: draft.row.epoch,
            attempt: draft.row.attempts,
            token: attempt.token.as_slice().try_into().map_err(|_| StoreError::Corrupt("token"))?,
            account,
            destination,
            notification: NotificationId(draft.row.source_id),
            content,
            media: self.media.get(&draft.row.source_id).cloned().unwrap_or_default(),
            late: (tx.now - due_at).to_std().unwrap_or_default(),
            trace: draft.row.trace.as_deref().and_then(TraceContext::of_bytes),
            expires_at: draft.row.expires_at,
            claimed_at: tx.now,
        });
        made.attempts.push(attempt);
        Ok(())
    }

    /// What every rule says by now.
    fn decide(
        &self,
        tx: &Tx,
        row: &delivery::Model,
        channel: Channel,
        (recipient, asked): (&Recipient, Option<&notification::Model>),
    ) -> Result<Decision, StoreError> {
        let Recipient { patient, choices, has_device } = recipient;
        let mut gates = grounds::gates_of(&self.gates, &self.keys, channel, patient);
        // Whoever opted out as a patient is not written to as a contact either.
        let holders = self.holders.get(&row.id).into_iter().flatten();
        if grounds::any_opted_out(&self.gates, holders) {
            gates.patient = ConsentState::OptedOut;
        }
        let gates = BTreeMap::from([(channel, gates)]);
        let grounds = Grounds {
            patient,
            choices: &choices.value,
            practice_zone: self.practice.time_zone,
            settings: &self.settings,
            has_device: *has_device,
            kind: image::kind(row)?,
            requested: match row.source_kind {
                CONVERSATION_MESSAGE => Some(ChannelSet::NONE.with(channel)),
                _ => asked.and_then(|row| notifications::unpack(row.requested)),
            },
            urgent: row.class == Class::Urgent.number(),
            test: row.source_kind == TEST,
            gates: &gates,
            // Who of a broadcast has an address to themselves was settled when it was planned.
            duplicates: ChannelSet::NONE,
            sms_regions: &self.store.inner.sms_regions,
            not_before: row.not_before,
            expires_at: last_start(channel, row.expires_at),
            now: tx.now,
        };
        Ok(grounds.decide(channel))
    }

    fn destination(&self, channel: Channel, patient: &Patient) -> Option<Destination> {
        match channel {
            Channel::Sms => patient.mobile_phone.clone().map(Destination::Phone),
            Channel::Email => {
                let name = format!("{} {}", patient.first_name.expose(), patient.last_name.expose());
                patient.email.clone().map(|email| Destination::Mailbox(email, Phi::new(name.trim().to_owned())))
            }
            Channel::Push => self.devices.get(patient.id.as_str()).cloned().map(Destination::Devices),
            Channel::InApp => None,
        }
    }

    fn handover<'h>(&'h self, tx: &Tx, draft: &Draft, account: &'h Account) -> Handover<'h> {
        let row = &draft.row;
        Handover {
            practice: &self.turn.practice,
            id: DeliveryId(row.id),
            class: self.turn.class,
            account,
            segments: u32::try_from(row.sms_segments).unwrap_or_default().max(1),
            again: row.attempts > 0 && !draft.facts().any(Facts::UNKNOWN_OPEN),
            parked: row.parked_until.is_some(),
            now: tx.now,
        }
    }

    /// Writes the intent: from here on a call may have been made.
    fn intend(&self, tx: &Tx, draft: &mut Draft, account: &Account) -> attempt::Model {
        let row = &mut draft.row;
        row.epoch += 1;
        row.attempts += 1;
        row.phase = IN_FLIGHT;
        row.parked_until = None;
        row.facts |= Facts::INTENT.bits();
        row.claimed_by = Some(self.turn.worker);
        row.lease_until = Some(tx.now + self.store.inner.lease);
        row.provider = Some(account.provider() as i16);
        let intent = attempt::Model {
            delivery_id: row.id,
            n: row.attempts,
            epoch: row.epoch,
            practice_id: row.practice_id.clone(),
            token: crypto::random_token().to_vec(),
            address_bi: row.address_bi.clone().unwrap_or_default(),
            consent_seq: self.consent_seq,
            intent_at: tx.now,
            ended_at: None,
            verdict: None,
            facts: 0,
            provider: account.provider() as i16,
            sender: account.sender(),
            provider_ref: String::new(),
            code: String::new(),
        };
        let note = Note {
            attempt: row.attempts,
            consent_position: self.consent_seq,
            ..Note::new(Author::system(), "Handing over to the provider.")
        };
        draft.note(note, tx.now);
        intent
    }
}

/// The texts that a claim is about, which never change.
async fn contents_on(tx: &Tx, due: &[delivery::Model]) -> Result<BTreeMap<Uuid, content::Model>, StoreError> {
    let of_these = content::Column::DeliveryId.is_in(padded(due.iter().map(|row| row.id)));
    let rows = content::Entity::find().filter(of_these).all(&tx.db).await?;
    Ok(rows.into_iter().map(|row| (row.delivery_id, row)).collect())
}

/// The patients that a claim is about, locked. One that cannot be read is no reason to leave the others waiting.
async fn patients_on(
    tx: &Tx,
    keys: &PracticeKeys,
    ids: BTreeSet<String>,
) -> Result<BTreeMap<String, Option<Recipient>>, StoreError> {
    match grounds::patients_on(&tx.db, keys, ids.clone(), true).await {
        Ok(patients) => return Ok(patients.into_iter().map(|(id, patient)| (id, Some(patient))).collect()),
        Err(StoreError::Corrupt(_)) => {}
        Err(error) => return Err(error),
    }
    let mut patients = BTreeMap::new();
    for id in ids {
        match grounds::patients_on(&tx.db, keys, [id.clone()], true).await {
            Ok(one) => patients.extend(one.into_iter().map(|(id, patient)| (id, Some(patient)))),
            Err(StoreError::Corrupt(_)) => drop(patients.insert(id, None)),
            Err(error) => return Err(error),
        }
    }
    Ok(patients)
}
