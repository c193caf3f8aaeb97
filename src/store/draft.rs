//! A delivery that is being changed: its row, the lines of its timeline, and the changes that watches see, until all of them are
//! written together.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    StoreError,
    entity::{delivery, delivery_event},
    feed::{self, Change, News, Was},
    image::{CLOSED, NOTIFICATION, TEST, WAITING, corrupt, to_delivery},
    tx::Tx,
};
use crate::domain::{
    Author, Channel, Delivery, DeliveryState, Facts, Failure, FailureReason, PatientId, PracticeId, shown,
};

/// A row that is being changed, with what it was.
#[derive(Debug)]
pub(super) struct Draft {
    before: delivery::Model,
    pub(super) row: delivery::Model,
    events: Vec<delivery_event::Model>,
    /// The changes that are complete, and the row and the number of events as of the last of them.
    changes: Vec<Change>,
    told: Option<(delivery::Model, usize)>,
}

impl Draft {
    pub(super) fn of(row: delivery::Model) -> Self {
        Self { before: row.clone(), row, events: Vec::new(), changes: Vec::new(), told: None }
    }

    pub(super) fn facts(&self) -> Facts {
        Facts::from_bits(self.row.facts)
    }

    pub(super) fn is_unchanged(&self) -> bool {
        self.row == self.before
    }

    pub(super) fn channel(&self) -> Result<Channel, StoreError> {
        Channel::from_number(self.row.channel).ok_or(StoreError::Corrupt("delivery"))
    }

    /// Adds facts; the state follows from them and from nothing else.
    pub(super) fn add(&mut self, facts: Facts, now: DateTime<Utc>) -> Result<(), StoreError> {
        let state = if mutant!("last write wins") { facts } else { self.facts().and(facts) };
        let facts = self.facts().and(facts);
        let state = shown(self.channel()?, state);
        self.row.facts = facts.bits();
        self.row.state = state.number();
        if facts.left_us() && self.row.send_time.is_none() {
            self.row.send_time = Some(now);
        }
        if state == DeliveryState::Delivered && self.row.deliver_time.is_none() {
            self.row.deliver_time = Some(now);
        }
        Ok(())
    }

    /// Explains a failure.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.row.failure_reason = Some(failure.reason.number());
        self.row.failure_code.clone_from(&failure.provider_code);
        self.row.failure_time = Some(failure.fail_time);
    }

    /// Explains a failure for which the provider gave a code at most, unless it has been explained before.
    pub(super) fn explain(&mut self, code: &str, now: DateTime<Utc>) {
        if self.row.state == DeliveryState::Failed.number() && self.row.failure_reason.is_none() {
            self.fail(&Failure { reason: FailureReason::Other, provider_code: code.to_owned(), fail_time: now });
        }
    }

    /// Ends what the server does by itself.
    pub(super) fn close(&mut self) {
        self.row.phase = CLOSED;
        self.release();
    }

    /// Gives the claim up.
    pub(super) fn release(&mut self) {
        self.row.claimed_by = None;
        self.row.lease_until = None;
    }

    /// Adds a line to the timeline. Its state is filled in when the draft is saved.
    pub(super) fn note(&mut self, event: Note, now: DateTime<Utc>) {
        self.row.events += 1;
        self.events.push(line(&self.row, self.row.events, event, now));
    }

    /// Lines of the timeline that are not written yet.
    pub(super) fn news(&self) -> impl Iterator<Item = &delivery_event::Model> {
        self.events.iter()
    }

    /// Ends a change: what follows in the same transaction is another, which watches see by itself.
    pub(super) fn tell(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let (last, told) = self.told.as_ref().map_or((&self.before, 0), |(row, told)| (row, *told));
        if *last == self.row && told == self.events.len() {
            return Ok(());
        }
        let change = change(last, &mut self.row, now)?;
        self.changes.extend(change);
        for event in self.events.iter_mut().skip(told) {
            event.state = self.row.state;
        }
        self.told = Some((self.row.clone(), self.events.len()));
        Ok(())
    }
}

/// Counts a change, if the API shows a difference: then, and only then, the revision grows.
fn change(last: &delivery::Model, row: &mut delivery::Model, now: DateTime<Utc>) -> Result<Option<Change>, StoreError> {
    let before = to_delivery(last)?;
    let changed = to_delivery(row)? != before;
    if changed {
        row.revision += 1;
        row.update_time = now;
    }
    let was = Was { state: before.state, failure: before.failure.map(|failure| failure.reason) };
    let closed = i64::from(last.phase != CLOSED && row.phase == CLOSED);
    if !changed && closed == 0 {
        return Ok(None);
    }
    Ok(Some(Change {
        practice: row.practice_id.parse().map_err(|_| corrupt())?,
        news: if changed && row.source_kind != TEST {
            News::Delivery(Box::new(to_delivery(row)?), Some(was))
        } else {
            News::None
        },
        class: row.class,
        opened: -closed,
    }))
}

/// Writes drafts and appends their changes to the feed: the last thing of a transaction.
pub(super) async fn save_all_on(tx: &Tx, drafts: impl IntoIterator<Item = Draft>) -> Result<(), StoreError> {
    let changes = write_all_on(tx, drafts).await?;
    failpoint!("F10");
    feed::append_on(tx, changes).await
}

/// Writes the rows and timelines of drafts, a statement a table. Yields the changes for the feed.
pub(super) async fn write_all_on(tx: &Tx, drafts: impl IntoIterator<Item = Draft>) -> Result<Vec<Change>, StoreError> {
    let (mut rows, mut events, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for mut draft in drafts {
        draft.tell(tx.now)?;
        changes.append(&mut draft.changes);
        if draft.row != draft.before {
            rows.push((draft.before, draft.row));
        }
        events.append(&mut draft.events);
    }
    tx.update_all(&rows).await?;
    tx.insert_all(events).await?;
    Ok(changes)
}

impl Change {
    /// That `delivery`, whose new row is `row`, came to be. A test is nobody's news: of it only the counters tell.
    pub(super) fn created(row: &delivery::Model, delivery: Delivery) -> Result<Self, StoreError> {
        Ok(Self {
            practice: row.practice_id.parse().map_err(|_| corrupt())?,
            news: if row.source_kind == TEST { News::None } else { News::Delivery(Box::new(delivery), None) },
            class: row.class,
            opened: i64::from(row.phase != CLOSED),
        })
    }

    /// That an item of a patient's inbox was marked, of which its delivery shows nothing.
    pub(super) const fn marked(practice: PracticeId, patient: PatientId, item: Uuid) -> Self {
        Self::of(practice, News::Marked(patient, item))
    }
}

/// A line for the timeline.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) actor: Author,
    pub(super) status: String,
    pub(super) code: String,
    /// A sentence fit to show to staff.
    pub(super) detail: &'static str,
    pub(super) attempt: i32,
    pub(super) consent_position: i64,
}

impl Note {
    pub(super) fn new(actor: Author, detail: &'static str) -> Self {
        Self { actor, status: String::new(), code: String::new(), detail, attempt: 0, consent_position: 0 }
    }
}

/// A delivery that is new: what is said of nothing yet. Whoever makes one fills in the rest.
pub(super) fn fresh(id: Uuid, facts: Facts, channel: Channel, now: DateTime<Utc>) -> delivery::Model {
    delivery::Model {
        id,
        practice_id: String::new(),
        patient_id: String::new(),
        source_kind: NOTIFICATION,
        source_id: Uuid::nil(),
        broadcast_id: None,
        kind: 0,
        channel: channel.number(),
        class: 1,
        address_bi: None,
        address_hint: String::new(),
        retry_of: None,
        retried_by: None,
        reference: String::new(),
        facts: facts.bits(),
        state: shown(channel, facts).number(),
        revision: 1,
        flags: 0,
        phase: if facts == Facts::NONE { WAITING } else { CLOSED },
        epoch: 0,
        claimed_by: None,
        lease_until: None,
        not_before: now,
        parked_until: None,
        give_up_at: now,
        expires_at: now,
        attempts: 0,
        crashes: 0,
        looks: 0,
        absences: 0,
        doubt_since: None,
        poll_at: None,
        events: 1,
        skip_reason: None,
        failure_reason: None,
        failure_code: String::new(),
        failure_time: None,
        provider: None,
        provider_ref: String::new(),
        sms_segments: 0,
        create_time: now,
        update_time: now,
        send_time: None,
        deliver_time: None,
        open_time: None,
        trace: None,
    }
}

/// The first line of the timeline of a new delivery.
pub(super) fn first_event(row: &delivery::Model, author: &Author, detail: &'static str) -> delivery_event::Model {
    let mut event = line(row, 1, Note::new(author.clone(), detail), row.create_time);
    event.state = row.state;
    event
}

/// A line of the timeline of a delivery, without its state.
fn line(row: &delivery::Model, n: i32, note: Note, now: DateTime<Utc>) -> delivery_event::Model {
    delivery_event::Model {
        delivery_id: row.id,
        n,
        practice_id: row.practice_id.clone(),
        event_time: now,
        state: 0,
        provider_status: note.status,
        provider_code: note.code,
        detail: note.detail.to_owned(),
        actor_type: note.actor.kind as i16,
        actor_id: note.actor.id,
        actor_name: note.actor.display_name,
        attempt: note.attempt,
        consent_position: note.consent_position,
    }
}
