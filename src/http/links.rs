//! Secure links: a page with a button first, since scanners of mail and texts fetch every link. Only the button opens.

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};

use super::{
    Services,
    page::{POLICY, later, show},
};

/// `GET /l/{token}`: changes nothing.
pub(super) async fn page(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.links.peek(&token).await {
        Ok(true) => show(StatusCode::OK, "Continue to your practice", OPEN),
        Ok(false) => closed(),
        Err(_) => later(),
    }
}

/// `POST /l/{token}`: the button.
pub(super) async fn open(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.links.open(&token).await {
        // The target comes from the practice and was checked against its hosts when it was accepted.
        Ok(Some(target)) => (POLICY, Redirect::to(&target)).into_response(),
        Ok(None) => closed(),
        Err(_) => later(),
    }
}

const OPEN: &str = r#"<p>Your practice sent you a secure link. Press the button to open it.</p>
<form method="post"><button type="submit">Continue</button></form>"#;

fn closed() -> Response {
    let text = "<p>It may have expired or been used already. Please contact your practice if you still need it.</p>";
    show(StatusCode::NOT_FOUND, "This link does not open", text)
}
