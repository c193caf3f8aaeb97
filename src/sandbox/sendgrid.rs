//! SendGrid's `POST /v3/mail/send`, with the checks and shapes of the original
//! (<https://www.twilio.com/docs/sendgrid/api-reference/mail-send>), and its event webhook. Guarantee: a mail is taken
//! whole, with its journal entry and its life to come, or not at all; a caller that hangs up changes nothing about it.

mod order;
#[cfg(test)]
mod tests;
mod webhook;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    order::Order,
    webhook::{Letter, Webhooks},
};
use super::{
    journal::{Entry, Journal, Outcome},
    line::Cut,
    magic::{Answer, Reports, SendGridPlan},
    rules::Rules,
};

/// SendGrid's own limit.
const LARGEST_MAIL: usize = 30 * 1024 * 1024;
/// How long a limited caller shall wait.
const RESET_SECONDS: i64 = 1;

/// The stand-in's state.
pub(super) struct SendGrid {
    journal: Journal,
    rules: Rules,
    webhooks: Arc<Webhooks>,
    /// How many accepted mails carried the same custom arguments.
    uses: Mutex<HashMap<BTreeMap<String, String>, usize>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for SendGrid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendGrid").finish_non_exhaustive()
    }
}

/// A mail that was taken, and what is still owed to its sender.
struct Taken {
    message_id: String,
    plan: SendGridPlan,
    life: JoinHandle<()>,
}

impl SendGrid {
    pub(super) fn new(
        delay: Duration,
        journal: &Journal,
        rules: &Rules,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let webhooks = Arc::new(Webhooks::new(delay, journal.clone(), rules.clone())?);
        let (journal, rules, tasks, stop) = (journal.clone(), rules.clone(), tasks.clone(), stop.clone());
        Ok(Arc::new(Self { journal, rules, webhooks, uses: Mutex::default(), tasks, stop }))
    }

    pub(super) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/v3/mail/send", post(send))
            .fallback(async || Refusal::new(404, "not found", None))
            .method_not_allowed_fallback(async || Refusal::new(405, "method not allowed", None))
            .layer(DefaultBodyLimit::max(LARGEST_MAIL))
            .layer(middleware::map_response_with_state(Arc::clone(&self), stamp))
            .with_state(self)
    }

    /// Has the events of an account posted to `url`. Yields the key that verifies them.
    pub(super) fn set_webhook(&self, api_key: &str, url: &str) -> String {
        self.webhooks.set(api_key, url)
    }

    /// Takes the mail if the plan for its recipient lets it. Synchronous, so that no hang-up of the caller can come between
    /// the parts.
    fn take(&self, api_key: &str, order: Order) -> Result<Taken, Refusal> {
        let plan = self.rules.sendgrid(&order.to.to_lowercase());
        let outcome = match plan.answer {
            Answer::Refused { http_status: 400, .. } => return Err(Refusal::ADDRESS),
            Answer::Refused { http_status, .. } => return Err(Refusal::new(http_status, "refused by plan", None)),
            Answer::FailedUntaken => return Err(Refusal::INTERNAL),
            Answer::LimitedOnce if self.rules.first_time("limited by sendgrid", &order.to) => {
                return Err(Refusal::LIMITED);
            }
            Answer::Limited => return Err(Refusal::LIMITED),
            Answer::Created | Answer::LimitedOnce | Answer::Stalled(_) => Outcome::Created,
            Answer::Failed => Outcome::Failed,
            Answer::Dropped => Outcome::Dropped,
        };
        let letter = Letter::new(&order, api_key);
        let token_uses = self.count(&order.custom_args);
        self.journal.append(Entry::SendGridMail {
            to: order.to,
            custom_args: order.custom_args,
            message_id: letter.message_id.clone(),
            mail: order.mail,
            outcome,
            token_uses,
        });
        let (webhooks, stop, message_id) = (Arc::clone(&self.webhooks), self.stop.clone(), letter.message_id.clone());
        let life = self.tasks.spawn(async move {
            stop.run_until_cancelled(webhooks.tell(&letter, plan)).await;
        });
        Ok(Taken { message_id, plan, life })
    }

    fn count(&self, custom_args: &BTreeMap<String, String>) -> usize {
        if custom_args.is_empty() {
            return 0;
        }
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry(custom_args.clone()).or_default();
        *count += 1;
        *count
    }
}

async fn send(
    State(sendgrid): State<Arc<SendGrid>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A caller who hangs up in this half has sent nothing; in the other half, everything.
    let half = sendgrid.rules.reply_time() / 2;
    sleep(half).await;
    let parsed = bearer(&headers).and_then(|api_key| Ok((api_key, Order::parse(&headers, &body)?)));
    let taken = parsed.map_err(|refusal| (None, refusal)).and_then(|(api_key, order)| {
        let to = order.to.clone();
        sendgrid.take(&api_key, order).map_err(|refusal| (Some(to), refusal))
    });
    let Taken { message_id, plan, life } = match taken {
        Ok(taken) => taken,
        Err((to, refusal)) => {
            let (http_status, why) = (refusal.http_status, refusal.message.to_owned());
            sendgrid.journal.append(Entry::SendGridRefused { to, http_status, why });
            return refusal.into_response();
        }
    };
    if plan.reports == Reports::BeforeAnswer {
        // The life runs as a task of its own: only a stop can end it early, and then the answer matters to nobody.
        let _ = life.await;
    }
    sleep(half).await;
    match plan.answer {
        Answer::Failed => return Refusal::INTERNAL.into_response(),
        Answer::Dropped => cut.now(),
        Answer::Stalled(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
        _ => {}
    }
    (StatusCode::ACCEPTED, [("x-message-id", message_id)]).into_response()
}

/// Dates every answer by SendGrid's clock, which may differ from ours, and tells of the rate limit.
async fn stamp(State(sendgrid): State<Arc<SendGrid>>, mut response: Response) -> Response {
    let now = sendgrid.rules.provider_now();
    let remaining = if response.status() == StatusCode::TOO_MANY_REQUESTS { 0 } else { 599 };
    let headers = [
        ("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        ("x-ratelimit-limit", "600".to_owned()),
        ("x-ratelimit-remaining", remaining.to_string()),
        ("x-ratelimit-reset", (now.timestamp() + RESET_SECONDS).to_string()),
    ];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The API key of a request.
fn bearer(headers: &HeaderMap) -> Result<String, Refusal> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let key = value.strip_prefix("Bearer ").filter(|key| key.starts_with("SG."));
    key.map(str::to_owned).ok_or(Refusal::UNAUTHORISED)
}

/// An error answer: `{"errors": [{"message", "field", "help"}]}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    http_status: u16,
    message: &'static str,
    field: Option<&'static str>,
}

impl Refusal {
    const INTERNAL: Self = Self::new(500, "internal server error", None);
    const LIMITED: Self = Self::new(429, "too many requests", None);
    const UNAUTHORISED: Self = Self::new(401, "The provided authorization grant is invalid, expired, or revoked", None);
    const ADDRESS: Self = Self::new(400, "Does not contain a valid address.", Some("personalizations.0.to.0.email"));

    const fn new(http_status: u16, message: &'static str, field: Option<&'static str>) -> Self {
        Self { http_status, message, field }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { http_status, message, field } = self;
        let status = StatusCode::from_u16(http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "errors": [{ "message": message, "field": field, "help": null }] });
        (status, Json(body)).into_response()
    }
}
