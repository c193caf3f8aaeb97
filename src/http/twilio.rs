//! Twilio's callbacks, taken as they come: the signature covers the text byte for byte.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
};

use super::Services;
use crate::service::callbacks::{Answer, Incoming};

/// `POST /webhooks/twilio/{practice}/status/{token}`.
pub(super) async fn status(
    State(services): State<Services>,
    Path((practice, token)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let incoming = Incoming {
        practice: &practice,
        token: &token,
        path_and_query: uri.path_and_query().map_or("", |path| path.as_str()),
        content_type: header(header::CONTENT_TYPE.as_str()),
        signature: header("x-twilio-signature"),
        body: &body,
        shared_key: headers.contains_key("x-twilio-webhooks-signature-settings"),
    };
    match services.callbacks.twilio_status(incoming).await {
        Answer::Stored => StatusCode::NO_CONTENT,
        Answer::Forbidden => StatusCode::FORBIDDEN,
        Answer::Malformed => StatusCode::BAD_REQUEST,
        Answer::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
