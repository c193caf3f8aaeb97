//! Looks at the provider for deliveries whose outcome is unknown, and asks it about those that it took and of which it has
//! not said more. Neither has an effect at the provider, so that whatever is under way at a stop is simply dropped.

use std::{future::Future, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use crate::{
    domain::{Account, Channel, Facts, Look, Provider, TwilioAccount},
    providers::{self, Candidate, Found, twilio::callback::ReportedStatus},
    store::{Answer, Destination, Doubt, Poll, Rival, StoreError},
    telemetry,
};

/// Looks under way at once.
const LOOKS: usize = 8;
/// Questions about single messages under way at once. They can wait; what is in doubt and what is due cannot.
const POLLS: usize = 4;
/// A list that takes longer counts as one that cannot be read. The lease of a look lasts longer.
const LOOK_LIMIT: Duration = Duration::from_secs(40);

impl Dispatch {
    /// Looks until `stop`.
    pub(super) async fn reconcile(self) {
        let due = |limit| self.store.doubts_due(&self.engine, limit);
        keep_busy(&self.stop, self.settings.look_poll, LOOKS, due, |doubt| self.clone().settle_doubt(doubt)).await;
    }

    /// Asks about single messages until `stop`.
    pub(super) async fn sweep(self) {
        let due = |limit| self.store.polls_due(&self.engine, limit);
        keep_busy(&self.stop, self.settings.look_poll, POLLS, due, |poll| self.clone().settle_poll(poll)).await;
    }

    async fn settle_doubt(self, doubt: Doubt) {
        let settled = async {
            let began = Instant::now();
            let (look, facts) = timeout(LOOK_LIMIT, self.look_for(&doubt, began))
                .await
                .unwrap_or(Ok((Look::Unreadable, Facts::NONE)))?;
            let provider = doubt.account.as_ref().map_or("none", |account| account.provider().name());
            self.store.telemetry().metrics.reconciled(provider, look.name(), 1);
            self.store.doubt_settle(&self.engine, &doubt, look, facts, rand::random()).await
        };
        if let Err(error) = settled.await {
            tracing::error!(delivery.id = %doubt.id, error = %telemetry::chain(&error), "a look could not be settled");
        }
    }

    async fn look_for(&self, doubt: &Doubt, began: Instant) -> Result<(Look, Facts), StoreError> {
        if doubt.inquiry.channel != Channel::Sms {
            return Ok((Look::NoList, Facts::NONE));
        }
        let (Some(Account::Twilio(account)), Some(Destination::Phone(to)), Some(content)) =
            (&doubt.account, &doubt.destination, &doubt.content)
        else {
            return Ok((Look::Unreadable, Facts::NONE));
        };
        let look = providers::Look {
            to: to.clone(),
            body: content.text.clone(),
            sms_segments: content.sms_segments,
            intent_time: doubt.intent_at,
            end_time: doubt.ended_at,
            now: doubt.inquiry.now + began.elapsed(),
        };
        self.ask(doubt, account, &look).await
    }

    async fn ask(
        &self,
        doubt: &Doubt,
        account: &TwilioAccount,
        look: &providers::Look,
    ) -> Result<(Look, Facts), StoreError> {
        let mut found = match self.providers.find(account, look).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(delivery.id = %doubt.id, code = error.code, "the provider's list could not be read");
                return Ok((Look::Unreadable, Facts::NONE));
            }
        };
        let sids: Vec<String> = found.candidates.iter().map(|candidate| candidate.sid.clone()).collect();
        let bound = self.store.refs_bound(&self.engine, &doubt.practice, Provider::Twilio, &sids).await?;
        found.candidates.retain(|candidate| !bound.contains(&candidate.sid));
        let rivals = self.store.rivals(&self.engine, doubt).await?;
        Ok(conclude(&found, &rivals, look))
    }

    async fn settle_poll(self, poll: Poll) {
        let Some(Account::Twilio(account)) = &poll.account else { return };
        let reported = match self.providers.fetch(account, &poll.provider_ref).await {
            Ok(reported) => reported,
            Err(error) => {
                tracing::warn!(delivery.id = %poll.id, code = error.code, "the provider could not be asked");
                return;
            }
        };
        // A word that is not known says nothing to us.
        let Some(status) = reported.status else { return };
        let answer = Answer {
            facts: status.facts(),
            status: status.word().to_owned(),
            failure: status.failure(reported.error_code.as_deref()),
            code: reported.error_code.unwrap_or_default(),
        };
        if let Err(error) = self.store.poll_settle(&self.engine, &poll, answer).await {
            tracing::error!(delivery.id = %poll.id, error = %telemetry::chain(&error), "an answer could not be kept");
        }
    }
}

/// Does what is due until `stop`, up to `width` at once: one that takes long does not hold up the others. No more is taken than
/// can begin at once, since what is taken is leased.
pub(super) async fn keep_busy<T, Due, Work>(
    stop: &CancellationToken,
    every: Duration,
    width: usize,
    due: impl Fn(u64) -> Due,
    work: impl Fn(T) -> Work,
) where
    Due: Future<Output = Result<Vec<T>, StoreError>>,
    Work: Future<Output = ()> + Send + 'static,
{
    let mut poll = interval(every);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Tasks, which go on while more is listed: that may wait for the connections to the database that they have.
    let mut under_way = JoinSet::new();
    let mut more = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // One that panicked is taken again when its lease is over.
            Some(_) = under_way.join_next() => if !more { continue },
            _ = poll.tick() => {}
        }
        let free = width - under_way.len();
        if free == 0 {
            more = true;
            continue;
        }
        let taken = due(free as u64).await.unwrap_or_else(|error| {
            tracing::error!(error = %telemetry::chain(&error), "what is to be asked could not be listed");
            Vec::new()
        });
        // A full hand means that there may be more at once.
        more = taken.len() == free;
        for one in taken {
            under_way.spawn(work(one));
        }
    }
}

/// What the messages that are nobody's amount to. One that another of our attempts may have made is not ours for certain: to
/// take it could leave that one without, and the patient with one text too few and another twice.
fn conclude(found: &Found, rivals: &[Rival], look: &providers::Look) -> (Look, Facts) {
    let contested = |message: &Candidate| {
        rivals.iter().any(|rival| {
            let text = rival.text.as_ref().map(|text| text.expose().trim_end());
            let ours = look.body.expose().trim_end();
            let alike = match text {
                Some(text) if message.same_text => text == ours,
                Some(text) => text.chars().count() == ours.chars().count(),
                None => true,
            };
            alike && found.may_be_of(message, rival.intent_at, rival.ended_at)
        })
    };
    match &found.candidates[..] {
        [] => (Look::Absent, Facts::NONE),
        candidates if candidates.iter().any(contested) => (Look::Contested, Facts::NONE),
        [only] if only.certain => {
            let facts = only.status.map_or(Facts::ACCEPTED, ReportedStatus::facts);
            let look = Look::Found {
                provider_ref: only.sid.clone(),
                status: only.status.map_or("", ReportedStatus::word).to_owned(),
                code: only.error_code.clone().unwrap_or_default(),
                failure: only.status.and_then(|status| status.failure(only.error_code.as_deref())),
            };
            (look, facts)
        }
        _ => (Look::Several, Facts::NONE),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use tokio::{sync::Semaphore, task::yield_now};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_goes_on_while_more_is_listed() {
        // The only connection of a database, which each listing and each piece of work wants for a moment.
        let connection = Arc::new(Semaphore::new(1));
        let (stop, listed, done) = (CancellationToken::new(), AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let due = |limit: u64| {
            let (connection, listed) = (&connection, &listed);
            async move {
                let _connection = connection.acquire().await;
                let first = listed.fetch_add(limit, Ordering::Relaxed);
                Ok((first..first + limit).collect())
            }
        };
        let work = |_: u64| {
            let (connection, done, stop) = (Arc::clone(&connection), Arc::clone(&done), stop.clone());
            async move {
                let _connection = connection.acquire().await;
                yield_now().await;
                if done.fetch_add(1, Ordering::Relaxed) == 100 {
                    stop.cancel();
                }
            }
        };
        let busy = keep_busy(&stop, Duration::from_millis(100), 8, due, work);
        assert!(timeout(Duration::from_secs(3_600), busy).await.is_ok(), "both wait for each other");
    }
}
