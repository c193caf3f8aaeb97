//! Who calls: the token is verified once, before anything else is looked at, and every handler gets its scope from here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, header::AUTHORIZATION};
use tonic::Status;

use super::call::Caller;
use crate::{
    auth::{TokenError, Verifier},
    domain::{Actor, Call, Role, Scope},
    ports::Connection,
    service::{Error, admission::Calls},
};

/// Verifies the bearer token and keeps its bearer with the request.
pub(super) async fn verify(State(verifier): State<Arc<Verifier>>, mut request: Request, next: Next) -> Response {
    let certificate = request.extensions().get::<Connection>().and_then(Connection::certificate);
    let actor = match bearer(request.headers()) {
        Some(token) => verifier.verify_over(token, certificate).await.map_err(|error| match error {
            TokenError::Invalid => Error::TokenInvalid,
            // The caller's token may well be good: another attempt is worth it.
            TokenError::Unavailable => Error::StoreUnavailable(None),
        }),
        None => Err(Error::TokenInvalid),
    };
    match actor {
        Ok(actor) => {
            request.extensions_mut().insert(Arc::new(actor));
            next.run(request).await
        }
        Err(error) => Status::from(error).into_http(),
    }
}

/// Refuses the call of whoever calls without end, before anything is done for it.
pub(super) async fn pace(State(calls): State<Arc<Calls>>, request: Request, next: Next) -> Response {
    let taken = request.extensions().get::<Arc<Actor>>().map_or(Ok(()), |actor| calls.take(&actor.subject));
    match taken {
        Ok(()) => next.run(request).await,
        Err(retry_after) => Status::from(Error::RateLimited { retry_after, limit: "calls_per_second" }).into_http(),
    }
}

/// What follows `Bearer ` (RFC 6750; the scheme's case does not matter). Of two headers neither counts.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Who makes this call.
pub(super) fn actor<T>(request: &tonic::Request<T>) -> Result<Arc<Actor>, Error> {
    request.extensions().get::<Arc<Actor>>().cloned().ok_or(Error::TokenInvalid)
}

/// The key to the rows of `practice`, for a call that any one of `roles` may make. From here on it is known where it goes on record
/// that the call was refused.
pub(super) fn scope<T>(request: &tonic::Request<T>, practice: &str, roles: &[Role]) -> Result<Scope, Error> {
    let (actor, caller) = (actor(request)?, request.extensions().get::<Caller>());
    let scope = match actor.scope(practice, roles) {
        Ok(scope) => scope,
        Err(denied) => {
            caller.iter().for_each(|caller| caller.is_denied(Arc::clone(&actor), practice));
            return Err(denied.into());
        }
    };
    // Only an id that a token covers is written down: anything else may be any text.
    tracing::Span::current().record("practice.id", practice);
    let scope = match request.extensions().get::<Call>() {
        Some(call) => scope.during(call.clone()),
        None => scope,
    };
    caller.iter().for_each(|caller| caller.is(&scope));
    Ok(scope)
}

#[cfg(test)]
mod tests;
