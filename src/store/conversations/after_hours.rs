//! What the server itself answers to a text that comes while the practice is closed: one message like those of staff, for each
//! conversation and closing. It goes to the number that wrote and to no other, and never where staff could not answer either.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr};

use super::{
    InboundText,
    rows::Body,
    send::{NewText, gates_on, text_on},
    thread::{Saying, Thread},
};
use crate::{
    crypto,
    domain::{
        Author, Channel, ChannelSet, Content, DeliveryId, Direction, Expiry, Grounds, Home, MOST_AUTOMATIC, Meaning,
        MessageRoute, Opening, Phi, PhoneNumber, Practice, PracticeSettings, Said, TestContact, sms,
    },
    store::{
        StoreError,
        entity::conversation_message,
        feed::Change,
        grounds::{self, Recipient},
        preferences, stand_ins,
        tx::Tx,
        vault::PracticeKeys,
    },
};

/// A reply that no rule forbids, as long as the conversation has not had it.
pub(super) struct Reply {
    opening: Opening,
    said: Phi<String>,
    text: NewText,
}

/// What may be answered to a text. Keywords are Twilio's to answer, and whoever asks to be left alone is. Gates come before
/// conversations, so that this does too.
pub(super) async fn prepare_on(
    tx: &Tx,
    keys: &PracticeKeys,
    regions: &[String],
    text: &InboundText,
    home: &Home,
) -> Result<Option<Reply>, StoreError> {
    let (Meaning::Other, Some(from)) = (text.meaning, &text.from) else { return Ok(None) };
    let (practice, settings) = preferences::home_on(&tx.db, keys).await?;
    let after_hours = &settings.after_hours;
    let opening = after_hours.hours.at(tx.now, practice.time_zone);
    if after_hours.text.is_empty() || opening == Opening::Open {
        return Ok(None);
    }
    let Some((reader, number)) = reader_on(tx, keys, from, home).await? else { return Ok(None) };
    let content = Content::of_text(sms::compose(settings.sms_prefix(&practice), &after_hours.text));
    let (said, reached_at) = (Phi::new(after_hours.text.clone()), text.reached_at.clone());
    let expire_time = Expiry { asked: None, visit_time: None, share: false }.of(tx.now);
    let text = NewText { reader: reader.patient.clone(), number, reached_at, content, expire_time };
    gates_on(tx, keys, &text).await?;
    let may_go = may_go_on(tx, keys, regions, (&practice, &settings), &reader).await?;
    Ok(may_go.then_some(Reply { opening, said, text }))
}

/// Whoever wrote: the only patient who has the number, or whoever that is.
async fn reader_on(
    tx: &Tx,
    keys: &PracticeKeys,
    from: &PhoneNumber,
    home: &Home,
) -> Result<Option<(Recipient, Option<PhoneNumber>)>, StoreError> {
    match home {
        Home::Patient(id) => {
            let found = grounds::patients_on(&tx.db, keys, [id.as_str().to_owned()], false).await?.into_values().next();
            // Somebody may be giving them another number at this moment.
            let theirs = found.filter(|found| found.patient.mobile_phone.as_ref() == Some(from));
            Ok(theirs.map(|found| (found, None)))
        }
        Home::Sender => {
            let nobody = stand_ins::of_contact(crypto::new_id(tx.now), TestContact::Phone(from.clone()))?;
            Ok(Some((nobody, Some(from.clone()))))
        }
    }
}

/// What every rule says of a text to them.
async fn may_go_on(
    tx: &Tx,
    keys: &PracticeKeys,
    regions: &[String],
    (practice, settings): (&Practice, &PracticeSettings),
    reader: &Recipient,
) -> Result<bool, StoreError> {
    let Recipient { patient, choices, has_device } = reader;
    let gates = grounds::gate_keys(keys, Channel::Sms, patient);
    let gates = grounds::gates_on(&tx.db, keys.practice(), &gates, false).await?;
    let gates = BTreeMap::from([(Channel::Sms, grounds::gates_of(&gates, keys, Channel::Sms, patient))]);
    let grounds = Grounds {
        patient,
        choices: &choices.value,
        practice_zone: practice.time_zone,
        settings,
        has_device: *has_device,
        kind: None,
        requested: Some(ChannelSet::NONE.with(Channel::Sms)),
        // They are awake, or would not have written.
        urgent: true,
        test: false,
        gates: &gates,
        duplicates: ChannelSet::NONE,
        sms_regions: regions,
        not_before: tx.now,
        expires_at: DateTime::<Utc>::MAX_UTC,
        now: tx.now,
    };
    Ok(grounds.decide(Channel::Sms).uses())
}

/// Adds the reply to a conversation that is locked, unless it has had enough of them. Yields the change for the feed.
pub(super) async fn say_on(
    tx: &Tx,
    keys: &PracticeKeys,
    thread: &mut Thread,
    reply: Reply,
) -> Result<Option<Change>, StoreError> {
    let before = latest_on(tx, thread).await?;
    let Some(expire_time) = reply.opening.reply_until(&before, tx.now) else { return Ok(None) };
    let text = NewText { expire_time, ..reply.text };
    let (author, delivery) = (Author::system(), DeliveryId(crypto::new_id(tx.now)));
    let saying = Saying {
        direction: Direction::Outbound,
        route: MessageRoute::Sms,
        said: Said::Automatic,
        author: &author,
        body: Body { text: reply.said.into_inner() },
        delivery: Some(delivery),
        consent_source: None,
    };
    let message = thread.say_on(tx, keys, saying).await?;
    text_on(tx, keys, (&thread.row.owner, &author, None), (message, delivery), &text).await.map(Some)
}

/// When the server wrote into the conversation, the latest first.
async fn latest_on(tx: &Tx, thread: &Thread) -> Result<Vec<DateTime<Utc>>, StoreError> {
    let times = conversation_message::Entity::find()
        .select_only()
        .column(conversation_message::Column::CreateTime)
        .filter(conversation_message::Column::ConversationId.eq(thread.row.id))
        // Word for word as the index has it: only then is it used.
        .filter(Expr::cust("\"author_type\" = 4"))
        .order_by_desc(conversation_message::Column::Id)
        .limit(MOST_AUTOMATIC as u64)
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(times)
}
