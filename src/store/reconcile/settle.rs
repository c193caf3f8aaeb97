//! What a look found, written down.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Doubt;
use crate::{
    domain::{AfterLook, Author, Ending, Engine, Facts, Failure, FailureReason, Known, Look},
    store::{
        Store, StoreError,
        attempts::Attempts,
        draft::{Draft, Note},
        evidence::{Evidence, EvidenceSource, Findings, Hearing},
        image::{POSSIBLE_DUPLICATE, QUARANTINED, RECONCILING, STOP_ASKED, WAITING},
        queue::tries,
    },
};

impl Store {
    /// Writes what a look found. `facts` is what the provider's word means, when it was found.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn doubt_settle(
        &self,
        _: &Engine,
        doubt: &Doubt,
        look: Look,
        facts: Facts,
        random: f64,
    ) -> Result<(), StoreError> {
        let (practice, id, n, inquiry) = (doubt.practice.clone(), doubt.id, doubt.attempt, doubt.inquiry);
        let findings = self
            .write_across(move |tx| {
                Box::pin(async move {
                    let seen = match &look {
                        Look::Found { provider_ref, .. } => Some((&practice, provider_ref.as_str())),
                        _ => None,
                    };
                    let mut hearing = Hearing::open_on(tx, std::iter::once(id), seen.into_iter()).await?;
                    let there = hearing.attempts.get((id.0, n)).is_some();
                    let Some(draft) = hearing.drafts.get_mut(&id.0).filter(|_| there) else {
                        return Ok(Findings::default());
                    };
                    // A callback may have settled it while the provider was asked.
                    if draft.row.phase != RECONCILING || draft.row.attempts != n || draft.row.looks != inquiry.looks {
                        return Ok(Findings::default());
                    }
                    // What was found may have turned out to be another's in the meantime.
                    let look = if is_anothers(&look, &hearing.attempts, (id.0, n)) { Look::Contested } else { look };
                    draft.row.absences = inquiry.absences_after(&look);
                    draft.row.looks += 1;
                    draft.release();
                    match found(&look, facts, n) {
                        Some(evidence) => drop(hearing.apply_on(tx, id, &evidence).await?),
                        None => settle(draft, &mut hearing.attempts, inquiry.after(&look, random), tx.now)?,
                    }
                    hearing.close_on(tx).await
                })
            })
            .await?;
        self.tell(&findings);
        Ok(())
    }
}

fn is_anothers(look: &Look, attempts: &Attempts, key: (Uuid, i32)) -> bool {
    let Look::Found { provider_ref, .. } = look else { return false };
    let provider = attempts.get(key).map(|row| row.provider);
    provider.and_then(|provider| attempts.holder(provider, provider_ref)).is_some_and(|holder| holder != key)
}

/// The message that was found, as evidence.
fn found(look: &Look, facts: Facts, attempt: i32) -> Option<Evidence> {
    let Look::Found { provider_ref, status, code, failure } = look else { return None };
    Some(Evidence {
        attempt,
        provider_ref: provider_ref.clone(),
        source: EvidenceSource::Asked,
        facts: facts.and(Facts::ACCEPTED),
        status: status.clone(),
        code: code.clone(),
        failure: *failure,
        author: Author::system(),
        detail: "The provider has it after all.",
    })
}

/// Writes a look that found no message.
fn settle(draft: &mut Draft, attempts: &mut Attempts, after: AfterLook, now: DateTime<Utc>) -> Result<(), StoreError> {
    let attempt = draft.row.attempts;
    let stopped = draft.row.flags & STOP_ASKED != 0;
    let may_go_again = draft.row.flags & QUARANTINED == 0 && !stopped;
    if after == AfterLook::SendAgain
        && let Some(row) = attempts.get_mut((draft.row.id, attempt))
    {
        row.verdict = Known::after(row.verdict.and_then(Known::from_number), Known::Absent, false).map(Known::number);
        draft.row.doubt_since = None;
    }
    let detail = match after {
        AfterLook::Bind | AfterLook::LookAt(_) => "The provider was asked; it is asked again.",
        AfterLook::SendAgain if may_go_again => "The provider twice did not have it: it is sent again.",
        AfterLook::ResendFlagged if may_go_again => "Whether it arrived cannot be found out: it is sent once more.",
        AfterLook::SendAgain | AfterLook::ResendFlagged if stopped => "It was stopped meanwhile and is not sent again.",
        AfterLook::SendAgain => "The provider twice did not have it; its attempts failed too often to send it again.",
        AfterLook::ResendFlagged | AfterLook::Close => {
            "Whether it arrived cannot be found out; nothing more is done by itself."
        }
    };
    match after {
        AfterLook::LookAt(at) => draft.row.not_before = hastened!(now, at.max(now)),
        AfterLook::SendAgain | AfterLook::ResendFlagged if may_go_again => {
            draft.row.phase = WAITING;
            draft.row.not_before = now;
            if after == AfterLook::ResendFlagged {
                draft.row.flags |= POSSIBLE_DUPLICATE;
            }
        }
        AfterLook::Bind | AfterLook::SendAgain | AfterLook::ResendFlagged | AfterLook::Close => {
            let ending = if stopped { Ending::Cancelled } else { Ending::GaveUp };
            let fact = ending.fact(tries(&draft.row));
            draft.add(fact, now)?;
            if fact == Facts::GAVE_UP {
                let failure = Failure { reason: FailureReason::Internal, provider_code: String::new(), fail_time: now };
                draft.fail(&failure);
            }
            draft.close();
        }
    }
    draft.note(Note { attempt, ..Note::new(Author::system(), detail) }, now);
    Ok(())
}
