//! What staff have sent again: a new delivery of the same text over the same channel, decided on anew and linked to the one
//! that it repeats, which keeps its facts and its state.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect};
use uuid::Uuid;

use super::{
    Store, StoreError, broadcasts, conversations,
    draft::{self, Draft, Note},
    entity::{attempt, content, conversation_message, delivery, delivery_event, notification},
    feed::{self, Change},
    grounds::{self, Recipient},
    idem::{self, Prior},
    image::{self, CONVERSATION_MESSAGE, POSSIBLE_DUPLICATE, TEST},
    notifications, preferences,
    queue::{attempts_on, drafts_on},
    stand_ins, subjects,
    tx::Tx,
    vault::PracticeKeys,
};
use crate::{
    crypto,
    domain::{
        Author, Channel, ChannelSet, Class, Decision, Delivery, DeliveryId, DeliveryState, Expiry, Facts,
        GIVE_UP_AFTER, Grounds, Known, Patient, RetryBar, Scope, SkipReason, TraceContext,
    },
};

/// A wish to send a delivery again.
#[derive(Clone, Debug)]
pub struct NewRetry {
    /// The caller's key.
    pub request_id: String,
    /// A keyed digest of the request without its key.
    pub fingerprint: [u8; 32],
    /// What to send again.
    pub delivery: DeliveryId,
}

/// What became of the wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// The new delivery.
    New(Delivery),
    /// The key made this before, by the same request.
    Replayed(Delivery),
    /// The key was used for another request, which made this.
    KeyReused(DeliveryId),
}

impl Store {
    /// Makes a new delivery that repeats another, or yields what its key made before.
    ///
    /// # Errors
    /// NotFound when the practice has no such delivery; StateForbids when it is not to be repeated.
    pub async fn delivery_retry(&self, scope: &Scope, retry: NewRetry) -> Result<Retried, StoreError> {
        let keys = self.keys(scope.practice()).await?;
        let (scope, store) = (scope.clone(), self.clone());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                let key = idem::Key {
                    practice: scope.practice().as_str(),
                    resource: idem::RETRIES,
                    request_id: &retry.request_id,
                    fingerprint: &retry.fingerprint,
                    // Its id comes after that of what it repeats: whoever locks both takes them in this order.
                    makes: crypto::new_id_after(tx.now, retry.delivery.0),
                };
                if !idem::take_on(tx, vec![key]).await?.is_empty() {
                    let made = retry_on(tx, &store, &keys, &scope, (retry.delivery.0, key.makes)).await?;
                    return Ok(Retried::New(made));
                }
                match key.prior_on(&tx.db).await? {
                    Prior::Same(id) => {
                        let row = row_on(&tx.db, &scope, id).await?.ok_or(StoreError::Corrupt("idem"))?;
                        Ok(Retried::Replayed(image::to_delivery(&row)?))
                    }
                    Prior::Other(id) => Ok(Retried::KeyReused(DeliveryId(id))),
                    Prior::None => Err(StoreError::Corrupt("idem")),
                }
            })
        })
        .await
    }
}

async fn row_on(db: &impl ConnectionTrait, scope: &Scope, id: Uuid) -> Result<Option<delivery::Model>, StoreError> {
    let of_practice = delivery::Column::PracticeId.eq(scope.practice().as_str());
    // A test is nobody's message: whoever wants it once more sends another.
    let no_test = delivery::Column::SourceKind.ne(TEST);
    Ok(delivery::Entity::find_by_id(id).filter(of_practice).filter(no_test).one(db).await?)
}

/// Makes delivery `new`, which repeats `old`.
async fn retry_on(
    tx: &Tx,
    store: &Store,
    keys: &PracticeKeys,
    scope: &Scope,
    (old, new): (Uuid, Uuid),
) -> Result<Delivery, StoreError> {
    let known = row_on(&tx.db, scope, old).await?.ok_or(StoreError::NotFound("delivery"))?;
    // Before the delivery, as a cancel does, which must find every delivery of its notification.
    let origin = Origin::take_on(tx, &known).await?;
    let draft = drafts_on(tx, std::iter::once(DeliveryId(old))).await?.remove(&old);
    let mut draft = draft.ok_or(StoreError::NotFound("delivery"))?;
    let text = content::Entity::find_by_id(old).one(&tx.db).await?;
    let bar = RetryBar::of(&image::to_delivery(&draft.row)?).or(origin.bar);
    let text = match (bar, text) {
        (None, Some(text)) => text,
        (None, None) => return Err(forbidden(RetryBar::TextGone)),
        (Some(bar), _) => return Err(forbidden(bar)),
    };

    let keys = &subjects::opening(&tx.db, keys, [text.body_ct.as_slice()]).await?;
    let attempts = attempts_on(tx, std::iter::once(old)).await?;
    let (patient, decision, expires_at) = decide_on(tx, store, keys, (&draft.row, &text), &origin).await?;
    let plan = Plan { id: new, decision: &decision, expires_at, may_arrive_twice: in_doubt(&draft.row, &attempts) };
    let sms_segments = notifications::to_content(keys, &text)?.sms_segments;
    let mut row = plan.row(tx, keys, &draft.row, patient.as_ref(), sms_segments);
    row.trace = scope.trace().map(TraceContext::to_bytes);
    if let Some(patient) = patient.filter(|_| decision.skip_reason.is_none()) {
        let gates = grounds::gate_keys(keys, decision.channel, &patient).into_iter();
        let gates = gates.filter(|gate| gate.kind == grounds::ADDRESS || !stand_ins::has(&row));
        grounds::gates_insert_on(tx, gates.map(|gate| (keys.practice().to_owned(), gate)).collect()).await?;
    }
    delivery::Entity::insert(row.clone().into_active_model()).exec_without_returning(&tx.db).await?;
    let text = notifications::copied_row(keys, &text, DeliveryId(new))?;
    content::Entity::insert(text.into_active_model()).exec_without_returning(&tx.db).await?;
    let event = draft::first_event(&row, scope.author(), first_line(&row)).into_active_model();
    delivery_event::Entity::insert(event).exec_without_returning(&tx.db).await?;

    if row.source_kind == CONVERSATION_MESSAGE {
        // Its message shows the latest of its deliveries.
        conversation_message::Entity::update_many()
            .set(conversation_message::ActiveModel { delivery_id: Set(Some(new)), ..Default::default() })
            .filter(conversation_message::Column::Id.eq(row.source_id))
            .exec(&tx.db)
            .await?;
    }
    draft.row.retried_by = Some(new);
    draft.note(Note::new(scope.author().clone(), "Sent again as a new delivery."), tx.now);
    let made = image::to_delivery(&row)?;
    tx.note(scope, made.patient.as_ref(), format_args!("delivery/{}", made.id));
    let mut changes = draft::write_all_on(tx, [draft]).await?;
    changes.push(Change::created(&row, made.clone())?);
    feed::append_on(tx, changes).await?;
    Ok(made)
}

/// What the first delivery came from, as far as it counts for another.
struct Origin {
    expiry: Expiry,
    requested: Option<ChannelSet>,
    bar: Option<RetryBar>,
}

impl Origin {
    /// The notification stays as it is until COMMIT; a message of a conversation cannot be cancelled.
    async fn take_on(tx: &Tx, row: &delivery::Model) -> Result<Self, StoreError> {
        if row.source_kind == CONVERSATION_MESSAGE {
            let expiry = Expiry { asked: None, visit_time: None, share: false };
            let channel = Channel::from_number(row.channel).ok_or(StoreError::Corrupt("delivery"))?;
            let gone = conversations::files_are_gone_on(tx, row.source_id).await?;
            let requested = Some(ChannelSet::NONE.with(channel));
            return Ok(Self { expiry, requested, bar: gone.then_some(RetryBar::TextGone) });
        }
        let source = notification::Entity::find_by_id(row.source_id).lock_shared().one(&tx.db).await?;
        let source = source.ok_or(StoreError::Corrupt("delivery"))?;
        let expiry = Expiry {
            asked: (!source.default_expiry).then_some(source.expire_time),
            visit_time: source.visit_time,
            share: source.broadcast_id.is_some(),
        };
        let requested = notifications::unpack(source.requested);
        let cancelled = broadcasts::cancelled_on(tx, source.broadcast_id.into_iter().collect()).await?;
        let is_cancelled = source.cancel_time.is_some() || !cancelled.is_empty();
        Ok(Self { expiry, requested, bar: is_cancelled.then_some(RetryBar::Cancelled) })
    }
}

fn forbidden(bar: RetryBar) -> StoreError {
    StoreError::StateForbids { state: bar.word(), message: bar.message() }
}

/// Whether the patient may have got it, or one that it repeats, for all that is known.
fn in_doubt(row: &delivery::Model, attempts: &[attempt::Model]) -> bool {
    let unanswered =
        |attempt: &attempt::Model| attempt.verdict.is_none_or(|verdict| verdict == Known::Unknown.number());
    row.state == DeliveryState::Unconfirmed.number()
        || row.flags & POSSIBLE_DUPLICATE != 0
        // A mail that was delivered, and came back after that.
        || Facts::from_bits(row.facts).may_have_arrived()
        || attempts.iter().any(unanswered)
        // Once its history is gone, nobody can tell any more that a doubt was settled.
        || (attempts.is_empty() && row.doubt_since.is_some())
}

/// Decides as if it were sent for the first time, on the patient and the settings of this moment.
async fn decide_on(
    tx: &Tx,
    store: &Store,
    keys: &PracticeKeys,
    (old, text): (&delivery::Model, &content::Model),
    origin: &Origin,
) -> Result<(Option<Patient>, Decision, chrono::DateTime<chrono::Utc>), StoreError> {
    let corrupt = || StoreError::Corrupt("delivery");
    let channel = Channel::from_number(old.channel).ok_or_else(corrupt)?;
    let expiry = origin.expiry;
    let found = if stand_ins::has(old) {
        Some(stand_ins::recipient(keys, text)?)
    } else {
        grounds::patients_on(&tx.db, keys, [old.patient_id.clone()], false).await?.remove(&old.patient_id)
    };
    let Some(Recipient { patient, choices, has_device }) = found else {
        // Whoever is not in the directory any more is not written to.
        let skip_reason = Some(SkipReason::PatientInactive);
        let decision = Decision { channel, considered: true, skip_reason, attempt_time: tx.now, steps: Vec::new() };
        return Ok((None, decision, expiry.of(tx.now)));
    };
    let (practice, settings) = preferences::home_on(&tx.db, keys).await?;
    let gates = grounds::gates_on(&tx.db, keys.practice(), &grounds::gate_keys(keys, channel, &patient), false).await?;
    let gates = BTreeMap::from([(channel, grounds::gates_of(&gates, keys, channel, &patient))]);
    let grounds = Grounds {
        patient: &patient,
        choices: &choices.value,
        practice_zone: practice.time_zone,
        settings: &settings,
        has_device,
        kind: image::kind(old)?,
        requested: origin.requested,
        urgent: old.class == Class::Urgent.number(),
        test: false,
        gates: &gates,
        duplicates: ChannelSet::NONE,
        sms_regions: &store.inner.sms_regions,
        not_before: tx.now,
        expires_at: tx.now,
        now: tx.now,
    };
    let expires_at = expiry.of(grounds.first_time(channel));
    let decision = Grounds { expires_at, ..grounds }.decide(channel);
    Ok((Some(patient), decision, expires_at))
}

/// What the new delivery does not take over from the old one.
struct Plan<'a> {
    id: Uuid,
    decision: &'a Decision,
    expires_at: chrono::DateTime<chrono::Utc>,
    may_arrive_twice: bool,
}

impl Plan<'_> {
    fn row(
        &self,
        tx: &Tx,
        keys: &PracticeKeys,
        old: &delivery::Model,
        patient: Option<&Patient>,
        sms_segments: i32,
    ) -> delivery::Model {
        let channel = self.decision.channel;
        let facts = if self.decision.skip_reason.is_some() { Facts::SKIPPED } else { Facts::NONE };
        delivery::Model {
            practice_id: old.practice_id.clone(),
            patient_id: old.patient_id.clone(),
            source_kind: old.source_kind,
            source_id: old.source_id,
            broadcast_id: old.broadcast_id,
            kind: old.kind,
            class: old.class,
            address_bi: patient.and_then(|patient| grounds::address_index(keys, channel, patient)),
            address_hint: patient.map(|patient| patient.address_hint(channel)).unwrap_or_default(),
            retry_of: Some(old.id),
            reference: old.reference.clone(),
            flags: if self.may_arrive_twice { POSSIBLE_DUPLICATE } else { 0 },
            not_before: self.decision.attempt_time,
            give_up_at: self.decision.attempt_time + GIVE_UP_AFTER,
            expires_at: self.expires_at,
            skip_reason: self.decision.skip_reason.map(SkipReason::number),
            sms_segments,
            ..draft::fresh(self.id, facts, channel, tx.now)
        }
    }
}

/// What the first line of its timeline says.
fn first_line(row: &delivery::Model) -> &'static str {
    if row.skip_reason.is_some() {
        "To be sent again at the request of staff, and not sent: see the reason."
    } else {
        "Sent again at the request of staff."
    }
}

/// After evidence about the delivery `id`: if it shows that the patient may have it after all, whatever was sent again since
/// is flagged. Those come after it in the order of ids, which is that of the locks.
pub(super) async fn proved_on(tx: &Tx, drafts: &mut BTreeMap<Uuid, Draft>, id: Uuid) -> Result<(), StoreError> {
    let Some(draft) = drafts.get(&id).filter(|draft| draft.facts().may_have_arrived()) else { return Ok(()) };
    let mut next = draft.row.retried_by;
    while let Some(id) = next {
        if !drafts.contains_key(&id) {
            drafts.extend(drafts_on(tx, std::iter::once(DeliveryId(id))).await?);
        }
        let repeat = drafts.get_mut(&id).ok_or(StoreError::Corrupt("delivery"))?;
        if repeat.row.flags & POSSIBLE_DUPLICATE == 0 {
            repeat.row.flags |= POSSIBLE_DUPLICATE;
            let detail = "The delivery that this one repeats has reached the provider after all.";
            repeat.note(Note::new(Author::system(), detail), tx.now);
        }
        next = repeat.row.retried_by;
    }
    Ok(())
}
