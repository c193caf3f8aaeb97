//! Secure links: a page with a button first, since scanners of mail and texts fetch every link. Only the button opens.

use axum::{
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};

use super::{
    Services,
    page::{POLICY, later, show},
};
use crate::service::Error;

/// `GET /l/{token}`: changes nothing.
pub(super) async fn page(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.links.peek(&token).await {
        Ok(true) => show(StatusCode::OK, "Continue to your practice", OPEN),
        Ok(false) => closed(),
        Err(error) => unwell(&error),
    }
}

/// `POST /l/{token}`: the button.
pub(super) async fn open(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.links.open(&token).await {
        // The target comes from the practice and was checked against its hosts when it was accepted.
        Ok(Some(target)) => (POLICY, Redirect::to(&target)).into_response(),
        Ok(None) => closed(),
        Err(error) => unwell(&error),
    }
}

const OPEN: &str = r#"<p>Your practice sent you a secure link. Press the button to open it.</p>
<form method="post"><button type="submit">Continue</button></form>"#;

/// It was asked for too often, or something went wrong here.
fn unwell(error: &Error) -> Response {
    let Error::RateLimited { retry_after, .. } = error else { return later() };
    let text = "<p>This link was opened very often just now. Try again in a minute.</p>";
    let wait = [(header::RETRY_AFTER, (retry_after.as_secs() + 1).to_string())];
    (wait, show(StatusCode::TOO_MANY_REQUESTS, "Please wait a moment", text)).into_response()
}

fn closed() -> Response {
    let text = "<p>It may have expired or been used already. Please contact your practice if you still need it.</p>";
    show(StatusCode::NOT_FOUND, "This link does not open", text)
}
