//! The carrier's side: a message's life after it was taken, and the webhooks that tell of it, signed and retried as Twilio
//! does (<https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides>). Guarantee: every try is journalled.

mod retry;

use std::{io, sync::Arc, time::Duration};

use reqwest::{header, redirect};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::form_urlencoded;
use uuid::Uuid;

use self::retry::{Fault, Overrides};
use super::{
    journal::{Entry, Journal, Raw},
    magic::{End, Reports, SmsPlan},
    odds::Lot,
    rules::Rules,
    signature,
    twilio::{Message, Messages, media},
};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const TOTAL_LIMIT: Duration = Duration::from_secs(15);
const REPLY_LIMIT: usize = 64 * 1024;

/// A point in a message's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) status: &'static str,
    pub(super) error_code: Option<u32>,
}

impl Step {
    pub(super) const ACCEPTED: Self = Self::new("accepted");
    pub(super) const QUEUED: Self = Self::new("queued");
    pub(super) const SENT: Self = Self::new("sent");
    const DELIVERED: Self = Self::new("delivered");

    const fn new(status: &'static str) -> Self {
        Self { status, error_code: None }
    }

    /// What comes after the create. A message of a Messaging Service is queued first, and that is called back.
    fn all(service: bool, end: End) -> Vec<Self> {
        let last = match end {
            End::Delivered => Some(Self::DELIVERED),
            End::Undelivered(code) => Some(Self { status: "undelivered", error_code: Some(code) }),
            End::Sent => None,
        };
        service.then_some(Self::QUEUED).into_iter().chain([Self::SENT]).chain(last).collect()
    }

    fn is_final(self) -> bool {
        self == Self::DELIVERED || self.error_code.is_some()
    }
}

/// Names of parameters: where a file is, and what it is said to be.
const MEDIA: [(&str, &str); 10] = [
    ("MediaUrl0", "MediaContentType0"),
    ("MediaUrl1", "MediaContentType1"),
    ("MediaUrl2", "MediaContentType2"),
    ("MediaUrl3", "MediaContentType3"),
    ("MediaUrl4", "MediaContentType4"),
    ("MediaUrl5", "MediaContentType5"),
    ("MediaUrl6", "MediaContentType6"),
    ("MediaUrl7", "MediaContentType7"),
    ("MediaUrl8", "MediaContentType8"),
    ("MediaUrl9", "MediaContentType9"),
];

/// A text that a patient sends.
#[derive(serde::Deserialize)]
pub(super) struct Inbound {
    pub(super) url: String,
    pub(super) account_sid: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) body: String,
    /// The Messaging Service that the number is one of.
    #[serde(default)]
    pub(super) service: Option<String>,
    /// What Advanced Opt-Out takes it for.
    #[serde(default)]
    pub(super) opt_out_type: Option<String>,
    /// The files that go along, by their names in the table of files.
    #[serde(default)]
    pub(super) media: Vec<String>,
}

/// A webhook request to be.
struct Webhook {
    sid: String,
    status: &'static str,
    account: String,
    url: String,
    params: Vec<(&'static str, String)>,
}

/// What a webhook answered.
pub(super) struct Reply {
    pub(super) http_status: u16,
    pub(super) body: String,
}

/// Carries messages and tells of it.
pub(super) struct Carrier {
    pub(super) journal: Journal,
    pub(super) rules: Rules,
    pub(super) messages: Messages,
    http: reqwest::Client,
    /// Where Twilio is.
    base: String,
    delay: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Carrier {
    pub(super) fn new(
        base: String,
        delay: Duration,
        journal: &Journal,
        rules: &Rules,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(TOTAL_LIMIT)
            .no_proxy()
            .user_agent("TwilioProxy/1.1")
            .build()
            .map_err(io::Error::other)?;
        let (journal, rules, messages) = (journal.clone(), rules.clone(), Messages::default());
        Ok(Arc::new(Self { journal, rules, messages, http, base, delay, tasks: tasks.clone(), stop: stop.clone() }))
    }

    /// Starts the life of a message, on a task that ends with the stand-in.
    pub(super) fn carry(self: Arc<Self>, message: Message, plan: SmsPlan) -> JoinHandle<()> {
        let (tasks, stop) = (self.tasks.clone(), self.stop.clone());
        let life = async move {
            let steps = Step::all(message.service().is_some(), plan.end);
            self.come_for_media(&message).await;
            // Side by side, since a webhook that is slow to answer does not hold up the carrier.
            tokio::join!(self.live(&message, &steps), self.report(&message, &steps, plan.reports));
            self.reply(&message, &plan).await;
        };
        tasks.spawn(async move {
            stop.run_until_cancelled(life).await;
        })
    }

    /// Gets the files of a message, as Twilio does before it sends them.
    async fn come_for_media(&self, message: &Message) {
        for url in message.media() {
            let answer = self.http.get(self.rules.destination(url)).send().await;
            let (http_status, media_type, content) = match answer {
                Ok(response) => {
                    let status = Some(response.status().as_u16());
                    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                    let kind = kind.map(str::to_owned);
                    (status, kind, response.bytes().await.map(|bytes| bytes.to_vec()).unwrap_or_default())
                }
                Err(_) => (None, None, Vec::new()),
            };
            let (sid, url, content) = (message.sid.clone(), url.clone(), Raw::new(content));
            self.journal.append(Entry::TwilioMedia { sid, url, http_status, media_type, content });
        }
    }

    async fn live(&self, message: &Message, steps: &[Step]) {
        for &step in steps {
            sleep(self.delay).await;
            self.messages.advance(&message.sid, step, self.rules.provider_now());
        }
    }

    async fn report(&self, message: &Message, steps: &[Step], reports: Reports) {
        let Some(url) = message.callback() else { return };
        match reports {
            Reports::Never => {}
            Reports::InOrder | Reports::BeforeAnswer => self.report_each(message, url, steps, 1).await,
            Reports::Repeated(times) => self.report_each(message, url, steps, times).await,
            Reports::Reversed => {
                for _ in steps {
                    sleep(self.delay).await;
                }
                for &step in steps.iter().rev() {
                    self.post(&self.status(message, url, step)).await;
                }
            }
            Reports::Shuffled { repeats, lot } => {
                let mut lot = Lot::new(lot, &[]);
                let times = 1 + lot.below(repeats.into());
                let mut all: Vec<Step> = (0..times).flat_map(|_| steps.iter().copied()).collect();
                lot.shuffle(&mut all);
                for step in all {
                    self.post(&self.status(message, url, step)).await;
                }
            }
        }
    }

    async fn report_each(&self, message: &Message, url: &str, steps: &[Step], times: u32) {
        for &step in steps {
            sleep(self.delay).await;
            for _ in 0..times {
                self.post(&self.status(message, url, step)).await;
            }
        }
    }

    /// Texts back what the recipient says to the message.
    async fn reply(&self, message: &Message, plan: &SmsPlan) {
        let Some(url) = message.callback().and_then(inbound_url) else { return };
        for body in plan.replies {
            sleep(self.delay).await;
            let (account_sid, service) = (message.account.clone(), message.service().map(str::to_owned));
            let (from, to, body) = (message.to().to_owned(), message.from().to_owned(), (*body).to_owned());
            let media = plan.sends.iter().map(|name| (*name).to_owned()).collect();
            let url = url.clone();
            self.inbound(Inbound { url, account_sid, from, to, body, service, opt_out_type: None, media }).await;
        }
    }

    /// Posts an inbound text. Answers its SID and what the webhook said to the last try.
    pub(super) async fn inbound(&self, inbound: Inbound) -> (String, Option<Reply>) {
        let sid = format!("SM{}", Uuid::new_v4().simple());
        let sender = inbound.service.as_deref().unwrap_or(&inbound.to);
        self.rules.hear(sender, &inbound.from, &inbound.body);
        let webhook = inbound.webhook(&self.base, &sid);
        let reply = self.stop.run_until_cancelled(self.post(&webhook)).await.flatten();
        (sid, reply)
    }

    /// The status callback of a step, with the parameters of
    /// <https://www.twilio.com/docs/messaging/guides/track-outbound-message-status>.
    fn status(&self, message: &Message, url: &str, step: Step) -> Webhook {
        let mut params = vec![
            ("AccountSid", message.account.clone()),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("From", message.from().to_owned()),
            ("MessageSid", message.sid.clone()),
            ("MessageStatus", step.status.to_owned()),
            ("SmsSid", message.sid.clone()),
            ("SmsStatus", step.status.to_owned()),
            ("To", message.to().to_owned()),
        ];
        params.extend(message.service().map(|service| ("MessagingServiceSid", service.to_owned())));
        params.extend(step.error_code.map(|code| ("ErrorCode", code.to_string())));
        let done = step.is_final().then(|| self.rules.provider_now().format("%y%m%d%H%M").to_string());
        params.extend(done.map(|time| ("RawDlrDoneDate", time)));
        let (sid, account) = (message.sid.clone(), message.account.clone());
        Webhook { sid, status: step.status, account, url: url.to_owned(), params }
    }

    /// Posts a webhook, again and again as its URL's fragment allows, and gives the last answer.
    async fn post(&self, webhook: &Webhook) -> Option<Reply> {
        let overrides = Overrides::of(&webhook.url);
        // Names the event: the same in each of its retries.
        let event = Uuid::new_v4();
        for attempt in 1.. {
            let result = self.post_once(webhook, event).await;
            let (http_status, error) = match &result {
                Ok(reply) => (Some(reply.http_status), None),
                Err(failure) => (None, Some(failure.text.clone())),
            };
            let (sid, status) = (webhook.sid.clone(), webhook.status.to_owned());
            self.journal.append(Entry::CallbackSent { sid, status, attempt, http_status, error });
            let fault = match &result {
                Ok(reply) => Fault::of_status(reply.http_status),
                Err(failure) => failure.fault,
            };
            if attempt > overrides.retries || fault.is_none_or(|fault| !overrides.covers(fault)) {
                return result.ok();
            }
            sleep(self.delay * 2_u32.pow(attempt)).await;
        }
        None
    }

    async fn post_once(&self, webhook: &Webhook, event: Uuid) -> Result<Reply, Failure> {
        let auth_token = self.rules.auth_token(&webhook.account).ok_or_else(Failure::unsigned)?;
        let signature = signature::sign(&auth_token, &webhook.url, &webhook.params);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&webhook.params).finish();
        let request = self
            .http
            .post(self.rules.destination(&webhook.url))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
            .header("X-Twilio-Signature", signature)
            .header("I-Twilio-Idempotency-Token", event.to_string())
            .body(body);
        let mut response = request.send().await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > REPLY_LIMIT {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Reply { http_status: response.status().as_u16(), body })
    }
}

/// Where texts to the sender of a message go: at Twilio that is set at the number, here it is found beside the status callback.
fn inbound_url(callback: &str) -> Option<String> {
    let (path, fragment) = callback.split_once('#').unwrap_or((callback, ""));
    let (webhooks, _) = path.split_once("/status/")?;
    Some(format!("{webhooks}/inbound#{fragment}"))
}

impl Inbound {
    /// What is wrong with the files, if anything is: Twilio passes on whatever a phone sends, of any type, and leaves nothing out.
    pub(super) fn files_fault(&self) -> Option<String> {
        if self.media.len() > MEDIA.len() {
            return Some(format!("a text has at most {} files", MEDIA.len()));
        }
        let unknown = self.media.iter().any(|name| media::by_name(name).is_none());
        unknown.then(|| format!("no such file; there are: {}", media::names().collect::<Vec<_>>().join(", ")))
    }

    /// The parameters of <https://www.twilio.com/docs/messaging/guides/webhook-request>.
    fn webhook(self, base: &str, sid: &str) -> Webhook {
        let files = self.media.iter().filter_map(|name| media::by_name(name));
        let files: Vec<_> = files.zip(MEDIA).collect();
        let mut params = vec![
            ("AccountSid", self.account_sid.clone()),
            ("ApiVersion", "2010-04-01".to_owned()),
            ("Body", self.body),
            ("From", self.from),
            ("MessageSid", sid.to_owned()),
            ("NumMedia", files.len().to_string()),
            ("NumSegments", "1".to_owned()),
            ("SmsMessageSid", sid.to_owned()),
            ("SmsSid", sid.to_owned()),
            ("SmsStatus", "received".to_owned()),
            ("To", self.to),
        ];
        for (file, (url, kind)) in files {
            params.push((url, file.url(base, &self.account_sid, sid)));
            params.push((kind, file.declared.to_owned()));
        }
        params.extend(self.service.map(|service| ("MessagingServiceSid", service)));
        params.extend(self.opt_out_type.map(|word| ("OptOutType", word)));
        // Twilio sends these even where it knows no place; empty ones are signed too.
        let places = ["FromCity", "FromState", "FromZip", "ToCity", "ToState", "ToZip"];
        params.extend(places.map(|name| (name, String::new())));
        params.extend(["FromCountry", "ToCountry"].map(|name| (name, "US".to_owned())));
        Webhook { sid: sid.to_owned(), status: "received", account: self.account_sid, url: self.url, params }
    }
}

/// A try without an answer. Without a fault it is not worth another try.
struct Failure {
    fault: Option<Fault>,
    text: String,
}

impl Failure {
    fn unsigned() -> Self {
        Self { fault: None, text: "the account's Auth Token is not known, so nothing can be signed".to_owned() }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let fault = match &error {
            error if error.is_builder() => None,
            error if error.is_connect() => Some(Fault::Connect),
            _ => Some(Fault::Read),
        };
        Self { fault, text: error.without_url().to_string() }
    }
}
