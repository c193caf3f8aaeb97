//! The link in a mail by which its reader unsubscribes. Scanners of mail fetch every link, so that only what is posted acts: the
//! body that mail programs post for one click (RFC 8058), which the button posts as well. Nobody signs in, no cookie is set, and
//! nothing redirects.

mod form;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};

use super::{
    Services,
    page::{later, show},
};
use crate::{
    domain::template::escape_html,
    service::{Subscription, unsubscribe::Posted},
};

/// `GET /u/{token}`: changes nothing.
pub(super) async fn page(State(services): State<Services>, Path(token): Path<String>) -> Response {
    match services.unsubscribe.peek(&token).await {
        Ok(Some(subscription)) if subscription.opted_out => opted_out(&subscription),
        Ok(Some(subscription)) => ask(&subscription),
        Ok(None) => dead(),
        Err(_) => later(),
    }
}

/// `POST /u/{token}`: one click, or a button.
pub(super) async fn act(
    State(services): State<Services>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let posted = match form::only_field(content_type, &body) {
        Some((name, value)) if name == "List-Unsubscribe" && value.trim() == "One-Click" => Posted::Out,
        Some((name, value)) if name == "Undo" && value == "Unsubscribe" => Posted::Undo,
        _ => return odd(),
    };
    match services.unsubscribe.act(&token, posted).await {
        Ok(Some(subscription)) if subscription.opted_out => opted_out(&subscription),
        Ok(Some(subscription)) => again(&subscription),
        Ok(None) => dead(),
        Err(_) => later(),
    }
}

const BUTTON: &str = r#"<form method="post"><input type="hidden" name="List-Unsubscribe" value="One-Click">
<button type="submit">Unsubscribe</button></form>"#;
const UNDO: &str = r#"<p>Was that a mistake?</p>
<form method="post"><input type="hidden" name="Undo" value="Unsubscribe">
<button type="submit" class="quiet">Keep sending me emails</button></form>"#;

fn ask(subscription: &Subscription) -> Response {
    let name = escape_html(&subscription.practice_name);
    let body = format!("<p>You will get no more emails from {name}. Text messages are not affected.</p>\n{BUTTON}");
    show(StatusCode::OK, &format!("Unsubscribe from {name}?"), &body)
}

fn opted_out(subscription: &Subscription) -> Response {
    let name = escape_html(&subscription.practice_name);
    let undo = if subscription.by_this_link { UNDO } else { "<p>To get them again, please contact your practice.</p>" };
    let body = format!("<p role=\"status\">You get no more emails from {name}.</p>\n{undo}");
    show(StatusCode::OK, "You are unsubscribed", &body)
}

fn again(subscription: &Subscription) -> Response {
    let name = escape_html(&subscription.practice_name);
    let body = format!("<p role=\"status\">You go on getting emails from {name}.</p>\n{BUTTON}");
    show(StatusCode::OK, "You are subscribed", &body)
}

/// Of a link that was not made here, or long ago. It says no more than that.
fn dead() -> Response {
    let text = "<p>It may be old or incomplete. To change which emails you get, please contact your practice.</p>";
    show(StatusCode::NOT_FOUND, "This link does not work", text)
}

fn odd() -> Response {
    let text = "<p>Please open the link in your email again and use the button there.</p>";
    show(StatusCode::BAD_REQUEST, "Nothing was changed", text)
}
