//! Secure links: a page with a button first, since scanners fetch links and would use up openings; the button opens.

mod turns;

use std::sync::Arc;

use self::turns::Turns;
use crate::{
    crypto::{self, FingerprintKey},
    domain::Engine,
    service::{Error, strangers::Strangers},
    store::{LinkState, Store},
};

/// Opens secure links.
#[derive(Clone, Debug)]
pub struct Links {
    store: Store,
    engine: Engine,
    fingerprints: FingerprintKey,
    turns: Arc<Turns>,
    strangers: Strangers,
}

impl Links {
    /// Over `store`.
    #[must_use]
    pub fn new(store: Store, engine: Engine, fingerprints: FingerprintKey, strangers: Strangers) -> Self {
        Self { store, engine, fingerprints, turns: Arc::default(), strangers }
    }

    /// Whether the link would open. Changes nothing.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, and `RATE_LIMITED` for a link that is asked for without end.
    pub async fn peek(&self, token: &str) -> Result<bool, Error> {
        let Some(digest) = self.digest(token)? else { return Ok(false) };
        let _turn = self.strangers.turn().await;
        Ok(self.store.link_peek(&self.engine, &digest).await?)
    }

    /// Opens the link; unset when it is unknown, expired, revoked or used up, which are not told apart.
    ///
    /// # Errors
    /// As [`Self::peek`].
    pub async fn open(&self, token: &str) -> Result<Option<String>, Error> {
        let Some(digest) = self.digest(token)? else { return Ok(None) };
        let (store, engine) = (self.store.clone(), self.engine.clone());
        match self.strangers.work(async move { store.link_open(&engine, digest).await }).await? {
            LinkState::Open { target_url } => Ok(Some(target_url)),
            LinkState::Closed => Ok(None),
        }
    }

    /// What the link is kept under; unset for what is no token of a link. Takes one of its turns.
    fn digest(&self, token: &str) -> Result<Option<[u8; 32]>, Error> {
        let token = crypto::from_base64url(token).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        let Some(token) = token else { return Ok(None) };
        let digest = self.fingerprints.fingerprint(&token);
        self.turns.take(digest).map_err(|retry_after| Error::RateLimited { retry_after, limit: "link" })?;
        Ok(Some(digest))
    }
}
