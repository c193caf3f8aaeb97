//! Whether something new may be taken on. What may not is refused before anything of it is stored, and told when to come
//! back; what was accepted is never shed.

use std::time::Duration;

use crate::{
    domain::Class,
    service::Error,
    store::{OpenDeliveries, Store},
};

/// When to try again when a practice has too much open: a backlog is not gone in a moment.
const BACKLOG_RETRY: Duration = Duration::from_secs(10);

/// How much is taken on.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Deliveries of a practice that may be open: not sent, or sent with an unknown outcome
    /// (`HEEDWELL_MAX_OPEN_DELIVERIES`).
    pub open_deliveries: i64,
}

/// Lets in what there is room for.
#[derive(Clone, Debug)]
pub struct Admission {
    store: Store,
    settings: Settings,
}

impl Admission {
    /// To `store`, within `settings`.
    #[must_use]
    pub const fn new(store: Store, settings: Settings) -> Self {
        Self { store, settings }
    }

    /// Whether the database's disk has room for anything new. What was accepted needs the rest of it.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub(super) fn room(&self) -> Result<(), Error> {
        if self.store.has_room() { Ok(()) } else { Err(Error::StorageFull) }
    }

    /// Whether a practice that has this open may have more of `class`. What others accept at the same moment is not counted
    /// yet, so that the limit may be passed by as much.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub(super) fn backlog(&self, open: OpenDeliveries, class: Class) -> Result<(), Error> {
        if open.before_the_next(class) < self.settings.open_deliveries {
            return Ok(());
        }
        Err(Error::RateLimited { retry_after: BACKLOG_RETRY, limit: "open_deliveries" })
    }
}
