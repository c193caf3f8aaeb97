//! What a test sees from outside: deliveries as lists, reads and watches show them, what the stand-ins noted, and
//! refusals.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use heedwell::{
    grpc::proto::{
        Channel, Delivery, DeliveryChange, DeliveryFilter, DeliveryState, GetNotificationRequest,
        GetNotificationResponse, ListDeliveriesRequest, ListDeliveriesResponse, NotificationView,
        WatchDeliveriesRequest, WatchDeliveriesResponse, delivery::Source, watch_deliveries_request::Start,
    },
    sandbox::Entry,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::support::app::{ACME, LIMIT, TestApp};

/// The state as a word, such as `SENT`; messages and enums of the contract have no `Debug`.
pub(super) fn state(delivery: &Delivery) -> &'static str {
    word(delivery.state())
}

fn word(state: DeliveryState) -> &'static str {
    state.as_str_name().trim_start_matches("DELIVERY_STATE_")
}

/// Why it was skipped, as a word, such as `EXPIRED`.
pub(super) fn skipped(delivery: &Delivery) -> &'static str {
    delivery.skip_reason().as_str_name().trim_start_matches("SKIP_REASON_")
}

/// Why it failed, as a word, and the provider's code.
pub(super) fn failed(delivery: &Delivery) -> (&'static str, &str) {
    let failure = delivery.failure.as_ref().expect("it failed");
    (failure.reason().as_str_name().trim_start_matches("FAILURE_REASON_"), &failure.provider_code)
}

pub(super) fn time(time: Option<prost_types::Timestamp>) -> Option<DateTime<Utc>> {
    time.map(|time| DateTime::from_timestamp(time.seconds, time.nanos.cast_unsigned()).unwrap())
}

pub(super) fn notification_id(delivery: &Delivery) -> &str {
    match delivery.source.as_ref() {
        Some(Source::NotificationId(id)) => id,
        _ => panic!("it belongs to a notification"),
    }
}

/// A page of Acme's deliveries.
pub(super) async fn list(t: &TestApp, filter: DeliveryFilter) -> ListDeliveriesResponse {
    let request =
        ListDeliveriesRequest { practice_id: ACME.into(), filter: Some(filter), page_size: 500, ..Default::default() };
    t.staff().list_deliveries(request).await.unwrap().into_inner()
}

/// All of Acme's deliveries.
pub(super) async fn everything(t: &TestApp) -> Vec<Delivery> {
    list(t, DeliveryFilter::default()).await.deliveries
}

/// One delivery as it is now.
pub(super) async fn delivery(t: &TestApp, id: &str) -> Delivery {
    everything(t).await.into_iter().find(|delivery| delivery.delivery_id == id).expect("it is listed")
}

pub(super) async fn read(t: &TestApp, notification: &str, view: NotificationView) -> GetNotificationResponse {
    let request =
        GetNotificationRequest { practice_id: ACME.into(), notification_id: notification.into(), view: view.into() };
    t.staff().get_notification(request).await.unwrap().into_inner()
}

/// An open watch of Acme's deliveries.
pub(super) struct Watcher {
    steps: Streaming<WatchDeliveriesResponse>,
    /// As the last response had it.
    pub(super) cursor: String,
}

impl Watcher {
    /// Opens a watch and takes its first response, which is a checkpoint.
    pub(super) async fn open(t: &TestApp, filter: DeliveryFilter, start: Option<Start>) -> Self {
        Self::try_open(t, filter, start).await.unwrap()
    }

    pub(super) async fn try_open(t: &TestApp, filter: DeliveryFilter, start: Option<Start>) -> Result<Self, Status> {
        let request =
            WatchDeliveriesRequest { practice_id: ACME.into(), filter: Some(filter), start, ..Default::default() };
        Self::of(t.staff().watch_deliveries(request).await?.into_inner()).await
    }

    pub(super) async fn of(steps: Streaming<WatchDeliveriesResponse>) -> Result<Self, Status> {
        let mut watcher = Self { steps, cursor: String::new() };
        let first = watcher.step().await?.expect("a first response");
        assert!(first.changes.is_empty(), "the first response is a checkpoint");
        Ok(watcher)
    }

    pub(super) async fn from(t: &TestApp, cursor: &str) -> Self {
        Self::open(t, DeliveryFilter::default(), Some(Start::Cursor(cursor.into()))).await
    }

    /// The next response; unset at the planned end.
    pub(super) async fn step(&mut self) -> Result<Option<WatchDeliveriesResponse>, Status> {
        let step = timeout(LIMIT, self.steps.message()).await.expect("a response in time")?;
        if let Some(step) = &step {
            assert!(!step.cursor.is_empty() && step.server_time.is_some(), "each response has a cursor and a time");
            self.cursor.clone_from(&step.cursor);
        }
        Ok(step)
    }

    /// The next changes.
    pub(super) async fn changes(&mut self) -> Vec<DeliveryChange> {
        loop {
            let step = self.step().await.unwrap().expect("the watch goes on");
            if !step.changes.is_empty() {
                return step.changes;
            }
        }
    }

    /// All changes up to and with the first that `wanted` holds for, which must be the last of its response.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Delivery) -> bool) -> Vec<DeliveryChange> {
        let mut seen = Vec::new();
        let enough = async {
            while !seen.iter().any(|change: &DeliveryChange| wanted(image(change))) {
                seen.extend(self.changes().await);
            }
        };
        if timeout(LIMIT, enough).await.is_err() {
            panic!("not seen in time; seen: {:?}", seen.iter().map(|it| state(image(it))).collect::<Vec<_>>());
        }
        seen
    }
}

pub(super) fn image(change: &DeliveryChange) -> &Delivery {
    change.delivery.as_ref().expect("a change holds its delivery")
}

/// Waits until `wanted` holds for the delivery, and yields it as it was then.
pub(super) async fn until(t: &TestApp, id: &str, wanted: impl Fn(&Delivery) -> bool) -> Delivery {
    let page = list(t, DeliveryFilter::default()).await;
    if let Some(now) = page.deliveries.into_iter().find(|delivery| delivery.delivery_id == id && wanted(delivery)) {
        return now;
    }
    let mut watcher = Watcher::from(t, &page.watch_cursor).await;
    let mut changes = watcher.until(|delivery| delivery.delivery_id == id && wanted(delivery)).await;
    let place = changes.iter().position(|it| image(it).delivery_id == id && wanted(image(it))).unwrap();
    changes.swap_remove(place).delivery.unwrap()
}

/// Waits until the delivery is in that state.
pub(super) async fn until_state(t: &TestApp, id: &str, wanted: &str) -> Delivery {
    until(t, id, |delivery| state(delivery) == wanted).await
}

/// Waits until each delivery is in the state beside it, and yields them as they were then.
pub(super) async fn settled<const N: usize>(t: &TestApp, deliveries: &[Delivery], wanted: [&str; N]) -> [Delivery; N] {
    assert_eq!(deliveries.len(), N);
    let mut settled = Vec::new();
    for (delivery, wanted) in deliveries.iter().zip(wanted) {
        settled.push(until_state(t, &delivery.delivery_id, wanted).await);
    }
    settled.try_into().ok().unwrap()
}

/// Every change of one delivery so far, after checking that they are whole: revisions without a gap, each naming the
/// state before, and no state lower than an earlier one.
pub(super) async fn history(t: &TestApp, id: &str) -> Vec<Delivery> {
    let now = delivery(t, id).await;
    let start = now.create_time;
    let filter = DeliveryFilter { notification_id: notification_id(&now).into(), ..Default::default() };
    let mut watcher = Watcher::open(t, filter, start.map(Start::StartTime)).await;
    let changes = watcher.until(|it| it.delivery_id == id && it.revision >= now.revision).await;
    let changes: Vec<_> = changes.into_iter().filter(|change| image(change).delivery_id == id).collect();
    check_order(&changes);
    changes.into_iter().map(|change| change.delivery.unwrap()).collect()
}

/// The states of a delivery so far, each once.
pub(super) async fn states(t: &TestApp, id: &str) -> Vec<&'static str> {
    let mut states: Vec<_> = history(t, id).await.iter().map(state).collect();
    states.dedup();
    states
}

/// Checks that changes follow each other as the contract says, delivery by delivery.
pub(super) fn check_order(changes: &[DeliveryChange]) {
    let mut last = HashMap::new();
    for change in changes {
        let now = image(change);
        let next = now.next_action_time.map_or(0, |time| time.nanos);
        assert_eq!(next % 1_000, 0, "times are those that the databases keep, in microseconds");
        let before = last.insert(now.delivery_id.clone(), now);
        let Some(before) = before else { continue };
        assert_eq!(now.revision, before.revision + 1, "revisions have no gap");
        assert_eq!(word(change.previous_state()), state(before), "each change names the state before it");
        // A mail host may take a mail and send it back all the same.
        let came_back = (state(before), state(now)) == ("DELIVERED", "FAILED") && now.channel() == Channel::Email;
        assert!(came_back || rank(now) >= rank(before), "{} after {}", state(now), state(before));
    }
}

/// The order of progress.
fn rank(delivery: &Delivery) -> u8 {
    match delivery.state() {
        DeliveryState::Unspecified => 0,
        DeliveryState::Pending => 1,
        DeliveryState::Unconfirmed => 2,
        DeliveryState::Sent => 3,
        DeliveryState::Failed => 4,
        DeliveryState::Delivered | DeliveryState::Skipped | DeliveryState::Cancelled => 5,
    }
}

/// A text message that Twilio took.
pub(super) struct Text {
    pub(super) sid: String,
    pub(super) body: String,
    pub(super) callback: String,
    pub(super) validity: Option<u32>,
    pub(super) token_uses: usize,
}

/// The text messages that Twilio took for `phone`, oldest first.
pub(super) fn texts(t: &TestApp, phone: &str) -> Vec<Text> {
    let taken = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::TwilioCreate { to, sid, body, status_callback, validity, token_uses, .. } if to == phone => {
            Some(Text { sid, body, callback: status_callback.unwrap_or_default(), validity, token_uses })
        }
        _ => None,
    });
    taken.collect()
}

/// How many create requests for `phone` Twilio refused.
pub(super) fn refused_texts(t: &TestApp, phone: &str) -> usize {
    let refused = |entry: &Entry| matches!(entry, Entry::TwilioRefused { to, .. } if to.as_deref() == Some(phone));
    t.sandbox.journal().entries().iter().filter(|entry| refused(entry)).count()
}

/// A mail that the relay stored.
pub(super) struct Mail {
    pub(super) message_id: String,
    /// By lower-case name, unfolded.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) text: String,
    pub(super) html: String,
}

/// The mails that the relay stored for `address`, oldest first.
pub(super) fn mails(t: &TestApp, address: &str) -> Vec<Mail> {
    let stored = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::SmtpMessage { rcpt_to, raw, .. } if rcpt_to == [address] => {
            Some(Mail::parse(&String::from_utf8(raw.bytes()).unwrap()))
        }
        _ => None,
    });
    stored.collect()
}

impl Mail {
    /// Reads a mail of two parts, text first (RFC 2046, 5.1.4), as strictly as this server is to write it.
    fn parse(raw: &str) -> Self {
        assert!(raw.is_ascii() && !raw.replace("\r\n", "").contains(['\r', '\n']), "lines end in CRLF");
        let (headers, body) = parts_of(raw);
        let content_type = &headers["content-type"];
        assert!(content_type.starts_with("multipart/alternative"), "{content_type}");
        let (_, boundary) = content_type.split_once("boundary=").unwrap();
        let boundary = format!("--{}", boundary.split(';').next().unwrap().trim_matches('"'));
        let parts: Vec<_> = body.split(&boundary).collect();
        let [_, text, html, end] = parts[..] else { panic!("{} parts", parts.len()) };
        assert!(end.starts_with("--"));
        let part = |part: &str, wanted: &str| {
            let (headers, body) = parts_of(part.trim_start_matches("\r\n"));
            assert!(headers["content-type"].starts_with(wanted), "{}", headers["content-type"]);
            assert!(headers["content-type"].to_lowercase().contains("charset=utf-8"));
            // The line break before a boundary belongs to the boundary.
            decode(&headers, body.strip_suffix("\r\n").unwrap()).replace("\r\n", "\n")
        };
        let (text, html) = (part(text, "text/plain"), part(html, "text/html"));
        let message_id = headers["message-id"].trim_matches(['<', '>']).to_owned();
        Self { message_id, headers, text, html }
    }
}

fn parts_of(raw: &str) -> (BTreeMap<String, String>, &str) {
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    });
    (headers.collect(), body)
}

fn decode(headers: &BTreeMap<String, String>, body: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoding = headers.get("content-transfer-encoding").map_or("7bit", String::as_str);
    match encoding.to_lowercase().as_str() {
        "7bit" => body.to_owned(),
        "base64" => String::from_utf8(BASE64_STANDARD.decode(body.replace("\r\n", "")).unwrap()).unwrap(),
        "quoted-printable" => {
            let body = body.replace("=\r\n", "");
            let mut pieces = body.split('=');
            let mut bytes = pieces.next().unwrap().as_bytes().to_vec();
            for piece in pieces {
                let (hex, rest) = piece.split_at(2);
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                bytes.extend_from_slice(rest.as_bytes());
            }
            String::from_utf8(bytes).unwrap()
        }
        other => panic!("{other}"),
    }
}

/// Checks that a call was refused with that code and reason, and yields the status.
#[track_caller]
pub(super) fn refused<T>(result: Result<T, Status>, code: Code, reason: &str) -> Status {
    let status = result.err().expect("it is refused");
    let info = status.get_details_error_info().expect("each error carries ErrorInfo");
    assert_eq!((status.code(), info.reason.as_str()), (code, reason), "{}", status.message());
    assert_eq!(info.domain, "heedwell.v1");
    assert!(status.message().len() <= 512);
    status
}

/// The value that the error's metadata has under `key`.
pub(super) fn metadata(status: &Status, key: &str) -> String {
    status.get_details_error_info().unwrap().metadata.get(key).cloned().expect("the metadata has the key")
}

/// The fields that are invalid, sorted.
pub(super) fn fields(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request().expect("a BadRequest").field_violations;
    let mut fields: Vec<_> = violations.into_iter().map(|violation| violation.field).collect();
    fields.sort();
    fields
}
