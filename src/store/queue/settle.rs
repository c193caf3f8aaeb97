//! How an attempt that we made ended: its verdict, and what follows for the delivery.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
};

use super::{Settlement, closed_as_sent};
use crate::{
    domain::{Author, Facts, FailureReason, Known, Next, Standing, Verdict},
    store::{
        StoreError,
        attempts::{Attempts, known},
        draft::{Draft, Note},
        entity::{attempt, recipient_gate},
        evidence::{self, Evidence, EvidenceSource, Hearing},
        grounds,
        health::Sign,
        image::{IN_FLIGHT, RECONCILING, TEST, WAITING},
        stop,
        tx::Tx,
    },
};

fn sign(verdict: &Verdict) -> Option<Sign> {
    match verdict {
        Verdict::Accepted { .. } => Some(Sign::Well),
        Verdict::Misconfigured { code, account: true } => Some(Sign::Refused(code.clone())),
        _ => None,
    }
}

/// Nothing more goes to an address that failed for good, until it is entered anew. What only speaks against it is noted at
/// its gate, and is enough the second time.
pub(in crate::store) async fn suppress_on(
    tx: &Tx,
    practice: &str,
    channel: i16,
    address: Vec<u8>,
    reason: FailureReason,
) -> Result<(), StoreError> {
    let gate = recipient_gate::Entity::find()
        .filter(recipient_gate::Column::PracticeId.eq(practice))
        .filter(recipient_gate::Column::Channel.eq(channel))
        .filter(recipient_gate::Column::SubjectKind.eq(grounds::ADDRESS))
        .filter(recipient_gate::Column::Subject.eq(address))
        .lock_exclusive()
        .one(&tx.db)
        .await?;
    let Some(gate) = gate else { return Ok(()) };
    let doubted = gate.block_reason.is_some();
    let (blocked_at, reason) = match reason {
        reason if reason.suppresses_address() => (Some(tx.now), reason),
        _ if gate.blocked_at.is_some() => return Ok(()),
        _ if doubted => (Some(tx.now), FailureReason::InvalidAddress),
        reason => (None, reason),
    };
    let mut gate = gate.into_active_model();
    gate.blocked_at = Set(blocked_at);
    gate.block_reason = Set(Some(reason.number()));
    gate.update(&tx.db).await?;
    Ok(())
}

/// Writes how an attempt ended.
pub(in crate::store) async fn settle_on(
    tx: &Tx,
    hearing: &mut Hearing,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    hearing.gone(&settlement.practice, &settlement.gone);
    let key = (settlement.id.0, settlement.attempt);
    let Some(attempt) = hearing.attempts.get(key).cloned() else { return Ok(()) };
    let Some(draft) = hearing.drafts.get_mut(&key.0) else { return Ok(()) };
    // The fence guards the schedule, not the truth: a claim that was lost still brings evidence.
    let ours = (draft.row.epoch == settlement.epoch && draft.row.phase == IN_FLIGHT) || mutant!("no fence");
    if settlement.verdict == Verdict::NotStarted {
        if ours {
            draft.row.attempts -= 1;
            draft.row.phase = WAITING;
            draft.release();
            stop::ends_instead(draft, tx.now)?;
            hearing.attempts.delete_on(tx, key).await?;
        }
        return Ok(());
    }
    if let Some(segments) = settlement.verdict.sms_segments() {
        draft.row.sms_segments = segments;
    }
    let channel = draft.channel()?;
    if let Some(sign) = sign(&settlement.verdict) {
        hearing.sign(&settlement.practice, channel, sign);
    }
    if let Verdict::Refused { reason, code } = &settlement.verdict {
        hearing.spread(&attempt, channel, *reason, code)?;
    }
    if let Some(acceptance) = acceptance(settlement) {
        hearing.apply_on(tx, settlement.id, &acceptance).await?;
    } else if ours {
        record(hearing, settlement, tx.now)?;
    } else {
        return late_on(tx, hearing, &attempt, settlement).await;
    }
    match hearing.drafts.get_mut(&key.0) {
        Some(draft) if ours => schedule(draft, &hearing.attempts, settlement, tx.now),
        _ => Ok(()),
    }
}

/// An acceptance as the evidence that it is, whoever brings it.
fn acceptance(settlement: &Settlement) -> Option<Evidence> {
    let Verdict::Accepted { provider_ref, status, .. } = &settlement.verdict else { return None };
    Some(Evidence {
        attempt: settlement.attempt,
        provider_ref: provider_ref.clone().unwrap_or_default(),
        source: EvidenceSource::Answer,
        facts: Facts::ACCEPTED,
        status: status.clone(),
        code: String::new(),
        failure: None,
        author: Author::system(),
        detail: "The provider accepted it.",
    })
}

/// What is known of an attempt that was not accepted, its code, and a sentence about it.
fn outcome(verdict: &Verdict) -> (Known, &str, &'static str) {
    match verdict {
        Verdict::Refused { code, .. } => (Known::No, code, "The provider refused it."),
        Verdict::NotTaken { code, .. } => (Known::No, code, "The provider could not take it; it is tried again."),
        Verdict::Unreachable { code } => (Known::No, code, "The mailbox is full; it is tried again."),
        Verdict::Misconfigured { code, account: true } => {
            (Known::No, code, "The provider refused the practice's account or sender; it is tried again.")
        }
        Verdict::Misconfigured { code, account: false } => {
            (Known::No, code, "The practice's account may not write to this recipient; it is tried again.")
        }
        Verdict::Unknown { code } => {
            (Known::Unknown, code, "It was handed over, and no answer came: the provider is asked.")
        }
        Verdict::Accepted { .. } | Verdict::NotStarted => (Known::No, "", ""),
    }
}

/// Writes how our attempt ended that was not accepted, and a line in the timeline.
fn record(hearing: &mut Hearing, settlement: &Settlement, now: DateTime<Utc>) -> Result<(), StoreError> {
    let Hearing { drafts, attempts, findings, .. } = hearing;
    let Some(draft) = drafts.get_mut(&settlement.id.0) else { return Ok(()) };
    let (news, code, detail) = outcome(&settlement.verdict);
    let Some(row) = attempts.get_mut((settlement.id.0, settlement.attempt)) else { return Ok(()) };
    let proved = row.facts != 0;
    if proved && news == Known::No {
        findings.contradictions.push(draft.row.id);
    }
    row.verdict = Known::after(known(row)?, news, proved).map(Known::number);
    row.ended_at.get_or_insert(now);
    code.clone_into(&mut row.code);
    if !code.is_empty() && !draft.facts().left_us() {
        // Shown if it is too late for another try.
        code.clone_into(&mut draft.row.failure_code);
    }
    let note = Note { attempt: settlement.attempt, code: code.to_owned(), ..Note::new(Author::system(), detail) };
    draft.note(note, now);
    if news == Known::Unknown {
        // Also when a report came before: the facts are the same in whatever order they come.
        draft.add(Facts::UNKNOWN_OPEN, now)?;
    }
    evidence::fold(draft, attempts, findings, now);
    Ok(())
}

/// What is done next with a delivery whose claim is ours.
fn schedule(
    draft: &mut Draft,
    attempts: &Attempts,
    settlement: &Settlement,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let others = attempts.of(draft.row.id).filter(|row| row.n != settlement.attempt);
    let standing = Standing {
        attempts: draft.row.attempts,
        expires_at: draft.row.expires_at,
        // Whoever tests wants to hear what the provider said: a first no is the last.
        give_up_at: if draft.row.source_kind == TEST { now } else { draft.row.give_up_at },
        undecided: others.filter(|row| row.verdict == Some(Known::Unknown.number())).count() > 0,
    };
    draft.release();
    match settlement.verdict.next(standing, now, settlement.random) {
        // Evidence that it left may have come in while the call was under way.
        _ if draft.facts().left_us() => closed_as_sent(draft, now),
        Next::Close { facts, failure } => {
            draft.add(facts, now)?;
            if let Some(failure) = failure {
                draft.fail(&failure);
            }
            draft.close();
        }
        Next::TryAt(at) => {
            if !stop::ends_instead(draft, now)? {
                draft.row.phase = WAITING;
                draft.row.not_before = hastened!(now, at);
            }
        }
        Next::GiveBack => draft.row.phase = WAITING,
        Next::LookAt(at) => {
            draft.row.phase = RECONCILING;
            draft.row.looks = 0;
            draft.row.absences = 0;
            draft.row.doubt_since = Some(now);
            draft.row.not_before = hastened!(now, at);
        }
    }
    Ok(())
}

/// An answer to a claim that was lost, or one that came before. It changes nothing, and is on record once.
async fn late_on(
    tx: &Tx,
    hearing: &mut Hearing,
    attempt: &attempt::Model,
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let (_, code, _) = outcome(&settlement.verdict);
    let note = Note {
        attempt: settlement.attempt,
        code: code.to_owned(),
        ..Note::new(Author::system(), "Its answer came when it had been given up for lost, and changes nothing.")
    };
    if !hearing.is_on_record_on(tx, attempt, &note).await?
        && let Some(draft) = hearing.drafts.get_mut(&settlement.id.0)
    {
        draft.note(note, tx.now);
    }
    Ok(())
}
