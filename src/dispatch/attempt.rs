//! One delivery: the last check of the clock, the call, and the verdict.

use std::panic::AssertUnwindSafe;

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};

use super::{Dispatch, limits::Health, stopwatch::Stopwatch};
use crate::{
    domain::{Account, FailureReason, Registration, Verdict},
    providers::{Handed, Outgoing, OutgoingEmail, OutgoingPush, OutgoingSms, Reach, SendError},
    store::{Claimed, Destination, Failing, Settlement},
    telemetry::{AttemptOutcome, KeyValue, SpanKind},
};

/// Twilio tries for ten hours at most (providers: `ValidityPeriod`).
const LONGEST_VALIDITY: i64 = 36_000;
/// How much longer the provider may come for a file than it may try to send it.
const MEDIA_GRACE: TimeDelta = TimeDelta::minutes(5);
/// With less left than this a try is not worth it: the next claim finds it expired.
const SHORTEST_VALIDITY: TimeDelta = TimeDelta::zero();

/// What came of a claim: the verdict on the delivery, and what it tells of the account.
struct Answer {
    verdict: Verdict,
    health: Health,
    gone: Vec<Registration>,
}

impl Answer {
    const NOT_STARTED: Self = Self { verdict: Verdict::NotStarted, health: Health::Unsaid, gone: Vec::new() };
}

impl Dispatch {
    /// Hands `claimed` over once. The verdict says what is known; it never guesses.
    pub(super) async fn attempt(&self, claimed: Claimed, watch: Stopwatch) -> Settlement {
        // Kept until what the call tells of the account is noted: whoever is next in its place has to know.
        let room = self.room(&claimed, &watch).await;
        let trace = |name, kind, took, outcome: &str| {
            let says = || Self::says(&claimed, outcome);
            self.store.telemetry().traces.step(name, kind, claimed.trace, took, says);
        };
        trace("claim", SpanKind::Internal, watch.elapsed(), "");
        let began = watch.elapsed();
        let Answer { verdict, health, gone } = match &room {
            Some(_) => guarded(self.call(&claimed, &watch)).await,
            None => Answer::NOT_STARTED,
        };
        if let Some(outcome) = outcome(&verdict) {
            let took = watch.elapsed().saturating_sub(began);
            let provider = claimed.account.provider().name();
            self.store.telemetry().metrics.attempt(claimed.channel, provider, outcome, took);
            trace("provider call", SpanKind::Client, took, outcome.name());
        }
        self.limits().ended(&claimed, health, claimed.claimed_at + watch.elapsed());
        drop(room);
        Settlement {
            practice: claimed.practice,
            id: claimed.id,
            epoch: claimed.epoch,
            attempt: claimed.attempt,
            verdict,
            gone,
            random: rand::random(),
        }
    }

    /// What a span tells of an attempt.
    fn says(claimed: &Claimed, outcome: &str) -> Vec<KeyValue> {
        let mut says = vec![
            KeyValue::new("practice.id", claimed.practice.as_str().to_owned()),
            KeyValue::new("delivery.id", claimed.id.to_string()),
            KeyValue::new("channel", claimed.channel.label()),
            KeyValue::new("provider", claimed.account.provider().name()),
            KeyValue::new("attempt", i64::from(claimed.attempt)),
        ];
        if !outcome.is_empty() {
            says.push(KeyValue::new("outcome", outcome.to_owned()));
        }
        says
    }

    /// Room for one more call at the account, unless there is none in time.
    async fn room(&self, claimed: &Claimed, watch: &Stopwatch) -> Option<OwnedSemaphorePermit> {
        let calls = self.limits().calls(claimed);
        tokio::select! {
            room = calls.acquire_owned() => room.ok(),
            () = sleep(self.settings.start_limit.saturating_sub(watch.elapsed())) => None,
            () = self.stop.cancelled() => None,
        }
    }

    async fn call(&self, claimed: &Claimed, watch: &Stopwatch) -> Answer {
        // A claim that has grown old may be about to be taken over: begun now, the call could outlive its lease.
        let in_time = watch.allows(self.settings.start_limit) || mutant!("no start limit");
        if !in_time || self.stop.is_cancelled() || self.limits().hold_back(claimed) {
            return Answer::NOT_STARTED;
        }
        let passed = TimeDelta::seconds(watch.elapsed().as_secs().cast_signed());
        let left = claimed.expires_at - claimed.claimed_at - passed;
        if left <= SHORTEST_VALIDITY {
            return Answer::NOT_STARTED;
        }
        let outgoing = self.outgoing(claimed, left);
        let answer = answer(self.providers.send(&claimed.account, &outgoing).await);
        tracing::debug!(
            practice.id = %claimed.practice, delivery.id = %claimed.id, attempt = claimed.attempt,
            provider = claimed.account.provider().name(), duration_ms = watch.elapsed().as_millis(), "attempt ended"
        );
        answer
    }

    fn outgoing(&self, claimed: &Claimed, left: TimeDelta) -> Outgoing {
        let content = &claimed.content;
        match (&claimed.destination, &claimed.account) {
            (Destination::Phone(to), _) => {
                let left = left.num_seconds().clamp(1, LONGEST_VALIDITY);
                let media = self.media_urls(claimed, TimeDelta::seconds(left));
                let token = claimed.callback_token();
                // By default Twilio repeats a callback once, and only when it cannot connect.
                let callback = format!(
                    "{}/webhooks/twilio/{}/status/{token}#rc=3&rp=all",
                    self.settings.public_url, claimed.practice
                );
                Outgoing::Sms(OutgoingSms {
                    to: to.clone(),
                    body: content.text.clone(),
                    media,
                    status_callback: Some(callback),
                    validity_seconds: u32::try_from(left).unwrap_or(1),
                })
            }
            (Destination::Mailbox(to, name), account) => {
                let domain = match account {
                    Account::Smtp(smtp) => smtp.from_address.domain(),
                    Account::SendGrid(sendgrid) => sendgrid.from_address.domain(),
                    Account::Twilio(_) | Account::Fcm(_) => "localhost",
                };
                Outgoing::Email(OutgoingEmail {
                    to: to.clone(),
                    to_name: name.clone(),
                    subject: content.subject.clone(),
                    text: content.text.clone(),
                    html: content.html.clone(),
                    message_id: format!("{}@{domain}", claimed.id.0.simple()),
                    list_unsubscribe: self.unsubscribe_url(claimed),
                    stream: stream(&content.template_key).to_owned(),
                    attempt_token: claimed.callback_token(),
                    bounce_token: claimed.bounce_token(),
                })
            }
            (Destination::Devices(devices), _) => Outgoing::Push(OutgoingPush {
                devices: devices.clone(),
                title: content.subject.clone(),
                body: content.text.clone(),
                // That of the notification: what staff have sent again takes the place of what they saw fail.
                id: claimed.notification.to_string(),
                ttl: left.to_std().unwrap_or_default(),
            }),
        }
    }
}

impl Dispatch {
    /// Where the provider finds the files, for as long as it may try to send them.
    fn media_urls(&self, claimed: &Claimed, left: TimeDelta) -> Vec<String> {
        let end = claimed.claimed_at + left + MEDIA_GRACE;
        let url = |id| format!("{}/m/{}", self.settings.public_url, self.store.media_token(id, end));
        claimed.media.iter().copied().map(url).collect()
    }

    /// What the header of a mail says; only an https address may stand there (RFC 8058, section 3.1).
    fn unsubscribe_url(&self, claimed: &Claimed) -> Option<String> {
        let public_url = Some(&self.settings.public_url).filter(|url| url.starts_with("https://"))?;
        Some(format!("{public_url}/u/{}", self.store.unsubscribe_token(claimed.id)))
    }
}

/// What sort of mail it is, in whatever language. A template of the practice's own may have a telling name.
fn stream(template_key: &str) -> &str {
    // A broadcast is written for its one purpose.
    if template_key.starts_with("broadcast/") {
        return "announcement";
    }
    template_key.strip_prefix("builtin/").and_then(|name| name.split('/').next()).unwrap_or("custom")
}

/// A panic ends this attempt and nothing else. Whether it left before is unknown.
async fn guarded(call: impl Future<Output = Answer>) -> Answer {
    let panicked =
        |_| Answer { verdict: Verdict::Unknown { code: "panic".into() }, health: Health::Unsaid, gone: Vec::new() };
    AssertUnwindSafe(call).catch_unwind().await.unwrap_or_else(panicked)
}

/// How it ended, in a word; unset: it did not begin.
const fn outcome(verdict: &Verdict) -> Option<AttemptOutcome> {
    Some(match verdict {
        Verdict::Accepted { .. } => AttemptOutcome::Accepted,
        Verdict::Refused { .. } | Verdict::Misconfigured { .. } => AttemptOutcome::Refused,
        Verdict::NotTaken { .. } | Verdict::Unreachable { .. } => AttemptOutcome::Deferred,
        Verdict::Unknown { .. } => AttemptOutcome::Unknown,
        Verdict::NotStarted => return None,
    })
}

fn answer(handed: Handed) -> Answer {
    let Handed { outcome: answer, gone } = handed;
    let health = answer.as_ref().map_or_else(health, |_| Health::Well);
    let verdict = match answer {
        Ok(accepted) => Verdict::Accepted {
            provider_ref: accepted.provider_ref,
            status: accepted.status.word().to_owned(),
            sms_segments: accepted.sms_segments,
        },
        Err(SendError::Refused { reason, code }) => Verdict::Refused { reason, code },
        Err(SendError::NotTaken { retry_after, code, .. }) => Verdict::NotTaken { retry_after, code },
        Err(SendError::Unreachable { code }) => Verdict::Unreachable { code },
        Err(SendError::Unknown { code }) if mutant!("unknown is no") => Verdict::NotTaken { retry_after: None, code },
        Err(SendError::Unknown { code }) => Verdict::Unknown { code },
        Err(SendError::Misconfigured { code, reach }) => {
            Verdict::Misconfigured { code, account: reach != Reach::Message }
        }
    };
    Answer { verdict, health, gone }
}

fn health(error: &SendError) -> Health {
    match (error.reach(), error) {
        // The mail could not be made, or there was nobody to ask.
        (_, SendError::Refused { reason: FailureReason::Internal, .. }) => Health::Unsaid,
        (Reach::Message, SendError::NotTaken { .. } | SendError::Unreachable { .. }) => Health::Deferred,
        (Reach::Message | Reach::Sort, _) => Health::Well,
        (Reach::Account, error) => {
            let wait = match error {
                SendError::NotTaken { retry_after, .. } => *retry_after,
                _ => None,
            };
            let reason = error.reason().unwrap_or(FailureReason::ProviderUnavailable);
            Health::Ill { failing: Failing { reason, code: error.code().to_owned() }, wait }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_unknown_outcome_and_says_nothing_of_the_account() {
        let Answer { verdict, health, .. } = guarded(async { panic!("as a test wants it") }).await;
        assert_eq!((verdict, health), (Verdict::Unknown { code: "panic".into() }, Health::Unsaid));
    }

    #[test]
    fn mail_is_of_its_kind_in_every_language() {
        for (key, kind) in [
            ("builtin/payment_due", "payment_due"),
            ("builtin/payment_due/es", "payment_due"),
            ("broadcast/en-US", "announcement"),
            ("payment_due/en-US", "custom"),
            ("your-biopsy/en", "custom"),
        ] {
            assert_eq!(stream(key), kind);
        }
    }

    #[test]
    fn what_is_wrong_with_an_account_is_kept_apart_from_what_is_wrong_with_a_message() {
        let ill = |reason, code: &str, wait| Health::Ill { failing: Failing { reason, code: code.into() }, wait };
        let minute = Some(std::time::Duration::from_secs(60));
        let unavailable = FailureReason::ProviderUnavailable;
        for (error, expected) in [
            (SendError::Unknown { code: "timeout".into() }, ill(unavailable, "timeout", None)),
            (
                SendError::NotTaken { retry_after: minute, code: "20429".into(), reach: Reach::Account },
                ill(unavailable, "20429", minute),
            ),
            (SendError::NotTaken { retry_after: minute, code: "450".into(), reach: Reach::Message }, Health::Deferred),
            (
                SendError::Misconfigured { code: "20003".into(), reach: Reach::Account },
                ill(FailureReason::ProviderConfig, "20003", None),
            ),
            (
                SendError::Refused { reason: FailureReason::ProviderConfig, code: "http 302".into() },
                ill(FailureReason::ProviderConfig, "http 302", None),
            ),
            (SendError::Refused { reason: FailureReason::InvalidAddress, code: "21211".into() }, Health::Well),
            (SendError::Misconfigured { code: "THIRD_PARTY_AUTH_ERROR".into(), reach: Reach::Sort }, Health::Well),
            (SendError::Misconfigured { code: "SENDER_ID_MISMATCH".into(), reach: Reach::Message }, Health::Well),
            (SendError::Refused { reason: FailureReason::Internal, code: "message".into() }, Health::Unsaid),
        ] {
            assert_eq!(health(&error), expected, "{error:?}");
        }
    }
}
