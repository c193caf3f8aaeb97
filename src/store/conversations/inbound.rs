//! Texts that patients send: each stored once, with what follows from it for consent, in the conversation that it belongs to.

use std::{collections::BTreeSet, fmt, sync::Arc};

use sea_orm::{ActiveValue::Set, EntityTrait, TryInsertResult};

use super::{
    after_hours, attachments,
    rows::{Body, Owner, Sender},
    thread::{Saying, Thread},
};
use crate::{
    domain::{
        ActorType, Author, Channel, ConsentSource, Direction, Home, Meaning, MessageId, MessageRoute, PatientId, Phi,
        PhoneNumber, Said, Scope,
    },
    store::{
        Store, StoreError,
        consent::{self, Report},
        draft::{self, Draft},
        entity::inbound_message,
        feed, grounds,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// A text that came in, verified.
#[derive(Clone)]
pub struct InboundText {
    /// The provider's id for it.
    pub sid: String,
    /// Who wrote; unset: no phone number, such as a short code.
    pub from: Option<PhoneNumber>,
    /// The sender as staff see it.
    pub from_text: Phi<String>,
    /// To which number or service of the practice.
    pub to: String,
    /// To which number of a service, as [`crate::domain::in_pool`] has it; empty: to none. An answer comes from there.
    pub reached_at: String,
    /// What was written.
    pub body: Phi<String>,
    /// Addresses and media types of what was attached.
    pub media: Vec<(String, String)>,
    /// What it means for consent.
    pub meaning: Meaning,
}

impl fmt::Debug for InboundText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither from whom nor what.
        f.debug_struct("InboundText").field("sid", &self.sid).field("meaning", &self.meaning).finish_non_exhaustive()
    }
}

/// What became of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is stored, and this many entries followed from it.
    New {
        /// How many.
        entries: usize,
    },
    /// It had been stored before.
    Repeat,
}

impl Store {
    /// Stores a text once, in its conversation, with what follows from it for consent, and with what is answered to it while the
    /// practice is closed.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses; nothing is stored then, and the provider must repeat it.
    pub async fn text_take(&self, scope: &Scope, text: InboundText) -> Result<Heard, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, regions) = (scope.clone(), Arc::clone(&self.inner.sms_regions));
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                if !keep_on(tx, &keys, &text).await? {
                    return Ok(Heard::Repeat);
                }
                let (entries, drafts) = consent_on(tx, &keys, &scope, &text).await?;
                let (owner, home) = home_on(tx, &keys, &text).await?;
                let reply = after_hours::prepare_on(tx, &keys, &regions, &text, &home).await?;
                let mut thread = thread_on(tx, &keys, &text, owner, home).await?;
                let message = say_on(tx, &keys, &mut thread, &text, entries > 0).await?;
                attachments::expect_on(tx, &keys, message, &text.media).await?;
                let mut changes = draft::write_all_on(tx, drafts).await?;
                if let Some(reply) = reply {
                    changes.extend(after_hours::say_on(tx, &keys, &mut thread, reply).await?);
                }
                changes.extend(thread.save_on(tx).await?);
                feed::append_on(tx, changes).await?;
                Ok(Heard::New { entries })
            })
        })
        .await
    }
}

/// Keeps that a text came. False: it is known already.
async fn keep_on(tx: &Tx, keys: &PracticeKeys, text: &InboundText) -> Result<bool, StoreError> {
    let row = inbound_message::ActiveModel {
        practice_id: Set(keys.practice().to_owned()),
        sid: Set(text.sid.clone()),
        from_bi: Set(text.from.as_ref().map(|from| keys.phone_index(from))),
        received_at: Set(tx.now),
    };
    let kept = inbound_message::Entity::insert(row)
        .on_conflict_do_nothing_on([inbound_message::Column::PracticeId, inbound_message::Column::Sid])
        .exec_without_returning(&tx.db)
        .await?;
    Ok(matches!(kept, TryInsertResult::Inserted(1..)))
}

/// What follows from a text for consent: how many entries, and the deliveries that it stops.
async fn consent_on(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    text: &InboundText,
) -> Result<(usize, Vec<Draft>), StoreError> {
    let Some(from) = &text.from else { return Ok((0, Vec::new())) };
    let report = Report {
        channel: Channel::Sms,
        address: keys.phone_index(from),
        address_hint: from.mask(),
        source: source(text.meaning),
        author: scope.author(),
        evidence: format!("message {}", text.sid),
        decided: None,
    };
    let (records, drafts) = match text.meaning {
        Meaning::Stop | Meaning::StopRequest => consent::report_on(tx, keys, &report, &BTreeSet::new()).await?,
        Meaning::Start => (consent::start_on(tx, keys, &report).await?, Vec::new()),
        Meaning::Help | Meaning::Other => (Vec::new(), Vec::new()),
    };
    Ok((records.len(), drafts))
}

/// How it counts, if it changes consent.
const fn source(meaning: Meaning) -> ConsentSource {
    match meaning {
        Meaning::StopRequest => ConsentSource::SmsFreeText,
        Meaning::Stop | Meaning::Start | Meaning::Help | Meaning::Other => ConsentSource::SmsKeyword,
    }
}

/// Whose conversation a text belongs to, by who has its number at this moment; and whose it is where it is no patient's.
async fn home_on(tx: &Tx, keys: &PracticeKeys, text: &InboundText) -> Result<(Owner, Home), StoreError> {
    Ok(match &text.from {
        Some(from) => {
            let index = keys.phone_index(from);
            let holders = grounds::holders_on(tx, keys.practice(), Channel::Sms, &index).await?.into_iter();
            let holders: Result<Vec<PatientId>, _> = holders.map(|id| id.parse()).collect();
            let holders = holders.map_err(|_| StoreError::Corrupt("patient"))?;
            (Owner::Number(index), Home::of(&holders))
        }
        None => (Owner::Other(keys.digest("sender", text.from_text.expose())), Home::Sender),
    })
}

/// Locks that conversation.
async fn thread_on(
    tx: &Tx,
    keys: &PracticeKeys,
    text: &InboundText,
    owner: Owner,
    home: Home,
) -> Result<Thread, StoreError> {
    match home {
        Home::Patient(patient) => {
            let mut thread = Thread::begin_on(tx, keys, &Owner::Patient(patient), None).await?;
            thread.row.phone_hint = text.from.as_ref().map(PhoneNumber::mask).unwrap_or_default();
            Ok(thread)
        }
        Home::Sender => {
            let number = text.from.as_ref().map(|from| from.e164().to_owned()).unwrap_or_default();
            let sender = Sender { number, text: text.from_text.expose().clone() };
            Thread::begin_on(tx, keys, &owner, Some(&sender)).await
        }
    }
}

async fn say_on(
    tx: &Tx,
    keys: &PracticeKeys,
    thread: &mut Thread,
    text: &InboundText,
    changed_consent: bool,
) -> Result<MessageId, StoreError> {
    let author = Author { kind: ActorType::Patient, id: thread.row.patient_id.clone(), display_name: String::new() };
    if !text.reached_at.is_empty() {
        thread.row.reached_at.clone_from(&text.reached_at);
    }
    let saying = Saying {
        direction: Direction::Inbound,
        route: MessageRoute::Sms,
        said: Said::ByPatient {
            quiet: text.meaning.is_quiet(changed_consent),
            asks_to_stop: text.meaning == Meaning::StopRequest,
        },
        author: &author,
        body: Body { text: text.body.expose().clone() },
        delivery: None,
        consent_source: changed_consent.then_some(source(text.meaning)),
    };
    thread.say_on(tx, keys, saying).await
}
