//! Pages for patients: plain, legible to everyone, and without anything that runs or is loaded.

use axum::{
    http::{HeaderName, StatusCode, header},
    response::{Html, IntoResponse, Response},
};

/// Pages carry their own style and run nothing.
pub(super) const POLICY: [(HeaderName, &str); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'",
    ),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

/// Something went wrong here.
pub(super) fn later() -> Response {
    show(
        StatusCode::SERVICE_UNAVAILABLE,
        "Please try again",
        "<p>Something went wrong here. Try again in a minute.</p>",
    )
}

/// A page; `title` and `body` are HTML.
pub(super) fn show(status: StatusCode, title: &str, body: &str) -> Response {
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
button.quiet {{ color: inherit; background: none; border: 2px solid currentColor; }}
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
