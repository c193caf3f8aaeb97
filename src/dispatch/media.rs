//! Fetches files that came with texts. To fetch one twice has no effect at the provider, so that whatever is under way at a stop
//! is simply dropped.

use super::{Dispatch, reconcile::keep_busy};
use crate::{
    domain::{MediaType, Phi},
    providers::MediaError,
    store::{MediaDue, MediaFetched},
    telemetry,
};

/// Files on their way at once: each may take some MiB of memory.
const FETCHES: usize = 4;

impl Dispatch {
    /// Fetches until `stop`.
    pub(super) async fn fetch_media(self) {
        let due = |limit| self.store.media_due(&self.engine, limit);
        keep_busy(&self.stop, self.settings.look_poll, FETCHES, due, |due| self.clone().settle_media(due)).await;
    }

    async fn settle_media(self, due: MediaDue) {
        let fetched = self.fetch(&due).await;
        if let Err(error) = self.store.media_settle(&self.engine, &due, fetched).await {
            tracing::error!(practice.id = %due.practice, error = %telemetry::chain(&error), "a file could not be stored");
        }
    }

    async fn fetch(&self, due: &MediaDue) -> MediaFetched {
        let Some(account) = &due.account else { return MediaFetched::Later };
        match self.providers.media(account, due.url.expose()).await {
            // What says that it is a picture, and is something else, is not handed to anybody.
            Ok(content) if content.is_empty() || MediaType::of(&content) != Some(due.media_type) => {
                tracing::warn!(practice.id = %due.practice, "a file is not what it is said to be");
                MediaFetched::Refused
            }
            Ok(content) => MediaFetched::Here(Phi::new(content)),
            Err(MediaError::Refused { code }) => {
                tracing::warn!(practice.id = %due.practice, code, "a file was refused");
                MediaFetched::Refused
            }
            Err(MediaError::Later { code }) => {
                tracing::warn!(practice.id = %due.practice, code, "a file could not be fetched");
                MediaFetched::Later
            }
        }
    }
}
