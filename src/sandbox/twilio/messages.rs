//! The messages that Twilio took, their JSON, and the list of them. Guarantee: lists are newest first, and a message once
//! added is never lost or reordered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    super::{
        callbacks::Step,
        journal::{Entry, Outcome},
    },
    order::Order,
};

/// The sender that a Messaging Service picks from its pool.
const POOL_NUMBER: &str = "+15005550006";
const DEFAULT_PAGE_SIZE: usize = 50;
const LARGEST_PAGE_SIZE: usize = 1000;

/// A message as Twilio keeps it.
#[derive(Clone)]
pub(in super::super) struct Message {
    pub(in super::super) sid: String,
    pub(in super::super) account: String,
    order: Order,
    step: Step,
    created: DateTime<Utc>,
    updated: DateTime<Utc>,
    sent: Option<DateTime<Utc>>,
    taken: Instant,
    list_lag: Duration,
}

impl Message {
    pub(super) fn new(account: &str, order: Order, now: DateTime<Utc>, list_lag: Duration) -> Self {
        let sid = format!("SM{}", Uuid::new_v4().simple());
        // With a Messaging Service the sender is picked later.
        let step = if order.service.is_some() { Step::ACCEPTED } else { Step::QUEUED };
        let account = account.to_owned();
        Self { sid, account, order, step, created: now, updated: now, sent: None, taken: Instant::now(), list_lag }
    }

    pub(super) fn entry(&self, outcome: Outcome, token_uses: usize) -> Entry {
        let Order { to, from, service, body, media, callback, validity } = self.order.clone();
        let (account, sid, status_callback) = (self.account.clone(), self.sid.clone(), callback);
        Entry::TwilioCreate {
            account,
            to,
            from,
            service,
            body,
            media,
            status_callback,
            validity,
            sid,
            outcome,
            token_uses,
        }
    }

    pub(in super::super) fn to(&self) -> &str {
        &self.order.to
    }

    /// The sender that the recipient sees.
    pub(in super::super) fn from(&self) -> &str {
        self.order.from.as_deref().unwrap_or(POOL_NUMBER)
    }

    /// The sender that the resource shows: none until a Messaging Service has picked one.
    fn shown_from(&self) -> Option<&str> {
        if self.step == Step::ACCEPTED { self.order.from.as_deref() } else { Some(self.from()) }
    }

    pub(in super::super) fn service(&self) -> Option<&str> {
        self.order.service.as_deref()
    }

    /// Where its files are.
    pub(in super::super) fn media(&self) -> &[String] {
        &self.order.media
    }

    pub(in super::super) fn callback(&self) -> Option<&str> {
        self.order.callback.as_deref()
    }

    /// The last segment of the callback's path, which our clients make unique to an attempt.
    pub(super) fn token(&self) -> Option<&str> {
        let path = self.callback()?.split(['?', '#']).next()?;
        let (_, token) = path.rsplit_once('/')?;
        Some(token).filter(|token| !token.is_empty())
    }

    /// The resource, with the types of the original: counts are strings, dates are RFC 2822.
    pub(super) fn to_json(&self) -> Value {
        let Order { to, service, body, media, .. } = &self.order;
        let path = format!("/2010-04-01/Accounts/{}/Messages/{}", self.account, self.sid);
        let segments = if self.step == Step::ACCEPTED { 0 } else { segments(body) };
        json!({
            "account_sid": self.account,
            "api_version": "2010-04-01",
            "body": body,
            "date_created": self.created.to_rfc2822(),
            "date_sent": self.sent.map(|time| time.to_rfc2822()),
            "date_updated": self.updated.to_rfc2822(),
            "direction": "outbound-api",
            "error_code": self.step.error_code,
            "error_message": self.step.error_code.map(|_| "The message was not delivered"),
            "from": self.shown_from(),
            "messaging_service_sid": service,
            "num_media": media.len().to_string(),
            "num_segments": segments.to_string(),
            "price": null,
            "price_unit": "USD",
            "sid": self.sid,
            "status": self.step.status,
            "subresource_uris": { "media": format!("{path}/Media.json") },
            "to": to,
            "uri": format!("{path}.json"),
        })
    }
}

/// What a list is asked for. Other filters of the original (`DateSent`) are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListQuery {
    to: Option<String>,
    from: Option<String>,
    page_size: Option<String>,
    page: Option<String>,
}

/// All messages, oldest first.
#[derive(Default)]
pub(in super::super) struct Messages(Mutex<Store>);

#[derive(Default)]
struct Store {
    messages: Vec<Message>,
    by_sid: HashMap<String, usize>,
    by_token: HashMap<String, Vec<String>>,
}

impl Messages {
    /// Adds a message and names all, itself included, that carry its callback token; none without a token.
    pub(super) fn add(&self, message: Message) -> Vec<String> {
        let mut store = self.store();
        let position = store.messages.len();
        store.by_sid.insert(message.sid.clone(), position);
        let mut sids = Vec::new();
        if let Some(token) = message.token() {
            let same = store.by_token.entry(token.to_owned()).or_default();
            same.push(message.sid.clone());
            sids.clone_from(same);
        }
        store.messages.push(message);
        sids
    }

    /// The message has come to `step` at `now`.
    pub(in super::super) fn advance(&self, sid: &str, step: Step, now: DateTime<Utc>) {
        let mut store = self.store();
        let position = store.by_sid.get(sid).copied();
        if let Some(message) = position.and_then(|position| store.messages.get_mut(position)) {
            (message.step, message.updated) = (step, now);
            if step == Step::SENT {
                message.sent = Some(now);
            }
        }
    }

    pub(super) fn get(&self, account: &str, sid: &str) -> Option<Message> {
        let store = self.store();
        let message = store.messages.get(*store.by_sid.get(sid)?)?;
        (message.account == account).then(|| message.clone())
    }

    /// A page of the account's messages that are older than `lag`.
    pub(super) fn list(&self, account: &str, query: &ListQuery, lag: Duration) -> Value {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<usize>().ok());
        let page_size = number(&query.page_size).unwrap_or(DEFAULT_PAGE_SIZE).clamp(1, LARGEST_PAGE_SIZE);
        let page = number(&query.page).unwrap_or(0);
        let start = page.saturating_mul(page_size);

        let store = self.store();
        let visible = store.messages.iter().rev().filter(|message| {
            message.account == account
                && message.taken.elapsed() >= lag.max(message.list_lag)
                && query.to.as_deref().is_none_or(|to| message.to() == to)
                && query.from.as_deref().is_none_or(|from| message.shown_from() == Some(from))
        });
        let mut rest = visible.skip(start);
        let messages: Vec<_> = rest.by_ref().take(page_size).map(Message::to_json).collect();
        let more = rest.next().is_some();
        let uri = |page: usize| query.uri(account, page_size, page);
        json!({
            "end": (start + messages.len()).saturating_sub(1),
            "first_page_uri": uri(0),
            "messages": messages,
            "next_page_uri": more.then(|| uri(page + 1)),
            "page": page,
            "page_size": page_size,
            "previous_page_uri": page.checked_sub(1).map(uri),
            "start": start,
            "uri": uri(page),
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ListQuery {
    fn uri(&self, account: &str, page_size: usize, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("To", &self.to), ("From", &self.from)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        query.append_pair("PageSize", &page_size.to_string()).append_pair("Page", &page.to_string());
        format!("/2010-04-01/Accounts/{account}/Messages.json?{}", query.finish())
    }
}

/// How many parts a text is sent in: GSM-7 where every character is in that alphabet, else UCS-2 (3GPP TS 23.038). It
/// does not care about pairs that straddle two parts.
fn segments(body: &str) -> usize {
    let (units, single, part) = match body.chars().map(septets).sum::<Option<usize>>() {
        Some(septets) => (septets, 160, 153),
        None => (body.encode_utf16().count(), 70, 67),
    };
    if units <= single { 1 } else { units.div_ceil(part) }
}

/// The septets of a character in GSM-7, if it has any.
fn septets(character: char) -> Option<usize> {
    const LETTERS: &str = "£¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ¡ÄÖÑÜ§¿äöñüà¤\n\r";
    match character {
        '\u{c}' | '^' | '{' | '}' | '\\' | '[' | '~' | ']' | '|' | '€' => Some(2),
        '`' => None,
        ' '..='~' => Some(1),
        _ => LETTERS.contains(character).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_as_twilio_bills_them() {
        let check = |text: String, expect| assert_eq!(segments(&text), expect, "{text}");
        check("a".repeat(160), 1);
        check("a".repeat(161), 2);
        check("a".repeat(306), 2);
        check("a".repeat(307), 3);
        check("a".repeat(158) + "€", 1);
        check("a".repeat(159) + "€", 2);
        check("ó".repeat(70), 1);
        check("ó".repeat(71), 2);
        check("ó".repeat(135), 3);
        check("👍".repeat(35), 1);
        check("👍".repeat(36), 2);
        check("`".repeat(71), 2);
    }
}
