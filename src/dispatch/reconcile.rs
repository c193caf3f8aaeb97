//! Looks at the provider for deliveries whose outcome is unknown.

use futures::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval};

use super::Dispatch;
use crate::{
    domain::{Account, Facts, Look, Provider, TwilioAccount},
    providers::{self, Candidate},
    store::{Destination, Doubt, StoreError},
    telemetry,
};

/// Looks under way at once.
const WIDTH: usize = 8;

impl Dispatch {
    /// Looks until `stop`.
    pub(super) async fn reconcile(self) {
        let mut poll = interval(self.settings.look_poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = poll.tick() => {}
            }
            match self.store.doubts_due(&self.engine, 64).await {
                Ok(doubts) => {
                    stream::iter(doubts)
                        .take_until(self.stop.cancelled())
                        .for_each_concurrent(WIDTH, |doubt| self.settle_doubt(doubt))
                        .await;
                }
                Err(error) => {
                    tracing::error!(error = %telemetry::chain(&error), "unknown outcomes could not be listed")
                }
            }
        }
    }

    async fn settle_doubt(&self, doubt: Doubt) {
        let settled = async {
            let (look, facts) = self.look_for(&doubt).await?;
            self.store.doubt_settle(&self.engine, &doubt, look, facts, rand::random()).await
        };
        if let Err(error) = settled.await {
            tracing::error!(delivery.id = %doubt.id, error = %telemetry::chain(&error), "a look could not be settled");
        }
    }

    async fn look_for(&self, doubt: &Doubt) -> Result<(Look, Facts), StoreError> {
        let (account, to, content) = match (&doubt.account, &doubt.destination, &doubt.content) {
            (Some(Account::Twilio(account)), Some(Destination::Phone(to)), Some(content)) => (account, to, content),
            (Some(Account::Smtp(_)), ..) => return Ok((Look::NoList, Facts::NONE)),
            _ => return Ok((Look::Unreadable, Facts::NONE)),
        };
        let look = providers::Look {
            to: to.clone(),
            body: content.text.clone(),
            sms_segments: content.sms_segments,
            intent_time: doubt.intent_at,
            end_time: doubt.ended_at,
        };
        self.ask(doubt, account, &look).await
    }

    async fn ask(
        &self,
        doubt: &Doubt,
        account: &TwilioAccount,
        look: &providers::Look,
    ) -> Result<(Look, Facts), StoreError> {
        let found = match self.providers.find(account, look).await {
            Ok(found) => found.candidates,
            Err(error) => {
                tracing::warn!(delivery.id = %doubt.id, code = error.code, "the provider's list could not be read");
                return Ok((Look::Unreadable, Facts::NONE));
            }
        };
        let sids: Vec<String> = found.iter().map(|candidate| candidate.sid.clone()).collect();
        let bound = self.store.refs_bound(&self.engine, &doubt.practice, Provider::Twilio, &sids).await?;
        let free: Vec<Candidate> = found.into_iter().filter(|candidate| !bound.contains(&candidate.sid)).collect();
        Ok(match <[Candidate; 1]>::try_from(free) {
            Ok([only]) if only.certain => {
                let facts = only.status.map_or(Facts::ACCEPTED, |status| status.facts());
                let status = only.status.map_or("", |status| status.word()).to_owned();
                let look = Look::Found { provider_ref: only.sid, status, code: only.error_code.unwrap_or_default() };
                (look, facts)
            }
            Err(free) if free.is_empty() => (Look::Absent, Facts::NONE),
            _ => (Look::Several, Facts::NONE),
        })
    }
}
