//! The audit trail of a practice: numbered without gaps and chained like its consent ledger. Entries commit with what they tell
//! of; that somebody saw something commits before they see it. Who acted is sealed, and found again by a keyed digest.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::{NotSet, Set, Unchanged},
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Func, SimpleExpr},
};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    chain::{framed, mac_of, micros, seal},
    entity::{audit, audit_head},
    lane::Job,
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{ActorType, AuditEvent, AuditNote, AuditRecord, Author, Engine, PatientId, Phi, PracticeId, Scope};

const TABLE: &str = "audit";
const BODY: Sealed = Sealed { table: TABLE, column: "body_ct" };
/// What the digests of actors are of.
const ACTOR: &str = "actor";
/// Entries of a page that is taken out.
const EXPORTED_AT_ONCE: u64 = 1_000;

/// What of an entry is sealed.
#[derive(Serialize, Deserialize)]
struct Body {
    actor_type: i16,
    actor_id: String,
    actor_name: String,
    resource: String,
    code: i32,
    trace_id: String,
    source_address: String,
    /// Only of what was done in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emergency: Option<String>,
}

/// The newest entry of a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    seq: i64,
    mac: [u8; 32],
}

/// The heads of the trails that this process appended to, as it left them. They save reading the row: it is written only if it
/// still is what is known here, so that one which is out of date does no harm.
#[derive(Debug, Default)]
pub(super) struct Trails(Mutex<HashMap<PracticeId, Head>>);

impl Trails {
    fn known(&self) -> MutexGuard<'_, HashMap<PracticeId, Head>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends what the transaction has noted, in the order of the practices' ids: an update of each head and one insert. Comes after
/// the consent ledger, and before the feed; `last` when that is next.
pub(super) async fn append_noted_on(tx: &Tx, last: bool) -> Result<(), StoreError> {
    let notes = tx.take_notes(last);
    if notes.is_empty() {
        return Ok(());
    }
    let mut trails = BTreeMap::<PracticeId, Vec<AuditEvent>>::new();
    for AuditNote { practice, event } in notes {
        trails.entry(practice).or_default().push(event);
    }
    let mut rows = Vec::new();
    for (practice, events) in trails {
        let keys = tx.keys(&practice).await?;
        rows.extend(advance_on(tx, &keys, &practice, &events).await?);
    }
    tx.insert_all(rows).await
}

/// Appends the first entry of a practice that this transaction makes, and whose keys nobody may remember yet.
pub(super) async fn begin_on(
    tx: &Tx,
    keys: &PracticeKeys,
    practice: &PracticeId,
    event: Option<AuditEvent>,
) -> Result<(), StoreError> {
    let Some(event) = event else { return Ok(()) };
    tx.insert_all(advance_on(tx, keys, practice, &[event]).await?).await
}

/// Moves the head of a trail on, which locks it, and yields the rows that it has moved over.
async fn advance_on(
    tx: &Tx,
    keys: &PracticeKeys,
    practice: &PracticeId,
    events: &[AuditEvent],
) -> Result<Vec<audit::Model>, StoreError> {
    // What is remembered may be the head of a transaction that came to nothing: then this does not find it.
    let known = tx.trails().known().get(practice).copied();
    if let Some(head) = known {
        let (rows, next) = linked(keys, head, events, tx.now)?;
        let moved = audit_head::Entity::update_many()
            .set(next.row(keys))
            .filter(audit_head::Column::PracticeId.eq(practice.as_str()))
            .filter(audit_head::Column::Seq.eq(head.seq))
            .filter(audit_head::Column::Mac.eq(head.mac.to_vec()))
            .exec(&tx.db)
            .await?;
        if moved.rows_affected == 1 {
            tx.trails().known().insert(practice.clone(), next);
            return Ok(rows);
        }
    }
    let row = audit_head::Entity::find_by_id(practice.as_str()).lock_exclusive().one(&tx.db).await?;
    let row = row.ok_or(StoreError::NotFound("practice"))?;
    let head = Head { seq: row.seq, mac: mac_of(TABLE, &row.mac)? };
    let (rows, next) = linked(keys, head, events, tx.now)?;
    let head = audit_head::ActiveModel { practice_id: Unchanged(row.practice_id), ..next.row(keys) };
    head.update(&tx.db).await?;
    tx.trails().known().insert(practice.clone(), next);
    Ok(rows)
}

impl Head {
    /// What the row has after this entry.
    fn row(&self, keys: &PracticeKeys) -> audit_head::ActiveModel {
        audit_head::ActiveModel {
            practice_id: NotSet,
            seq: Set(self.seq),
            mac: Set(self.mac.to_vec()),
            seal: Set(Some(seal(keys.audit_chain(), self.seq, &self.mac))),
        }
    }
}

/// The rows that tell of `events`, chained to one another and to `head`, and the head after them.
fn linked(
    keys: &PracticeKeys,
    Head { mut seq, mut mac }: Head,
    events: &[AuditEvent],
    at: DateTime<Utc>,
) -> Result<(Vec<audit::Model>, Head), StoreError> {
    let mut rows = Vec::with_capacity(events.len());
    for event in events {
        seq += 1;
        let mut row = row(keys, event, seq, at)?;
        mac = keys.audit_chain().link(&mac, &chained(&row));
        row.mac = mac.to_vec();
        rows.push(row);
    }
    Ok((rows, Head { seq, mac }))
}

fn row(keys: &PracticeKeys, event: &AuditEvent, seq: i64, at: DateTime<Utc>) -> Result<audit::Model, StoreError> {
    let AuditEvent { actor, action, patient, resource, code, trace_id, source_address, emergency } = event;
    let body = Body {
        actor_type: actor.kind as i16,
        actor_id: actor.id.clone(),
        actor_name: actor.display_name.clone(),
        resource: resource.clone(),
        code: *code,
        trace_id: trace_id.clone(),
        source_address: source_address.clone(),
        emergency: emergency.as_ref().map(|reason| reason.expose().clone()),
    };
    Ok(audit::Model {
        practice_id: keys.practice().to_owned(),
        seq,
        at,
        action: action.clone().into_owned(),
        patient_id: patient.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        actor_bi: Some(keys.digest(ACTOR, &actor.id)),
        body_ct: keys.seal(BODY, &seq.to_be_bytes(), &body)?,
        mac: Vec::new(),
    })
}

/// Everything of a row that its MAC covers: all but the MAC itself.
pub(super) fn chained(row: &audit::Model) -> Vec<u8> {
    let audit::Model { practice_id, seq, at, action, patient_id, actor_bi, body_ct, mac: _ } = row;
    let parts: [&[u8]; 7] = [
        practice_id.as_bytes(),
        &seq.to_be_bytes(),
        &micros(*at),
        action.as_bytes(),
        patient_id.as_bytes(),
        actor_bi.as_deref().unwrap_or_default(),
        body_ct,
    ];
    framed(u8::from(actor_bi.is_some()), &parts)
}

fn to_record(keys: &PracticeKeys, row: audit::Model) -> Result<AuditRecord, StoreError> {
    let corrupt = || StoreError::Corrupt(TABLE);
    let body: Body = keys.open(BODY, &row.seq.to_be_bytes(), &row.body_ct)?;
    let patient = (!row.patient_id.is_empty()).then(|| row.patient_id.parse().map_err(|_| corrupt())).transpose()?;
    let kind = ActorType::from_number(body.actor_type).ok_or_else(corrupt)?;
    Ok(AuditRecord {
        position: row.seq,
        event_time: row.at,
        event: AuditEvent {
            actor: Author { kind, id: body.actor_id, display_name: body.actor_name },
            action: Cow::Owned(row.action),
            patient,
            resource: body.resource,
            code: body.code,
            trace_id: body.trace_id,
            source_address: body.source_address,
            emergency: body.emergency.map(Phi::new),
        },
        hash: mac_of(TABLE, &row.mac)?,
    })
}

/// LIKE would not tell capitals apart on SQLite, and a range would go by the collation of PostgreSQL.
fn begins_with(column: audit::Column, start: &str) -> SimpleExpr {
    let length = i32::try_from(start.chars().count()).unwrap_or(i32::MAX);
    Expr::expr(Func::cust("substr").arg(Expr::col(column)).arg(1).arg(length)).eq(start)
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// From then on.
    pub start: Option<DateTime<Utc>>,
    /// Before then.
    pub end: Option<DateTime<Utc>>,
    /// About this patient.
    pub patient: Option<PatientId>,
    /// By whoever has this id.
    pub actor: Option<String>,
    /// Whose action begins so.
    pub action_prefix: String,
    /// Before this position; unset: from the newest.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: u64,
}

/// A page of entries, newest first.
#[derive(Debug)]
pub struct AuditPage {
    /// The entries.
    pub records: Vec<AuditRecord>,
    /// Set when there may be more.
    pub next: Option<i64>,
}

/// That somebody is shown something, to be put on the trail.
#[derive(Debug)]
pub(super) struct Seen(AuditNote);

impl Job for Seen {
    type Done = ();
    const GROUP: usize = 64;

    fn practice(&self) -> &PracticeId {
        &self.0.practice
    }

    async fn run(store: &Store, jobs: Vec<Arc<Self>>) -> Result<Vec<()>, StoreError> {
        let note = |tx: &Tx, Self(AuditNote { practice, event }): &Self| tx.note_event(practice, event.clone());
        store
            .write_across(move |tx| Box::pin(async move { Ok(jobs.iter().map(|seen| note(tx, seen)).collect()) }))
            .await
    }
}

impl Store {
    /// Puts on the trail that the call behind `scope` shows something of `patient`, or of everybody's: `resource`. Whoever shows it
    /// waits for this: what nobody could write down nobody sees.
    ///
    /// # Errors
    /// NotFound when there is no such practice; Overloaded when too many wait already.
    pub async fn audit_read(
        &self,
        scope: &Scope,
        patient: Option<&PatientId>,
        resource: impl Into<String>,
    ) -> Result<(), StoreError> {
        let event = scope.audit(patient, resource.into());
        self.keys(scope.practice()).await?;
        let Some(event) = event else { return Ok(()) };
        self.audit_seen(AuditNote { practice: scope.practice().clone(), event }).await
    }

    /// Puts on the trail that somebody is shown something, whose keys are known.
    pub(super) async fn audit_seen(&self, note: AuditNote) -> Result<(), StoreError> {
        self.inner.reads.enter(self, Seen(note)).await
    }

    /// Puts what `practice` was not told by a call that ended well on its trail.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn audit_append(
        &self,
        _: &Engine,
        practice: PracticeId,
        events: Vec<AuditEvent>,
    ) -> Result<(), StoreError> {
        self.keys(&practice).await?;
        self.write_within(practice.clone(), move |tx| {
            Box::pin(async move {
                events.into_iter().for_each(|event| tx.note_event(&practice, event));
                Ok(())
            })
        })
        .await
    }

    /// A page of entries after a position, the oldest first; none: there are no more.
    ///
    /// # Errors
    /// NotFound when there is no such practice; Corrupt when one cannot be read.
    pub async fn audit_after(&self, scope: &Scope, position: i64) -> Result<Vec<AuditRecord>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let rows = audit::Entity::find()
            .filter(audit::Column::PracticeId.eq(keys.practice()))
            .filter(audit::Column::Seq.gt(position))
            .order_by_asc(audit::Column::Seq)
            .limit(EXPORTED_AT_ONCE)
            .all(&self.within(scope))
            .await?;
        rows.into_iter().map(|row| to_record(&keys, row)).collect()
    }

    /// Lists entries of the trail, newest first.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn audit_list(&self, scope: &Scope, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let mut rows = audit::Entity::find()
            .filter(audit::Column::PracticeId.eq(keys.practice()))
            .order_by_desc(audit::Column::Seq)
            .limit(query.limit + 1);
        if let Some(start) = query.start {
            rows = rows.filter(audit::Column::At.gte(start));
        }
        if let Some(end) = query.end {
            rows = rows.filter(audit::Column::At.lt(end));
        }
        if let Some(patient) = &query.patient {
            rows = rows.filter(audit::Column::PatientId.eq(patient.as_str()));
        }
        if let Some(actor) = &query.actor {
            rows = rows.filter(audit::Column::ActorBi.eq(keys.digest(ACTOR, actor)));
        }
        if !query.action_prefix.is_empty() {
            rows = rows.filter(begins_with(audit::Column::Action, &query.action_prefix));
        }
        if let Some(before) = query.before {
            rows = rows.filter(audit::Column::Seq.lt(before));
        }
        let mut rows = rows.all(&self.within(scope)).await?;
        let more = rows.len() as u64 > query.limit;
        rows.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        let next = if more { rows.last().map(|row| row.seq) } else { None };
        let records = rows.into_iter().map(|row| to_record(&keys, row)).collect::<Result<_, _>>()?;
        Ok(AuditPage { records, next })
    }
}
