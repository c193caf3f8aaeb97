//! The one place where an error becomes a status: code, text, and the details that the contract names. No text or detail
//! holds a name, an address, a body or a cause.

use std::{collections::HashMap, time::Duration};

use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use super::{
    convert::check::MOST_VIOLATIONS,
    proto::{self, ErrorReason},
};
use crate::{
    domain::{Channel, Denied, SkipReason},
    service::{Error, Violation},
    telemetry,
};

const DOMAIN: &str = "heedwell.v1";
/// Errors travel in trailers, which some clients limit to 8 KiB.
const LONGEST_MESSAGE: usize = 512;
/// When to try again while the database is out of reach.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// When to try again while the disk is nearly full.
const STORAGE_RETRY: Duration = Duration::from_secs(5);
/// When to try again on a connection whose calls all wait: this one has waited in vain already.
const CONNECTION_RETRY: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, reason) = kind(&error);
        let mut details = ErrorDetails::new();
        let metadata = describe(&error, &mut details);
        details.set_error_info(reason_name(reason), DOMAIN, metadata);
        Self::with_error_details(code, message(&error), details)
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        Error::from(denied).into()
    }
}

/// Why one item of a batch failed: what a single call would have said.
pub(crate) fn item(error: &Error) -> proto::ItemError {
    let (code, reason) = kind(error);
    let metadata = describe(error, &mut ErrorDetails::new());
    let incident = metadata.get("incident_id").map(|id| format!(" (incident {id})")).unwrap_or_default();
    let violations = match error {
        Error::FieldInvalid(violations) => violations.as_slice(),
        _ => &[],
    };
    let field_violations = violations.iter().take(MOST_VIOLATIONS).map(|Violation { field, description }| {
        proto::FieldViolation { field: field.clone(), description: description.clone() }
    });
    proto::ItemError {
        code: code as i32,
        reason: reason as i32,
        message: message(error) + &incident,
        field_violations: field_violations.collect(),
    }
}

/// Whether an answer is a refusal, which goes on the audit trail: its code, and what it was about. What merely failed, such as for
/// want of the database, was not refused.
pub(super) fn refusal(headers: &HeaderMap) -> Option<(i32, String)> {
    let status = Status::from_header_map(headers)?;
    let about = status.get_details_resource_info();
    is_refusal(status.code())
        .then(|| (status.code() as i32, resource(about.map(|it| (it.resource_type, it.resource_name)))))
}

/// The same of an item of a batch.
pub(super) fn refusal_of_item(error: &Error) -> Option<(i32, String)> {
    let about = match error {
        Error::NotFound { resource, name } | Error::RequestIdReused { resource, name } => {
            Some(((*resource).to_owned(), name.clone()))
        }
        _ => None,
    };
    let (code, _) = kind(error);
    is_refusal(code).then(|| (code as i32, resource(about)))
}

fn resource(about: Option<(String, String)>) -> String {
    about.map(|(kind, name)| format!("{kind}/{name}")).unwrap_or_default()
}

const fn is_refusal(code: Code) -> bool {
    match code {
        Code::PermissionDenied
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::ResourceExhausted => true,
        // Whose call that was is not known.
        Code::Unauthenticated => false,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// The answer of a call that is only served on the port of gRPC.
pub(super) fn not_here() -> Status {
    // The catalogue has no reason for it.
    let mut details = ErrorDetails::new();
    details.set_error_info(reason_name(ErrorReason::Unspecified), DOMAIN, HashMap::new());
    Status::with_error_details(Code::Unimplemented, "this call is not served to browsers", details)
}

/// The answer of a call that took too long; no reason of the catalogue either.
pub(super) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed; repeat the call with the same request_id")
}

/// The answer of a call on a connection that has too many under way.
pub(super) fn too_many_calls() -> Status {
    Error::RateLimited { retry_after: CONNECTION_RETRY, limit: "calls_per_connection" }.into()
}

/// The answer of a request that is too long to be read.
pub(super) fn too_large() -> Status {
    Error::FieldInvalid(vec![Violation::new("", "the request is larger than 4 MiB")]).into()
}

/// The answer of a request that is no message of the call.
pub(super) fn malformed() -> Status {
    Error::FieldInvalid(vec![Violation::new("", "the request is not a message of this call")]).into()
}

/// The answer of a call whose code broke down. What the panic said may be anything, and stays in the process's own output.
pub(super) fn panicked() -> Status {
    Error::Internal("a call panicked".into()).into()
}

/// The code and the reason; the contract ties them together.
const fn kind(error: &Error) -> (Code, ErrorReason) {
    match error {
        Error::TokenInvalid => (Code::Unauthenticated, ErrorReason::TokenInvalid),
        Error::Denied(Denied::Scope) => (Code::PermissionDenied, ErrorReason::ScopeForbidden),
        Error::Denied(Denied::Role { .. }) => (Code::PermissionDenied, ErrorReason::RoleRequired),
        Error::FieldInvalid(_) => (Code::InvalidArgument, ErrorReason::FieldInvalid),
        Error::PageTokenInvalid => (Code::InvalidArgument, ErrorReason::PageTokenInvalid),
        Error::CursorInvalid => (Code::InvalidArgument, ErrorReason::CursorInvalid),
        Error::CursorExpired { .. } => (Code::OutOfRange, ErrorReason::CursorExpired),
        Error::NotFound { .. } => (Code::NotFound, ErrorReason::NotFound),
        Error::RequestIdReused { .. } => (Code::AlreadyExists, ErrorReason::RequestIdReused),
        Error::StateForbids { .. } => (Code::FailedPrecondition, ErrorReason::StateForbids),
        Error::ChannelNotConfigured { .. } => (Code::FailedPrecondition, ErrorReason::ChannelNotConfigured),
        Error::OptedOut { .. } => (Code::FailedPrecondition, ErrorReason::OptedOut),
        Error::Unreachable { .. } | Error::Unlinked => (Code::FailedPrecondition, ErrorReason::Unreachable),
        Error::EtagMismatch { .. } => (Code::Aborted, ErrorReason::EtagMismatch),
        Error::RateLimited { .. } | Error::TooManyUnsent { .. } => (Code::ResourceExhausted, ErrorReason::RateLimited),
        Error::TooManyWatches { .. } => (Code::ResourceExhausted, ErrorReason::TooManyWatches),
        Error::StoreUnavailable(_) | Error::StorageFull => (Code::Unavailable, ErrorReason::StoreUnavailable),
        Error::WatchStalled => (Code::Unavailable, ErrorReason::WatchStalled),
        Error::Internal(_) => (Code::Internal, ErrorReason::Internal),
    }
}

/// Fills in the details that go with the reason, and yields the metadata. What only the operator may see is logged.
fn describe(error: &Error, details: &mut ErrorDetails) -> HashMap<String, String> {
    let key = |key: &str, value: String| HashMap::from([(key.to_owned(), value)]);
    match error {
        Error::TokenInvalid
        | Error::Denied(Denied::Scope)
        | Error::PageTokenInvalid
        | Error::CursorInvalid
        | Error::WatchStalled => HashMap::new(),
        Error::Denied(Denied::Role { required }) => key("required_role", required.name().to_owned()),
        Error::FieldInvalid(violations) => {
            for Violation { field, description } in violations.iter().take(MOST_VIOLATIONS) {
                details.add_bad_request_violation(field, description);
            }
            HashMap::new()
        }
        Error::CursorExpired { earliest } => key("earliest_cursor", earliest.clone()),
        Error::NotFound { resource, name } => {
            details.set_resource_info(*resource, name, "", "there is none in this practice");
            HashMap::new()
        }
        Error::RequestIdReused { resource, name } => {
            details.set_resource_info(*resource, name, "", "it was made by the first request of this id");
            HashMap::new()
        }
        Error::StateForbids { state, message, name } => {
            // Words are written as those of the contract's enums.
            let state = state.to_uppercase();
            details.add_precondition_failure_violation(&state, name, *message);
            key("state", state)
        }
        Error::ChannelNotConfigured { channel } => {
            let channel = channel_name(*channel);
            details.add_precondition_failure_violation(
                "CHANNEL_NOT_CONFIGURED",
                channel,
                "required settings are missing",
            );
            key("channel", channel.to_owned())
        }
        Error::OptedOut { channel } => {
            let channel = channel_name(*channel);
            details.add_precondition_failure_violation("OPTED_OUT", channel, "nothing goes over this channel");
            key("channel", channel.to_owned())
        }
        Error::Unreachable { channel, reason } => unreachable(*channel, *reason, details),
        Error::Unlinked => unreachable(Channel::InApp, SkipReason::NoAddress, details),
        Error::EtagMismatch { current } => key("current_etag", current.clone()),
        Error::RateLimited { retry_after, limit } => {
            details.set_retry_info(Some(*retry_after));
            details.add_quota_failure_violation(*limit, "too much at once");
            key("limit", (*limit).to_owned())
        }
        Error::TooManyUnsent { retry_after, .. } => {
            details.set_retry_info(Some(*retry_after));
            details.add_quota_failure_violation("unsent_attachments", error.to_string());
            key("limit", "unsent_attachments".to_owned())
        }
        Error::TooManyWatches { limit } => {
            details.add_quota_failure_violation("watches", "too many are open");
            key("limit", limit.to_string())
        }
        Error::StoreUnavailable(cause) => {
            if let Some(cause) = cause {
                tracing::warn!(error = %telemetry::chain(cause), "the database is out of reach");
            }
            details.set_retry_info(Some(STORE_RETRY));
            HashMap::new()
        }
        Error::StorageFull => {
            details.set_retry_info(Some(STORAGE_RETRY));
            HashMap::new()
        }
        Error::Internal(cause) => {
            let incident = Uuid::new_v4().to_string();
            tracing::error!(incident.id = incident, error = %telemetry::chain(&**cause), "a call failed");
            key("incident_id", incident)
        }
    }
}

fn unreachable(channel: Channel, reason: SkipReason, details: &mut ErrorDetails) -> HashMap<String, String> {
    let (channel, reason) = (channel_name(channel), reason_word(reason));
    details.add_precondition_failure_violation(reason, channel, "nothing goes over this channel");
    let metadata = [("channel", channel), ("skip_reason", reason)];
    metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A channel as metadata has it, such as `SMS`.
fn channel_name(channel: Channel) -> &'static str {
    let channel = proto::Channel::try_from(i32::from(channel.number())).unwrap_or_default().as_str_name();
    channel.trim_start_matches("CHANNEL_")
}

/// A rule as metadata has it, such as `NO_ADDRESS`.
fn reason_word(reason: SkipReason) -> &'static str {
    let reason = proto::SkipReason::try_from(i32::from(reason.number())).unwrap_or_default().as_str_name();
    reason.trim_start_matches("SKIP_REASON_")
}

/// The reason as `ErrorInfo` has it.
fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

fn message(error: &Error) -> String {
    let mut message = error.to_string();
    message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
    message
}

#[cfg(test)]
mod tests;
