//! Files for providers to come for.

use crate::{
    domain::{Engine, MediaType, Phi},
    service::Error,
    store::Store,
};

/// Opens the addresses of files.
#[derive(Clone, Debug)]
pub struct Media {
    store: Store,
    engine: Engine,
}

impl Media {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, engine: Engine) -> Self {
        Self { store, engine }
    }

    /// The file that a token opens, and what it is; unset when it opens none, for whatever reason.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn open(&self, token: &str) -> Result<Option<(MediaType, Phi<Vec<u8>>)>, Error> {
        Ok(self.store.media_open(&self.engine, token).await?)
    }
}
