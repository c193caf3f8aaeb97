//! Files of messages. What is uploaded belongs to whoever uploaded it until a message takes it along; then it belongs to whoever
//! may read that message. What it is called and what it holds is sealed, the latter in parts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    crypto,
    domain::{
        Attachment, AttachmentId, AttachmentState, MOST_ATTACHMENTS, MediaType, MessageId, PatientId, Phi, Scope, Side,
        received,
    },
    store::{
        Store, StoreError,
        entity::{attachment, attachment_part, conversation, conversation_message},
        idem::{self, Prior},
        rows::{padded, these},
        tx::Tx,
        vault::{PracticeKeys, Sealed},
    },
};

const ABOUT: Sealed = Sealed { table: "attachment", column: "about_ct" };
const DATA: Sealed = Sealed { table: "attachment_part", column: "data_ct" };

/// How much of a file is in one part, in bytes: as much as one answer carries (contract, `DownloadAttachment`).
const PART: usize = 64 * 1024;

/// Most files that wait to be sent of a practice's staff, of its portal's backend, and of one patient: nobody fills the disk with
/// what is never sent, nor keeps the others from sending.
const MOST_UNSENT: u64 = 500;
const MOST_UNSENT_OF_PATIENT: u64 = 20;

fn corrupt() -> StoreError {
    StoreError::Corrupt("attachment")
}

/// A file to be stored.
#[derive(Clone, Debug)]
pub struct NewAttachment {
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// What it is called.
    pub file_name: Phi<String>,
    /// What it is.
    pub media_type: MediaType,
    /// What it holds.
    pub content: Phi<Vec<u8>>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uploaded {
    /// It is stored.
    New(Attachment),
    /// The key made this before, by the same request.
    Replayed(Attachment),
    /// The key was used for another request, which made this.
    KeyReused(AttachmentId),
    /// Too many of the caller's wait to be sent: it is not stored.
    Full {
        /// How many may wait.
        most: u64,
        /// When the oldest of them was uploaded.
        oldest: DateTime<Utc>,
    },
}

/// What is sealed of a file besides its content. Fields are only ever added, each with a default.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    file_name: String,
    media_type: String,
    /// Where the provider has it.
    url: String,
}

/// What is left of that once the file is gone: of which type it was.
pub(super) fn blanked(keys: &PracticeKeys, row: &attachment::Model) -> Result<Vec<u8>, StoreError> {
    // What cannot be read any more goes all the same.
    let About { media_type, .. } = about(keys, row).unwrap_or_default();
    keys.seal(ABOUT, row.id.as_bytes(), &About { media_type, ..About::default() })
}

fn about(keys: &PracticeKeys, row: &attachment::Model) -> Result<About, StoreError> {
    keys.open(ABOUT, row.id.as_bytes(), &row.about_ct)
}

/// What a file is said to be, and where the provider has it.
pub(super) fn origin(keys: &PracticeKeys, row: &attachment::Model) -> Result<(String, Phi<String>), StoreError> {
    let About { media_type, url, .. } = about(keys, row)?;
    Ok((media_type, Phi::new(url)))
}

fn to_attachment(keys: &PracticeKeys, row: &attachment::Model) -> Result<Attachment, StoreError> {
    let About { file_name, media_type, .. } = about(keys, row)?;
    Ok(Attachment {
        id: AttachmentId(row.id),
        file_name: Phi::new(file_name),
        media_type,
        size: row.size_bytes,
        state: AttachmentState::from_number(row.state).ok_or_else(corrupt)?,
    })
}

impl Store {
    /// Stores a file that somebody wants to send, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn attachment_put(&self, scope: &Scope, new: NewAttachment) -> Result<Uploaded, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, id) = (scope.clone(), crypto::new_id(self.now().await?));
        let parts = sealed_parts(&keys, id, new.content.expose());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let NewAttachment { request_id, fingerprint, .. } = &new;
                let practice = scope.practice().as_str();
                let key = idem::Key { practice, resource: idem::ATTACHMENTS, request_id, fingerprint, makes: id };
                if idem::take_on(tx, vec![key]).await?.is_empty() {
                    return match key.prior_on(&tx.db).await? {
                        Prior::Same(id) => {
                            let row = attachment::Entity::find_by_id(id).one(&tx.db).await?.ok_or_else(corrupt)?;
                            Ok(Uploaded::Replayed(to_attachment(&keys, &row)?))
                        }
                        Prior::Other(id) => Ok(Uploaded::KeyReused(AttachmentId(id))),
                        Prior::None => Err(StoreError::Corrupt("idem")),
                    };
                }
                let most = if scope.patient().is_some() { MOST_UNSENT_OF_PATIENT } else { MOST_UNSENT };
                if let Some(oldest) = oldest_of_on(tx, &scope, most).await? {
                    // The key has made nothing, and may be used again.
                    idem::free_on(tx, practice, idem::ATTACHMENTS, request_id).await?;
                    return Ok(Uploaded::Full { most, oldest });
                }
                let row = uploaded_row(tx, &keys, &scope, id, &new)?;
                tx.insert_all(vec![row.clone()]).await?;
                tx.insert_all(parts).await?;
                tx.note(&scope, scope.patient(), format_args!("attachment/{}", AttachmentId(id)));
                failpoint!("F2");
                Ok(Uploaded::New(to_attachment(&keys, &row)?))
            })
        })
        .await
    }

    /// Of these files, those that the caller may send: their own uploads, which no message has taken along yet.
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn attachments_unsent(
        &self,
        scope: &Scope,
        ids: &[AttachmentId],
    ) -> Result<BTreeMap<AttachmentId, Attachment>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys = self.keys(scope.practice()).await?;
        use attachment::Column::{Id, PracticeId};
        let rows = attachment::Entity::find()
            .filter(these(Id, ids.iter().map(|id| id.0), PracticeId, keys.practice()))
            .all(&self.within(scope))
            .await?;
        let unsent = rows.iter().filter(|row| row.message_id.is_none() && is_own(scope, row));
        unsent.map(|row| Ok((AttachmentId(row.id), to_attachment(&keys, row)?))).collect()
    }

    /// A file that the caller may read, in how many parts it is stored, and whose conversation it is from.
    ///
    /// # Errors
    /// NotFound when there is none, or it is none of the caller's business; StateForbids while its content is not here.
    pub async fn attachment_open(
        &self,
        scope: &Scope,
        id: AttachmentId,
    ) -> Result<(Attachment, i16, Option<PatientId>), StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let found = attachment::Entity::find_by_id(id.0)
            .filter(attachment::Column::PracticeId.eq(keys.practice()))
            .one(&self.within(scope))
            .await?;
        let missing = StoreError::NotFound("attachment");
        let Some(row) = found else { return Err(missing) };
        let patient = self.whose(scope, &row).await?;
        let is_open = match row.message_id {
            None => is_own(scope, &row),
            Some(_) if Side::of(scope.author()) == Side::Staff => true,
            Some(_) => patient.as_ref().is_some_and(|patient| scope.covers(patient)),
        };
        if !is_open {
            return Err(missing);
        }
        let file = to_attachment(&keys, &row)?;
        let (state, message) = match file.state {
            AttachmentState::Ready => return Ok((file, row.parts, patient)),
            AttachmentState::Pending => ("pending", "the file is still being fetched from the provider"),
            AttachmentState::Failed => ("failed", "the file could not be fetched, or was refused as unsafe"),
            AttachmentState::Removed => ("removed", "the file was removed by retention"),
        };
        Err(StoreError::StateForbids { state, message })
    }

    /// A part of a file, from 0; unset: it is not there any more. Whoever asks has been let in by [`Self::attachment_open`].
    ///
    /// # Errors
    /// NotFound when there is no such practice.
    pub async fn attachment_part(
        &self,
        scope: &Scope,
        id: AttachmentId,
        n: i16,
    ) -> Result<Option<Phi<Vec<u8>>>, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let row = attachment_part::Entity::find_by_id((id.0, n)).one(&self.within(scope)).await?;
        row.map(|row| open_part(&keys, &row).map(Phi::new)).transpose()
    }

    /// The patient whose conversation has the file, or who uploaded it for theirs; unset: nobody's.
    pub(super) async fn whose(&self, scope: &Scope, row: &attachment::Model) -> Result<Option<PatientId>, StoreError> {
        let Some(message) = row.message_id else { return Ok(row.patient_id.parse().ok()) };
        let message =
            conversation_message::Entity::find_by_id(message).one(&self.within(scope)).await?.ok_or_else(corrupt)?;
        let home = conversation::Entity::find_by_id(message.conversation_id).one(&self.within(scope)).await?;
        super::rows::patient(&home.ok_or_else(corrupt)?)
    }
}

/// Whether a file that no message has is the caller's: staff have theirs together, a patient their own, and the portal's backend
/// stands for all patients.
fn is_own(scope: &Scope, row: &attachment::Model) -> bool {
    let side = row.side == side_number(Side::of(scope.author()));
    side && scope.patient().is_none_or(|own| own.as_str() == row.patient_id)
}

const fn side_number(side: Side) -> i16 {
    match side {
        Side::Staff => 1,
        Side::Patient => 2,
    }
}

/// When the oldest of the caller's that wait to be sent was uploaded, if `most` of them do. Several who ask at once may each find
/// room for one more.
async fn oldest_of_on(tx: &Tx, scope: &Scope, most: u64) -> Result<Option<DateTime<Utc>>, StoreError> {
    let own = scope.patient().map(|own| own.as_str().to_owned()).unwrap_or_default();
    let times: Vec<DateTime<Utc>> = attachment::Entity::find()
        .select_only()
        .column(attachment::Column::CreateTime)
        .filter(attachment::Column::MessageId.is_null())
        .filter(attachment::Column::PracticeId.eq(scope.practice().as_str()))
        .filter(attachment::Column::Side.eq(side_number(Side::of(scope.author()))))
        .filter(attachment::Column::PatientId.eq(own))
        .order_by_asc(attachment::Column::CreateTime)
        .limit(most)
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(times.first().copied().filter(|_| times.len() as u64 == most))
}

fn uploaded_row(
    tx: &Tx,
    keys: &PracticeKeys,
    scope: &Scope,
    id: Uuid,
    new: &NewAttachment,
) -> Result<attachment::Model, StoreError> {
    let about = About {
        file_name: new.file_name.expose().clone(),
        media_type: new.media_type.name().to_owned(),
        url: String::new(),
    };
    let length = new.content.expose().len();
    Ok(attachment::Model {
        id,
        practice_id: keys.practice().to_owned(),
        side: side_number(Side::of(scope.author())),
        patient_id: scope.patient().map(|own| own.as_str().to_owned()).unwrap_or_default(),
        request_id: new.request_id.clone(),
        state: AttachmentState::Ready.number(),
        about_ct: keys.seal(ABOUT, id.as_bytes(), &about)?,
        size_bytes: i64::try_from(length).unwrap_or(i64::MAX),
        parts: parts(length),
        message_id: None,
        place: 0,
        tries: 0,
        try_at: None,
        create_time: tx.now,
    })
}

/// In how many parts so many bytes are stored.
pub(super) fn parts(length: usize) -> i16 {
    i16::try_from(length.div_ceil(PART)).unwrap_or(i16::MAX)
}

/// The rows of a content. They are sealed before the transaction that stores them begins: nobody waits for that.
pub(super) fn sealed_parts(keys: &PracticeKeys, id: Uuid, content: &[u8]) -> Vec<attachment_part::Model> {
    let rows = content.chunks(PART).zip(0..).map(|(bytes, n)| attachment_part::Model {
        attachment_id: id,
        n,
        data_ct: keys.seal_bytes(DATA, &place(id, n), bytes),
    });
    rows.collect()
}

/// A part opens in its place and in no other: neither may files trade parts, nor parts their order.
fn place(id: Uuid, n: i16) -> Vec<u8> {
    [&id.as_bytes()[..], &n.to_be_bytes()].concat()
}

pub(super) fn open_part(keys: &PracticeKeys, row: &attachment_part::Model) -> Result<Vec<u8>, StoreError> {
    keys.open_bytes(DATA, &place(row.attachment_id, row.n), &row.data_ct).map(|bytes| bytes.to_vec())
}

/// Has a message take files along, in their order. Each must be the caller's still, and no other message's.
pub(super) async fn attach_on(
    tx: &Tx,
    scope: &Scope,
    message: MessageId,
    ids: &[AttachmentId],
) -> Result<(), StoreError> {
    for (id, place) in ids.iter().zip(0..) {
        let mut taking = attachment::Entity::update_many()
            .set(attachment::ActiveModel { message_id: Set(Some(message.0)), place: Set(place), ..Default::default() })
            .filter(attachment::Column::Id.eq(id.0))
            .filter(attachment::Column::PracticeId.eq(scope.practice().as_str()))
            .filter(attachment::Column::MessageId.is_null())
            .filter(attachment::Column::Side.eq(side_number(Side::of(scope.author()))));
        if let Some(own) = scope.patient() {
            taking = taking.filter(attachment::Column::PatientId.eq(own.as_str()));
        }
        if taking.exec(&tx.db).await?.rows_affected != 1 {
            return Err(StoreError::NotFound("attachment"));
        }
    }
    Ok(())
}

/// Keeps where the files of a text are that came in, each with the type that it is said to have. What is of no type that is kept
/// is not even fetched.
pub(super) async fn expect_on(
    tx: &Tx,
    keys: &PracticeKeys,
    message: MessageId,
    media: &[(String, String)],
) -> Result<(), StoreError> {
    let rows = media.iter().take(MOST_ATTACHMENTS).zip(1..).map(|((url, said), n)| {
        let kind = MediaType::from_name(said);
        let state = if kind.is_some() { AttachmentState::Pending } else { AttachmentState::Failed };
        let file_name = kind.map_or_else(|| format!("file-{n}"), |kind| format!("file-{n}.{}", kind.ending()));
        let media_type = kind.map_or_else(|| received::media_type(said), |kind| kind.name().to_owned());
        let id = crypto::new_id(tx.now);
        Ok(attachment::Model {
            id,
            practice_id: keys.practice().to_owned(),
            side: side_number(Side::Patient),
            patient_id: String::new(),
            request_id: String::new(),
            state: state.number(),
            about_ct: keys.seal(ABOUT, id.as_bytes(), &About { file_name, media_type, url: url.clone() })?,
            size_bytes: 0,
            parts: 0,
            message_id: Some(message.0),
            place: n,
            tries: 0,
            try_at: (state == AttachmentState::Pending).then_some(tx.now),
            create_time: tx.now,
        })
    });
    tx.insert_all(rows.collect::<Result<Vec<_>, StoreError>>()?).await
}

/// The files of messages, each message's in their order.
pub(super) async fn of_messages_on(
    db: &impl ConnectionTrait,
    keys: &PracticeKeys,
    messages: impl IntoIterator<Item = Uuid>,
) -> Result<BTreeMap<Uuid, Vec<Attachment>>, StoreError> {
    let mut files = BTreeMap::<Uuid, Vec<Attachment>>::new();
    for row in rows_on(db, messages).await? {
        let Some(message) = row.message_id else { continue };
        files.entry(message).or_default().push(to_attachment(keys, &row)?);
    }
    Ok(files)
}

async fn rows_on(
    db: &impl ConnectionTrait,
    messages: impl IntoIterator<Item = Uuid>,
) -> Result<Vec<attachment::Model>, StoreError> {
    let messages = padded(messages);
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let of_these = attachment::Entity::find().filter(attachment::Column::MessageId.is_in(messages));
    let ordered = of_these.order_by_asc(attachment::Column::MessageId).order_by_asc(attachment::Column::Place);
    Ok(ordered.all(db).await?)
}

/// The files that go out with messages, in their order. One that is gone by now is among them: a text that cannot take its files
/// along fails, and does not go without them in silence.
pub(in crate::store) async fn sent_with_on(
    tx: &Tx,
    messages: impl IntoIterator<Item = Uuid>,
) -> Result<BTreeMap<Uuid, Vec<AttachmentId>>, StoreError> {
    let mut files = BTreeMap::<Uuid, Vec<AttachmentId>>::new();
    for row in rows_on(&tx.db, messages).await? {
        let Some(message) = row.message_id else { continue };
        files.entry(message).or_default().push(AttachmentId(row.id));
    }
    Ok(files)
}

/// Whether a file of that message is not to be had any more.
pub(in crate::store) async fn files_are_gone_on(tx: &Tx, message: Uuid) -> Result<bool, StoreError> {
    Ok(rows_on(&tx.db, [message]).await?.iter().any(|row| row.state == AttachmentState::Removed.number()))
}
