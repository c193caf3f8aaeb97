#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use super::*;
use crate::domain::Role;

/// Code, reason, metadata keys, and the other details by name.
type Row = (Code, &'static str, &'static [&'static str], &'static [&'static str]);

fn check(error: Error, expected: Row) {
    let text = format!("{error:?}");
    let status = Status::from(error);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let others = [
        ("BadRequest", details.bad_request().is_some()),
        ("ResourceInfo", details.resource_info().is_some()),
        ("PreconditionFailure", details.precondition_failure().is_some()),
        ("RetryInfo", details.retry_info().is_some()),
        ("QuotaFailure", details.quota_failure().is_some()),
    ];
    let others: Vec<_> = others.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    let keys: Vec<_> = info.metadata.keys().map(String::as_str).collect();
    assert_eq!((status.code(), info.reason.as_str(), keys.as_slice(), others.as_slice()), expected, "{text}");
    assert_eq!(info.domain, "heedwell.v1");
    assert!(!status.message().is_empty() && status.message().len() <= LONGEST_MESSAGE);
}

#[test]
fn each_error_has_the_code_and_the_details_of_the_contract() {
    let invalid = Error::field("notification.payload", "is required");
    let limited = Error::RateLimited { retry_after: Duration::from_secs(2), limit: "send" };
    check(Error::TokenInvalid, (Code::Unauthenticated, "TOKEN_INVALID", &[], &[]));
    check(Denied::Scope.into(), (Code::PermissionDenied, "SCOPE_FORBIDDEN", &[], &[]));
    let role = Denied::Role { required: Role::Staff };
    check(role.into(), (Code::PermissionDenied, "ROLE_REQUIRED", &["required_role"], &[]));
    check(invalid, (Code::InvalidArgument, "FIELD_INVALID", &[], &["BadRequest"]));
    check(Error::PageTokenInvalid, (Code::InvalidArgument, "PAGE_TOKEN_INVALID", &[], &[]));
    check(Error::CursorInvalid, (Code::InvalidArgument, "CURSOR_INVALID", &[], &[]));
    let expired = Error::CursorExpired { earliest: "c".into() };
    check(expired, (Code::OutOfRange, "CURSOR_EXPIRED", &["earliest_cursor"], &[]));
    check(Error::not_found("patient", "p1"), (Code::NotFound, "NOT_FOUND", &[], &["ResourceInfo"]));
    let reused = Error::request_id_reused("notification", "n1");
    check(reused, (Code::AlreadyExists, "REQUEST_ID_REUSED", &[], &["ResourceInfo"]));
    let sent = Error::StateForbids { state: "sent", message: "not now", name: "d1".into() };
    check(sent, (Code::FailedPrecondition, "STATE_FORBIDS", &["state"], &["PreconditionFailure"]));
    let opted_out = Error::OptedOut { channel: Channel::Sms };
    check(opted_out, (Code::FailedPrecondition, "OPTED_OUT", &["channel"], &["PreconditionFailure"]));
    let changed = Error::EtagMismatch { current: "7".into() };
    check(changed, (Code::Aborted, "ETAG_MISMATCH", &["current_etag"], &[]));
    check(limited, (Code::ResourceExhausted, "RATE_LIMITED", &["limit"], &["RetryInfo", "QuotaFailure"]));
    let watches = Error::TooManyWatches { limit: 100 };
    check(watches, (Code::ResourceExhausted, "TOO_MANY_WATCHES", &["limit"], &["QuotaFailure"]));
    check(Error::StoreUnavailable(None), (Code::Unavailable, "STORE_UNAVAILABLE", &[], &["RetryInfo"]));
    check(Error::StorageFull, (Code::Unavailable, "STORE_UNAVAILABLE", &[], &["RetryInfo"]));
    check(Error::WatchStalled, (Code::Unavailable, "WATCH_STALLED", &[], &[]));
    check(Error::Internal("secret".into()), (Code::Internal, "INTERNAL", &["incident_id"], &[]));
}

#[test]
fn metadata_and_details_hold_what_the_caller_acts_on() {
    let status = Status::from(Error::CursorExpired { earliest: "c9".into() });
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["earliest_cursor"], "c9");
    let status = Status::from(Error::not_found("patient", "p1"));
    let details = status.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("patient", "p1"));
    let status = Status::from(Error::RateLimited { retry_after: Duration::from_secs(2), limit: "send" });
    assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_secs(2)));
    let forbidden = Error::StateForbids { state: "source_cancelled", message: "not now", name: "d1".into() };
    let details = Status::from(forbidden).get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["state"], "SOURCE_CANCELLED");
    let [violation] = &details.precondition_failure().unwrap().violations[..] else { panic!("one violation") };
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("SOURCE_CANCELLED", "d1"));
    assert_eq!(violation.description, "not now");
    let details = Status::from(Error::request_id_reused("delivery", "d2")).get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("delivery", "d2"));
    let unreachable = Error::Unreachable { channel: Channel::InApp, reason: SkipReason::NoAddress };
    let details = Status::from(unreachable).get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["channel"].as_str()), ("UNREACHABLE", "IN_APP"));
    assert_eq!(info.metadata["skip_reason"], "NO_ADDRESS");
    let [violation] = &details.precondition_failure().unwrap().violations[..] else { panic!("one violation") };
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("NO_ADDRESS", "IN_APP"));
    let status = Status::from(Error::from(Denied::Role { required: Role::PracticeAdmin }));
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["required_role"], "practice_admin");
}

#[test]
fn the_cause_of_an_internal_error_stays_inside() {
    let status = Status::from(Error::Internal("row of Pat Doe, +12025550142".into()));
    let encoded = String::from_utf8_lossy(status.details()).into_owned();
    assert!(!format!("{status:?}{encoded}").contains("Pat"));
    let incidents: BTreeSet<_> =
        (0..2).map(|_| panicked().get_error_details().error_info().unwrap().metadata["incident_id"].clone()).collect();
    assert_eq!(incidents.len(), 2, "each incident has a name of its own");
}

#[test]
fn at_most_twenty_violations_are_reported() {
    let violations = (0..30).map(|place| Violation::new(format!("items[{place}]"), "is required")).collect();
    let error = Error::FieldInvalid(violations);
    assert_eq!(item(&error).field_violations.len(), 20);
    let status = Status::from(error);
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 20);
    assert_eq!(details.bad_request().unwrap().field_violations[3].field, "items[3]");
}

#[test]
fn an_item_says_what_a_single_call_would_have_said() {
    let error = item(&Error::field("notification.payload", "is required"));
    assert_eq!((error.code, error.reason), (Code::InvalidArgument as i32, ErrorReason::FieldInvalid as i32));
    assert_eq!(error.message, "the request has invalid fields");
    let [violation] = error.field_violations.as_slice() else { panic!("one violation") };
    assert_eq!((violation.field.as_str(), violation.description.as_str()), ("notification.payload", "is required"));
    let error = item(&Error::Internal("secret".into()));
    assert_eq!(error.code, Code::Internal as i32);
    assert!(error.message.starts_with("an internal error occurred (incident ") && !error.message.contains("secret"));
}

#[test]
fn a_call_that_is_not_served_to_browsers_is_unimplemented_without_a_reason() {
    let status = not_here();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "UNSPECIFIED");
}
