//! SendGrid's event webhook, taken as it comes: the signature covers the body byte for byte.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};

use super::{Over, Services, answered, source};
use crate::{domain::Provider, service::callbacks::EventBatch};

/// `POST /webhooks/sendgrid/{practice}`.
pub(super) async fn events(
    State(services): State<Services>,
    Path(practice): Path<String>,
    over: Over,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let batch = EventBatch {
        practice: &practice,
        source: source(&over),
        timestamp: header("x-twilio-email-event-webhook-timestamp"),
        signature: header("x-twilio-email-event-webhook-signature"),
        body: &body,
    };
    answered(&services, Provider::SendGrid, services.callbacks.sendgrid_events(batch).await)
}
