//! What a use case answers when it cannot do what was asked. Transport-free; `grpc/status.rs` turns it into a status. The
//! text for people never repeats its cause, so that nothing of a row or a provider leaks through it.

use std::time::Duration;

use crate::{
    domain::{Channel, Denied, InvalidId, SkipReason},
    store::StoreError,
};

/// One invalid field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the request, such as `notification.patient_id`.
    pub field: String,
    /// What is wrong; holds nothing of the value.
    pub description: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// Why a call failed. Each variant is a reason of the contract's catalogue.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `TOKEN_INVALID`.
    #[error("the bearer token is missing, does not verify, or has expired")]
    TokenInvalid,
    /// `SCOPE_FORBIDDEN` or `ROLE_REQUIRED`.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// `FIELD_INVALID`, all violations at once.
    #[error("the request has invalid fields")]
    FieldInvalid(Vec<Violation>),
    /// `PAGE_TOKEN_INVALID`.
    #[error("the page token was not made here, or the other arguments changed")]
    PageTokenInvalid,
    /// `CURSOR_INVALID`.
    #[error("the cursor was not made for this stream and practice")]
    CursorInvalid,
    /// `CURSOR_EXPIRED`.
    #[error("the changes after this cursor are gone: list again, then watch from the list's cursor")]
    CursorExpired {
        /// The oldest cursor that still works.
        earliest: String,
    },
    /// `NOT_FOUND`.
    #[error("there is no such {resource} in this practice")]
    NotFound {
        /// What kind of thing.
        resource: &'static str,
        /// The id that was asked for.
        name: String,
    },
    /// `REQUEST_ID_REUSED`.
    #[error("the request_id was used before with different content")]
    RequestIdReused {
        /// What kind of thing it made then.
        resource: &'static str,
        /// Which.
        name: String,
    },
    /// `STATE_FORBIDS`.
    #[error("{message}")]
    StateForbids {
        /// The state, as a word.
        state: &'static str,
        /// What stands in the way.
        message: &'static str,
        /// The id of what is in that state.
        name: String,
    },
    /// `CHANNEL_NOT_CONFIGURED`.
    #[error("the practice has not set up {}: see the findings in its settings", channel.label())]
    ChannelNotConfigured {
        /// Which channel.
        channel: Channel,
    },
    /// `OPTED_OUT`.
    #[error("the patient opted out of {}", channel.label())]
    OptedOut {
        /// Which channel.
        channel: Channel,
    },
    /// `UNREACHABLE`, since nobody reads what is written there in the portal.
    #[error(
        "the conversation is not linked to a patient, who would read this in the portal: answer by SMS, or link it first"
    )]
    Unlinked,
    /// `UNREACHABLE`.
    #[error("the patient cannot be reached over {}", channel.label())]
    Unreachable {
        /// Which channel.
        channel: Channel,
        /// The rule that refused.
        reason: SkipReason,
    },
    /// `ETAG_MISMATCH`.
    #[error("it was changed meanwhile: read it again and retry")]
    EtagMismatch {
        /// The etag that it has now.
        current: String,
    },
    /// `RATE_LIMITED`.
    #[error("too much at once (limit {limit}); nothing was accepted")]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
        /// Which limit.
        limit: &'static str,
    },
    /// `RATE_LIMITED`, of files that were uploaded.
    #[error(
        "{most} files that {whose} uploaded wait to be sent, as many as may: send some, or wait until the oldest is removed, 24 hours \
         after its upload; nothing was stored"
    )]
    TooManyUnsent {
        /// How many may wait.
        most: u64,
        /// Whose are counted together.
        whose: &'static str,
        /// When the oldest is removed.
        retry_after: Duration,
    },
    /// `TOO_MANY_WATCHES`.
    #[error("too many open watches")]
    TooManyWatches {
        /// How many are allowed.
        limit: usize,
    },
    /// `STORE_UNAVAILABLE`.
    #[error("the database is out of reach; try again")]
    StoreUnavailable(#[source] Option<StoreError>),
    /// `STORE_UNAVAILABLE`, by ourselves: what is left of the disk is needed for what was accepted.
    #[error("the storage is nearly full and nothing new is accepted; try again")]
    StorageFull,
    /// `WATCH_STALLED`.
    #[error("the client took nothing from the stream for too long; resume from the last cursor")]
    WatchStalled,
    /// `INTERNAL`.
    #[error("an internal error occurred")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// One invalid field.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::FieldInvalid(vec![Violation::new(field, description)])
    }

    /// A thing that the practice does not have.
    pub fn not_found(resource: &'static str, name: impl ToString) -> Self {
        Self::NotFound { resource, name: name.to_string() }
    }

    /// A key that made something else before.
    pub fn request_id_reused(resource: &'static str, name: impl ToString) -> Self {
        Self::RequestIdReused { resource, name: name.to_string() }
    }

    /// Names the thing that a store could not find, or whose state forbids what was asked, which it does not know how the caller called.
    #[must_use]
    pub fn named(self, id: impl ToString) -> Self {
        match self {
            Self::NotFound { resource, name } if name.is_empty() => Self::NotFound { resource, name: id.to_string() },
            Self::StateForbids { state, message, name } if name.is_empty() => {
                Self::StateForbids { state, message, name: id.to_string() }
            }
            other => other,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            // A practice that does not exist and one that the token does not cover are not told apart.
            StoreError::NotFound("practice") => Self::Denied(Denied::Scope),
            StoreError::NotFound(resource) => Self::not_found(resource, ""),
            StoreError::Conflict { current } => Self::EtagMismatch { current: current.to_string() },
            StoreError::StateForbids { state, message } => Self::StateForbids { state, message, name: String::new() },
            StoreError::Busy(_) => Self::StoreUnavailable(Some(error)),
            StoreError::Overloaded => {
                Self::RateLimited { retry_after: Duration::from_secs(1), limit: "writes_waiting" }
            }
            StoreError::Corrupt(_) | StoreError::Internal(_) | StoreError::Abandoned => Self::Internal(Box::new(error)),
        }
    }
}

impl From<InvalidId> for Error {
    fn from(error: InvalidId) -> Self {
        Self::field("practice_id", error.to_string())
    }
}
