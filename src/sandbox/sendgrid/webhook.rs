//! The event webhook: what becomes of a mail, told in batches, signed and repeated as SendGrid does
//! (<https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event>). Guarantee: every try is journalled.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{header, redirect};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use super::Order;
use crate::sandbox::{
    journal::{Entry, Journal},
    magic::{MailEvent, Reports, SendGridPlan},
    odds::Lot,
    rules::Rules,
};

const TOTAL_LIMIT: Duration = Duration::from_secs(15);
/// SendGrid repeats a batch for a day; a stand-in does not live that long.
const TRIES: u32 = 6;
/// Most events of a batch of those that come in any order.
const LARGEST_SHUFFLE: u64 = 8;
/// What stands before the point in a SubjectPublicKeyInfo on P-256 (RFC 5480).
const SPKI: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE";

/// A mail that was taken.
pub(super) struct Letter {
    pub(super) message_id: String,
    api_key: String,
    to: String,
    custom_args: BTreeMap<String, String>,
}

impl Letter {
    pub(super) fn new(order: &Order, api_key: &str) -> Self {
        let id = BASE64_STANDARD.encode(Uuid::new_v4().as_bytes());
        let message_id = id.trim_end_matches('=').replace('+', "-").replace('/', "_");
        let (to, custom_args) = (order.to.clone(), order.custom_args.clone());
        Self { message_id, api_key: api_key.to_owned(), to, custom_args }
    }

    /// The event as it is posted: the mail's custom arguments stand beside SendGrid's own fields.
    fn event(&self, event: MailEvent, timestamp: i64) -> Value {
        let mut value = json!({
            "email": self.to,
            "timestamp": timestamp,
            "smtp-id": format!("<{}@geopod-ismtpd-1>", self.message_id),
            "event": event.event,
            // Another one each time, also when the event comes again.
            "sg_event_id": Uuid::new_v4().simple().to_string(),
            "sg_message_id": format!("{}.recvd-5f8b9c-1-{}.0", self.message_id, &self.message_id[..4]),
        });
        let fields = event.fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        for (name, text) in fields.chain(self.custom_args.clone()) {
            value[name] = text.into();
        }
        value
    }
}

/// An account's webhook.
struct Webhook {
    key: Arc<EcdsaKeyPair>,
    url: String,
}

/// The webhooks of all accounts, by API key.
pub(super) struct Webhooks {
    accounts: Mutex<HashMap<String, Webhook>>,
    journal: Journal,
    rules: Rules,
    http: reqwest::Client,
    delay: Duration,
    random: SystemRandom,
}

impl Webhooks {
    pub(super) fn new(delay: Duration, journal: Journal, rules: Rules) -> io::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .timeout(TOTAL_LIMIT)
            .no_proxy()
            .user_agent("SendGrid Event API")
            .build()
            .map_err(io::Error::other)?;
        Ok(Self { accounts: Mutex::default(), journal, rules, http, delay, random: SystemRandom::new() })
    }

    /// Has the events of an account posted to `url`. Yields the key that verifies them, as SendGrid shows it; empty when none
    /// could be made.
    pub(super) fn set(&self, api_key: &str, url: &str) -> String {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = accounts.get(api_key).map(|webhook| Arc::clone(&webhook.key));
        let Some(key) = known.or_else(|| self.new_key()) else { return String::new() };
        let shown = shown(key.public_key().as_ref());
        accounts.insert(api_key.to_owned(), Webhook { key, url: url.to_owned() });
        shown
    }

    fn new_key(&self) -> Option<Arc<EcdsaKeyPair>> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.random).ok()?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &self.random);
        key.ok().map(Arc::new)
    }

    /// Lives the life of a mail, and tells of it.
    pub(super) async fn tell(&self, letter: &Letter, plan: SendGridPlan) {
        let now = || self.rules.provider_now().timestamp();
        match plan.reports {
            Reports::Never => {}
            Reports::InOrder | Reports::BeforeAnswer => self.tell_each(letter, plan.events, 1).await,
            Reports::Repeated(times) => self.tell_each(letter, plan.events, times).await,
            Reports::Reversed => {
                for _ in plan.events {
                    sleep(self.delay).await;
                }
                self.post(letter, plan.events.iter().rev().map(|&event| (event, now())).collect()).await;
            }
            Reports::Shuffled { repeats, lot } => {
                let mut lot = Lot::new(lot, &[]);
                let times = 1 + lot.below(repeats.into());
                let lived: Vec<_> = plan.events.iter().map(|&event| (event, now())).collect();
                let mut all: Vec<_> = (0..times).flat_map(|_| lived.iter().copied()).collect();
                lot.shuffle(&mut all);
                while !all.is_empty() {
                    let size = usize::try_from(1 + lot.below(LARGEST_SHUFFLE)).unwrap_or(1).min(all.len());
                    self.post(letter, all.drain(..size).collect()).await;
                }
            }
        }
    }

    async fn tell_each(&self, letter: &Letter, events: &[MailEvent], times: u32) {
        for &event in events {
            sleep(self.delay).await;
            // It happened once, however often it is told.
            let at = self.rules.provider_now().timestamp();
            for _ in 0..times {
                self.post(letter, vec![(event, at)]).await;
            }
        }
    }

    /// Posts a batch until it is taken, for so many tries.
    async fn post(&self, letter: &Letter, events: Vec<(MailEvent, i64)>) {
        let webhook = {
            let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            accounts.get(&letter.api_key).map(|webhook| (Arc::clone(&webhook.key), webhook.url.clone()))
        };
        let Some((key, url)) = webhook else { return };
        for attempt in 1..=TRIES {
            let batch: Vec<_> = events.iter().map(|&(event, at)| letter.event(event, at)).collect();
            let result = self.post_once(&key, &url, &batch).await;
            let (http_status, error) = match &result {
                Ok(http_status) => (Some(*http_status), None),
                Err(error) => (None, Some(error.clone())),
            };
            let words = events.iter().map(|(event, _)| event.event.to_owned()).collect();
            let message_id = letter.message_id.clone();
            self.journal.append(Entry::EventsSent { words, message_id, attempt, http_status, error });
            if result.is_ok_and(|http_status| (200..300).contains(&http_status)) {
                return;
            }
            sleep(self.delay * 2_u32.pow(attempt)).await;
        }
    }

    /// Yields the status of the answer, or why there was none.
    async fn post_once(&self, key: &EcdsaKeyPair, url: &str, batch: &[Value]) -> Result<u16, String> {
        let body = format!("{}\r\n", Value::from(batch));
        let timestamp = self.rules.provider_now().timestamp().to_string();
        let signature = key.sign(&self.random, [timestamp.as_bytes(), body.as_bytes()].concat().as_slice());
        let signature = signature.map_err(|_| "it could not be signed".to_owned())?;
        let request = self
            .http
            .post(self.rules.destination(url))
            .header(header::CONTENT_TYPE, "application/json;charset=utf-8")
            .header("X-Twilio-Email-Event-Webhook-Timestamp", timestamp)
            .header("X-Twilio-Email-Event-Webhook-Signature", BASE64_STANDARD.encode(signature))
            .body(body);
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        Ok(answer.status().as_u16())
    }
}

/// A public key as SendGrid shows it.
fn shown(point: &[u8]) -> String {
    let start = BASE64_STANDARD.decode(SPKI).unwrap_or_default();
    // The last byte of the start is the first of the point: it is uncompressed.
    BASE64_STANDARD.encode([&start[..start.len().saturating_sub(1)], point].concat())
}
