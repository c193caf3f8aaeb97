//! Talking with patients. Staff see every conversation of the practice; a patient sees their own, and the portal's backend those
//! of all patients, but none of a number that is not linked to one.

mod files;
mod send;

use crate::{
    crypto::FingerprintKey,
    domain::{
        Conversation, ConversationFilter, ConversationId, ConversationMessage, Denied, MessageId, PatientId, Phi,
        Scope, Side,
    },
    service::{
        Error,
        admission::Admission,
        notify::Notify,
        pages::Pages,
        watch::{Subject, Watch},
    },
    store::{ConversationPage, Keyset, Labels, MessagePage, Store, StoreError},
};
pub use files::{Download, Upload};
pub use send::{MessageOrder, SentMessage};

/// The names of the lists in their page tokens.
const CONVERSATIONS: &str = "conversations";
const MESSAGES: &str = "messages";

/// Which conversations a list is asked for.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Which.
    pub filter: ConversationFilter,
    /// At most this many.
    pub page_size: u64,
    /// Where the page begins; empty: at the latest activity.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of conversations.
#[derive(Debug)]
pub struct ListPage {
    /// Latest activity first.
    pub conversations: Vec<Conversation>,
    /// Empty on the last page.
    pub next_page_token: String,
    /// Where to start watching; first page only, else empty.
    pub watch_cursor: String,
}

/// Which messages a list is asked for.
#[derive(Clone, Debug)]
pub struct MessagesQuery {
    /// Of which conversation.
    pub conversation: ConversationId,
    /// At most this many.
    pub page_size: u64,
    /// Where the page begins; empty: at the newest.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
}

/// Lists, reads and continues conversations.
#[derive(Clone, Debug)]
pub struct Conversations {
    store: Store,
    admission: Admission,
    fingerprints: FingerprintKey,
    pages: Pages,
    notify: Notify,
    watch: Watch,
}

impl Conversations {
    /// Over `store`; `notify` tells patients what waits in the portal, and `watch` makes the cursors that it takes.
    #[must_use]
    pub fn new(
        store: Store,
        (admission, fingerprints): (Admission, FingerprintKey),
        pages: Pages,
        notify: Notify,
        watch: Watch,
    ) -> Self {
        Self { store, admission, fingerprints, pages, notify, watch }
    }

    /// Lists conversations, latest activity first. The audit trail tells: numbers that are nobody's are shown whole.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice, or another patient's are asked for.
    pub async fn list(&self, scope: &Scope, query: ListQuery) -> Result<ListPage, Error> {
        let canonical = query.canonical.expose();
        let filter = own_filter(scope, query.filter)?;
        let after = match self.pages.open(scope, CONVERSATIONS, canonical, &query.page_token)? {
            None => None,
            Some(place) => Some(Keyset::from_bytes(&place).ok_or(Error::PageTokenInvalid)?),
        };
        // The head is read before the list: a change in between is seen twice, and never missed.
        let head = self.store.feed_head(scope).await?;
        let page = self.store.conversations_list(scope, &filter, after, query.page_size).await?;
        let ConversationPage { conversations, next } = page;
        self.store.audit_read(scope, filter.patient.as_ref(), CONVERSATIONS).await?;
        let token = |next: Keyset| self.pages.mint(scope, CONVERSATIONS, canonical, &next.to_bytes());
        let watch_cursor = match after {
            None => self.watch.cursor(scope, &Subject::Conversations(None), head),
            Some(_) => String::new(),
        };
        Ok(ListPage { conversations, next_page_token: next.map(token).unwrap_or_default(), watch_cursor })
    }

    /// Reads a conversation, which the audit trail tells; one that was given to a patient leads to theirs.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn get(&self, scope: &Scope, id: ConversationId) -> Result<Conversation, Error> {
        let found = self.find(scope, id).await?;
        self.tell(scope, &found).await?;
        Ok(found)
    }

    /// Puts on the trail that somebody sees of a conversation what they are about to.
    async fn tell(&self, scope: &Scope, seen: &Conversation) -> Result<(), Error> {
        let resource = format!("conversation/{}", seen.id);
        Ok(self.store.audit_read(scope, seen.patient.as_ref(), resource).await?)
    }

    /// The conversation of that id, for a caller who may see it.
    async fn find(&self, scope: &Scope, id: ConversationId) -> Result<Conversation, Error> {
        let found = self.store.conversation_get(scope, id).await.map_err(|error| Error::from(error).named(id))?;
        let seen = match Side::of(scope.author()) {
            Side::Staff => true,
            Side::Patient => found.patient.as_ref().is_some_and(|patient| scope.covers(patient)),
        };
        if seen { Ok(found) } else { Err(Error::not_found("conversation", id)) }
    }

    /// Lists the messages of a conversation, newest first, which the audit trail tells; and the token of the next page, empty on the
    /// last.
    ///
    /// # Errors
    /// `NOT_FOUND`, `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn messages(
        &self,
        scope: &Scope,
        query: MessagesQuery,
    ) -> Result<(Vec<ConversationMessage>, String), Error> {
        let canonical = query.canonical.expose();
        let after = match self.pages.open(scope, MESSAGES, canonical, &query.page_token)? {
            None => None,
            Some(place) => Some(MessageId(uuid::Uuid::from_slice(&place).map_err(|_| Error::PageTokenInvalid)?)),
        };
        let home = self.find(scope, query.conversation).await?;
        let page = self.store.messages_list(scope, home.id, after, query.page_size).await?;
        let MessagePage { messages, next } = page;
        self.tell(scope, &home).await?;
        let token = |next: MessageId| self.pages.mint(scope, MESSAGES, canonical, next.0.as_bytes());
        Ok((messages, next.map(token).unwrap_or_default()))
    }

    /// Changes labels; `etag`, if given, must match.
    ///
    /// # Errors
    /// `NOT_FOUND`, `ETAG_MISMATCH`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn update(
        &self,
        scope: &Scope,
        id: ConversationId,
        etag: Option<i64>,
        labels: Labels,
    ) -> Result<Conversation, Error> {
        let labelled = self.store.conversation_label(scope, id, etag, labels).await;
        labelled.map_err(|error| Error::from(error).named(id))
    }

    /// Gives the conversation of a number to a patient, and the number too if `store_number`.
    ///
    /// # Errors
    /// `NOT_FOUND`, `STATE_FORBIDS`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn link(
        &self,
        scope: &Scope,
        id: ConversationId,
        patient: &PatientId,
        store_number: bool,
    ) -> Result<Conversation, Error> {
        let linked = self.store.conversation_link(scope, id, patient, store_number).await;
        linked.map_err(|error| match error {
            StoreError::NotFound("patient") => Error::not_found("patient", patient),
            error => Error::from(error).named(id),
        })
    }

    /// Moves the mark of the reader's side forward to a message.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn read(&self, scope: &Scope, id: ConversationId, message: MessageId) -> Result<Conversation, Error> {
        let home = self.find(scope, id).await?;
        self.store.conversation_read(scope, home.id, message).await.map_err(|error| match error {
            StoreError::NotFound("message") => Error::not_found("message", message),
            error => Error::from(error).named(id),
        })
    }

    /// What a watch of that conversation, or of all that the caller may see, is a watch of.
    ///
    /// # Errors
    /// `NOT_FOUND`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn watched(&self, scope: &Scope, id: Option<ConversationId>) -> Result<Subject, Error> {
        match id {
            Some(id) => Ok(Subject::Conversations(Some(self.find(scope, id).await?.id))),
            None => Ok(Subject::Conversations(None)),
        }
    }
}

/// A patient's own token lists what is theirs.
fn own_filter(scope: &Scope, filter: ConversationFilter) -> Result<ConversationFilter, Error> {
    let Some(own) = scope.patient() else { return Ok(filter) };
    if filter.patient.as_ref().is_some_and(|asked| asked != own) {
        return Err(Denied::Scope.into());
    }
    Ok(ConversationFilter { patient: Some(own.clone()), ..filter })
}
