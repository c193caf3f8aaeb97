//! What providers report by signed callback, applied by the token of the attempt. A report that comes before our own reply
//! counts all the same, since the token was committed with the intent.

use std::{collections::BTreeMap, fmt, sync::Arc};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Store, StoreError,
    entity::attempt,
    evidence::{Evidence, EvidenceSource, Hearing},
    rows::padded,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::domain::{DeliveryId, EmailAddress, Facts, FailureReason, Provider, Scope};

/// What a provider reported of one attempt.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The token in the callback's address, or in the event.
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

/// A mail that an attempt handed to a relay.
pub struct MailAttempt {
    keys: Arc<PracticeKeys>,
    address: Vec<u8>,
}

impl MailAttempt {
    /// Whether it went to that mailbox.
    #[must_use]
    pub fn is_to(&self, mailbox: &EmailAddress) -> bool {
        self.keys.email_index(mailbox) == self.address
    }
}

impl fmt::Debug for MailAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailAttempt").finish_non_exhaustive()
    }
}

impl Store {
    /// The mail of the practice that has this token; unset when there is none that a relay was handed.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn mail_attempt(&self, scope: &Scope, token: [u8; 16]) -> Result<Option<MailAttempt>, StoreError> {
        let row = attempt::Entity::find()
            .filter(attempt::Column::Token.eq(token.to_vec()))
            .filter(attempt::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(attempt::Column::Provider.eq(Provider::Smtp as i16))
            .one(&self.within(scope))
            .await?;
        let keys = self.keys(scope.practice()).await?;
        Ok(row.map(|row| MailAttempt { keys, address: row.address_bi }))
    }
}

/// What a receipt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It told something new.
    New,
    /// All of it was known.
    Repeat,
    /// The attempt is another practice's: nothing was applied.
    Foreign,
    /// No attempt has that token.
    UnknownToken,
}

/// The attempts that the tokens of some receipts name, each with its delivery. Both are read again under lock.
pub(super) async fn named_on(tx: &Tx, tokens: Vec<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, attempt::Model>, StoreError> {
    if tokens.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = attempt::Entity::find().filter(attempt::Column::Token.is_in(padded(tokens))).all(&tx.db).await?;
    Ok(rows.into_iter().map(|row| (row.token.clone(), row)).collect())
}

/// Applies a receipt to the attempt that its token names.
pub(super) async fn report_on(
    tx: &Tx,
    hearing: &mut Hearing,
    (scope, receipt): (&Scope, &Receipt),
    named: Option<&attempt::Model>,
) -> Result<Applied, StoreError> {
    let Some(named) = named else { return Ok(Applied::UnknownToken) };
    if named.practice_id != scope.practice().as_str() {
        return Ok(Applied::Foreign);
    }
    // An attempt that was never begun gives way to another of its number, which has a token of its own.
    if hearing.attempts.get((named.delivery_id, named.n)).is_none_or(|attempt| attempt.token != receipt.token) {
        return Ok(Applied::UnknownToken);
    }
    let evidence = Evidence {
        attempt: named.n,
        detail: detail(receipt.facts),
        author: scope.author().clone(),
        source: EvidenceSource::Token,
        provider_ref: receipt.provider_ref.clone(),
        facts: receipt.facts,
        status: receipt.status.clone(),
        code: receipt.code.clone(),
        failure: receipt.failure,
    };
    let news = hearing.apply_on(tx, DeliveryId(named.delivery_id), &evidence).await?;
    Ok(if news { Applied::New } else { Applied::Repeat })
}

/// What a report means, for staff.
pub(super) fn detail(facts: Facts) -> &'static str {
    [
        (Facts::COMPLAINED, "The patient called it spam."),
        (Facts::BOUNCED, "The mail host refused it."),
        (Facts::READ, "The patient read it."),
        (Facts::DELIVERED, "The provider confirmed receipt."),
        (Facts::UNDELIVERED, "The provider reports that it did not arrive."),
        (Facts::SENT_TO_CARRIER, "The provider handed it to the carrier."),
        (Facts::DEFERRED, "The mail host asked to wait; the provider tries again."),
    ]
    .into_iter()
    .find(|(fact, _)| facts.any(*fact))
    .map_or("The provider has it in its queue.", |(_, detail)| detail)
}
