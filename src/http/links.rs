//! Secure links: a page with a button first, since scanners of mail and texts fetch every link. Only the button opens.

use axum::{
    extract::{Path, State},
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};

use super::Services;

/// Pages carry their own style and run nothing.
const POLICY: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

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

fn later() -> Response {
    show(
        StatusCode::SERVICE_UNAVAILABLE,
        "Please try again",
        "<p>Something went wrong here. Try again in a minute.</p>",
    )
}

fn show(status: StatusCode, title: &str, body: &str) -> Response {
    let page = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.125rem/1.5 system-ui, sans-serif; margin: 0; min-height: 100vh; display: grid; place-items: center; }}
main {{ max-width: 28rem; padding: 2rem 1.5rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; }}
button {{ font: inherit; font-weight: 600; width: 100%; min-height: 3rem; border: 0; border-radius: .5rem; color: #fff; background: #0b5f8a; cursor: pointer; }}
button:focus-visible {{ outline: 3px solid currentColor; outline-offset: 3px; }}
</style>
</head>
<body><main><h1>{title}</h1>
{body}
</main></body>
</html>
"#
    );
    (status, POLICY, Html(page)).into_response()
}
