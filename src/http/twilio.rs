//! Twilio's callbacks, taken as they come: the signature covers the text byte for byte.

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{Over, Services, answered, source};
use crate::{domain::Provider, service::callbacks::Incoming};

/// `POST /webhooks/twilio/{practice}/status/{token}`.
pub(super) async fn status(
    State(services): State<Services>,
    Path((practice, token)): Path<(String, String)>,
    over: Over,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let incoming = incoming((&practice, &token), &over, &uri, &headers, &body);
    answered(&services, Provider::Twilio, services.callbacks.twilio_status(incoming).await)
}

/// `POST /webhooks/twilio/{practice}/inbound`.
pub(super) async fn inbound(
    State(services): State<Services>,
    Path(practice): Path<String>,
    over: Over,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let incoming = incoming((&practice, ""), &over, &uri, &headers, &body);
    match answered(&services, Provider::Twilio, services.callbacks.twilio_inbound(incoming).await) {
        // Whatever else is answered as text, Twilio would send to the patient.
        StatusCode::NO_CONTENT => ([(header::CONTENT_TYPE, "text/xml")], NOTHING_TO_SAY).into_response(),
        refused => refused.into_response(),
    }
}

const NOTHING_TO_SAY: &str = r#"<?xml version="1.0" encoding="UTF-8"?><Response/>"#;

fn incoming<'a>(
    (practice, token): (&'a str, &'a str),
    over: &Over,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: &'a Bytes,
) -> Incoming<'a> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Incoming {
        practice,
        source: source(over),
        token,
        path_and_query: uri.path_and_query().map_or("", |path| path.as_str()),
        content_type: header(header::CONTENT_TYPE.as_str()),
        signature: header("x-twilio-signature"),
        body,
        shared_key: headers.contains_key("x-twilio-webhooks-signature-settings"),
    }
}
