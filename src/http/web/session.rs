//! Who uses the dashboard: a token is handed over once and comes back as a cookie that no script can read. The cookie counts
//! for calls of the page itself and for nothing else.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use chrono::Datelike;
use futures::future::BoxFuture;
use serde_json::json;

use super::{
    super::Services,
    origin::{Home, is_local},
};
use crate::domain::{Actor, Practices};

/// Browsers drop longer cookies without a word (RFC 6265, 6.1), attributes included.
const LONGEST_COOKIE: usize = 4_096;
/// Sent along by every client of gRPC-Web, and by no form.
const GRPC_WEB: HeaderName = HeaderName::from_static("x-grpc-web");

/// The bearer of a token is nobody we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// The token is no good.
    Invalid,
    /// There is no telling at present.
    Unavailable,
}

type Verify = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Actor, Stranger>> + Send + Sync>;

/// Says who bears a token.
#[derive(Clone)]
pub struct SignIn {
    home: Home,
    verify: Verify,
}

impl std::fmt::Debug for SignIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignIn").field("home", &self.home).finish_non_exhaustive()
    }
}

impl SignIn {
    /// For the page at `home`; `verify` knows tokens.
    pub fn new(
        home: Home,
        verify: impl Fn(String) -> BoxFuture<'static, Result<Actor, Stranger>> + Send + Sync + 'static,
    ) -> Self {
        Self { home, verify: Arc::new(verify) }
    }
}

/// `POST /sign-in`: the body is a token.
pub(in super::super) async fn sign_in(
    State(services): State<Services>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let SignIn { home, verify } = services.sign_in;
    let Some(page) = home.sender(&uri, &headers) else { return foreign() };
    let token = body.trim().to_owned();
    let actor = match verify(token.clone()).await {
        Ok(actor) => actor,
        Err(stranger) => return unknown(stranger),
    };
    let secure = page.scheme() == "https";
    let cookie = cookie(name(&uri, &headers), &token, secure, &expiry(&actor));
    match HeaderValue::from_str(&cookie) {
        Ok(cookie) if cookie.len() <= LONGEST_COOKIE => {
            ([(header::SET_COOKIE, cookie)], bearer(&actor)).into_response()
        }
        _ => (StatusCode::PAYLOAD_TOO_LARGE, "the token is longer than a browser keeps\n").into_response(),
    }
}

/// `GET /sign-in`: who is signed in, if anybody is.
pub(in super::super) async fn signed_in(State(services): State<Services>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(token) = token(&uri, &headers) else { return StatusCode::NO_CONTENT.into_response() };
    match (services.sign_in.verify)(token.to_owned()).await {
        Ok(actor) => bearer(&actor),
        Err(Stranger::Invalid) => StatusCode::NO_CONTENT.into_response(),
        Err(stranger) => unknown(stranger),
    }
}

/// `POST /sign-out`: forgets the cookie. The token itself holds until it expires.
pub(in super::super) async fn sign_out(State(services): State<Services>, uri: Uri, headers: HeaderMap) -> Response {
    let Some(page) = services.sign_in.home.sender(&uri, &headers) else { return foreign() };
    let cookie = cookie(name(&uri, &headers), "", page.scheme() == "https", "; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// The calls of `router`, to which the cookie counts as a token if the page at `home` makes them. Whoever brings a token of
/// their own is judged by that.
pub fn with_cookie(router: Router, home: Home) -> Router {
    router.layer(from_fn_with_state(home, carry))
}

async fn carry(State(home): State<Home>, mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    // A form of another page can send the cookie, but neither the header nor our origin.
    let ours = headers.get(GRPC_WEB).is_some_and(|value| value == "1") && home.sender(request.uri(), headers).is_some();
    let token = token(request.uri(), headers).filter(|_| ours && !headers.contains_key(header::AUTHORIZATION));
    let bearer = token.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
    request.headers_mut().remove(header::COOKIE);
    if let Some(mut bearer) = bearer {
        bearer.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
    }
    next.run(request).await
}

/// With the prefix no page beside ours can set it (RFC 6265bis, 4.1.3.2); on a loopback address there is no https to demand.
fn name(uri: &Uri, headers: &HeaderMap) -> &'static str {
    if is_local(uri, headers) { "heedwell" } else { "__Host-heedwell" }
}

fn cookie(name: &str, value: &str, secure: bool, end: &str) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}")
}

/// The cookie ends with the token, or with the browser if that is nowhere near.
fn expiry(actor: &Actor) -> String {
    if actor.expire_time.year() > 9_999 {
        return String::new();
    }
    actor.expire_time.format("; Expires=%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn token<'a>(uri: &Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = name(uri, headers);
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, token)| token)
}

/// Who it is and what they may do; not the token.
fn bearer(actor: &Actor) -> Response {
    let practices = match &actor.practices {
        Practices::All => None,
        Practices::Named(ids) => Some(ids.iter().map(ToString::to_string).collect::<Vec<_>>()),
    };
    let shown = json!({
        "subject": actor.subject,
        "name": actor.display_name,
        "practices": practices,
        "roles": actor.roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
        "expire_time": actor.expire_time.to_rfc3339(),
    });
    Json(shown).into_response()
}

fn unknown(stranger: Stranger) -> Response {
    match stranger {
        Stranger::Invalid => (StatusCode::UNAUTHORIZED, "the token does not let anyone in\n").into_response(),
        Stranger::Unavailable => {
            (StatusCode::SERVICE_UNAVAILABLE, "tokens cannot be verified at present\n").into_response()
        }
    }
}

fn foreign() -> Response {
    let text = "only the dashboard itself signs in and out, over https or on a loopback address\n";
    (StatusCode::FORBIDDEN, text).into_response()
}
