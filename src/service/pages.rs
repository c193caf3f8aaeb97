//! Page tokens: where the next page of a list begins, bound to the practice, the list and what else it was asked for. A
//! token gives no right: each page is read with the caller's own scope.

use crate::{
    crypto::{FingerprintKey, Purpose, TokenKey},
    domain::Scope,
    service::Error,
};

/// Mints and opens page tokens.
#[derive(Clone, Debug)]
pub struct Pages {
    fingerprints: FingerprintKey,
    tokens: TokenKey,
}

impl Pages {
    /// With these keys.
    #[must_use]
    pub const fn new(fingerprints: FingerprintKey, tokens: TokenKey) -> Self {
        Self { fingerprints, tokens }
    }

    /// The token of the page after `position` of `list`, which was asked for by `canonical`: the request without page size
    /// and token, encoded the same way every time.
    pub(super) fn mint(&self, scope: &Scope, list: &str, canonical: &[u8], position: &[u8]) -> String {
        let payload = [self.arguments(list, canonical).as_slice(), position].concat();
        self.tokens.mint(Purpose::PageToken, scope.practice().as_str(), &payload)
    }

    /// The position in `token`; nothing for the first page.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` when it was not made here for this list and these arguments.
    pub(super) fn open(
        &self,
        scope: &Scope,
        list: &str,
        canonical: &[u8],
        token: &str,
    ) -> Result<Option<Vec<u8>>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        let payload = self.tokens.open(Purpose::PageToken, scope.practice().as_str(), token);
        let position = payload.as_deref().and_then(|payload| payload.strip_prefix(&self.arguments(list, canonical)));
        position.map(|position| Some(position.to_vec())).ok_or(Error::PageTokenInvalid)
    }

    fn arguments(&self, list: &str, canonical: &[u8]) -> [u8; 32] {
        self.fingerprints.fingerprint(&[list.as_bytes(), &[0], canonical].concat())
    }
}
