//! The control endpoint: reads the journal, sets rules, sends inbound texts. Guarantee: answers are JSON, errors too
//! (`{"error": "…"}`).

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{
        FromRequest, Query, Request, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use chrono::TimeDelta;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    callbacks::{Carrier, Inbound},
    fcm::SERVICE_ACCOUNT,
    magic::{MAGIC, MagicRecipient},
    odds::Odds,
    rules::UnknownBehaviour,
    sendgrid::SendGrid,
    smtp::Bounces,
};

const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The endpoint's state.
pub(super) struct Control {
    carrier: Arc<Carrier>,
    sendgrid: Arc<SendGrid>,
    bounces: Arc<Bounces>,
    stop: CancellationToken,
}

impl Control {
    pub(super) fn new(
        carrier: Arc<Carrier>,
        sendgrid: Arc<SendGrid>,
        bounces: Arc<Bounces>,
        stop: CancellationToken,
    ) -> Self {
        Self { carrier, sendgrid, bounces, stop }
    }

    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(async || Json(json!({ "status": "ok" }))))
            .route("/journal", get(read_journal).delete(clear_journal))
            .route("/magic", get(async || Json(MAGIC)))
            .route("/service-account", get(async || ([(header::CONTENT_TYPE, "application/json")], SERVICE_ACCOUNT)))
            .route("/rules", post(set_rule))
            .route("/dials", post(set_dials))
            .route("/odds", post(set_odds))
            .route("/accounts", post(set_account))
            .route("/sendgrid", post(set_webhook))
            .route("/bounces", post(set_pipe))
            .route("/inbound", post(send_inbound))
            .fallback(async || Fault::new(StatusCode::NOT_FOUND, "no such path"))
            .method_not_allowed_fallback(async || Fault::new(StatusCode::METHOD_NOT_ALLOWED, "no such method here"))
            .with_state(Arc::new(self))
    }
}

type Shared = State<Arc<Control>>;

/// A JSON body, or a [`Fault`].
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let Json(body) = Json::from_request(request, state).await?;
        Ok(Self(body))
    }
}

#[derive(Deserialize)]
struct JournalQuery {
    /// The `next` of the answer before; 0 at first.
    #[serde(default)]
    after: u64,
    /// How long to wait for an entry if there is none yet; at most 30.
    #[serde(default)]
    wait_seconds: u64,
}

async fn read_journal(
    State(control): Shared,
    query: Result<Query<JournalQuery>, QueryRejection>,
) -> Result<Json<Value>, Fault> {
    let Query(query) = query?;
    let wait = Duration::from_secs(query.wait_seconds).min(LONGEST_WAIT);
    let page = control.stop.run_until_cancelled(control.carrier.journal.page(query.after, wait)).await;
    let (entries, next) = page.ok_or_else(|| Fault::new(StatusCode::SERVICE_UNAVAILABLE, "the sandbox stops"))?;
    Ok(Json(json!({ "entries": entries, "next": next })))
}

async fn clear_journal(State(control): Shared) -> StatusCode {
    control.carrier.journal.clear();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct NewRule {
    /// A whole phone number, mail address or token of a device.
    recipient: String,
    /// A name from `/magic`, or null to go by the recipient's magic again.
    behaviour: Option<String>,
}

async fn set_rule(State(control): Shared, Body(rule): Body<NewRule>) -> Result<StatusCode, Fault> {
    match rule.behaviour {
        Some(name) => control.carrier.rules.set(&rule.recipient, &name)?,
        None => control.carrier.rules.clear(&rule.recipient),
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What is left out stays as it is.
#[derive(Deserialize)]
struct NewDials {
    list_lag_ms: Option<u64>,
    clock_offset_ms: Option<i32>,
    slow_reply_ms: Option<u64>,
    callback_hosts: Option<Vec<String>>,
}

async fn set_dials(State(control): Shared, Body(dials): Body<NewDials>) -> StatusCode {
    let rules = &control.carrier.rules;
    if let Some(lag) = dials.list_lag_ms {
        rules.set_list_lag(Duration::from_millis(lag));
    }
    if let Some(offset) = dials.clock_offset_ms {
        rules.set_clock_offset(TimeDelta::milliseconds(offset.into()));
    }
    if let Some(delay) = dials.slow_reply_ms {
        rules.set_slow_reply(Duration::from_millis(delay));
    }
    if let Some(hosts) = dials.callback_hosts {
        rules.set_callback_hosts(hosts);
    }
    StatusCode::NO_CONTENT
}

async fn set_odds(State(control): Shared, Body(odds): Body<Odds>) -> StatusCode {
    control.carrier.rules.set_odds(odds);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct NewAccount {
    account_sid: String,
    auth_token: String,
}

async fn set_account(State(control): Shared, Body(account): Body<NewAccount>) -> StatusCode {
    control.carrier.rules.set_account(&account.account_sid, &account.auth_token);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct NewWebhook {
    api_key: String,
    webhook_url: String,
}

/// Answers the key that verifies the events of the account.
async fn set_webhook(State(control): Shared, Body(webhook): Body<NewWebhook>) -> Json<Value> {
    Json(json!({ "public_key": control.sendgrid.set_webhook(&webhook.api_key, &webhook.webhook_url) }))
}

/// Where mail to a domain is handed over, and with which secret.
#[derive(Deserialize)]
struct NewPipe {
    domain: String,
    webhook_url: String,
    secret: String,
}

async fn set_pipe(State(control): Shared, Body(pipe): Body<NewPipe>) -> StatusCode {
    control.bounces.set(&pipe.domain, &pipe.webhook_url, &pipe.secret);
    StatusCode::NO_CONTENT
}

/// Answers the message's SID, the webhook's HTTP status (null if it could not be reached) and its body, which Twilio
/// would take for TwiML.
async fn send_inbound(State(control): Shared, Body(inbound): Body<Inbound>) -> Result<Json<Value>, Fault> {
    if let Some(fault) = inbound.files_fault() {
        return Err(Fault::new(StatusCode::BAD_REQUEST, fault));
    }
    let (sid, reply) = control.carrier.inbound(inbound).await;
    let (http_status, body) = reply.map(|reply| (reply.http_status, reply.body)).unzip();
    Ok(Json(json!({ "sid": sid, "http_status": http_status, "body": body })))
}

/// An error answer.
struct Fault {
    http_status: StatusCode,
    text: String,
}

impl Fault {
    fn new(http_status: StatusCode, text: impl Into<String>) -> Self {
        Self { http_status, text: text.into() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.http_status, Json(json!({ "error": self.text }))).into_response()
    }
}

impl From<JsonRejection> for Fault {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<QueryRejection> for Fault {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<UnknownBehaviour> for Fault {
    fn from(unknown: UnknownBehaviour) -> Self {
        let names: Vec<_> = MAGIC.iter().map(|MagicRecipient { name, .. }| *name).collect();
        Self::new(StatusCode::BAD_REQUEST, format!("{unknown}; there are: {}", names.join(", ")))
    }
}
