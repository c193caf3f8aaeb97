//! Test messages: wording with invented data, to a contact of the practice itself. They show how wording arrives, and what a
//! provider says to the practice's account. A test is put into the queue and waited for: there is no second road to a provider.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Preview, Templates, Trial};
use crate::{
    domain::{
        Channel, Delivery, DeliveryId, DeliveryState, Failure, FailureReason, Phi, Scope, SkipReason, TestContact,
    },
    service::{Error, Violation},
    store::{NewTestMessage, TestAccepted, WordingHome},
    wake::Listener,
};

/// The longest wait for the provider's answer; a call may take 30 s at most.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// How long before the caller gives up the answer begins, so that it is there in time.
const MARGIN: Duration = Duration::from_millis(500);
/// How often is looked whether it is there, where nobody says so.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A wish to send a test.
#[derive(Clone, Debug)]
pub struct TestOrder {
    /// The caller's key.
    pub request_id: String,
    /// The request without its key, encoded the same way every time.
    pub canonical: Phi<Vec<u8>>,
    /// What it says.
    pub trial: Trial,
    /// To whom it goes.
    pub contact: TestContact,
}

/// What became of a test, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestOutcome {
    /// Sent, failed or unconfirmed.
    pub state: DeliveryState,
    /// Why it failed, and a sentence about it.
    pub failure: Option<(Failure, &'static str)>,
    /// The provider's id; may be empty.
    pub provider_message_id: String,
}

impl Templates {
    /// Sends a test and waits until it is settled, or until `deadline` is near. A repeat of the same request waits for what the
    /// first one sent.
    ///
    /// # Errors
    /// `FIELD_INVALID`, `CHANNEL_NOT_CONFIGURED`, `RATE_LIMITED`, `REQUEST_ID_REUSED`.
    pub async fn send_test(
        &self,
        scope: &Scope,
        order: TestOrder,
        deadline: Option<Instant>,
    ) -> Result<TestOutcome, Error> {
        let end = last_look(deadline);
        let fingerprint = self.fingerprints.fingerprint(order.canonical.expose());
        let request_id = order.request_id.clone();
        // Before it is accepted: what becomes of it after that is heard.
        let changes = self.store.wake().listen();
        let accepted = match self.accept(scope, order, fingerprint).await {
            Ok(accepted) => accepted,
            // A repeat is told what became of the first, though what was valid then may not be by now.
            Err(refusal) => match self.store.test_message_prior(scope, &request_id, &fingerprint).await {
                Ok(Some(before)) => before,
                _ => return Err(refusal),
            },
        };
        let id = match accepted {
            TestAccepted::New(id) | TestAccepted::Replayed(id) => id,
            TestAccepted::KeyReused(id) => return Err(Error::request_id_reused("test message", id)),
            TestAccepted::Full(retry_after) => {
                return Err(Error::RateLimited { retry_after, limit: "test_messages_per_minute" });
            }
        };
        self.settled(scope, id, changes, end).await.map(outcome)
    }

    async fn accept(&self, scope: &Scope, order: TestOrder, fingerprint: [u8; 32]) -> Result<TestAccepted, Error> {
        let TestOrder { request_id, trial, contact, .. } = order;
        let (kind, channel) = (trial.at.purpose.kind(), trial.at.channel);
        let home = self.store.wording_home(scope).await?;
        let known = known_contact(&home, channel, &contact);
        let set_up = home.settings.is_set_up(channel);
        let preview = self.tried(home, trial, true).await;
        let (contact, Preview { content, .. }) = both(known, preview)?;
        if !set_up {
            return Err(Error::ChannelNotConfigured { channel });
        }
        self.admission.room()?;
        let new = NewTestMessage { request_id, fingerprint, kind, contact, content };
        Ok(self.store.test_message_accept(scope, new).await?)
    }

    /// Waits until it is known what became of a test, for as long as it may.
    async fn settled(
        &self,
        scope: &Scope,
        id: DeliveryId,
        mut changes: Listener,
        end: Instant,
    ) -> Result<Delivery, Error> {
        loop {
            let test = self.store.test_message_get(scope, id).await?;
            if test.state != DeliveryState::Pending || Instant::now() >= end {
                return Ok(test);
            }
            // Without a hint the time comes to look again.
            let next = (Instant::now() + LOOK_EVERY).min(end);
            while let Ok(changed) = timeout_at(next, changes.changed()).await {
                if changed.may_be(scope.practice()) {
                    break;
                }
            }
        }
    }
}

/// When the wait ends.
fn last_look(deadline: Option<Instant>) -> Instant {
    let now = Instant::now();
    let longest = now + LONGEST_WAIT;
    deadline.map_or(longest, |deadline| {
        let left = deadline.saturating_duration_since(now);
        longest.min(now + left.saturating_sub(MARGIN))
    })
}

/// The contact as the practice entered it.
fn known_contact(home: &WordingHome, channel: Channel, contact: &TestContact) -> Result<TestContact, Violation> {
    let fits = |known: &&TestContact| known.channel() == channel && known.is(contact);
    let known = home.settings.test_contacts.iter().find(fits).cloned();
    known.ok_or_else(|| {
        Violation::new("address", "must be one of the practice's test_contacts, of the kind that the channel needs")
    })
}

/// Both, or everything that is wrong with either.
fn both<T>(known: Result<TestContact, Violation>, preview: Result<T, Error>) -> Result<(TestContact, T), Error> {
    match (known, preview) {
        (Ok(contact), Ok(preview)) => Ok((contact, preview)),
        (Ok(_), Err(error)) => Err(error),
        (Err(fault), Err(Error::FieldInvalid(mut faults))) => {
            faults.push(fault);
            Err(Error::FieldInvalid(faults))
        }
        (Err(fault), _) => Err(Error::FieldInvalid(vec![fault])),
    }
}

/// What is said of a test. What was not handed over for a reason of ours has failed as well, without a provider's code.
fn outcome(test: Delivery) -> TestOutcome {
    let refused = |(reason, message)| {
        let failure = Failure { reason, provider_code: String::new(), fail_time: test.update_time };
        (DeliveryState::Failed, Some((failure, message)))
    };
    let (state, failure) = match test.state {
        DeliveryState::Sent | DeliveryState::Delivered => (DeliveryState::Sent, None),
        DeliveryState::Failed => {
            let explained = |failure: Failure| {
                let message = failure.reason.message();
                (failure, message)
            };
            (DeliveryState::Failed, test.failure.map(explained))
        }
        DeliveryState::Skipped => refused(objection(test.skip_reason)),
        // Nobody can cancel it. Whatever still waits may yet go, and whoever repeats the call hears of it.
        DeliveryState::Cancelled | DeliveryState::Pending | DeliveryState::Unconfirmed => {
            (DeliveryState::Unconfirmed, None)
        }
    };
    TestOutcome { state, failure, provider_message_id: test.provider_message_id }
}

/// Why a test was not handed over, in the terms of a failure.
const fn objection(reason: Option<SkipReason>) -> (FailureReason, &'static str) {
    match reason {
        Some(SkipReason::OptedOut) => (
            FailureReason::OptedOutAtProvider,
            "The contact, or a patient of that address, has opted out: nothing was sent.",
        ),
        Some(SkipReason::AddressNotAllowed) => {
            (FailureReason::Blocked, "The number may not be texted by this server: nothing was sent.")
        }
        Some(SkipReason::AddressSuppressed) => {
            (FailureReason::InvalidAddress, "The address failed for good before: nothing was sent.")
        }
        Some(SkipReason::ChannelNotConfigured) => {
            (FailureReason::ProviderConfig, "The channel is not set up any more: nothing was sent.")
        }
        Some(SkipReason::Expired) => (FailureReason::Expired, "It could not go in time: nothing was sent."),
        _ => (FailureReason::Other, "It was decided against: nothing was sent."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_before_its_caller_gives_up() {
        let now = Instant::now();
        for (asked, waits) in
            [(None, 25_000), (Some(60_000), 25_000), (Some(3_000), 2_500), (Some(250), 0), (Some(0), 0)]
        {
            let deadline = asked.map(|asked| now + Duration::from_millis(asked));
            assert_eq!(last_look(deadline) - now, Duration::from_millis(waits), "{asked:?}");
        }
    }

    #[test]
    fn every_objection_is_told_in_words_of_its_own() {
        for reason in [SkipReason::OptedOut, SkipReason::AddressNotAllowed, SkipReason::AddressSuppressed] {
            let (told, message) = objection(Some(reason));
            assert!(told != FailureReason::Other && message.ends_with("nothing was sent."), "{reason:?}");
        }
        assert_eq!(objection(None).0, FailureReason::Other);
    }
}
