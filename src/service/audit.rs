//! The audit trail, as compliance reads it.

use crate::{
    domain::{AuditRecord, Scope},
    service::{Error, pages::Pages},
    store::{AuditPage, AuditQuery, Store},
};

/// The list that page tokens of entries are for.
const LIST: &str = "audit";

/// Which entries are asked for, and from where on.
#[derive(Clone, Debug)]
pub struct AuditList {
    /// Which.
    pub query: AuditQuery,
    /// Where the page begins; empty: at the newest.
    pub page_token: String,
    /// The request without page size and token, encoded the same way every time.
    pub canonical: Vec<u8>,
}

/// A page of entries, newest first.
#[derive(Debug)]
pub struct AuditListPage {
    /// The entries.
    pub records: Vec<AuditRecord>,
    /// For the next page; empty after the last.
    pub next_page_token: String,
}

/// Shows trails.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
    pages: Pages,
}

impl Audit {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, pages: Pages) -> Self {
        Self { store, pages }
    }

    /// Lists entries, which is put on the trail itself: it is the newest entry of the first page that it fits.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID`; `SCOPE_FORBIDDEN` when there is no such practice.
    pub async fn list(&self, scope: &Scope, list: AuditList) -> Result<AuditListPage, Error> {
        let AuditList { mut query, page_token, canonical } = list;
        query.before = match self.pages.open(scope, LIST, &canonical, &page_token)? {
            None => None,
            Some(position) => {
                Some(i64::from_be_bytes(position.as_slice().try_into().map_err(|_| Error::PageTokenInvalid)?))
            }
        };
        // Whose entries were read is as telling as whose record was. It is told before, so that whoever reads finds it.
        self.store.audit_read(scope, query.patient.as_ref(), "audit").await?;
        let AuditPage { records, next } = self.store.audit_list(scope, &query).await?;
        let mint = |last: i64| self.pages.mint(scope, LIST, &canonical, &last.to_be_bytes());
        Ok(AuditListPage { records, next_page_token: next.map(mint).unwrap_or_default() })
    }
}
