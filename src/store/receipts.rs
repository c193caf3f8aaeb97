//! What providers report by signed callback, applied by the token of the attempt. A report that comes before our own reply
//! counts all the same, since the token was committed with the intent.

use std::fmt;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Store, StoreError,
    entity::attempt,
    evidence::{self, Evidence, EvidenceSource, Findings},
    image::save_all_on,
    retry,
};
use crate::domain::{DeliveryId, Facts, FailureReason, Scope};

/// What a provider reported of one attempt.
#[derive(Clone, PartialEq, Eq)]
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

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No token: whoever has it can say things in the provider's name, but for the signature.
        f.debug_struct("Receipt")
            .field("provider_ref", &self.provider_ref)
            .field("status", &self.status)
            .field("code", &self.code)
            .finish_non_exhaustive()
    }
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
        let (applied, findings) = self
            .write(move |tx| {
                Box::pin(async move {
                    let mut findings = Findings::default();
                    let seen = attempt::Entity::find()
                        .filter(attempt::Column::Token.eq(receipt.token.to_vec()))
                        .filter(attempt::Column::PracticeId.eq(scope.practice().as_str()))
                        .one(&tx.db)
                        .await?;
                    let Some(seen) = seen else { return Ok((Applied::UnknownToken, findings)) };
                    // The delivery is locked before its attempts are read for good: every writer takes them in that order.
                    let id = DeliveryId(seen.delivery_id);
                    let refs = vec![receipt.provider_ref.clone()];
                    let (mut drafts, mut attempts) =
                        evidence::lock_on(tx, scope.practice(), std::iter::once(id), refs).await?;
                    // An attempt that was never begun gives way to another of its number, which has a token of its own.
                    if attempts.get((id.0, seen.n)).is_none_or(|attempt| attempt.token != receipt.token) {
                        return Ok((Applied::UnknownToken, findings));
                    }
                    let evidence = Evidence {
                        attempt: seen.n,
                        detail: detail(receipt.facts),
                        author: scope.author().clone(),
                        source: EvidenceSource::Token,
                        provider_ref: receipt.provider_ref,
                        facts: receipt.facts,
                        status: receipt.status,
                        code: receipt.code,
                        failure: receipt.failure,
                    };
                    let known = (&mut drafts, &mut attempts);
                    if !evidence::apply_on(tx, known, id, &evidence, &mut findings).await? {
                        return Ok((Applied::Repeat, findings));
                    }
                    attempts.save_on(tx).await?;
                    retry::proved_on(tx, &mut drafts, id.0).await?;
                    save_all_on(tx, drafts.into_values()).await?;
                    Ok((Applied::New, findings))
                })
            })
            .await?;
        self.tell(&findings);
        Ok(applied)
    }
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
