//! Evidence: whatever tells what became of an attempt. The provider's answer, its signed report, a look at its list and a
//! question about one message all come in here. Facts are only added, so that the order in which they come does not matter;
//! a repeat writes nothing. The schedule is not touched, but that a delivery which left is closed.

mod lines;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sea_orm::{Condition, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use self::lines::is_second;
use super::{
    StoreError,
    attempts::{Attempts, Key, arrived, is_proved, known, may_have_arrived, named_by},
    consent::{self, Report},
    devices,
    draft::{Draft, Note, save_all_on},
    entity::attempt,
    health::{self, Sign},
    image::{IN_FLIGHT, POSSIBLE_DUPLICATE},
    queue::{closed_as_sent, drafts_on, suppress_on},
    retry,
    rows::padded,
    tx::Tx,
};
use crate::domain::{
    Author, Channel, ConsentSource, DeliveryId, Facts, Failure, FailureReason, Known, PracticeId, Provider,
    Registration,
};

/// What came in about one attempt.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) attempt: i32,
    /// The provider's id for the message; empty: it gave none.
    pub(super) provider_ref: String,
    pub(super) source: EvidenceSource,
    pub(super) facts: Facts,
    /// The provider's word and code; both may be empty.
    pub(super) status: String,
    pub(super) code: String,
    /// Why it did not arrive, if it did not.
    pub(super) failure: Option<FailureReason>,
    pub(super) author: Author,
    /// A sentence fit to show to staff.
    pub(super) detail: &'static str,
}

/// How it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EvidenceSource {
    /// The answer to the call itself.
    Answer,
    /// A report with the attempt's token.
    Token,
    /// The provider's list, or the message itself when asked for by its id.
    Asked,
}

impl EvidenceSource {
    /// Whether it proves which message the attempt made.
    const fn proves(self) -> bool {
        matches!(self, Self::Answer | Self::Token)
    }

    const fn known(self) -> Known {
        match self {
            Self::Answer => Known::Accepted,
            Self::Token | Self::Asked => Known::Reconciled,
        }
    }
}

/// What a transaction found that an operator wants to hear of, once it is committed.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) duplicates: Vec<Uuid>,
    pub(super) contradictions: Vec<Uuid>,
    /// Deliveries of which it was said that they arrived, and that they did not. Carriers and mail hosts say both in the
    /// ordinary course of things, so that this is counted and is no fault.
    pub(super) both_ends: Vec<Uuid>,
}

/// Deliveries under lock, with their attempts, while evidence about them is heard in one transaction.
#[derive(Debug)]
pub(super) struct Hearing {
    pub(super) drafts: BTreeMap<Uuid, Draft>,
    pub(super) attempts: Attempts,
    pub(super) findings: Findings,
    beyond: Beyond,
}

/// What was heard that reaches beyond a delivery, in the order in which rows are locked.
#[derive(Debug, Default)]
struct Beyond {
    /// Practice, channel, address and reason: addresses that are dead, or may be.
    dead: BTreeSet<(String, i16, Vec<u8>, FailureReason)>,
    /// Addresses that the provider knows to have opted out, each with the delivery and the code that told so.
    opted_out: BTreeMap<(PracticeId, Channel, Vec<u8>), (Uuid, String)>,
    signs: BTreeMap<(PracticeId, Channel), Sign>,
    gone: BTreeSet<(PracticeId, Registration)>,
}

impl Hearing {
    /// Locks the deliveries, and those whose attempts hold one of `refs`, each the provider's id of one practice: an id that a
    /// look gave to the wrong attempt can be taken from it. All are locked in the order of their ids. Should another come to
    /// hold one of the ids in the meantime, its uniqueness refuses the transaction, and whoever repeats it finds that holder
    /// here.
    pub(super) async fn open_on(
        tx: &Tx,
        deliveries: impl Iterator<Item = DeliveryId>,
        refs: impl Iterator<Item = (&PracticeId, &str)>,
    ) -> Result<Self, StoreError> {
        let holders = holders_on(tx, refs).await?;
        let drafts = drafts_on(tx, deliveries.chain(holders.into_iter().map(DeliveryId))).await?;
        Self::of_on(tx, drafts).await
    }

    /// About deliveries that are locked already.
    pub(super) async fn of_on(tx: &Tx, drafts: BTreeMap<Uuid, Draft>) -> Result<Self, StoreError> {
        let attempts = Attempts::load_on(tx, drafts.keys().copied()).await?;
        Ok(Self { drafts, attempts, findings: Findings::default(), beyond: Beyond::default() })
    }

    /// Ends the changes so far: what is heard next shows by itself.
    pub(super) fn pause(&mut self, now: DateTime<Utc>) -> Result<(), StoreError> {
        self.drafts.values_mut().try_for_each(|draft| draft.tell(now))
    }

    /// Notes devices that the provider does not know any more.
    pub(super) fn gone(&mut self, practice: &PracticeId, devices: &[Registration]) {
        self.beyond.gone.extend(devices.iter().map(|device| (practice.clone(), *device)));
    }

    /// Notes what an answer says of the practice's account.
    pub(super) fn sign(&mut self, practice: &PracticeId, channel: Channel, sign: Sign) {
        self.beyond.signs.insert((practice.clone(), channel), sign);
    }

    /// Notes what a failure means beyond its delivery: the address is dead, or the account is refused.
    pub(super) fn spread(
        &mut self,
        attempt: &attempt::Model,
        channel: Channel,
        reason: FailureReason,
        code: &str,
    ) -> Result<(), StoreError> {
        if reason.suppresses_address() || reason.doubts_address(code) {
            // The attempt's own address: the patient may have another one by now.
            let address = attempt.address_bi.clone();
            self.beyond.dead.insert((attempt.practice_id.clone(), channel.number(), address, reason));
        }
        let practice = || attempt.practice_id.parse().map_err(|_| StoreError::Corrupt("attempt"));
        if reason == FailureReason::OptedOutAtProvider {
            let key = (practice()?, channel, attempt.address_bi.clone());
            self.beyond.opted_out.insert(key, (attempt.delivery_id, code.to_owned()));
        }
        if reason == FailureReason::ProviderConfig {
            let practice = practice()?;
            self.sign(&practice, channel, Sign::Refused(code.to_owned()));
        }
        Ok(())
    }

    /// Writes all that changed, and the feed: the last thing of a transaction.
    pub(super) async fn close_on(mut self, tx: &Tx) -> Result<Findings, StoreError> {
        for id in self.drafts.keys().copied().collect::<Vec<_>>() {
            retry::proved_on(tx, &mut self.drafts, id).await?;
        }
        devices::forget_on(tx, &self.beyond.gone).await?;
        let skipped = self.opt_out_on(tx).await?;
        for (practice, channel, address, reason) in self.beyond.dead {
            suppress_on(tx, &practice, channel, address, reason).await?;
        }
        for ((practice, channel), sign) in &self.beyond.signs {
            health::note_on(tx, practice, *channel, sign).await?;
        }
        self.attempts.save_on(tx).await?;
        save_all_on(tx, self.drafts.into_values().chain(skipped)).await?;
        Ok(self.findings)
    }

    /// Puts on record who opted out at the provider. Yields what is skipped because of it.
    async fn opt_out_on(&self, tx: &Tx) -> Result<Vec<Draft>, StoreError> {
        let opted_out = &self.beyond.opted_out;
        let mut skipped = Vec::new();
        for practice in opted_out.keys().map(|(practice, ..)| practice).collect::<BTreeSet<_>>() {
            let theirs = opted_out.keys().filter(|key| key.0 == *practice).map(|key| (key.1, key.2.clone()));
            let dead = self.beyond.dead.iter().filter(|key| key.0 == practice.as_str());
            let dead = dead.filter_map(|key| Some((Channel::from_number(key.1)?, key.2.clone())));
            consent::take_all_on(tx, practice, &theirs.chain(dead).collect()).await?;
        }
        let held = self.drafts.keys().copied().collect();
        for ((practice, channel, address), (delivery, code)) in opted_out {
            let draft = self.drafts.get(delivery);
            let provider = draft.and_then(|draft| draft.row.provider).and_then(Provider::from_number);
            let report = Report {
                channel: *channel,
                address: address.clone(),
                address_hint: draft.map(|draft| draft.row.address_hint.clone()).unwrap_or_default(),
                source: ConsentSource::Provider,
                author: &Author::provider(provider.map_or("provider", Provider::name)),
                evidence: format!("error {code} of delivery {}", delivery.hyphenated()),
                decided: None,
            };
            let keys = tx.keys(practice).await?;
            skipped.extend(consent::report_on(tx, &keys, &report, &held).await?.1);
        }
        Ok(skipped)
    }
}

async fn holders_on(tx: &Tx, refs: impl Iterator<Item = (&PracticeId, &str)>) -> Result<Vec<Uuid>, StoreError> {
    let mut named = BTreeMap::<&PracticeId, Vec<&str>>::new();
    for (practice, reference) in refs.filter(|(_, reference)| !reference.is_empty()) {
        named.entry(practice).or_default().push(reference);
    }
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let providers = [Provider::Twilio, Provider::SendGrid, Provider::Fcm];
    let theirs = |(practice, refs): (&PracticeId, Vec<&str>)| named_by(practice, &providers, padded(refs));
    let holders = attempt::Entity::find()
        .select_only()
        .column(attempt::Column::DeliveryId)
        .filter(named.into_iter().map(theirs).fold(Condition::any(), Condition::add))
        .into_tuple()
        .all(&tx.db)
        .await?;
    Ok(holders)
}

impl Hearing {
    /// Adds what came in to its attempt and its delivery. False: it was all known.
    pub(super) async fn apply_on(&mut self, tx: &Tx, id: DeliveryId, evidence: &Evidence) -> Result<bool, StoreError> {
        let key = (id.0, evidence.attempt);
        let before = self.attempts.get(key).cloned().ok_or(StoreError::Corrupt("attempt"))?;
        let news = !nothing_new(&before, &self.attempts, evidence);
        let Some(line) = self.line_on(tx, &before, evidence, news).await? else { return Ok(false) };
        bind(self, key, evidence, tx.now);
        let draft = self.drafts.get_mut(&id.0).ok_or(StoreError::Corrupt("attempt"))?;
        let row = self.attempts.get_mut(key).ok_or(StoreError::Corrupt("attempt"))?;
        if was_denied(&before, evidence) {
            self.findings.contradictions.push(id.0);
        }
        if tells_the_other_end(&before, evidence) {
            self.findings.both_ends.push(id.0);
        }
        let proved = if evidence.source.proves() { Facts::PROVED } else { Facts::NONE };
        row.facts = Facts::from_bits(row.facts).and(evidence.facts).and(proved).bits();
        row.verdict = Known::after(known(row)?, evidence.source.known(), before.facts != 0).map(Known::number);
        if row.verdict.is_some() {
            row.ended_at.get_or_insert(tx.now);
        }
        draft.add(evidence.facts, tx.now)?;
        explain(draft, evidence, tx.now);
        draft.note(line, tx.now);
        fold(draft, &self.attempts, &mut self.findings, tx.now);
        if draft.row.phase != IN_FLIGHT && draft.facts().left_us() {
            closed_as_sent(draft, tx.now);
        }
        if let Some(reason) = evidence.failure {
            let channel = draft.channel()?;
            self.spread(&before, channel, reason, &evidence.code)?;
        }
        Ok(true)
    }
}

/// Whether the facts, the proof and the id are known.
fn nothing_new(attempt: &attempt::Model, attempts: &Attempts, evidence: &Evidence) -> bool {
    let facts = Facts::from_bits(attempt.facts);
    let known_facts = facts.and(evidence.facts) == facts;
    let known_proof = !evidence.source.proves() || is_proved(attempt);
    let binds = || {
        let holder = attempts.holder(attempt.provider, &evidence.provider_ref).and_then(|key| attempts.get(key));
        attempt.provider_ref != evidence.provider_ref && holder.is_none_or(|holder| !is_proved(holder))
    };
    let known_id = evidence.provider_ref.is_empty() || is_second(attempt, evidence) || !binds();
    known_facts && known_proof && known_id
}

/// Whether the provider took it after all, and had said that it did not.
fn was_denied(before: &attempt::Model, evidence: &Evidence) -> bool {
    before.verdict == Some(Known::No.number()) && !Facts::from_bits(before.facts).left_us() && evidence.facts.left_us()
}

/// Whether it arrived, by what is said now for the first time, and did not by what was said before, or the reverse.
fn tells_the_other_end(before: &attempt::Model, evidence: &Evidence) -> bool {
    let (known, told) = (Facts::from_bits(before.facts), evidence.facts);
    let (arrived, failed) = (Facts::DELIVERED.and(Facts::READ), Facts::UNDELIVERED.and(Facts::BOUNCED));
    let both = |facts: Facts| facts.any(arrived) && facts.any(failed);
    both(known.and(told)) && !both(known)
}

/// Gives the attempt the provider's id. Proof takes it from an attempt that has it by a look at the list alone: two equal
/// texts to one number may have been taken for each other. What another delivery shows by it cannot be taken back, and is
/// named to the operator. Between two attempts of one delivery nothing shown was wrong, but the patient may have both.
fn bind(hearing: &mut Hearing, key: Key, evidence: &Evidence, now: DateTime<Utc>) {
    let Hearing { drafts, attempts, findings, .. } = hearing;
    let Some(row) = attempts.get(key) else { return };
    let (provider, wanted) = (row.provider, &evidence.provider_ref);
    if wanted.is_empty() || row.provider_ref == *wanted {
        return;
    }
    if is_second(row, evidence) {
        findings.contradictions.push(key.0);
        if let Some(draft) = drafts.get_mut(&key.0) {
            draft.row.flags |= POSSIBLE_DUPLICATE;
        }
    }
    if !row.provider_ref.is_empty() && (!evidence.source.proves() || is_proved(row)) {
        return;
    }
    if let Some(holder) = attempts.holder(provider, wanted) {
        let of_another = holder.0 != key.0;
        let kept = attempts.get(holder).is_some_and(is_proved) || !evidence.source.proves();
        if of_another || kept {
            findings.contradictions.push(key.0);
        }
        if kept {
            return;
        }
        if of_another {
            findings.contradictions.push(holder.0);
        }
        if let Some(loser) = attempts.get_mut(holder) {
            loser.provider_ref.clear();
            // What a look concluded does not hold any more, and what was heard of the message is the other's.
            loser.verdict = Some(Known::Unknown.number());
            loser.facts = Facts::NONE.bits();
        }
        if let Some(loser) = drafts.get_mut(&holder.0) {
            loser.row.poll_at = None;
            let note = Note {
                attempt: holder.1,
                ..Note::new(
                    Author::system(),
                    "The message found for it was another attempt's: whether it arrived is unknown.",
                )
            };
            loser.note(note, now);
            show_ref(loser, attempts);
        }
    }
    if let Some(row) = attempts.get_mut(key) {
        row.provider_ref.clone_from(wanted);
    }
}

/// The delivery shows the id of its latest attempt that has one.
fn show_ref(draft: &mut Draft, attempts: &Attempts) {
    let latest = attempts.of(draft.row.id).filter(|row| !row.provider_ref.is_empty()).last();
    draft.row.provider_ref = latest.map(|row| row.provider_ref.clone()).unwrap_or_default();
}

/// Explains a failure. Of several explanations the one that tells most is kept, so that their order does not matter.
fn explain(draft: &mut Draft, evidence: &Evidence, now: DateTime<Utc>) {
    if let Some(reason) = evidence.failure {
        let known = draft.row.failure_reason.and_then(FailureReason::from_number);
        let rank = |reason: FailureReason, code: &str| (reason.number(), code.is_empty(), code.to_owned());
        let better = known.is_none_or(|known| rank(reason, &evidence.code) < rank(known, &draft.row.failure_code));
        if better {
            let fail_time = draft.row.failure_time.unwrap_or(now);
            draft.fail(&Failure { reason, provider_code: evidence.code.clone(), fail_time });
        }
    }
    if draft.row.failure_reason.is_none() && draft.facts().left_us() {
        // What stood in the way of a try does not explain what became of one that left.
        draft.row.failure_code.clear();
    }
    draft.explain(&evidence.code, now);
}

/// What follows for the delivery from all of its attempts: which id it shows, and whether the patient may have it twice.
pub(super) fn fold(draft: &mut Draft, attempts: &Attempts, findings: &mut Findings, now: DateTime<Utc>) {
    show_ref(draft, attempts);
    let rows = attempts.of(draft.row.id);
    if rows.clone().filter(|row| may_have_arrived(row)).count() > 1 {
        draft.row.flags |= POSSIBLE_DUPLICATE;
    }
    let proved = |row: &&attempt::Model| arrived(row);
    let news = attempts.was(draft.row.id).filter(|row| arrived(row)).count() < 2;
    if news && rows.clone().filter(proved).count() > 1 && !findings.duplicates.contains(&draft.row.id) {
        findings.duplicates.push(draft.row.id);
        let note = Note::new(Author::system(), "Two attempts reached the provider: the patient may have it twice.");
        draft.note(note, now);
    }
}
