//! A broadcast between its rows and the domain.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, Condition};
use serde::{Deserialize, Serialize};

use super::NewBroadcast;
use crate::{
    domain::{
        ActorType, Announcement, Audience, Author, Broadcast, BroadcastId, BroadcastState, PatientId, Phi, Scope,
        StateCounts,
    },
    store::{
        StoreError,
        entity::{broadcast, broadcast_text},
        notifications,
        tx::Tx,
        vault::{PracticeKeys, Sealed},
    },
};

const TEXT: Sealed = Sealed { table: "broadcast_text", column: "body_ct" };

/// What a broadcast says and to whom, as it is sealed. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Text {
    title: String,
    subject: String,
    body: String,
    /// Of these, unless it is set, at most one is filled.
    all: bool,
    patients: Vec<String>,
    tags: BTreeSet<String>,
}

/// The row of a broadcast that has not begun.
pub(super) fn new_row(tx: &Tx, scope: &Scope, new: &NewBroadcast) -> broadcast::Model {
    let due_time = new.schedule_time.unwrap_or(tx.now).max(tx.now);
    let author = scope.author();
    broadcast::Model {
        id: new.id.0,
        practice_id: scope.practice().as_str().to_owned(),
        channels: notifications::pack(new.channels),
        create_time: tx.now,
        schedule_time: new.schedule_time,
        due_time,
        start_time: None,
        complete_time: None,
        cancel_time: None,
        creator_type: author.kind as i16,
        creator_id: author.id.clone(),
        creator_name: author.display_name.clone(),
        canceller_type: None,
        canceller_id: String::new(),
        canceller_name: String::new(),
        work_at: Some(due_time),
        term: 0,
        cursor: String::new(),
        planned: false,
        recipients: 0,
        reached: 0,
        pending: 0,
        unconfirmed: 0,
        sent: 0,
        delivered: 0,
        failed: 0,
        skipped: 0,
        cancelled: 0,
    }
}

pub(super) fn text_row(keys: &PracticeKeys, new: &NewBroadcast) -> Result<broadcast_text::Model, StoreError> {
    let Announcement { title, subject, body } = &new.announcement;
    let [title, subject, body] = [title, subject, body].map(|text| text.expose().clone());
    let mut text = Text { title, subject, body, ..Text::default() };
    match &new.audience {
        Audience::All => text.all = true,
        Audience::Patients(patients) => text.patients = patients.iter().map(|id| id.as_str().to_owned()).collect(),
        Audience::Tags(tags) => text.tags.clone_from(tags),
    }
    let body_ct = keys.seal(TEXT, new.id.0.as_bytes(), &text)?;
    Ok(broadcast_text::Model { broadcast_id: new.id.0, practice_id: keys.practice().to_owned(), body_ct })
}

pub(super) fn to_broadcast(
    keys: &PracticeKeys,
    row: broadcast::Model,
    text: &broadcast_text::Model,
) -> Result<Broadcast, StoreError> {
    let corrupt = || StoreError::Corrupt("broadcast");
    let text: Text = keys.open(TEXT, row.id.as_bytes(), &text.body_ct)?;
    let audience = if text.all {
        Audience::All
    } else if text.tags.is_empty() {
        let patients = text.patients.iter().map(|id| id.parse::<PatientId>()).collect::<Result<_, _>>();
        Audience::Patients(patients.map_err(|_| corrupt())?)
    } else {
        Audience::Tags(text.tags)
    };
    let known = Broadcast {
        id: BroadcastId(row.id),
        announcement: Announcement {
            title: Phi::new(text.title),
            subject: Phi::new(text.subject),
            body: Phi::new(text.body),
        },
        audience,
        channels: notifications::unpack(row.channels).ok_or_else(corrupt)?,
        state: state(&row),
        counts: StateCounts::default(),
        recipients: 0,
        create_time: row.create_time,
        schedule_time: row.schedule_time,
        start_time: None,
        complete_time: None,
        creator: author(row.creator_type, &row.creator_id, &row.creator_name)?,
    };
    moved_on(known, row)
}

/// A broadcast that is known, as its row has it now.
pub(super) fn moved_on(known: Broadcast, row: broadcast::Model) -> Result<Broadcast, StoreError> {
    Ok(Broadcast {
        state: state(&row),
        // In the order of the states.
        counts: StateCounts::new([
            row.pending,
            row.unconfirmed,
            row.sent,
            row.delivered,
            row.failed,
            row.skipped,
            row.cancelled,
        ]),
        recipients: row.recipients,
        start_time: row.start_time,
        complete_time: row.complete_time,
        ..known
    })
}

pub(super) fn author(kind: i16, id: &str, name: &str) -> Result<Author, StoreError> {
    let kind = ActorType::from_number(kind).ok_or(StoreError::Corrupt("broadcast"))?;
    Ok(Author { kind, id: id.to_owned(), display_name: name.to_owned() })
}

/// Where it stands. [`is_in`] asks the same of the database.
fn state(row: &broadcast::Model) -> BroadcastState {
    if row.cancel_time.is_some() {
        BroadcastState::Cancelled
    } else if row.complete_time.is_some() {
        BroadcastState::Completed
    } else if row.start_time.is_some() {
        BroadcastState::Running
    } else {
        BroadcastState::Scheduled
    }
}

/// That a broadcast is in `state`.
pub(super) fn is_in(state: BroadcastState) -> Condition {
    use broadcast::Column::{CancelTime, CompleteTime, StartTime};
    let all = Condition::all();
    match state {
        BroadcastState::Cancelled => all.add(CancelTime.is_not_null()),
        BroadcastState::Completed => all.add(CancelTime.is_null()).add(CompleteTime.is_not_null()),
        BroadcastState::Running => {
            all.add(CancelTime.is_null()).add(CompleteTime.is_null()).add(StartTime.is_not_null())
        }
        BroadcastState::Scheduled => all.add(CancelTime.is_null()).add(StartTime.is_null()),
    }
}
