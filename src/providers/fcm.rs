//! Firebase Cloud Messaging, HTTP v1 (firebase.google.com/docs/reference/fcm/rest/v1/projects.messages): one call for each
//! device of a patient, in the name of the practice's own project. It relays to Apple's devices as well.
//!
//! Guarantee: a device has taken a message only when FCM gave it a name. A message that goes out again replaces the one before
//! on the device, since both have the same id there. What leaves is the wording and an id that means nothing outside.

mod access;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::future::join_all;
use reqwest::{Client, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

pub(super) use self::access::Access;
use super::{
    Accepted, Handed, OutgoingPush, Reach, SendError,
    error::{DeviceError, FcmFault},
    net,
    twilio::callback::ReportedStatus,
};
use crate::{
    clock::SharedClock,
    domain::{Device, PushToken, ServiceAccount},
};

/// FCM keeps a message for four weeks at most (`AndroidConfig.ttl`).
const LONGEST_TTL: Duration = Duration::from_secs(28 * 24 * 3_600);
/// Names of messages are far shorter; a longer text is none.
const LONGEST_NAME: usize = 300;

/// The client.
#[derive(Debug)]
pub(super) struct Fcm {
    http: Client,
    base: Url,
    clock: SharedClock,
    access: Access,
    /// For everything that one message takes, tokens included.
    limit: Duration,
}

/// What became of a message at one device.
enum Fate {
    /// FCM took it under this name.
    Taken(String),
    /// It did not.
    Not(DeviceError),
}

impl Fcm {
    pub(super) const fn new(http: Client, base: Url, access: Access, clock: SharedClock, limit: Duration) -> Self {
        Self { http, base, clock, access, limit }
    }

    /// Hands a message over for each device.
    pub(super) async fn send(&self, account: &ServiceAccount, push: &OutgoingPush) -> Handed {
        let end = Instant::now() + self.limit;
        let token = match self.access.token(account, end, None).await {
            Ok(token) => token,
            Err(error) => return Handed { outcome: Err(error), gone: Vec::new() },
        };
        let fates = join_all(push.devices.iter().map(|device| self.tell(account, push, device, &token, end))).await;
        let (outcome, mut gone) = (sum(account, &fates), Vec::new());
        for (device, fate) in push.devices.iter().zip(&fates) {
            // One of another project may be right, and the account wrong.
            if matches!(fate, Fate::Not(DeviceError::Gone { foreign: false, .. })) {
                gone.push(device.registration());
            }
        }
        Handed { outcome, gone }
    }

    /// Tells one device. A token that is not good any more is renewed once.
    async fn tell(
        &self,
        account: &ServiceAccount,
        push: &OutgoingPush,
        device: &Device,
        token: &SecretString,
        end: Instant,
    ) -> Fate {
        let body = self.body(push, &device.token);
        let failed = |error| Fate::Not(DeviceError::Failed(error));
        let mut answer = match self.call(account, &body, token, end).await {
            Ok(answer) => answer,
            Err(error) => return failed(error),
        };
        if answer.status == StatusCode::UNAUTHORIZED && answer.fault().code() != Some("THIRD_PARTY_AUTH_ERROR") {
            // Refused before anything was done with it, so that it may be sent again.
            let renewed = async {
                let token = self.access.token(account, end, Some(token)).await?;
                self.call(account, &body, &token, end).await
            };
            answer = match renewed.await {
                Ok(answer) => answer,
                Err(error) => return failed(error),
            };
        }
        match answer.name() {
            Some(name) => Fate::Taken(name),
            None => Fate::Not(DeviceError::from_fcm(answer.status.as_u16(), &answer.fault(), answer.retry_after)),
        }
    }

    async fn call(
        &self,
        account: &ServiceAccount,
        body: &Value,
        token: &SecretString,
        end: Instant,
    ) -> Result<Answer, SendError> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SendError::not_taken("timeout"));
        }
        let request = self
            .http
            .post(self.url(account))
            .timeout(left)
            .bearer_auth(token.expose_secret())
            .header(header::ACCEPT, "application/json")
            .json(body);
        let response = failpoint!("F8", request.send()).await.map_err(|error| net::http_failure(&error))?;
        Ok(Answer::read(response, &self.clock).await)
    }

    fn url(&self, account: &ServiceAccount) -> Url {
        let mut url = self.base.clone();
        // `Providers::new` refused a URL that has no path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "projects", &account.project_id, "messages:send"]);
        }
        url
    }

    /// The message as the API wants it. `tag` and `apns-collapse-id` have a repeat take the place of the message before. There
    /// is no collapse key: a device that is off keeps four of them at most, of its own choice.
    fn body(&self, push: &OutgoingPush, token: &PushToken) -> Value {
        let ttl = push.ttl.min(LONGEST_TTL);
        let expiration = self.clock.now().timestamp().saturating_add_unsigned(ttl.as_secs());
        let target = if token.is_installation_id() { "fid" } else { "token" };
        json!({
            "message": {
                target: token.as_str(),
                "notification": { "title": push.title.expose(), "body": push.body.expose() },
                "data": { "notification_id": push.id },
                "android": {
                    "priority": "HIGH",
                    "ttl": format!("{}s", ttl.as_secs()),
                    // On a locked screen the phone's owner decides whether the words are shown.
                    "notification": { "tag": push.id, "visibility": "PRIVATE" },
                },
                "apns": {
                    "headers": {
                        "apns-collapse-id": push.id,
                        "apns-expiration": expiration.to_string(),
                        "apns-priority": "10",
                        "apns-push-type": "alert",
                    },
                    "payload": { "aps": { "sound": "default" } },
                },
            },
        })
    }
}

/// What the fates of its devices amount to for the message: it has left once one device took it, however the others fared,
/// since the patient has it then. Devices that are gone leave the others to decide, and without others it is tried again,
/// when it is found whether there is a device left.
fn sum(account: &ServiceAccount, fates: &[Fate]) -> Result<Accepted, SendError> {
    let mut failure: Option<SendError> = None;
    let mut taken: Option<&String> = None;
    for fate in fates {
        let error = match fate {
            Fate::Taken(name) => {
                taken = taken.or(Some(name));
                continue;
            }
            Fate::Not(DeviceError::Failed(error)) => error.clone(),
            Fate::Not(DeviceError::Gone { code, foreign: true }) => {
                tracing::warn!(project = account.project_id, "a device belongs to an app of another Firebase project");
                SendError::Misconfigured { code: (*code).to_owned(), reach: Reach::Message }
            }
            Fate::Not(DeviceError::Gone { code, foreign: false }) => {
                SendError::NotTaken { retry_after: None, code: (*code).to_owned(), reach: Reach::Message }
            }
        };
        failure = Some(match failure {
            Some(before) => before.weightier(error),
            None => error,
        });
    }
    match (taken, failure) {
        (Some(name), _) => Ok(Accepted {
            provider_ref: Some(name.clone()),
            status: ReportedStatus::Accepted,
            sms_segments: None,
            clock_offset: None,
        }),
        (None, Some(error)) => Err(error),
        (None, None) => Err(SendError::internal("no device")),
    }
}

/// FCM's answer.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

impl Answer {
    async fn read(response: Response, clock: &SharedClock) -> Self {
        let status = response.status();
        let wait = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = wait.and_then(|value| net::wait(value, clock.now()));
        // Read to its end also where nothing is expected, so that the connection can be used again.
        Self { status, body: net::body(response).await.unwrap_or_default(), retry_after }
    }

    /// The name of the message, if it was taken.
    fn name(&self) -> Option<String> {
        if self.status != StatusCode::OK {
            return None;
        }
        let Taken { name } = serde_json::from_slice(&self.body).ok()?;
        (name.starts_with("projects/") && name.len() <= LONGEST_NAME).then_some(name)
    }

    /// What an error says; nothing where it is a page of HTML.
    fn fault(&self) -> FcmFault {
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        let Some(Problem { error }) = problem else { return FcmFault::default() };
        let of = |kind: &'static str| error.details.iter().filter(move |detail| detail.kind == kind);
        FcmFault {
            error_code: of(FCM_ERROR).find_map(|detail| detail.error_code.clone()),
            fields: of(BAD_REQUEST).flat_map(|detail| &detail.field_violations).map(|it| it.field.clone()).collect(),
            status: error.status,
        }
    }
}

const FCM_ERROR: &str = "type.googleapis.com/google.firebase.fcm.v1.FcmError";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

#[derive(Deserialize)]
struct Taken {
    name: String,
}

#[derive(Deserialize)]
struct Problem {
    error: Status,
}

/// `google.rpc.Status`. What it says beside the codes is text for people.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    status: Option<String>,
    details: Vec<Detail>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Detail {
    #[serde(rename = "@type")]
    kind: String,
    error_code: Option<String>,
    field_violations: Vec<FieldViolation>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FieldViolation {
    field: String,
}
