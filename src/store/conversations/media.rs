//! Files on their way: those that a provider still has, each fetched by one replica at a time, and those that it comes for, under
//! addresses that nobody can guess and that soon lead nowhere.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use uuid::Uuid;

use super::{
    attachments::{open_part, origin, parts, sealed_parts},
    thread::Thread,
};
use crate::{
    crypto::Purpose,
    domain::{
        Account, AttachmentId, AttachmentState, AuditEvent, AuditNote, Author, Channel, ConversationId, Engine,
        MediaType, MessageId, Newness, Phi, PracticeId, Provider, TwilioAccount,
    },
    store::{
        Store, StoreError,
        entity::{attachment, attachment_part, conversation_message},
        feed,
        instance::may_send,
        preferences,
        tx::Tx,
    },
};

/// A fetch takes less than this, redirects included. Whoever has not settled it by then is gone.
const LEASE: TimeDelta = TimeDelta::minutes(3);
/// How often a file is tried for: for about six hours.
const MOST_TRIES: i16 = 10;
/// The first pause between two tries; each is four times the one before.
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(10);
/// The longest.
const LONGEST_PAUSE: TimeDelta = TimeDelta::hours(1);

/// A file that is to be fetched.
#[derive(Clone, Debug)]
pub struct MediaDue {
    /// Its practice.
    pub practice: PracticeId,
    /// Its id.
    pub id: AttachmentId,
    /// Where it is.
    pub url: Phi<String>,
    /// What it is said to be.
    pub media_type: MediaType,
    /// The practice's account; unset: it has none any more.
    pub account: Option<TwilioAccount>,
    tries: i16,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum MediaFetched {
    /// What it holds.
    Here(Phi<Vec<u8>>),
    /// It is none that is kept: too large, or not what it is said to be.
    Refused,
    /// It was not to be had.
    Later,
}

impl Store {
    /// Takes up to `limit` files that are to be fetched. Each is left to the caller for a while.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn media_due(&self, _: &Engine, limit: u64) -> Result<Vec<MediaDue>, StoreError> {
        let rows = self.write_across(move |tx| Box::pin(take_on(tx, limit))).await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in rows {
            match self.to_due(&row).await {
                Ok(one) => due.push(one),
                // What cannot be read now cannot be read later; it ends with its last try.
                Err(error @ (StoreError::Corrupt(_) | StoreError::NotFound(_))) => {
                    tracing::error!(error = %crate::telemetry::chain(&error), "a file to be fetched cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(due)
    }

    async fn to_due(&self, row: &attachment::Model) -> Result<MediaDue, StoreError> {
        let corrupt = || StoreError::Corrupt("attachment");
        let practice: PracticeId = row.practice_id.parse().map_err(|_| corrupt())?;
        let keys = self.keys(&practice).await?;
        let (said, url) = origin(&keys, row)?;
        let (home, settings) = preferences::home_on(&self.within(&practice), &keys).await?;
        let account = match settings.account(Channel::Sms, &home) {
            Some(Account::Twilio(account)) => Some(account),
            _ => None,
        };
        let media_type = MediaType::from_name(&said).ok_or_else(corrupt)?;
        Ok(MediaDue { practice, id: AttachmentId(row.id), url, media_type, account, tries: row.tries })
    }

    /// Puts on record what came of a try, unless another one has begun since. Whoever watches the conversation is told.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn media_settle(&self, engine: &Engine, due: &MediaDue, fetched: MediaFetched) -> Result<(), StoreError> {
        let keys = self.keys(&due.practice).await?;
        let scope = engine.scope(due.practice.clone(), Author::provider(Provider::Twilio.name()));
        let due = due.clone();
        let content = match &fetched {
            MediaFetched::Here(content) => sealed_parts(&keys, due.id.0, content.expose()),
            MediaFetched::Refused | MediaFetched::Later => Vec::new(),
        };
        self.write_within(due.practice.clone(), move |tx| {
            Box::pin(async move {
                let Some(message) = message_on(tx, due.id).await? else { return Ok(()) };
                // The conversation before its files, as whoever sends takes them.
                let mut thread = Thread::lock_on(tx, &scope, ConversationId(message.conversation_id)).await?;
                let row = attachment::Entity::find_by_id(due.id.0).lock_exclusive().one(&tx.db).await?;
                let Some(row) = row.filter(|row| row.tries == due.tries && is_pending(row)) else { return Ok(()) };
                let mut update = row.clone().into_active_model();
                let state = match &fetched {
                    MediaFetched::Here(plain) => {
                        let length = plain.expose().len();
                        tx.insert_all(content).await?;
                        (update.size_bytes, update.parts) =
                            (Set(i64::try_from(length).unwrap_or(i64::MAX)), Set(parts(length)));
                        AttachmentState::Ready
                    }
                    MediaFetched::Later if row.tries < MOST_TRIES => {
                        update.try_at = Set(Some(tx.now + pause(row.tries)));
                        update.update(&tx.db).await?;
                        return Ok(());
                    }
                    MediaFetched::Refused | MediaFetched::Later => AttachmentState::Failed,
                };
                (update.state, update.try_at) = (Set(state.number()), Set(None));
                update.update(&tx.db).await?;
                thread.tell(Some((MessageId(message.id), Newness::Changed)))?;
                let changes = thread.save_on(tx).await?;
                feed::append_on(tx, changes).await
            })
        })
        .await
    }

    /// The token under which the provider may have a file until `expire_time`. It says neither whose it is nor what.
    #[must_use]
    pub fn media_token(&self, id: AttachmentId, expire_time: DateTime<Utc>) -> String {
        let payload = [&id.0.as_bytes()[..], &expire_time.timestamp().to_be_bytes()].concat();
        self.inner.tokens.mint(Purpose::Media, "", &payload)
    }

    /// The file that a token opens, and what it is; unset when the token was not made here, is over, or its file is gone. That it is
    /// shown is on the audit trail by then.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn media_open(
        &self,
        engine: &Engine,
        token: &str,
    ) -> Result<Option<(MediaType, Phi<Vec<u8>>)>, StoreError> {
        let Some((id, expires)) = self.opened(token) else { return Ok(None) };
        if self.now().await?.timestamp() >= expires {
            return Ok(None);
        }
        let sent = attachment::Entity::find_by_id(id).one(self.across()).await?;
        let ready = |row: &attachment::Model| row.message_id.is_some() && row.state == AttachmentState::Ready.number();
        let Some(row) = sent.filter(ready) else { return Ok(None) };
        let practice: PracticeId = row.practice_id.parse().map_err(|_| StoreError::Corrupt("attachment"))?;
        let (keys, scope) = (self.keys(&practice).await?, engine.scope(practice.clone(), Author::system()));
        let parts = attachment_part::Entity::find()
            .filter(attachment_part::Column::AttachmentId.eq(id))
            .order_by_asc(attachment_part::Column::N)
            .all(self.across())
            .await?;
        let mut content = Vec::with_capacity(usize::try_from(row.size_bytes).unwrap_or_default());
        for part in &parts {
            content.extend(open_part(&keys, part)?);
        }
        let kind = MediaType::from_name(&origin(&keys, &row)?.0).ok_or(StoreError::Corrupt("attachment"))?;
        let resource = format!("attachment/{}", AttachmentId(id));
        let event = AuditEvent::of_system(AuditEvent::FILE_FETCHED, self.whose(&scope, &row).await?, resource);
        self.audit_seen(AuditNote { practice, event }).await?;
        Ok(Some((kind, Phi::new(content))))
    }

    fn opened(&self, token: &str) -> Option<(Uuid, i64)> {
        let payload = self.inner.tokens.open(Purpose::Media, "", token)?;
        let (id, expires) = payload.split_first_chunk::<16>()?;
        Some((Uuid::from_bytes(*id), i64::from_be_bytes(expires.try_into().ok()?)))
    }
}

fn is_pending(row: &attachment::Model) -> bool {
    row.state == AttachmentState::Pending.number()
}

async fn message_on(tx: &Tx, id: AttachmentId) -> Result<Option<conversation_message::Model>, StoreError> {
    let row = attachment::Entity::find_by_id(id.0).one(&tx.db).await?;
    let Some(message) = row.and_then(|row| row.message_id) else { return Ok(None) };
    Ok(conversation_message::Entity::find_by_id(message).one(&tx.db).await?)
}

/// Takes what is due: each moves to the end of its lease before it is fetched, so that replicas do not fetch it twice.
async fn take_on(tx: &Tx, limit: u64) -> Result<Vec<attachment::Model>, StoreError> {
    let mut rows = attachment::Entity::find()
        .filter(attachment::Column::TryAt.lte(tx.now))
        .filter(may_send(tx.dialect))
        .order_by_asc(attachment::Column::TryAt)
        .limit(limit)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .all(&tx.db)
        .await?;
    for row in &mut rows {
        let mut update = row.clone().into_active_model();
        row.tries += 1;
        // One whose fetchers all died is given up without a word; whoever reads the message sees it.
        if row.tries > MOST_TRIES {
            (update.state, update.try_at) = (Set(AttachmentState::Failed.number()), Set(None));
        } else {
            (update.tries, update.try_at) = (Set(row.tries), Set(Some(tx.now + LEASE)));
        }
        update.update(&tx.db).await?;
    }
    rows.retain(|row| row.tries <= MOST_TRIES);
    Ok(rows)
}

/// How long after so many tries the next one comes.
fn pause(tries: i16) -> TimeDelta {
    let quadruplings = u32::from(tries.clamp(1, 8).unsigned_abs()) - 1;
    (FIRST_PAUSE * 4_i32.pow(quadruplings)).min(LONGEST_PAUSE)
}
