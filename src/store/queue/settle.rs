//! Settlements: how attempts ended, written in one transaction a batch.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::{Settlement, attempts_on, closed_as_sent, drafts_on, is_closed, save_all_on, verdict};
use crate::{
    domain::{Author, Engine, Facts, FailureReason, Next, PracticeId, Standing, Verdict},
    store::{
        Store, StoreError,
        entity::{attempt, recipient_gate},
        grounds,
        health::{self, Sign},
        image::{Draft, IN_FLIGHT, Note, POSSIBLE_DUPLICATE, RECONCILING, WAITING},
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
    draft: &mut Draft,
    attempts: &[&attempt::Model],
    settlement: &Settlement,
) -> Result<(), StoreError> {
    let Some(attempt) = attempts.iter().find(|row| row.n == settlement.attempt) else { return Ok(()) };
    // The fence guards the schedule, not the truth: a claim that was lost still brings evidence.
    let ours = (draft.row.epoch == settlement.epoch && draft.row.phase == IN_FLIGHT) || mutant!("no fence");
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
            draft.row.not_before = hastened!(tx.now, at);
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

/// Whether no other attempt has the provider's id. A look may have bound it to the wrong one of two equal texts: what is
/// proved now counts all the same, without the id.
pub(in crate::store) async fn ref_is_free_on(
    tx: &Tx,
    attempt: &attempt::Model,
    reference: &str,
) -> Result<bool, StoreError> {
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
