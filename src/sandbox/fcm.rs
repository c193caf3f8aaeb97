//! Firebase Cloud Messaging's `messages:send`, with the checks and shapes of the original
//! (<https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages>), and Google's token endpoint beside it.
//! Guarantee: a message is taken whole, with its journal entry, or not at all; a caller that hangs up changes nothing about it.

mod grants;
mod order;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use self::{grants::Grants, order::Order};
use super::{
    journal::{Entry, Journal, Outcome},
    line::Cut,
    magic::PushPlan,
    rules::Rules,
};

/// The service account that the stand-in knows, as Google would give out its file. Its key is for everybody to read: it opens
/// nothing but this.
pub const SERVICE_ACCOUNT: &str = include_str!("fcm/service_account.json");

/// Far more than FCM takes.
const LARGEST_BODY: usize = 64 * 1024;

/// The stand-in's state.
pub(super) struct Fcm {
    journal: Journal,
    rules: Rules,
    grants: Grants,
    /// How many accepted messages for a device had the same tag.
    uses: Mutex<HashMap<(String, String), usize>>,
}

impl Fcm {
    /// `url` is where it is served.
    pub(super) fn new(url: &str, journal: &Journal, rules: &Rules) -> std::io::Result<Arc<Self>> {
        let grants = Grants::new(&format!("{url}/token"), journal.clone(), rules.clone())?;
        Ok(Arc::new(Self { journal: journal.clone(), rules: rules.clone(), grants, uses: Mutex::default() }))
    }

    pub(super) fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/token", post(token))
            .route("/v1/projects/{project}/messages:send", post(send))
            .fallback(async || Refusal::new(404, "NOT_FOUND", "no such method"))
            .method_not_allowed_fallback(async || Refusal::new(405, "UNIMPLEMENTED", "no such method"))
            .layer(DefaultBodyLimit::max(LARGEST_BODY))
            .with_state(self)
    }

    /// Takes the message if the plan for its device lets it. Synchronous, so that no hang-up of the caller can come between the
    /// parts.
    fn take(&self, project: &str, order: Order) -> Result<(String, PushPlan), Refusal> {
        let plan = self.rules.push(&order.token.to_lowercase());
        let outcome = match plan {
            PushPlan::Gone => return Err(Refusal::of(404, "NOT_FOUND", "UNREGISTERED")),
            PushPlan::BadToken => return Err(Refusal::of(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")),
            PushPlan::BadRequest => return Err(Refusal::field("message.android.ttl")),
            PushPlan::Mismatched => return Err(Refusal::of(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")),
            PushPlan::LimitedOnce if self.rules.first_time("limited by fcm", &order.token) => {
                return Err(Refusal::of(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"));
            }
            PushPlan::Unavailable => return Err(Refusal::of(503, "UNAVAILABLE", "UNAVAILABLE")),
            PushPlan::Garbled => return Err(Refusal::GARBLED),
            PushPlan::AppleRefused => return Err(Refusal::of(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")),
            PushPlan::Unauthorised => return Err(Refusal::UNAUTHENTICATED),
            PushPlan::Taken | PushPlan::LimitedOnce | PushPlan::Stalled(_) => Outcome::Created,
            PushPlan::Failed => Outcome::Failed,
            PushPlan::CutOff => Outcome::Dropped,
        };
        let name = format!("projects/{project}/messages/0:{}", Uuid::new_v4().simple());
        let uses = self.count(&order);
        let Order { token, message, .. } = order;
        self.journal.append(Entry::FcmMessage { token, name: name.clone(), message, outcome, uses });
        Ok((name, plan))
    }

    fn count(&self, order: &Order) -> usize {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry((order.token.clone(), order.tag.clone())).or_default();
        *count += 1;
        *count
    }
}

async fn token(State(fcm): State<Arc<Fcm>>, body: Bytes) -> Response {
    fcm.grants.answer(&body)
}

async fn send(
    State(fcm): State<Arc<Fcm>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A caller who hangs up in this half has sent nothing; in the other half, everything.
    let half = fcm.rules.reply_time() / 2;
    sleep(half).await;
    let parsed = fcm.grants.admit(&headers, &project).and_then(|()| Order::parse(&headers, &body));
    let taken = parsed.map_err(|refusal| (None, refusal)).and_then(|order| {
        let token = order.token.clone();
        fcm.take(&project, order).map_err(|refusal| (Some(token), refusal))
    });
    let (name, plan) = match taken {
        Ok(taken) => taken,
        Err((token, refusal)) => {
            let (http_status, why) = (refusal.http_status, refusal.why());
            fcm.journal.append(Entry::FcmRefused { token, http_status, why });
            return refusal.into_response();
        }
    };
    sleep(half).await;
    match plan {
        PushPlan::Failed => return Refusal::of(500, "INTERNAL", "INTERNAL").into_response(),
        PushPlan::CutOff => cut.now(),
        PushPlan::Stalled(milliseconds) => sleep(Duration::from_millis(milliseconds)).await,
        _ => {}
    }
    Json(json!({ "name": name })).into_response()
}

/// An error answer: `google.rpc.Status` with its details.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    http_status: u16,
    status: &'static str,
    message: &'static str,
    error_code: Option<&'static str>,
    /// What a `BadRequest` finds fault with.
    field: Option<String>,
}

impl Refusal {
    /// What comes from a load balancer, and is no answer of FCM at all.
    const GARBLED: Self = Self::new(502, "", "<html><title>502</title><body>Bad gateway</body></html>");
    const UNAUTHENTICATED: Self = Self::new(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.");

    const fn new(http_status: u16, status: &'static str, message: &'static str) -> Self {
        Self { http_status, status, message, error_code: None, field: None }
    }

    /// With a code of FCM's own.
    fn of(http_status: u16, status: &'static str, error_code: &'static str) -> Self {
        Self { error_code: Some(error_code), ..Self::new(http_status, status, "refused by plan") }
    }

    /// A field is wrong.
    fn field(field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::of(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT") }
    }

    fn why(&self) -> String {
        let code = self.error_code.unwrap_or(self.status);
        match &self.field {
            Some(field) => format!("{code}: {field}"),
            None => code.to_owned(),
        }
    }

    fn details(&self) -> Vec<Value> {
        let code = self
            .error_code
            .map(|code| json!({ "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code }));
        let field = self.field.as_ref().map(|field| {
            let violation = json!({ "field": field, "description": "Invalid value" });
            json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation] })
        });
        code.into_iter().chain(field).collect()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.status.is_empty() {
            return (status, Html(self.message)).into_response();
        }
        let error = json!({
            "code": self.http_status,
            "message": self.message,
            "status": self.status,
            "details": self.details(),
        });
        (status, Json(json!({ "error": error }))).into_response()
    }
}

/// The bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
