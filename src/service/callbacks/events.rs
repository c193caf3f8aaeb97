//! Batches of SendGrid's events: what became of mail, and who does not want any. Nothing is assumed of their order, their
//! number, or of whose mail they are.

use std::{collections::BTreeMap, net::IpAddr};

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, stream};

use super::{Answer, Callbacks, token_of, unavailable};
use crate::{
    domain::{EmailAddress, Facts, PracticeSettings, Provider, Scope},
    providers::sendgrid::callback::{self, Callback, Event},
    store::{Receipt, StoreError},
};

/// Events that are applied at once: the store writes together what comes together.
const AT_ONCE: usize = 64;

/// A batch as it came.
#[derive(Debug)]
pub struct EventBatch<'a> {
    /// The practice in its path.
    pub practice: &'a str,
    /// The address that it came from, where that is known.
    pub source: Option<IpAddr>,
    /// `X-Twilio-Email-Event-Webhook-Timestamp`.
    pub timestamp: Option<&'a str>,
    /// `X-Twilio-Email-Event-Webhook-Signature`.
    pub signature: Option<&'a str>,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

impl Callbacks {
    /// A batch of SendGrid's event webhook. It is answered when all of it is stored; what was stored before something failed
    /// is known when the batch comes again.
    pub async fn sendgrid_events(&self, batch: EventBatch<'_>) -> Answer {
        let (scope, settings) = match self.home(batch.practice, Provider::SendGrid).await {
            Ok(Some(home)) => home,
            Ok(None) => return self.refuse_nobodys(),
            Err(error) => return unavailable(&error),
        };
        match self.is_signed_batch(&batch, &settings).await {
            Ok(true) => {}
            Ok(false) => return self.refuse(&scope, ("webhook.sendgrid", batch.source), "bad signature"),
            Err(error) => return unavailable(&error),
        }
        let Ok(events) = callback::parse(batch.body) else { return Answer::Malformed };
        // Whoever wants no more mail is heard first, and whatever becomes of the rest: too many reports that nobody here knows
        // would otherwise keep opt-outs out, however often the batch came again.
        let said = self.opt_out_all(&scope, &events).await;
        let told = self.apply_all(&scope, &events).await;
        if said == Answer::Stored { told } else { said }
    }

    /// Whether the batch is signed with the key of the practice's account, and lately.
    async fn is_signed_batch(&self, batch: &EventBatch<'_>, settings: &PracticeSettings) -> Result<bool, StoreError> {
        let Some(key) = settings.email.webhook_key() else { return Ok(false) };
        let callback = Callback { timestamp: batch.timestamp, signature: batch.signature, body: batch.body };
        // Only whoever holds the key has the database asked what time it is.
        Ok(callback.is_signed(key) && callback.is_recent(self.store.now().await?))
    }

    /// Applies what is said of attempts, each whatever becomes of the others.
    async fn apply_all(&self, scope: &Scope, events: &[Event]) -> Answer {
        let receipts: Vec<_> = events.iter().filter_map(receipt).collect();
        let applied = receipts.into_iter().map(|receipt| self.apply(scope, Provider::SendGrid, receipt));
        let worst = |worst, answer| if worst == Answer::Stored { answer } else { worst };
        let applied = stream::iter(applied).buffer_unordered(AT_ONCE);
        applied.fold(Answer::Stored, async |known, answer| worst(known, answer)).await
    }

    /// Puts on record who wants no more mail, whatever mail of the account it was about: SendGrid itself sends them none.
    async fn opt_out_all(&self, scope: &Scope, events: &[Event]) -> Answer {
        let mut entries = 0;
        for (mailbox, (decided, evidence)) in opt_outs(events) {
            let decided = match decided {
                Some(decided) => decided,
                None => match self.store.now().await {
                    Ok(now) => now,
                    Err(error) => return unavailable(&error),
                },
            };
            match self.store.mailbox_opted_out(scope, &mailbox, decided, evidence).await {
                Ok(added) => entries += added,
                Err(error) => return unavailable(&error),
            }
        }
        if entries > 0 {
            tracing::info!(practice.id = %scope.practice(), entries, "opt-outs and complaints of mail stored");
        }
        Answer::Stored
    }
}

/// What an event says of an attempt; unset when it is of mail from elsewhere, or of the patient's will alone.
fn receipt(event: &Event) -> Option<Receipt> {
    let facts = event.told.facts();
    let token = event.token.as_deref().and_then(token_of).filter(|_| facts != Facts::NONE)?;
    Some(Receipt {
        token,
        provider_ref: event.message.clone().unwrap_or_default(),
        facts,
        status: event.told.word().to_owned(),
        code: event.code.clone(),
        failure: event.failure,
    })
}

/// When, and what proves it.
type OptOut = (Option<DateTime<Utc>>, String);

/// Who opted out, each once: the latest decision counts. Times are cut to the second, so the whole second is meant, and an
/// opt-in within it does not win.
fn opt_outs(events: &[Event]) -> BTreeMap<EmailAddress, OptOut> {
    let mut latest = BTreeMap::<EmailAddress, OptOut>::new();
    for event in events.iter().filter(|event| event.told.opts_out()) {
        let Ok(mailbox) = EmailAddress::parse(&event.mailbox) else {
            tracing::warn!("an opt-out of mail names no mailbox");
            continue;
        };
        let time = event.time.map(|time| time + TimeDelta::microseconds(999_999));
        let message = event.message.as_deref().unwrap_or("unknown");
        let new = (time, format!("{} of message {message}", event.told.word()));
        // Without a time it counts from now, which is later than any.
        let later = |known: &OptOut| known.0.is_some() && (time.is_none() || time > known.0);
        if latest.get(&mailbox).is_none_or(later) {
            latest.insert(mailbox, new);
        }
    }
    latest
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn events(json: &str) -> Vec<Event> {
        callback::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn of_several_opt_outs_of_a_mailbox_the_latest_counts_and_others_are_no_opt_outs() {
        let found = opt_outs(&events(
            r#"[{"event":"unsubscribe","email":"Pat@example.com","timestamp":1000,"sg_message_id":"a.b"},
                {"event":"spamreport","email":"Pat@example.com","timestamp":2000,"sg_message_id":"c.d"},
                {"event":"group_unsubscribe","email":"Pat@example.com","timestamp":1500},
                {"event":"spamreport","email":"lee@example.com","sg_message_id":"e"},
                {"event":"unsubscribe","email":"lee@example.com","timestamp":9000},
                {"event":"unsubscribe","email":"nobody","timestamp":9000},
                {"event":"unsubscribe","timestamp":9000},
                {"event":"group_resubscribe","email":"sam@example.com","timestamp":9000},
                {"event":"delivered","email":"sam@example.com","timestamp":9000}]"#,
        ));
        let read = |mailbox: &str| found.get(&EmailAddress::parse(mailbox).unwrap()).unwrap().clone();
        let end = DateTime::from_timestamp_micros(2_000_999_999).unwrap();
        assert_eq!(read("Pat@example.com"), (Some(end), "spamreport of message c".to_owned()));
        assert_eq!(read("lee@example.com"), (None, "spamreport of message e".to_owned()));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn only_what_names_an_attempt_and_tells_of_it_is_a_receipt() {
        let token = "AAECAwQFBgcICQoLDA0ODw";
        let with = |event: &str, token: &str| {
            let found =
                events(&format!(r#"[{{"event":"{event}","type":"bounce","n":"{token}","sg_message_id":"m.1"}}]"#));
            found.first().and_then(receipt)
        };
        let read = with("delivered", token).unwrap();
        assert_eq!((read.token, read.provider_ref.as_str()), (std::array::from_fn(|n| n as u8), "m"));
        assert_eq!((read.facts, read.status.as_str()), (Facts::DELIVERED, "delivered"));
        assert!(with("spamreport", token).is_some() && with("bounce", token).is_some());
        // Of the patient's will alone; of nothing known; by no token of ours.
        for (event, token) in [
            ("unsubscribe", token),
            ("group_unsubscribe", token),
            ("open", token),
            ("delivered", ""),
            ("delivered", "AAEC"),
            ("delivered", "notification 17!"),
        ] {
            assert!(with(event, token).is_none(), "{event} {token}");
        }
    }
}
