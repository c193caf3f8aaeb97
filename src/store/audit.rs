//! The audit trail of a practice: numbered without gaps and chained like its consent ledger. Entries commit with what they tell
//! of. Who acted is sealed, and found again by a keyed digest.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Func, SimpleExpr},
};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    chain::{framed, mac_of, micros, seal},
    entity::{audit, audit_head},
    tx::Tx,
    vault::{PracticeKeys, Sealed},
};
use crate::domain::{ActorType, AuditEvent, AuditRecord, Author, PatientId, Scope};

const TABLE: &str = "audit";
const BODY: Sealed = Sealed { table: TABLE, column: "body_ct" };
/// What the digests of actors are of.
const ACTOR: &str = "actor";

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
}

/// Adds an entry. Comes after the consent ledger, and before the feed.
pub(super) async fn append_on(tx: &Tx, keys: &PracticeKeys, event: AuditEvent) -> Result<(), StoreError> {
    let head = audit_head::Entity::find_by_id(keys.practice()).lock_exclusive().one(&tx.db).await?;
    let head = head.ok_or(StoreError::NotFound("practice"))?;
    let mut row = row(keys, event, head.seq + 1, tx.now)?;
    let mac = keys.audit_chain().link(&mac_of(TABLE, &head.mac)?, &chained(&row));
    row.mac = mac.to_vec();
    let mut head = head.into_active_model();
    head.seq = Set(row.seq);
    head.mac = Set(mac.to_vec());
    head.seal = Set(Some(seal(keys.audit_chain(), row.seq, &mac)));
    audit::Entity::insert(row.into_active_model()).exec_without_returning(&tx.db).await?;
    head.update(&tx.db).await?;
    Ok(())
}

fn row(keys: &PracticeKeys, event: AuditEvent, seq: i64, at: DateTime<Utc>) -> Result<audit::Model, StoreError> {
    let actor_bi = keys.digest(ACTOR, &event.actor.id);
    let body = Body {
        actor_type: event.actor.kind as i16,
        actor_id: event.actor.id,
        actor_name: event.actor.display_name,
        resource: event.resource,
        code: event.code,
        trace_id: event.trace_id,
        source_address: event.source_address,
    };
    Ok(audit::Model {
        practice_id: keys.practice().to_owned(),
        seq,
        at,
        action: event.action.into_owned(),
        patient_id: event.patient.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        actor_bi: Some(actor_bi),
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

impl Store {
    /// Lists entries of the trail, newest first, once it is on the trail that somebody does: `event`.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn audit_list(
        &self,
        scope: &Scope,
        query: &AuditQuery,
        event: AuditEvent,
    ) -> Result<AuditPage, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let held = keys.clone();
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move { append_on(tx, &held, event).await })
        })
        .await?;
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
