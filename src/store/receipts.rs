//! What providers report by signed callback, applied by the token of the attempt. A report adds facts: a repeat changes
//! nothing, and one that comes before our own reply counts all the same, since the token was committed with the intent.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter};

use super::{
    Store, StoreError,
    entity::attempt,
    health::{self, Sign},
    image::{Draft, IN_FLIGHT, Note, POSSIBLE_DUPLICATE, save_all_on},
    queue::{LAST_WORD, closed_as_sent, drafts_on, is_closed, ref_is_free_on, suppress_on, verdict},
    retry,
};
use crate::domain::{DeliveryId, Facts, Failure, FailureReason, Scope};

/// What a provider reported of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The token in the callback's address.
    pub token: [u8; 16],
    /// The provider's id for the message; bound on first sight.
    pub provider_ref: String,
    /// What it means.
    pub facts: Facts,
    /// The provider's word.
    pub status: String,
    /// The provider's code; may be empty.
    pub code: String,
    /// Why it failed, where it did.
    pub failure: Option<FailureReason>,
}

/// What a receipt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It told something new.
    New,
    /// All of it was known.
    Repeat,
    /// No attempt of this practice has that token.
    UnknownToken,
}

impl Store {
    /// Applies a receipt.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is applied then, and the provider must repeat it.
    pub async fn receipt_apply(&self, scope: &Scope, receipt: Receipt) -> Result<Applied, StoreError> {
        let scope = scope.clone();
        self.write(move |tx| {
            Box::pin(async move {
                let by_token = || {
                    attempt::Entity::find()
                        .filter(attempt::Column::Token.eq(receipt.token.to_vec()))
                        .filter(attempt::Column::PracticeId.eq(scope.practice().as_str()))
                };
                let Some(seen) = by_token().one(&tx.db).await? else { return Ok(Applied::UnknownToken) };
                // The delivery is locked before its attempts are read for good: every writer takes them in that order.
                let mut drafts = drafts_on(tx, std::iter::once(DeliveryId(seen.delivery_id))).await?;
                let Some(attempt) = by_token().one(&tx.db).await? else { return Ok(Applied::UnknownToken) };
                let draft = drafts.get_mut(&seen.delivery_id).ok_or(StoreError::Corrupt("attempt"))?;
                if !attempt.provider_ref.is_empty() && attempt.provider_ref != receipt.provider_ref {
                    tracing::warn!(delivery.id = %attempt.delivery_id, "a report names another message than its attempt made");
                    return Ok(Applied::UnknownToken);
                }
                let known = Facts::from_bits(attempt.facts);
                if known.and(receipt.facts) == known {
                    return Ok(Applied::Repeat);
                }
                apply_on(tx, &scope, draft, &attempt, &receipt).await?;
                if let Some(reason) = receipt.failure {
                    // The attempt's own address: the patient may have another one by now.
                    let (channel, address) = (draft.row.channel, attempt.address_bi.clone());
                    if reason.suppresses_address() {
                        suppress_on(tx, scope.practice().as_str(), channel, address, reason.number()).await?;
                    }
                    if reason == FailureReason::ProviderConfig {
                        let sign = Sign::Refused(receipt.code.clone());
                        health::note_on(tx, scope.practice(), draft.channel()?, &sign).await?;
                    }
                }
                retry::proved_on(tx, &mut drafts, seen.delivery_id).await?;
                save_all_on(tx, drafts.into_values()).await?;
                Ok(Applied::New)
            })
        })
        .await
    }
}

async fn apply_on(
    tx: &super::tx::Tx,
    scope: &Scope,
    draft: &mut Draft,
    attempt: &attempt::Model,
    receipt: &Receipt,
) -> Result<(), StoreError> {
    let mut row = attempt.clone().into_active_model();
    row.facts = Set(Facts::from_bits(attempt.facts).and(receipt.facts).bits());
    let bound = !attempt.provider_ref.is_empty() || ref_is_free_on(tx, attempt, &receipt.provider_ref).await?;
    if attempt.provider_ref.is_empty() && bound {
        row.provider_ref = Set(receipt.provider_ref.clone());
    }
    if matches!(attempt.verdict, Some(verdict::UNKNOWN | verdict::ABSENT)) {
        row.verdict = Set(Some(verdict::RECONCILED));
    }
    row.update(&tx.db).await?;
    if attempt.n < draft.row.attempts {
        // An earlier attempt is proved after a later one was begun: the patient may have it twice.
        draft.row.flags |= POSSIBLE_DUPLICATE;
    }
    if bound && (draft.row.provider_ref.is_empty() || attempt.n == draft.row.attempts) {
        draft.row.provider_ref.clone_from(&receipt.provider_ref);
    }
    draft.add(receipt.facts, tx.now)?;
    if let Some(reason) = receipt.failure {
        draft.fail(&Failure { reason, provider_code: receipt.code.clone(), fail_time: tx.now });
    }
    draft.explain(&receipt.code, tx.now);
    if draft.row.phase != IN_FLIGHT && draft.facts().left_us() && !is_closed(&draft.row) {
        closed_as_sent(draft, tx.now);
    }
    if draft.facts().any(LAST_WORD) {
        draft.row.poll_at = None;
    }
    let note = Note {
        status: receipt.status.clone(),
        code: receipt.code.clone(),
        attempt: attempt.n,
        ..Note::new(scope.author().clone(), detail(receipt.facts))
    };
    draft.note(note, tx.now);
    Ok(())
}

/// What a report means, for staff.
pub(super) fn detail(facts: Facts) -> &'static str {
    [
        (Facts::READ, "The patient read it."),
        (Facts::DELIVERED, "The provider confirmed receipt."),
        (Facts::UNDELIVERED, "The provider reports that it did not arrive."),
        (Facts::SENT_TO_CARRIER, "The provider handed it to the carrier."),
    ]
    .into_iter()
    .find(|(fact, _)| facts.any(*fact))
    .map_or("The provider has it in its queue.", |(_, detail)| detail)
}
