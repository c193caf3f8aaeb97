//! What the provider says of messages that it took: by callbacks in any order and number, some of which cannot be applied
//! at once, and when it is asked.

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    domain::{Channel, DeliveryId, DeliveryState, Facts, FailureReason, Provider},
    store::{Answer, Applied, Parked, Receipt},
};
use proptest::sample::Index;
use uuid::Uuid;

use super::{
    plan::{REPLICAS, Word},
    work::Call,
    world::{World, pick},
};
use crate::store::given::receipt;

/// When a parked report is tried first.
const PAUSE: TimeDelta = TimeDelta::seconds(10);
/// For how long it is kept.
const KEPT: TimeDelta = TimeDelta::hours(72);

/// Reports that were parked.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Of attempts that are there: when it came, and what it says of which delivery.
    known: Vec<(DateTime<Utc>, Receipt, DeliveryId)>,
    /// Of attempts that never were: when each came.
    strays: Vec<DateTime<Utc>>,
}

impl Call {
    /// What the provider says of it.
    pub(super) fn reported(&mut self, word: Word) -> Receipt {
        let mail = self.claimed.channel == Channel::Email;
        if word == Word::AfterAll {
            self.arrives = !mail;
        }
        let facts = match word {
            Word::Queued => Facts::QUEUED,
            Word::Sent if mail => Facts::DEFERRED,
            Word::Sent => Facts::SENT_TO_CARRIER,
            Word::End | Word::AfterAll if self.arrives => Facts::DELIVERED,
            Word::End | Word::AfterAll if mail => Facts::BOUNCED,
            Word::End | Word::AfterAll => Facts::UNDELIVERED,
        };
        let lost = facts.any(Facts::UNDELIVERED.and(Facts::BOUNCED));
        let failure = lost.then_some(FailureReason::Unreachable);
        let status = format!("{:b}", facts.bits());
        Receipt { provider_ref: self.provider_ref(), status, failure, ..receipt(&self.claimed, facts) }
    }
}

impl World {
    pub(super) async fn report(&mut self, which: &Index, word: Word, (replica, times): (usize, usize), parks: bool) {
        let ready = self.places(|call| call.taken);
        let ready = if word == Word::AfterAll { self.rather_repeated(ready) } else { ready };
        let Some(place) = pick(which, &ready) else { return };
        let receipt = self.calls[place].reported(word);
        let id = self.calls[place].claimed.id;
        for n in 0..times {
            let store = &self.replicas[(replica + n) % REPLICAS];
            if parks {
                let parked = store.receipt_park(&self.scope, Provider::Twilio, &receipt).await.unwrap();
                assert_eq!(parked, Parked::Kept);
            } else {
                let applied = store.receipt_apply(&self.scope, receipt.clone()).await.unwrap();
                assert!(applied == Applied::Repeat || (applied == Applied::New && n == 0), "{applied:?}, time {n}");
            }
        }
        if !parks {
            self.know(id, receipt.facts);
        } else if !self.waiting.known.iter().any(|(_, waiting, _)| *waiting == receipt) {
            self.waiting.known.push((self.t.now(), receipt, id));
        }
    }

    /// Those that may have another end than was said; only those that were sent again since, if there are any.
    fn rather_repeated(&self, calls: Vec<usize>) -> Vec<usize> {
        let of = |place: &usize| &self.known[&self.calls[*place].claimed.id];
        let ended = calls.into_iter().filter(|place| match (of(place).channel, of(place).state) {
            (Channel::Sms, state) => state == DeliveryState::Failed,
            (_, state) => state == DeliveryState::Delivered,
        });
        let ended: Vec<_> = ended.collect();
        let repeated: Vec<_> = ended.iter().copied().filter(|place| of(place).retried_by.is_some()).collect();
        if repeated.is_empty() { ended } else { repeated }
    }

    /// A report of an attempt that this database never had.
    pub(super) async fn stray(&mut self, replica: usize) {
        let receipt = Receipt {
            token: *Uuid::new_v4().as_bytes(),
            provider_ref: "SM-elsewhere".into(),
            facts: Facts::DELIVERED,
            status: "delivered".into(),
            code: String::new(),
            failure: None,
        };
        let store = &self.replicas[replica];
        assert_eq!(store.receipt_apply(&self.scope, receipt.clone()).await.unwrap(), Applied::UnknownToken);
        assert_eq!(store.receipt_park(&self.scope, Provider::Twilio, &receipt).await.unwrap(), Parked::Kept);
        self.waiting.strays.push(self.t.now());
    }

    /// Each parked report is tried when it is due, and counts from then on.
    pub(super) async fn retry_parked(&mut self, replica: usize) {
        self.replicas[replica].parked_retry(&self.t.engine, 1_000).await.unwrap();
        let now = self.t.now();
        for (_, receipt, id) in
            self.waiting.known.extract_if(.., |(since, ..)| *since + PAUSE <= now).collect::<Vec<_>>()
        {
            self.know(id, receipt.facts);
        }
        self.waiting.strays.retain(|since| now < *since + KEPT);
        let waiting = self.waiting.known.len() + self.waiting.strays.len();
        let kept = self.t.number("SELECT count(*) FROM callback_inbox").await;
        assert_eq!(usize::try_from(kept).unwrap(), waiting, "reports that wait");
    }

    /// Asks about messages of which nothing was heard for long.
    pub(super) async fn poll(&mut self, replica: usize, limit: u64, ended: bool) {
        let store = self.replicas[replica].clone();
        for poll in store.polls_due(&self.t.engine, limit).await.unwrap() {
            let asked = |call: &&mut Call| call.claimed.id == poll.id && call.claimed.attempt == poll.attempt;
            let call = self.calls.iter_mut().rfind(asked).unwrap();
            assert!(call.taken && call.provider_ref() == poll.provider_ref, "asked about what never was: {call:?}");
            let Receipt { facts, status, code, failure, .. } =
                call.reported(if ended { Word::End } else { Word::Sent });
            let answer = Answer { facts, status, code, failure };
            store.poll_settle(&self.t.engine, &poll, answer).await.unwrap();
            self.know(poll.id, facts);
        }
    }
}
