//! The form of a create and what Twilio checks in it. Guarantee: pure; an [`Order`] exists only if Twilio would take it.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
};

use axum::http::{HeaderMap, header};
use url::{Url, form_urlencoded};

use super::{Refusal, is_sid};

const BODY_CHARACTERS: usize = 1600;
const MEDIA: usize = 10;
const CALLBACK_CHARACTERS: usize = 4000;
const VALIDITY_SECONDS: std::ops::RangeInclusive<u32> = 1..=36_000;

/// A valid create.
#[derive(Clone)]
pub(super) struct Order {
    pub(super) to: String,
    pub(super) from: Option<String>,
    pub(super) service: Option<String>,
    pub(super) body: String,
    /// Where the files are.
    pub(super) media: Vec<String>,
    pub(super) callback: Option<String>,
    pub(super) validity: Option<u32>,
}

/// The parameters by name; of a repeated one the first, but of `MediaUrl` each, in lines.
pub(super) type Form = HashMap<String, String>;

impl Order {
    /// The request's parameters; none at all unless it is a form.
    pub(super) fn form(headers: &HeaderMap, body: &[u8]) -> Form {
        let mut form = Form::new();
        if is_form(headers) {
            for (name, value) in form_urlencoded::parse(body).map(|(name, value)| (name, Cow::into_owned(value))) {
                match form.entry(name.into_owned()) {
                    Entry::Vacant(entry) => drop(entry.insert(value)),
                    Entry::Occupied(mut entry) if entry.key() == "MediaUrl" => {
                        entry.insert(format!("{}\n{value}", entry.get()));
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        form
    }

    /// Checks the parameters in the order in which Twilio complains. Unknown ones are ignored.
    pub(super) fn parse(headers: &HeaderMap, mut form: Form) -> Result<Self, Refusal> {
        if !is_form(headers) {
            return Err(Refusal::new(415, 415, "The request must be application/x-www-form-urlencoded"));
        }
        let mut take = |name: &str| form.remove(name).filter(|value| !value.is_empty());
        let to = take("To").ok_or(Refusal::new(400, 21604, "A 'To' phone number is required"))?;
        let (from, service) = (take("From"), take("MessagingServiceSid"));
        let media = take("MediaUrl").unwrap_or_default();
        let media: Vec<String> = media.lines().map(str::to_owned).collect();
        let body = take("Body");
        let validity = take("ValidityPeriod");
        let callback = take("StatusCallback");
        check_parties(&to, from.as_deref(), service.as_deref())?;
        let has_content = body.is_some() || !media.is_empty() || take("ContentSid").is_some();
        require(has_content, Refusal::new(400, 21602, "Message body is required"))?;
        let body = body.unwrap_or_default();
        let fits = body.chars().count() <= BODY_CHARACTERS;
        require(fits, Refusal::new(400, 21617, "The message body exceeds the 1600 character limit"))?;
        require(media.len() <= MEDIA, Refusal::new(400, 21623, "Number of media files exceeds allowed limit"))?;
        let found = media.iter().all(|url| is_callable(url));
        require(found, Refusal::new(400, 21620, "Invalid media URL(s)"))?;
        let validity = validity.map(|text| validity_seconds(&text)).transpose()?;
        let callable = callback.as_deref().is_none_or(is_callable);
        require(callable, Refusal::new(400, 21609, "The 'StatusCallback' URL is not a valid URL"))?;
        Ok(Self { to, from, service, body, media, callback, validity })
    }
}

fn require(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn check_parties(to: &str, from: Option<&str>, service: Option<&str>) -> Result<(), Refusal> {
    let sender = from.is_some() || service.is_some();
    require(sender, Refusal::new(400, 21603, "A 'From' phone number is required"))?;
    require(is_e164(to) && from != Some(to), Refusal::new(400, 21211, "Invalid 'To' Phone Number"))?;
    let from_works = from.is_none_or(|from| is_e164(from) || is_short_code(from));
    require(from_works, Refusal::new(400, 21212, "Invalid 'From' Phone Number"))?;
    let service_exists = service.is_none_or(|service| is_sid(service, "MG"));
    require(service_exists, Refusal::new(404, 21701, "The Messaging Service does not exist"))
}

/// A plus and 8 to 15 digits, the first of them not 0.
fn is_e164(number: &str) -> bool {
    let digits = number.strip_prefix('+').unwrap_or_default();
    (8..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

fn is_short_code(number: &str) -> bool {
    (5..=6).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit())
}

fn validity_seconds(text: &str) -> Result<u32, Refusal> {
    let seconds = text.parse().ok().filter(|seconds| VALIDITY_SECONDS.contains(seconds));
    seconds.ok_or(Refusal::new(400, 90007, "Invalid validity period value"))
}

fn is_callable(callback: &str) -> bool {
    let named = |url: &Url| url.host_str().is_some_and(|host| !host.contains('_'));
    let url = Url::parse(callback).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    callback.chars().count() <= CALLBACK_CHARACTERS && url.as_ref().is_some_and(named)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const GOOD: [(&str, &str); 5] = [
        ("To", "+12025550142"),
        ("From", "+15005550006"),
        ("Body", "Hello"),
        ("ValidityPeriod", "36000"),
        ("StatusCallback", "https://example.test/status/t1#rc=3&rp=all"),
    ];

    /// Parses the good form with one parameter replaced, and tells the error code.
    fn check(name: &str, value: &str, expect: Option<u32>) {
        let mut form: Form = GOOD.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        form.insert(name.to_owned(), value.to_owned());
        let mut headers = HeaderMap::new();
        headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8"));
        assert_eq!(Order::parse(&headers, form).err().map(|refusal| refusal.code), expect, "{name}={value}");
    }

    #[test]
    fn a_create_is_checked_as_twilio_checks_it() {
        check("Unknown", "ignored", None);
        check("To", "", Some(21604));
        check("To", "2025550142", Some(21211));
        check("To", "+15005550006", Some(21211));
        check("From", "", Some(21603));
        check("From", "Practice", Some(21212));
        check("From", "12345", None);
        check("MessagingServiceSid", "MG1", Some(21701));
        check("Body", "", Some(21602));
        check("Body", &"ó".repeat(1600), None);
        check("Body", &"ó".repeat(1601), Some(21617));
        let url = "https://example.test/m/1";
        check("MediaUrl", url, None);
        check("MediaUrl", &[url; 10].join("\n"), None);
        check("MediaUrl", &[url; 11].join("\n"), Some(21623));
        check("MediaUrl", "/m/1", Some(21620));
        check("ValidityPeriod", "0", Some(90007));
        check("ValidityPeriod", "36001", Some(90007));
        check("ValidityPeriod", "soon", Some(90007));
        check("StatusCallback", "ftp://example.test/", Some(21609));
        check("StatusCallback", "/status", Some(21609));
        check("StatusCallback", "https://a_b.example.test/", Some(21609));
        check("StatusCallback", &format!("https://example.test/{}", "x".repeat(4000)), Some(21609));
    }

    #[test]
    fn a_json_body_is_not_a_create() {
        let refusal = Order::parse(&HeaderMap::new(), Form::new()).err();
        assert_eq!(refusal.map(|refusal| refusal.http_status), Some(415));
    }
}
