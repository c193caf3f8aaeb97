//! SendGrid's mail API (twilio.com/docs/sendgrid/api-reference/mail-send): one call, one mail, one patient. `callback`
//! understands what SendGrid tells us by itself.
//!
//! Guarantee: a mail is accepted only with a 202. There is no list to look at afterwards, so that whatever else looks like
//! a success stays unknown until a report tells.

use std::time::Duration;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;
use reqwest::{Client, StatusCode, header, header::HeaderMap};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;

use self::callback::{TOKEN, message_id};
use super::{Accepted, OutgoingEmail, SendError, mail, net, twilio::callback::ReportedStatus};
use crate::{clock::SharedClock, domain::SendGridAccount};

pub mod callback;
#[cfg(test)]
mod tests;

/// The client.
#[derive(Debug)]
pub(super) struct SendGrid {
    http: Client,
    base: Url,
    clock: SharedClock,
}

impl SendGrid {
    pub(super) const fn new(http: Client, base: Url, clock: SharedClock) -> Self {
        Self { http, base, clock }
    }

    /// Hands a mail over.
    pub(super) async fn send(&self, account: &SendGridAccount, email: &OutgoingEmail) -> Result<Accepted, SendError> {
        let mail = body(account, email)?;
        let request = self
            .http
            .post(self.url())
            .bearer_auth(account.api_key.expose_secret())
            .header(header::ACCEPT, "application/json")
            .json(&mail);
        let response = failpoint!("F8", request.send()).await.map_err(|error| net::http_failure(&error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        // Read to its end also where nothing is expected, so that the connection can be used again.
        let answer = net::body(response).await.unwrap_or_default();
        if status != StatusCode::ACCEPTED {
            let wait = wait(&headers, self.clock.now());
            return Err(SendError::from_sendgrid(status.as_u16(), field(&answer).as_deref(), wait));
        }
        Ok(Accepted {
            provider_ref: text(&headers, "x-message-id").and_then(message_id),
            status: ReportedStatus::Accepted,
            sms_segments: None,
            clock_offset: text(&headers, header::DATE.as_str())
                .and_then(net::http_date)
                .map(|date| date - self.clock.now()),
        })
    }

    fn url(&self) -> Url {
        let mut url = self.base.clone();
        // `Providers::new` refused a URL that has no path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v3", "mail", "send"]);
        }
        url
    }
}

/// The mail as the API wants it. Nothing in it may be followed or counted: rewritten links would lead patients, and their
/// tokens, through the provider. Of us it carries the attempt's token alone, since such arguments are kept and may be read
/// there.
fn body(account: &SendGridAccount, email: &OutgoingEmail) -> Result<Value, SendError> {
    let mut mail = json!({
        "personalizations": [{
            "to": [patient(mail::recipient(email)?)],
            "custom_args": { TOKEN: email.attempt_token },
        }],
        "from": party(&mail::sender(&account.from_address, &account.from_name)?),
        "subject": mail::header(email.subject.expose())?,
        // The plain part first: the last one is preferred (RFC 2046 section 5.1.4), and the API refuses the other order.
        "content": [
            { "type": "text/plain", "value": mail::lines(email.text.expose()) },
            { "type": "text/html", "value": mail::lines(email.html.expose()) },
        ],
        "headers": headers(account, email)?,
        "tracking_settings": {
            "click_tracking": { "enable": false, "enable_text": false },
            "open_tracking": { "enable": false },
            // It would put SendGrid's own List-Unsubscribe in place of ours.
            "subscription_tracking": { "enable": false },
            "ganalytics": { "enable": false },
        },
    });
    if let Some(reply_to) = &account.reply_to {
        mail["reply_to"] = party(&mail::answers_to(reply_to)?);
    }
    Ok(mail)
}

/// The headers that SendGrid does not write by itself. The same Message-ID for every attempt lets receivers fold repeats.
fn headers(account: &SendGridAccount, email: &OutgoingEmail) -> Result<Map<String, Value>, SendError> {
    let mut headers = Map::new();
    let mut add = |name: &str, value: String| headers.insert(name.to_owned(), value.into());
    add("Message-ID", format!("<{}>", mail::identifier(&email.message_id)?));
    add("Auto-Submitted", "auto-generated".to_owned());
    add("X-Auto-Response-Suppress", "All".to_owned());
    let domain = account.from_address.domain();
    // The sort of mail is left out: no more than must be is told to whom no agreement on health information binds.
    add("Feedback-ID", mail::feedback_id("", domain)?);
    if let Some(list) = mail::list_id(domain) {
        add("List-Id", list);
    }
    if let Some(url) = &email.list_unsubscribe {
        add("List-Unsubscribe", mail::list_unsubscribe(url)?);
        add("List-Unsubscribe-Post", mail::ONE_CLICK.to_owned());
    }
    Ok(headers)
}

/// The patient. A name with a comma or a semicolon has been taken for a list of addresses, and the mail been dropped
/// (sendgrid/sendgrid-python#291); a name in quotes has been shown with them. So such a name stays away.
fn patient(mut mailbox: Mailbox) -> Value {
    mailbox.name = mailbox.name.filter(|name| !name.contains([',', ';']));
    party(&mailbox)
}

/// An address with the name beside it.
fn party(mailbox: &Mailbox) -> Value {
    let mut party = json!({ "email": mailbox.email.to_string() });
    if let Some(name) = &mailbox.name {
        party["name"] = name.clone().into();
    }
    party
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// How long SendGrid wants to be left alone: `Retry-After`, or until `X-RateLimit-Reset`, in seconds since 1970 by the clock
/// that dated the answer.
fn wait(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let reset = || {
        let reset = DateTime::from_timestamp(text(headers, "x-ratelimit-reset")?.trim().parse().ok()?, 0)?;
        let date = text(headers, header::DATE.as_str()).and_then(net::http_date).unwrap_or(now);
        Some((reset - date).to_std().unwrap_or_default())
    };
    text(headers, header::RETRY_AFTER.as_str()).and_then(|value| net::wait(value, now)).or_else(reset)
}

/// The field that an error's body finds fault with. Large requests are refused with a page of HTML.
fn field(body: &[u8]) -> Option<String> {
    let refusal: Refusal = serde_json::from_slice(body).ok()?;
    refusal.errors.into_iter().find_map(|problem| problem.field)
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Problem>,
}

/// What it says beside the field is text for people, and may hold the address.
#[derive(Deserialize)]
struct Problem {
    field: Option<String>,
}
