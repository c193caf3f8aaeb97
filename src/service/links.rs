//! Secure links: a page with a button first, since scanners fetch links and would use up openings; the button opens.

use crate::{
    crypto::{self, FingerprintKey},
    domain::Engine,
    service::Error,
    store::{LinkState, Store},
};

/// Opens secure links.
#[derive(Clone, Debug)]
pub struct Links {
    store: Store,
    engine: Engine,
    fingerprints: FingerprintKey,
}

impl Links {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, engine: Engine, fingerprints: FingerprintKey) -> Self {
        Self { store, engine, fingerprints }
    }

    /// Whether the link would open. Changes nothing.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn peek(&self, token: &str) -> Result<bool, Error> {
        match self.digest(token) {
            Some(digest) => Ok(self.store.link_peek(&self.engine, &digest).await?),
            None => Ok(false),
        }
    }

    /// Opens the link; unset when it is unknown, expired, revoked or used up, which are not told apart.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn open(&self, token: &str) -> Result<Option<String>, Error> {
        let Some(digest) = self.digest(token) else { return Ok(None) };
        match self.store.link_open(&self.engine, digest).await? {
            LinkState::Open { target_url } => Ok(Some(target_url)),
            LinkState::Closed => Ok(None),
        }
    }

    fn digest(&self, token: &str) -> Option<[u8; 32]> {
        let token: [u8; 16] = crypto::from_base64url(token)?.try_into().ok()?;
        Some(self.fingerprints.fingerprint(&token))
    }
}
