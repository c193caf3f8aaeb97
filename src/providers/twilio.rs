//! Twilio's Messages API: create one, list those to a number, ask about one. `callback` understands what Twilio tells us by itself.
//!
//! Guarantee: a create is accepted only with a SID in hand. Whatever else looks like a success is unknown, since
//! something on the way may have spoken in Twilio's name, and a look-up settles it.

use std::{ops::RangeInclusive, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{Client, RequestBuilder, StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::time::Instant;
use url::Url;

use self::callback::{ReportedStatus, is_message_sid};
use super::{Accepted, Candidate, Found, Look, LookError, OutgoingSms, Reported, SendError, net};
use crate::{
    clock::SharedClock,
    domain::{PhoneNumber, SmsSender, TwilioAccount},
};

pub mod callback;
mod media;
#[cfg(test)]
mod tests;

/// Twilio refuses a longer validity, and one of 0.
const VALIDITY_SECONDS: RangeInclusive<u32> = 1..=36_000;
/// Twenty of the longest texts, every character escaped, fit into what is read of an answer.
const PAGE_SIZE: &str = "20";
/// One patient gets fewer messages than this between an attempt and the last look for it.
const PAGES: usize = 10;

/// The client.
#[derive(Debug)]
pub(super) struct Twilio {
    http: Client,
    base: Url,
    clock: SharedClock,
}

impl Twilio {
    pub(super) const fn new(http: Client, base: Url, clock: SharedClock) -> Self {
        Self { http, base, clock }
    }

    /// Creates a message.
    pub(super) async fn create(&self, account: &TwilioAccount, sms: &OutgoingSms) -> Result<Accepted, SendError> {
        let request = self.http.post(self.messages(account)).form(&form(account, sms));
        let answer = self.call(account, request).await?;
        if !answer.status.is_success() {
            let code = answer.json().and_then(|problem: Problem| problem.code);
            return Err(SendError::from_twilio(answer.status.as_u16(), code, answer.retry_after));
        }
        match answer.json() {
            Some(Created { sid, status, num_segments }) if is_message_sid(&sid) => Ok(Accepted {
                provider_ref: Some(sid),
                status: ReportedStatus::from_word(&status).unwrap_or(ReportedStatus::Accepted),
                sms_segments: num_segments,
                clock_offset: answer.date.map(|date| date - self.clock.now()),
            }),
            _ => Err(SendError::from_twilio(answer.status.as_u16(), None, None)),
        }
    }

    /// Reads the list of messages to a number until it is older than what is looked for.
    pub(super) async fn find(&self, account: &TwilioAccount, look: &Look) -> Result<Found, LookError> {
        let mut url = self.messages(account);
        // No filter by the time sent: a message that is still queued has none, and would be missed.
        url.query_pairs_mut().append_pair("To", look.to.e164());
        if let SmsSender::Number(number) = &account.sender {
            url.query_pairs_mut().append_pair("From", number.e164());
        }
        url.query_pairs_mut().append_pair("PageSize", PAGE_SIZE);

        let began = Instant::now();
        let mut found = Found { candidates: Vec::new(), clock_offset: None };
        for _ in 0..PAGES {
            let (page, date): (Page, _) = self.read(account, url.clone()).await?;
            // Compared with the clock of the attempt's times, which is not that of this machine.
            let offset = date.map(|(date, at)| seconds(date - (look.now + (at - began))));
            found.clock_offset = found.clock_offset.or(offset);
            let known =
                found.clock_offset.map(|known| if mutant!("no clock offset") { TimeDelta::zero() } else { known });
            let window = window((look.intent_time, look.end_time), known);
            for candidate in candidates(&page.messages, account, look, &window) {
                // A page shifts when a message is added meanwhile, and two sightings would look like two messages.
                if found.candidates.iter().all(|known| known.sid != candidate.sid) {
                    found.candidates.push(candidate);
                }
            }
            let Some(next) = page.next_page_uri else { return Ok(found) };
            if !page.messages.is_empty() && page.messages.iter().all(|message| message.date_created < *window.start()) {
                return Ok(found);
            }
            // Only the query is taken, so that the log-in cannot be led to another host.
            url.set_query(next.split_once('?').map(|(_, query)| query));
        }
        Err(LookError { code: "too many pages".into() })
    }

    /// Asks what became of a message.
    pub(super) async fn fetch(&self, account: &TwilioAccount, sid: &str) -> Result<Reported, LookError> {
        let mut url = self.messages(account);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().extend(["Messages", &format!("{sid}.json")]);
        }
        let (message, _): (Asked, _) = self.read(account, url).await?;
        if message.sid != sid {
            return Err(LookError { code: "another message".into() });
        }
        Ok(Reported {
            status: ReportedStatus::from_word(&message.status),
            error_code: message.error_code.map(|code| code.to_string()),
        })
    }

    /// What is at `url`, the provider's time, and when it came.
    async fn read<T: DeserializeOwned>(
        &self,
        account: &TwilioAccount,
        url: Url,
    ) -> Result<(T, Option<(DateTime<Utc>, Instant)>), LookError> {
        let answer = match self.call(account, self.http.get(url)).await {
            Ok(answer) => answer,
            Err(error) => return Err(LookError { code: error.code().into() }),
        };
        if answer.status != StatusCode::OK {
            let code = answer.json().and_then(|problem: Problem| problem.code);
            let code = code.map_or_else(|| format!("http {}", answer.status.as_u16()), |code| code.to_string());
            return Err(LookError { code });
        }
        let value = answer.json().ok_or_else(|| LookError { code: "unreadable".into() })?;
        Ok((value, answer.date.map(|date| (date, answer.received))))
    }

    fn messages(&self, account: &TwilioAccount) -> Url {
        let mut url = self.base.clone();
        // `Providers::new` refused a URL that has no path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["2010-04-01", "Accounts", &account.account_sid, "Messages.json"]);
        }
        url
    }

    async fn call(&self, account: &TwilioAccount, request: RequestBuilder) -> Result<Answer, SendError> {
        let sent = request
            .basic_auth(&account.username, Some(account.password.expose_secret()))
            .header(header::ACCEPT, "application/json")
            .send();
        let response = failpoint!("F8", sent).await.map_err(|error| net::http_failure(&error))?;
        let received = Instant::now();
        let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let date = text(header::DATE).and_then(net::http_date);
        let retry_after = text(header::RETRY_AFTER).and_then(|value| net::wait(value, self.clock.now()));
        Ok(Answer { status: response.status(), date, received, retry_after, body: net::body(response).await })
    }
}

/// An answer, its body not yet understood.
struct Answer {
    status: StatusCode,
    /// The provider's time.
    date: Option<DateTime<Utc>>,
    received: Instant,
    retry_after: Option<Duration>,
    body: Option<Vec<u8>>,
}

impl Answer {
    /// The body, if it is what was expected. A proxy answers with pages of its own.
    fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        self.body.as_deref().and_then(|body| serde_json::from_slice(body).ok())
    }
}

/// An error's body, in both of Twilio's forms.
#[derive(Deserialize)]
struct Problem {
    code: Option<u32>,
}

#[derive(Deserialize)]
struct Created {
    sid: String,
    #[serde(default)]
    status: String,
    #[serde(default, deserialize_with = "count")]
    num_segments: Option<i32>,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    next_page_uri: Option<String>,
}

/// A message that was asked for by its SID.
#[derive(Deserialize)]
struct Asked {
    sid: String,
    status: String,
    error_code: Option<u32>,
}

/// A message of the list. A page with a date that cannot be read is no page: the message might be the one.
#[derive(Deserialize)]
struct Message {
    sid: String,
    status: String,
    to: Option<String>,
    from: Option<String>,
    messaging_service_sid: Option<String>,
    body: Option<String>,
    #[serde(default, deserialize_with = "count")]
    num_segments: Option<i32>,
    error_code: Option<u32>,
    #[serde(deserialize_with = "date")]
    date_created: DateTime<Utc>,
}

/// Counts are strings, and 0 while they are not known.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let count = value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok());
    Ok(count.and_then(|count| i32::try_from(count).ok()).filter(|count| *count > 0))
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(DateTime::parse_from_rfc2822(&text).map_err(serde::de::Error::custom)?.to_utc())
}

fn form<'a>(account: &'a TwilioAccount, sms: &'a OutgoingSms) -> Vec<(&'static str, String)> {
    let sender = match &account.sender {
        SmsSender::Number(number) => ("From", number.e164().to_owned()),
        SmsSender::MessagingService(sid) => ("MessagingServiceSid", sid.clone()),
    };
    // Beside the service, `From` picks one of its pool.
    let pool_number = account.pool_number.as_ref().map(|number| ("From", number.e164().to_owned()));
    let validity = sms.validity_seconds.clamp(*VALIDITY_SECONDS.start(), *VALIDITY_SECONDS.end());
    let mut form = vec![
        ("To", sms.to.e164().to_owned()),
        sender,
        ("Body", sms.body.expose().clone()),
        ("ValidityPeriod", validity.to_string()),
    ];
    form.extend(pool_number);
    form.extend(sms.media.iter().map(|url| ("MediaUrl", url.clone())));
    form.extend(sms.status_callback.clone().map(|url| ("StatusCallback", url)));
    form
}

/// Rounded: a date has no fractions.
const fn seconds(time: TimeDelta) -> TimeDelta {
    TimeDelta::seconds((time.num_milliseconds() + 500).div_euclid(1_000))
}

/// When an attempt that began and ended then must have made its message, by the provider's clock. Without its time, two
/// clocks may differ by minutes.
pub(super) fn window(
    (intent_time, end_time): (DateTime<Utc>, DateTime<Utc>),
    offset: Option<TimeDelta>,
) -> RangeInclusive<DateTime<Utc>> {
    let (before, after) = match offset {
        Some(_) => (TimeDelta::seconds(5), TimeDelta::seconds(60)),
        None => (TimeDelta::minutes(10), TimeDelta::minutes(10)),
    };
    let offset = offset.unwrap_or_default();
    intent_time + offset - before..=end_time + offset + after
}

/// The messages that may be the one looked for.
fn candidates(
    messages: &[Message],
    account: &TwilioAccount,
    look: &Look,
    window: &RangeInclusive<DateTime<Utc>>,
) -> Vec<Candidate> {
    let is_ours = |message: &Message| {
        let from = |number: &PhoneNumber| message.from.as_deref() == Some(number.e164());
        let from_us = match &account.sender {
            SmsSender::Number(number) => from(number),
            // Which number of the service sends is open at first, and then `from` is null.
            SmsSender::MessagingService(sid) => {
                let picked = account.pool_number.as_ref().is_none_or(|number| message.from.is_none() || from(number));
                picked && message.messaging_service_sid.as_ref() == Some(sid)
            }
        };
        from_us && message.to.as_deref() == Some(look.to.e164()) && is_message_sid(&message.sid)
    };
    messages
        .iter()
        .filter(|message| window.contains(&message.date_created) && is_ours(message))
        .filter_map(|message| {
            let likeness = compare(message, look)?;
            Some(Candidate {
                sid: message.sid.clone(),
                status: ReportedStatus::from_word(&message.status),
                error_code: message.error_code.map(|code| code.to_string()),
                sms_segments: message.num_segments,
                create_time: message.date_created,
                certain: likeness.certain,
                same_text: likeness.same_text,
            })
        })
        .collect()
}

/// How much a message is like the one that was sent.
struct Likeness {
    certain: bool,
    same_text: bool,
}

/// Whether the message says what was sent: certainly, perhaps (its text is redacted), or not at all.
fn compare(message: &Message, look: &Look) -> Option<Likeness> {
    let (theirs, ours) = (message.body.as_deref().unwrap_or_default().trim_end(), look.body.expose().trim_end());
    if theirs == ours {
        return Some(Likeness { certain: true, same_text: true });
    }
    let mut characters = theirs.chars();
    let mask = characters.next();
    let redacted = mask.is_none_or(|mask| "*Xx#•".contains(mask) && characters.all(|character| character == mask));
    let segments_differ = message.num_segments.is_some_and(|segments| segments != look.sms_segments);
    if !redacted || segments_differ {
        return None;
    }
    let certain = message.num_segments.is_some() && theirs.chars().count() == ours.chars().count();
    Some(Likeness { certain, same_text: false })
}
