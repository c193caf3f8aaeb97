//! Files for providers to come for.

use crate::{
    domain::{Engine, MediaType, Phi},
    service::{Error, strangers::Strangers},
    store::Store,
};

/// Opens the addresses of files.
#[derive(Clone, Debug)]
pub struct Media {
    store: Store,
    engine: Engine,
    strangers: Strangers,
}

impl Media {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, engine: Engine, strangers: Strangers) -> Self {
        Self { store, engine, strangers }
    }

    /// The file that a token opens, and what it is; unset when it opens none, for whatever reason. The audit trail tells that it
    /// was fetched, each time: whoever has the address may not be whom it was for.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn open(&self, token: &str) -> Result<Option<(MediaType, Phi<Vec<u8>>)>, Error> {
        let (store, engine, token) = (self.store.clone(), self.engine.clone(), token.to_owned());
        Ok(self.strangers.work(async move { store.media_open(&engine, &token).await }).await?)
    }
}
