//! What of a notification is sealed: the texts, and the decisions with their trace.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, EntityTrait};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{
        Channel, Content, Decision, DecisionStep, DeliveryId, Outcome, Phi, PhoneNumber, SkipReason, TestContact,
    },
    store::{
        StoreError,
        entity::content,
        subjects,
        vault::{PracticeKeys, Sealed},
    },
};

const DECISIONS: Sealed = Sealed { table: "notification", column: "decisions_ct" };
const BODY: Sealed = Sealed { table: "content", column: "body_ct" };

/// A text as it is sealed. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ContentBody {
    subject: String,
    text: String,
    link: String,
    html: String,
    sms_segments: i32,
    sms_gsm7: bool,
    template_key: String,
    template_version: i32,
    /// Where it goes, if that is to nobody in the directory.
    contact: String,
    /// Of an answer: to which number of a service the patient wrote.
    reached_at: String,
}

/// Seals a text to a patient.
pub(in crate::store) fn content_row(
    keys: &PracticeKeys,
    (owner, id): (&str, DeliveryId),
    content: &Content,
) -> Result<content::Model, StoreError> {
    Ok(row(keys, id, keys.seal_of(owner, BODY, id.0.as_bytes(), &to_body(content))?))
}

/// Seals a text with the contact to whom it goes: no directory has them.
pub(in crate::store) fn addressed_row(
    keys: &PracticeKeys,
    id: DeliveryId,
    content: &Content,
    contact: &TestContact,
) -> Result<content::Model, StoreError> {
    let body = ContentBody { contact: contact.as_str().to_owned(), ..to_body(content) };
    Ok(row(keys, id, keys.seal(BODY, id.0.as_bytes(), &body)?))
}

/// Seals what staff answer to somebody who wrote to `reached_at`; `number` is theirs, where they are not in the directory.
pub(in crate::store) fn reply_row(
    keys: &PracticeKeys,
    (owner, id): (&str, DeliveryId),
    content: &Content,
    (number, reached_at): (Option<&PhoneNumber>, &str),
) -> Result<content::Model, StoreError> {
    let contact = number.map(|number| number.e164().to_owned()).unwrap_or_default();
    let body = ContentBody { contact, reached_at: reached_at.to_owned(), ..to_body(content) };
    Ok(row(keys, id, keys.seal_of(owner, BODY, id.0.as_bytes(), &body)?))
}

/// Seals the text of one delivery for another that repeats it.
pub(in crate::store) fn copied_row(
    keys: &PracticeKeys,
    text: &content::Model,
    id: DeliveryId,
) -> Result<content::Model, StoreError> {
    let body: ContentBody = keys.open(BODY, text.delivery_id.as_bytes(), &text.body_ct)?;
    Ok(row(keys, id, keys.seal_like(&text.body_ct, BODY, id.0.as_bytes(), &body)?))
}

/// The contact to whom it goes.
pub(in crate::store) fn to_contact(keys: &PracticeKeys, row: &content::Model) -> Result<TestContact, StoreError> {
    let body: ContentBody = keys.open(BODY, row.delivery_id.as_bytes(), &row.body_ct)?;
    Ok(TestContact::from_trusted(body.contact))
}

fn to_body(content: &Content) -> ContentBody {
    ContentBody {
        subject: content.subject.expose().clone(),
        text: content.text.expose().clone(),
        link: content.link.expose().clone(),
        html: content.html.expose().clone(),
        sms_segments: content.sms_segments,
        sms_gsm7: content.sms_gsm7,
        template_key: content.template_key.clone(),
        template_version: content.template_version,
        contact: String::new(),
        reached_at: String::new(),
    }
}

fn row(keys: &PracticeKeys, id: DeliveryId, body_ct: Vec<u8>) -> content::Model {
    content::Model { delivery_id: id.0, practice_id: keys.practice().to_owned(), body_ct }
}

/// Opens a text.
pub(in crate::store) fn to_content(keys: &PracticeKeys, row: &content::Model) -> Result<Content, StoreError> {
    to_reply(keys, row).map(|(content, _)| content)
}

/// Opens a text, and where whoever it answers had written to; empty: nowhere in particular.
pub(in crate::store) fn to_reply(keys: &PracticeKeys, row: &content::Model) -> Result<(Content, String), StoreError> {
    let body: ContentBody = keys.open(BODY, row.delivery_id.as_bytes(), &row.body_ct)?;
    let content = Content {
        subject: Phi::new(body.subject),
        text: Phi::new(body.text),
        link: Phi::new(body.link),
        html: Phi::new(body.html),
        sms_segments: body.sms_segments,
        sms_gsm7: body.sms_gsm7,
        template_key: body.template_key,
        template_version: body.template_version,
    };
    Ok((content, body.reached_at))
}

pub(in crate::store) async fn content_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    id: DeliveryId,
) -> Result<Option<Content>, StoreError> {
    let row = content::Entity::find_by_id(id.0).one(db).await?;
    let Some(row) = row else { return Ok(None) };
    let keys = subjects::opening(db, keys, [row.body_ct.as_slice()]).await?;
    to_content(&keys, &row).map(Some)
}

#[derive(Serialize, Deserialize)]
struct DecisionBody {
    channel: i16,
    considered: bool,
    skip: Option<i16>,
    at: DateTime<Utc>,
    steps: Vec<(i16, i16, String)>,
}

impl DecisionBody {
    fn write(decision: &Decision) -> Self {
        let steps = decision.steps.iter().map(|step| (step.rule.number(), step.outcome as i16, step.detail.clone()));
        Self {
            channel: decision.channel.number(),
            considered: decision.considered,
            skip: decision.skip_reason.map(SkipReason::number),
            at: decision.attempt_time,
            steps: steps.collect(),
        }
    }

    fn read(self) -> Option<Decision> {
        let steps = self.steps.into_iter().map(|(rule, outcome, detail)| {
            let outcome = match outcome {
                1 => Outcome::Passed,
                2 => Outcome::Held,
                3 => Outcome::Refused,
                _ => return None,
            };
            Some(DecisionStep { rule: SkipReason::from_number(rule)?, outcome, detail })
        });
        Some(Decision {
            channel: Channel::from_number(self.channel)?,
            considered: self.considered,
            skip_reason: self.skip.and_then(SkipReason::from_number),
            attempt_time: self.at,
            steps: steps.collect::<Option<_>>()?,
        })
    }
}

/// Seals what was decided about a notification.
pub(super) fn seal_decisions(
    keys: &PracticeKeys,
    (owner, id): (&str, Uuid),
    decisions: &[Decision],
) -> Result<Vec<u8>, StoreError> {
    keys.seal_of(owner, DECISIONS, id.as_bytes(), &decisions.iter().map(DecisionBody::write).collect::<Vec<_>>())
}

/// Opens what was decided about a notification: nothing, once its patient is erased.
pub(super) async fn decisions_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    id: Uuid,
    blob: &[u8],
) -> Result<Vec<Decision>, StoreError> {
    if blob.is_empty() {
        return Ok(Vec::new());
    }
    let keys = subjects::opening(db, keys, [blob]).await?;
    let stored: Vec<DecisionBody> = keys.open(DECISIONS, id.as_bytes(), blob)?;
    stored.into_iter().map(DecisionBody::read).collect::<Option<_>>().ok_or(StoreError::Corrupt("decision"))
}
