//! The link in a mail by which its reader unsubscribes: a page first, since scanners fetch links; only what is posted acts.

use crate::{
    domain::Engine,
    service::{Error, strangers::Strangers},
    store::{Store, Subscription},
};

/// Opens the links, and acts on them.
#[derive(Clone, Debug)]
pub struct Unsubscribe {
    store: Store,
    engine: Engine,
    strangers: Strangers,
}

/// What was posted to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// One click, or the button.
    Out,
    /// That it was a mistake.
    Undo,
}

impl Unsubscribe {
    /// Over `store`.
    #[must_use]
    pub const fn new(store: Store, engine: Engine, strangers: Strangers) -> Self {
        Self { store, engine, strangers }
    }

    /// What the link is about; unset when it was not made here, or long ago. Changes nothing.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn peek(&self, token: &str) -> Result<Option<Subscription>, Error> {
        let _turn = self.strangers.turn().await;
        Ok(self.store.subscription(&self.engine, token).await?)
    }

    /// Acts. A repeat changes nothing.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub async fn act(&self, token: &str, posted: Posted) -> Result<Option<Subscription>, Error> {
        let (store, engine, token) = (self.store.clone(), self.engine.clone(), token.to_owned());
        let work = async move {
            match posted {
                Posted::Out => store.unsubscribe(&engine, &token).await,
                Posted::Undo => store.resubscribe(&engine, &token).await,
            }
        };
        Ok(self.strangers.work(work).await?)
    }
}
