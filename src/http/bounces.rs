//! Mail that came back, as a mail system hands it over: by a pipe to `curl`, or by any other program.

use axum::{
    body::Bytes,
    extract::{FromRequest, Path, Request, State},
    http::{StatusCode, header},
    response::IntoResponse,
};

use super::{Over, Services, answered, source};
use crate::domain::Provider;

/// `POST /webhooks/bounce/{practice}`: the mail is the body, whatever its type is said to be.
pub(super) async fn bounce(
    State(services): State<Services>,
    Path(practice): Path<String>,
    over: Over,
    request: Request,
) -> StatusCode {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let secret = authorization.and_then(bearer);
    let door = match services.callbacks.bounce_door(&practice, secret, source(&over)).await {
        Ok(door) => door,
        Err(answer) => return answered(&services, Provider::Smtp, answer),
    };
    match Bytes::from_request(request, &()).await {
        Ok(mail) => answered(&services, Provider::Smtp, services.callbacks.bounce(&door, &mail).await),
        Err(rejection) => rejection.into_response().status(),
    }
}

/// What stands behind the scheme, which has no case (RFC 9110, section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, secret) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
