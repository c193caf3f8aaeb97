//! Files to send, and files that were sent.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{Stream, stream::try_unfold};

use super::Conversations;
use crate::{
    domain::{
        Attachment, AttachmentId, MediaType, MessageRoute, Phi, Scope, Side, UNSENT_FILES_KEPT, hindrances_by_text,
    },
    service::{Error, Violation},
    store::{NewAttachment, Store, Uploaded},
};

/// How long whoever has uploaded too much waits at least before they try again: what is over is removed every few minutes.
const SHORTEST_WAIT: Duration = Duration::from_secs(60);

/// A file to be stored; its content is of its type.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// What it is called.
    pub file_name: Phi<String>,
    /// What it is.
    pub media_type: MediaType,
    /// What it holds.
    pub content: Phi<Vec<u8>>,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Download {
    /// The file.
    pub attachment: Attachment,
    parts: i16,
    scope: Scope,
    store: Store,
}

impl Download {
    /// Its content, of which no more is read than is taken.
    pub fn parts(self) -> impl Stream<Item = Result<Phi<Vec<u8>>, Error>> + Send {
        let Self { attachment: Attachment { id, .. }, parts, scope, store } = self;
        try_unfold((0, scope, store), move |(n, scope, store)| async move {
            if n == parts {
                return Ok(None);
            }
            let part = store.attachment_part(&scope, id, n).await?.ok_or(GONE).map_err(|error| error().named(id))?;
            Ok(Some((part, (n + 1, scope, store))))
        })
    }
}

/// It was removed while it was read.
const GONE: fn() -> Error = || Error::StateForbids {
    state: "removed",
    message: "the file was removed while it was being read",
    name: String::new(),
};

impl Conversations {
    /// Stores a file to be sent. A repeat of the same request yields what the first one made.
    ///
    /// # Errors
    /// `REQUEST_ID_REUSED`; `RATE_LIMITED` when too many of the caller's wait to be sent; `STORE_UNAVAILABLE` while the disk is
    /// nearly full; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn upload(&self, scope: &Scope, upload: Upload) -> Result<Attachment, Error> {
        self.admission.room()?;
        let new = NewAttachment {
            request_id: own_key(scope, &upload.request_id),
            fingerprint: self.fingerprints.fingerprint(upload.canonical.expose()),
            file_name: upload.file_name,
            media_type: upload.media_type,
            content: upload.content,
        };
        match self.store.attachment_put(scope, new).await? {
            Uploaded::New(file) | Uploaded::Replayed(file) => Ok(file),
            Uploaded::KeyReused(id) => Err(Error::request_id_reused("attachment", id)),
            Uploaded::Full { most, oldest } => {
                let retry_after = wait(self.store.now().await?, oldest);
                Err(Error::TooManyUnsent { most, whose: uploader(scope), retry_after })
            }
        }
    }

    /// Opens a file, which the audit trail tells.
    ///
    /// # Errors
    /// `NOT_FOUND`, `STATE_FORBIDS`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn download(&self, scope: &Scope, id: AttachmentId) -> Result<Download, Error> {
        let opened = self.store.attachment_open(scope, id).await;
        let (attachment, parts, patient) = opened.map_err(|error| Error::from(error).named(id))?;
        self.store.audit_read(scope, patient.as_ref(), format!("attachment/{id}")).await?;
        Ok(Download { attachment, parts, scope: scope.clone(), store: self.store.clone() })
    }

    /// What keeps the caller from sending these files that way, all of it.
    pub(super) async fn hindrances(
        &self,
        scope: &Scope,
        route: MessageRoute,
        ids: &[AttachmentId],
    ) -> Result<Vec<Violation>, Error> {
        let mut known = self.store.attachments_unsent(scope, ids).await?;
        let files: Vec<Option<Attachment>> = ids.iter().map(|id| known.remove(id)).collect();
        let missing = files.iter().enumerate().filter(|(_, file)| file.is_none());
        let mut found: Vec<_> = missing.map(|(place, _)| not_to_be_sent(Some(place))).collect();
        if let (MessageRoute::Sms, Some(files)) = (route, files.into_iter().collect::<Option<Vec<_>>>()) {
            let hindrances = hindrances_by_text(&files).into_iter();
            found.extend(hindrances.map(|(place, fault)| Violation::new(field(place), fault)));
        }
        Ok(found)
    }
}

/// How long it is until the oldest file is removed.
fn wait(now: DateTime<Utc>, oldest: DateTime<Utc>) -> Duration {
    (oldest + UNSENT_FILES_KEPT - now).to_std().unwrap_or_default().max(SHORTEST_WAIT)
}

/// Whose files are counted together with the caller's.
fn uploader(scope: &Scope) -> &'static str {
    match (Side::of(scope.author()), scope.patient()) {
        (Side::Staff, _) => "the practice's staff",
        (Side::Patient, None) => "the portal's backend",
        (Side::Patient, Some(_)) => "the patient",
    }
}

fn field(place: Option<usize>) -> String {
    place.map_or_else(|| "attachment_ids".to_owned(), |place| format!("attachment_ids[{place}]"))
}

/// One of the files, of which it may not be known which.
pub(super) fn not_to_be_sent(place: Option<usize>) -> Violation {
    Violation::new(field(place), "must name a file that you uploaded, within 24 hours, and have not sent yet")
}

/// A patient's keys are their own: nobody takes those of others by guessing.
pub(super) fn own_key(scope: &Scope, request_id: &str) -> String {
    match scope.patient() {
        Some(own) => format!("{own}\u{1f}{request_id}"),
        None => request_id.to_owned(),
    }
}
