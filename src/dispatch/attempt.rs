//! One delivery: the last check of the clock, the call, and the verdict.

use std::panic::AssertUnwindSafe;

use chrono::TimeDelta;
use futures::FutureExt;
use tokio::time::Instant;

use super::Dispatch;
use crate::{
    domain::{Account, Verdict},
    providers::{Accepted, Outgoing, OutgoingEmail, OutgoingSms, SendError},
    store::{Claimed, Destination, Settlement},
};

/// Twilio tries for ten hours at most (providers: `ValidityPeriod`).
const LONGEST_VALIDITY: i64 = 36_000;
/// With less left than this a try is not worth it: the next claim finds it expired.
const SHORTEST_VALIDITY: TimeDelta = TimeDelta::zero();

impl Dispatch {
    /// Hands `claimed` over once. The verdict says what is known; it never guesses.
    pub(super) async fn attempt(&self, claimed: Claimed, started: Instant) -> Settlement {
        let settlement = |verdict| Settlement {
            practice: claimed.practice.clone(),
            id: claimed.id,
            epoch: claimed.epoch,
            attempt: claimed.attempt,
            verdict,
            random: rand::random(),
        };
        // A claim that has grown old may be about to be taken over: begun now, the call could outlive its lease.
        let late = started.elapsed() > self.settings.start_limit && !mutant!("no start limit");
        if late || self.stop.is_cancelled() {
            return settlement(Verdict::NotStarted);
        }
        let left =
            claimed.expires_at - claimed.claimed_at - TimeDelta::seconds(started.elapsed().as_secs().cast_signed());
        if left <= SHORTEST_VALIDITY {
            return settlement(Verdict::NotStarted);
        }
        let outgoing = self.outgoing(&claimed, left);
        let call = AssertUnwindSafe(self.providers.send(&claimed.account, &outgoing)).catch_unwind();
        let verdict = call.await.map_or_else(|_| Verdict::Unknown { code: "panic".into() }, verdict);
        tracing::debug!(
            practice.id = %claimed.practice, delivery.id = %claimed.id, attempt = claimed.attempt,
            provider = claimed.account.provider().name(), duration_ms = started.elapsed().as_millis(), "attempt ended"
        );
        settlement(verdict)
    }

    fn outgoing(&self, claimed: &Claimed, left: TimeDelta) -> Outgoing {
        let content = &claimed.content;
        match (&claimed.destination, &claimed.account) {
            (Destination::Phone(to), _) => {
                let left = left.num_seconds().clamp(1, LONGEST_VALIDITY);
                let token = claimed.callback_token();
                // By default Twilio repeats a callback once, and only when it cannot connect.
                let callback = format!(
                    "{}/webhooks/twilio/{}/status/{token}#rc=3&rp=all",
                    self.settings.public_url, claimed.practice
                );
                Outgoing::Sms(OutgoingSms {
                    to: to.clone(),
                    body: content.text.clone(),
                    status_callback: Some(callback),
                    validity_seconds: u32::try_from(left).unwrap_or(1),
                })
            }
            (Destination::Mailbox(to, name), account) => {
                let domain = match account {
                    Account::Smtp(smtp) => smtp.from_address.domain(),
                    Account::Twilio(_) => "localhost",
                };
                Outgoing::Email(OutgoingEmail {
                    to: to.clone(),
                    to_name: name.clone(),
                    subject: content.subject.clone(),
                    text: content.text.clone(),
                    html: content.html.clone(),
                    message_id: format!("{}@{domain}", claimed.id.0.simple()),
                    list_unsubscribe: None,
                })
            }
        }
    }
}

fn verdict(answer: Result<Accepted, SendError>) -> Verdict {
    match answer {
        Ok(accepted) => Verdict::Accepted {
            provider_ref: accepted.provider_ref,
            status: accepted.status.word().to_owned(),
            sms_segments: accepted.sms_segments,
        },
        Err(SendError::Refused { reason, code }) => Verdict::Refused { reason, code },
        Err(SendError::NotTaken { retry_after, code }) => Verdict::NotTaken { retry_after, code },
        Err(SendError::Unknown { code }) if mutant!("unknown is no") => Verdict::NotTaken { retry_after: None, code },
        Err(SendError::Unknown { code }) => Verdict::Unknown { code },
        Err(SendError::Misconfigured { code }) => Verdict::Misconfigured { code },
    }
}
