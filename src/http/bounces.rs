//! Mail that came back, as a mail system hands it over: by a pipe to `curl`, or by any other program.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
};

use super::{Services, status_of};
use crate::service::callbacks::Bounce;

/// `POST /webhooks/bounce/{practice}`: the mail is the body, whatever its type is said to be.
pub(super) async fn bounce(
    State(services): State<Services>,
    Path(practice): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bounce = Bounce { practice: &practice, secret: authorization.and_then(bearer), body: &body };
    status_of(services.callbacks.bounce(bounce).await)
}

/// What stands behind the scheme, which has no case (RFC 9110, section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, secret) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
