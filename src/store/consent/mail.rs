//! The link in a mail by which its reader unsubscribes, and may take that back.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use sea_orm::EntityTrait;
use uuid::Uuid;

use super::{Standing, patient_on, standing_on, waiting};
use crate::{
    crypto::{self, Purpose},
    domain::{
        ActorType, Author, Channel, ConsentEntry, ConsentSource, ConsentState, DeliveryId, Engine, Patient, PatientId,
        Phi, PracticeId, by_links, effective_now, in_force,
    },
    store::{
        Store, StoreError,
        directory::stored_practice,
        draft::save_all_on,
        entity::{delivery, practice},
        ledger::{self, NewEntry},
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// How long a link works. The law asks for 30 days at least (15 U.S.C. 7704(a)(3)); mail is kept for longer.
const VALID_FOR: TimeDelta = TimeDelta::days(730);

/// What the link in a mail is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The practice's short name.
    pub practice_name: String,
    /// Whether the patient gets no mail from it.
    pub opted_out: bool,
    /// Whether this link is what opted out, so that it may take that back.
    pub by_this_link: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Out,
    In,
}

/// The mail that a link came with.
struct Letter {
    practice: PracticeId,
    practice_name: String,
    patient: PatientId,
    /// The mailbox that it went to, which the patient may have left since.
    address: Option<Vec<u8>>,
    address_hint: String,
}

impl Store {
    /// The token of the link in a mail. It names the mail, is good for nothing else, and is made by nobody else; it says neither
    /// who reads nor of which practice.
    #[must_use]
    pub fn unsubscribe_token(&self, mail: DeliveryId) -> String {
        self.inner.tokens.mint(Purpose::Unsubscribe, "", mail.0.as_bytes())
    }

    /// The mail that a token names, if the token was made here.
    fn mail_of(&self, token: &str) -> Option<DeliveryId> {
        let payload = self.inner.tokens.open(Purpose::Unsubscribe, "", token)?;
        Some(DeliveryId(Uuid::from_slice(&payload).ok()?))
    }

    /// What the link with that token is about; unset when it was not made here, or long ago. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn subscription(&self, _: &Engine, token: &str) -> Result<Option<Subscription>, StoreError> {
        let Some(mail) = self.mail_of(token) else { return Ok(None) };
        let Some(letter) = self.letter(mail).await? else { return Ok(None) };
        let keys = self.keys(&letter.practice).await?;
        let id = letter.patient.as_str().to_owned();
        let entries = ledger::entries_on(&self.within(&letter.practice), keys.practice(), Channel::Email, [id]).await?;
        let in_force = entries.values().next().map(Vec::as_slice).and_then(in_force);
        let opted_out = in_force.is_some_and(ConsentEntry::is_opt_out);
        let record = match in_force {
            Some(entry) => ledger::row_at_on(&self.within(&letter.practice), keys.practice(), entry.position).await?,
            None => None,
        };
        let evidence = match record {
            Some(row) => Some(ledger::record_on(&self.within(&*keys), &keys, &row).await?.evidence),
            None => None,
        };
        let by_this_link = opted_out && evidence == Some(evidence_of(mail));
        Ok(Some(Subscription { practice_name: letter.practice_name, opted_out, by_this_link }))
    }

    /// Opts the reader of a mail out of mail. A repeat changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn unsubscribe(&self, engine: &Engine, token: &str) -> Result<Option<Subscription>, StoreError> {
        self.wish(engine, token, Wish::Out).await
    }

    /// Takes back what the same link did, and nothing that came from elsewhere. A repeat changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn resubscribe(&self, engine: &Engine, token: &str) -> Result<Option<Subscription>, StoreError> {
        self.wish(engine, token, Wish::In).await
    }

    async fn wish(&self, engine: &Engine, token: &str, wish: Wish) -> Result<Option<Subscription>, StoreError> {
        let Some(mail) = self.mail_of(token) else { return Ok(None) };
        let Some(letter) = self.letter(mail).await? else { return Ok(None) };
        let keys = self.keys(&letter.practice).await?;
        let done = self
            .write_within(letter.practice.clone(), move |tx| {
                Box::pin(async move {
                    let patient = patient_on(tx, &keys, &letter.patient).await?;
                    wish_on(tx, &keys, &patient, (mail, &letter), wish).await
                })
            })
            .await;
        match done {
            Ok(()) => self.subscription(engine, token).await,
            Err(StoreError::NotFound("patient")) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn letter(&self, mail: DeliveryId) -> Result<Option<Letter>, StoreError> {
        let Some(row) = delivery::Entity::find_by_id(mail.0).one(self.across()).await? else { return Ok(None) };
        let old = self.now().await? - row.create_time > VALID_FOR;
        if row.channel != Channel::Email.number() || row.patient_id.is_empty() || old {
            return Ok(None);
        }
        let corrupt = || StoreError::Corrupt("delivery");
        let home = practice::Entity::find_by_id(&row.practice_id).one(self.across()).await?.ok_or_else(corrupt)?;
        Ok(Some(Letter {
            practice: row.practice_id.parse().map_err(|_| corrupt())?,
            practice_name: stored_practice(home)?.value.display_name,
            patient: row.patient_id.parse().map_err(|_| corrupt())?,
            address: row.address_bi,
            address_hint: row.address_hint,
        }))
    }
}

/// What proves that it was this link.
fn evidence_of(mail: DeliveryId) -> Phi<String> {
    Phi::new(format!("the link in delivery {mail}"))
}

async fn wish_on(
    tx: &Tx,
    keys: &PracticeKeys,
    patient: &Patient,
    (mail, letter): (DeliveryId, &Letter),
    wish: Wish,
) -> Result<(), StoreError> {
    let id = patient.id.as_str();
    let mut standing = standing_on(tx, keys, patient, Channel::Email).await?;
    let in_force = standing.in_force(id);
    let out = in_force.is_some_and(ConsentEntry::is_opt_out);
    let state = match wish {
        // Also where another one opted out before: that may be taken back, and this was said all the same.
        Wish::Out if !has_said_on(tx, &standing, id, mail).await? => ConsentState::OptedOut,
        Wish::In if out && is_by_on(tx, &standing, in_force, mail).await? => ConsentState::OptedIn,
        _ => return Ok(()),
    };
    let author = Author { kind: ActorType::Patient, id: id.to_owned(), display_name: String::new() };
    let entry = NewEntry {
        id: crypto::new_id(tx.now),
        patient: Some(patient.id.clone()),
        channel: Channel::Email,
        state,
        source: ConsentSource::Unsubscribe,
        address: letter.address.clone(),
        address_hint: letter.address_hint.clone(),
        effective_time: effective_now(state, in_force, tx.now),
        evidence: evidence_of(mail),
    };
    standing.append_on(tx, &author, vec![entry]).await?;
    let patients = if wish == Wish::Out { standing.patients().clone() } else { BTreeSet::new() };
    let drafts = waiting::skip_on(tx, keys.practice(), Channel::Email, &patients, &author, &BTreeSet::new()).await?;
    save_all_on(tx, drafts).await
}

/// Whether the link of this very mail opted out, and that was not taken back.
async fn has_said_on(tx: &Tx, standing: &Standing<'_>, patient: &str, mail: DeliveryId) -> Result<bool, StoreError> {
    for entry in by_links(standing.entries(patient)) {
        if is_by_on(tx, standing, Some(entry), mail).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an entry came by the link of this very mail.
async fn is_by_on(
    tx: &Tx,
    standing: &Standing<'_>,
    entry: Option<&ConsentEntry>,
    mail: DeliveryId,
) -> Result<bool, StoreError> {
    let Some(entry) = entry.filter(|entry| entry.source == ConsentSource::Unsubscribe) else { return Ok(false) };
    let row = ledger::row_at_on(&tx.db, standing.keys.practice(), entry.position).await?;
    let Some(row) = row else { return Ok(false) };
    Ok(ledger::record_on(&tx.db, standing.keys, &row).await?.evidence == evidence_of(mail))
}
