//! The Messages API of Twilio: create, list, fetch, with the checks, shapes and error codes of the original
//! (<https://www.twilio.com/docs/messaging/api/message-resource>). Guarantee: a message is taken whole, with its journal
//! entry and its life to come, or not at all; a caller that hangs up changes nothing about it.

pub(super) mod media;
mod messages;
mod order;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};

pub(super) use self::messages::{Message, Messages};
use self::{messages::ListQuery, order::Order};
use super::{
    callbacks::Carrier,
    journal::{Entry, Outcome},
    line::Cut,
    magic::{Answer, Reports, SmsPlan},
};

/// The stand-in's state.
pub(super) struct Twilio {
    carrier: Arc<Carrier>,
}

/// A message that was taken, and what is still owed to its sender.
struct Taken {
    message: Message,
    plan: SmsPlan,
    life: JoinHandle<()>,
}

impl Twilio {
    pub(super) fn new(carrier: Arc<Carrier>) -> Arc<Self> {
        Arc::new(Self { carrier })
    }

    pub(super) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/2010-04-01/Accounts/{account}/Messages.json", get(list).post(create))
            .route("/2010-04-01/Accounts/{account}/Messages/{file}", get(fetch))
            .route("/2010-04-01/Accounts/{account}/Messages/{message}/Media/{media}", get(media::redirect))
            .route("/media/{name}", get(media::stored))
            .fallback(async || Refusal::NOT_FOUND)
            .method_not_allowed_fallback(async || Refusal::new(405, 20004, "Method not allowed"))
            .layer(middleware::map_response_with_state(Arc::clone(&self), stamp))
            .with_state(self)
    }

    /// Checks that the request may act for `account`: its own Auth Token, or an API key.
    fn authorise(&self, account: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        if !is_sid(account, "AC") {
            return Err(Refusal::NOT_FOUND);
        }
        let (user, password) = basic(headers).ok_or(Refusal::UNAUTHORISED)?;
        let known = user == account || is_sid(&user, "SK");
        if known && self.carrier.rules.admits(&user, &password) { Ok(()) } else { Err(Refusal::UNAUTHORISED) }
    }

    /// Takes the message if the request is good and the plan for its recipient lets it. Synchronous, so that no hang-up of
    /// the caller can come between the parts.
    fn take(&self, account: &str, order: Order) -> Result<Taken, Refusal> {
        let sender = order.service.as_deref().or(order.from.as_deref()).unwrap_or_default();
        if self.carrier.rules.is_stopped(sender, &order.to) {
            return Err(Refusal::new(400, 21610, "Attempt to send to unsubscribed recipient"));
        }
        let plan = self.carrier.rules.sms(&order.to, &order.body);
        let outcome = match plan.answer {
            Answer::Refused { http_status, code } => return Err(Refusal::new(http_status, code, "Refused by plan")),
            Answer::FailedUntaken => return Err(Refusal::INTERNAL),
            Answer::LimitedOnce if self.carrier.rules.first_time("limited", &order.to) => return Err(Refusal::LIMITED),
            Answer::Limited => return Err(Refusal::LIMITED),
            Answer::Created | Answer::LimitedOnce | Answer::Stalled(_) => Outcome::Created,
            Answer::Failed => Outcome::Failed,
            Answer::Dropped => Outcome::Dropped,
        };
        let lag = Duration::from_millis(plan.list_lag_ms);
        let message = Message::new(account, order, self.carrier.rules.provider_now(), lag);
        let token = message.token().map(str::to_owned);
        let sids = self.carrier.messages.add(message.clone());
        self.carrier.journal.append(message.entry(outcome, sids.len()));
        if let Some(token) = token.filter(|_| sids.len() > 1) {
            self.carrier.journal.append(Entry::TokenReused { token, sids });
        }
        let life = Arc::clone(&self.carrier).carry(message.clone(), plan);
        Ok(Taken { message, plan, life })
    }
}

async fn create(
    State(twilio): State<Arc<Twilio>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path(account): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Order::form(&headers, &body);
    let to = form.get("To").cloned();
    // A caller who hangs up in this half has sent nothing; in the other half, everything.
    let half = twilio.carrier.rules.reply_time() / 2;
    sleep(half).await;
    let taken = twilio
        .authorise(&account, &headers)
        .and_then(|()| Order::parse(&headers, form))
        .and_then(|order| twilio.take(&account, order));
    let Taken { message, plan, life } = match taken {
        Ok(taken) => taken,
        Err(refusal) => {
            twilio.carrier.journal.append(refusal.entry(account, to));
            return refusal.into_response();
        }
    };
    if plan.reports == Reports::BeforeAnswer {
        // The life runs as a task of its own: only a stop can end it early, and then the answer matters to nobody.
        let _ = life.await;
    }
    sleep(half).await;
    match plan.answer {
        Answer::Failed => Refusal::INTERNAL.into_response(),
        Answer::Dropped => {
            cut.now();
            StatusCode::NO_CONTENT.into_response()
        }
        Answer::Stalled(milliseconds) => {
            sleep(Duration::from_millis(milliseconds)).await;
            (StatusCode::CREATED, Json(message.to_json())).into_response()
        }
        _ => (StatusCode::CREATED, Json(message.to_json())).into_response(),
    }
}

async fn list(
    State(twilio): State<Arc<Twilio>>,
    Path(account): Path<String>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    twilio.authorise(&account, &headers)?;
    let lag = twilio.carrier.rules.list_lag();
    Ok(Json(twilio.carrier.messages.list(&account, &query, lag)).into_response())
}

async fn fetch(
    State(twilio): State<Arc<Twilio>>,
    Path((account, file)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    twilio.authorise(&account, &headers)?;
    let sid = file.strip_suffix(".json").ok_or(Refusal::NOT_FOUND)?;
    let message = twilio.carrier.messages.get(&account, sid).ok_or(Refusal::NOT_FOUND)?;
    Ok(Json(message.to_json()).into_response())
}

/// Dates every answer by Twilio's clock, which may differ from ours.
async fn stamp(State(twilio): State<Arc<Twilio>>, mut response: Response) -> Response {
    let date = twilio.carrier.rules.provider_now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// A two-letter prefix and 32 hexadecimal digits.
fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// User and password of HTTP Basic (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    scheme.eq_ignore_ascii_case("Basic").then(|| (user.to_owned(), password.to_owned()))
}

/// An error answer: `{"code", "message", "more_info", "status"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    http_status: u16,
    code: u32,
    message: &'static str,
}

impl Refusal {
    const INTERNAL: Self = Self::new(500, 20500, "An internal server error has occurred");
    const LIMITED: Self = Self::new(429, 20429, "Too Many Requests");
    const NOT_FOUND: Self = Self::new(404, 20404, "The requested resource was not found");
    const UNAUTHORISED: Self = Self::new(401, 20003, "Authenticate");

    const fn new(http_status: u16, code: u32, message: &'static str) -> Self {
        Self { http_status, code, message }
    }

    fn entry(self, account: String, to: Option<String>) -> Entry {
        let Self { http_status, code, message } = self;
        Entry::TwilioRefused { account, to, http_status, code, why: message.to_owned() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { http_status, code, message } = self;
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let body = Json(json!({ "code": code, "message": message, "more_info": more_info, "status": http_status }));
        let status = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, body).into_response();
        let extra = match http_status {
            401 => Some((header::WWW_AUTHENTICATE, "Basic realm=\"Twilio API\"")),
            429 => Some((header::RETRY_AFTER, "1")),
            _ => None,
        };
        response.headers_mut().extend(extra.map(|(name, value)| (name, HeaderValue::from_static(value))));
        response
    }
}
