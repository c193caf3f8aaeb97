//! The in-app channel as a patient or their portal uses it, and the devices that they register for push.

use crate::{
    domain::{Denied, DeviceId, InboxItem, PatientId, Phi, PushToken, ReadState, Scope, Selection},
    service::{
        Error,
        pages::Pages,
        watch::{Subject, Watch},
    },
    store::{InboxPage, InboxPlace, Store, StoreError},
};

/// The name of the list in its page tokens.
const LIST: &str = "inbox";

/// What to list of an inbox.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Whose it is.
    pub patient: PatientId,
    /// Only what is unread.
    pub unread_only: bool,
    /// Most items of a page.
    pub page_size: u64,
    /// Empty: the first page.
    pub page_token: String,
    /// The request without page size and token, encoded.
    pub canonical: Phi<Vec<u8>>,
}

/// A page of an inbox.
#[derive(Debug)]
pub struct ListPage {
    /// Security first, then the newest.
    pub items: Vec<InboxItem>,
    /// Empty: there is no more.
    pub next_page_token: String,
    /// How many are unread, all in all.
    pub unread: i32,
    /// Where a watch begins that sees what comes next; on the first page only.
    pub watch_cursor: String,
}

/// A device to be registered.
#[derive(Clone, Debug)]
pub struct NewDevice {
    /// Whose it is.
    pub patient: PatientId,
    /// Its name at the provider.
    pub token: PushToken,
    /// For the patient to tell devices apart; may be empty.
    pub name: Phi<String>,
}

/// Inboxes and devices.
#[derive(Clone, Debug)]
pub struct Inbox {
    store: Store,
    pages: Pages,
    watch: Watch,
}

impl Inbox {
    /// Over `store`; `watch` makes the cursors that it takes.
    #[must_use]
    pub const fn new(store: Store, pages: Pages, watch: Watch) -> Self {
        Self { store, pages, watch }
    }

    /// Lists an inbox. The audit trail tells who else than the patient does.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice, or the inbox is somebody else's.
    pub async fn list(&self, scope: &Scope, query: ListQuery) -> Result<ListPage, Error> {
        own(scope, &query.patient)?;
        let canonical = query.canonical.expose();
        let after = match self.pages.open(scope, LIST, canonical, &query.page_token)? {
            None => None,
            Some(place) => Some(InboxPlace::from_bytes(&place).ok_or(Error::PageTokenInvalid)?),
        };
        // The head is read before the list: a change in between is seen twice, and never missed.
        let head = self.store.feed_head(scope).await?;
        let page = self.store.inbox_list(scope, &query.patient, query.unread_only, after, query.page_size).await?;
        let InboxPage { items, next } = page;
        let unread = self.store.inbox_unread(scope, &query.patient).await?;
        if scope.patient().is_none() {
            self.store.audit_read(scope, Some(&query.patient), "inbox").await?;
        }
        let token = |next: InboxPlace| self.pages.mint(scope, LIST, canonical, &next.to_bytes());
        let next_page_token = next.map(token).unwrap_or_default();
        let subject = Subject::Inbox(query.patient);
        let watch_cursor = match after {
            None => self.watch.cursor(scope, &subject, head),
            Some(_) => String::new(),
        };
        Ok(ListPage { items, next_page_token, unread, watch_cursor })
    }

    /// Marks items; what is marked so already, or is not there, is passed over. Says how many are unread then.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice, or the inbox is somebody else's.
    pub async fn mark(
        &self,
        scope: &Scope,
        patient: &PatientId,
        selection: &Selection,
        state: ReadState,
    ) -> Result<i32, Error> {
        own(scope, patient)?;
        // What comes meanwhile stays unread, whatever time the caller named.
        let selection = match selection {
            Selection::Through(time) => Selection::Through((*time).min(self.store.now().await?)),
            Selection::Items(ids) => Selection::Items(ids.clone()),
        };
        let mut after = self.store.inbox_mark(scope, patient, &selection, state, None).await?;
        while after.is_some() {
            after = self.store.inbox_mark(scope, patient, &selection, state, after).await?;
        }
        Ok(self.store.inbox_unread(scope, patient).await?)
    }

    /// Registers a device, or takes it over for another patient.
    ///
    /// # Errors
    /// `FIELD_INVALID` when the practice has no such patient; `SCOPE_FORBIDDEN` when there is no such practice, or the
    /// patient is somebody else.
    pub async fn register(&self, scope: &Scope, device: &NewDevice) -> Result<DeviceId, Error> {
        own(scope, &device.patient)?;
        let registered = self.store.device_register(scope, &device.patient, &device.token, device.name.expose());
        registered.await.map_err(|error| match error {
            StoreError::NotFound("patient") => Error::field("patient_id", "names no patient of the practice"),
            error => error.into(),
        })
    }

    /// Forgets a device.
    ///
    /// # Errors
    /// `SCOPE_FORBIDDEN` when there is no such practice, or the patient is somebody else.
    pub async fn forget(&self, scope: &Scope, patient: &PatientId, device: DeviceId) -> Result<(), Error> {
        own(scope, patient)?;
        Ok(self.store.device_delete(scope, patient, device).await?)
    }
}

/// Patients touch what is theirs.
fn own(scope: &Scope, patient: &PatientId) -> Result<(), Error> {
    if scope.covers(patient) { Ok(()) } else { Err(Denied::Scope.into()) }
}
