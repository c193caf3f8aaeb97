//! Settlements: how attempts ended, written in one transaction a batch.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Settlement, closed_as_sent};
use crate::{
    domain::{Author, Engine, Facts, FailureReason, Known, Next, PracticeId, Standing, Verdict},
    store::{
        Store, StoreError,
        attempts::{Attempts, known},
        entity::recipient_gate,
        evidence::{self, Evidence, EvidenceSource, Findings},
        grounds,
        health::{self, Sign},
        image::{Draft, IN_FLIGHT, Note, RECONCILING, WAITING, save_all_on},
        retry, stop,
        tx::Tx,
    },
};

impl Store {
    /// Writes how attempts of one practice ended, in one transaction.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is settled then.
    pub async fn settle(&self, _: &Engine, practice: &PracticeId, ended: Vec<Settlement>) -> Result<(), StoreError> {
        let practice = practice.clone();
        let findings = self
            .write(move |tx| {
                Box::pin(async move {
                    let mut findings = Findings::default();
                    let ids = ended.iter().map(|settlement| settlement.id);
                    let refs = ended.iter().filter_map(|settlement| settlement.verdict.provider_ref()).collect();
                    let (mut drafts, mut attempts) = evidence::lock_on(tx, &practice, ids, refs).await?;
                    let mut signs = BTreeMap::new();
                    let mut dead = BTreeSet::new();
                    for settlement in &ended {
                        let Some(draft) = drafts.get(&settlement.id.0) else { continue };
                        if let Some(sign) = sign(&settlement.verdict) {
                            signs.insert(draft.channel()?, sign);
                        }
                        let attempt = attempts.get((settlement.id.0, settlement.attempt));
                        if let (Verdict::Refused { reason, .. }, Some(attempt)) = (&settlement.verdict, attempt)
                            && reason.suppresses_address()
                        {
                            // The attempt's own address: the patient may have another one by now.
                            dead.insert((draft.row.channel, attempt.address_bi.clone(), reason.number()));
                        }
                        settle_on(tx, (&mut drafts, &mut attempts), settlement, &mut findings).await?;
                        retry::proved_on(tx, &mut drafts, settlement.id.0).await?;
                    }
                    for (channel, address, reason) in dead {
                        suppress_on(tx, practice.as_str(), channel, address, reason).await?;
                    }
                    for (channel, sign) in &signs {
                        health::note_on(tx, &practice, *channel, sign).await?;
                    }
                    attempts.save_on(tx).await?;
                    save_all_on(tx, drafts.into_values()).await?;
                    Ok(findings)
                })
            })
            .await?;
        self.tell(&findings);
        Ok(())
    }
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
pub(in crate::store) async fn suppress_on(
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
    (drafts, attempts): (&mut BTreeMap<Uuid, Draft>, &mut Attempts),
    settlement: &Settlement,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let key = (settlement.id.0, settlement.attempt);
    let Some(draft) = drafts.get_mut(&key.0).filter(|_| attempts.get(key).is_some()) else { return Ok(()) };
    // The fence guards the schedule, not the truth: a claim that was lost still brings evidence.
    let ours = draft.row.epoch == settlement.epoch && draft.row.phase == IN_FLIGHT;
    if settlement.verdict == Verdict::NotStarted {
        if ours {
            draft.row.attempts -= 1;
            draft.row.phase = WAITING;
            draft.release();
            stop::ends_instead(draft, tx.now)?;
            attempts.delete_on(tx, key).await?;
        }
        return Ok(());
    }
    if let Some(acceptance) = acceptance(settlement) {
        if let Some(segments) = settlement.verdict.sms_segments() {
            draft.row.sms_segments = segments;
        }
        evidence::apply_on(tx, (drafts, attempts), settlement.id, &acceptance, findings).await?;
    } else if ours {
        record(draft, attempts, settlement, findings, tx.now)?;
    } else {
        return late_on(tx, draft, attempts, settlement).await;
    }
    match drafts.get_mut(&key.0) {
        Some(draft) if ours => schedule(draft, attempts, settlement, tx.now),
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
        Verdict::Misconfigured { code } => {
            (Known::No, code, "The provider refused the practice's account or sender; it is tried again.")
        }
        Verdict::Unknown { code } => {
            (Known::Unknown, code, "It was handed over, and no answer came: the provider is asked.")
        }
        Verdict::Accepted { .. } | Verdict::NotStarted => (Known::No, "", ""),
    }
}

/// Writes how our attempt ended that was not accepted, and a line in the timeline.
fn record(
    draft: &mut Draft,
    attempts: &mut Attempts,
    settlement: &Settlement,
    findings: &mut Findings,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
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
        give_up_at: draft.row.give_up_at,
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
                draft.row.not_before = at;
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
async fn late_on(tx: &Tx, draft: &mut Draft, attempts: &Attempts, settlement: &Settlement) -> Result<(), StoreError> {
    let Some(attempt) = attempts.get((settlement.id.0, settlement.attempt)) else { return Ok(()) };
    let (_, code, _) = outcome(&settlement.verdict);
    let note = Note {
        attempt: settlement.attempt,
        code: code.to_owned(),
        ..Note::new(Author::system(), "Its answer came when it had been given up for lost, and changes nothing.")
    };
    if !evidence::is_on_record_on(tx, attempt, &note).await? {
        draft.note(note, tx.now);
    }
    Ok(())
}
