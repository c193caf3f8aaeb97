//! How a claim ends that does not become a call: filed, parked, refused, or given up.

use chrono::{DateTime, TimeDelta, Utc};

use super::Failing;
use crate::{
    domain::{Author, Channel, Ending, Facts, Failure, FailureReason, Provider, SkipReason},
    store::{
        StoreError,
        draft::{Draft, Note},
        entity::inbox_item,
        notifications,
        queue::tries,
        tx::Tx,
    },
};

/// Files an in-app message, which meets no provider.
pub(super) fn file(tx: &Tx, draft: &mut Draft, security: bool) -> Result<inbox_item::Model, StoreError> {
    draft.row.attempts += 1;
    draft.row.provider = Some(Provider::Inbox as i16);
    draft.add(Facts::INTENT.and(Facts::DELIVERED), tx.now)?;
    draft.close();
    draft.note(Note::new(Author::system(), "Stored in the patient's inbox."), tx.now);
    Ok(inbox_item::Model { create_time: tx.now, ..notifications::inbox_row(&draft.row, security) })
}

/// Puts a delivery aside that may go and cannot yet. Its limits hold all the same: it comes back when it expires, and when it is
/// given up, which it is in the words of whatever stood in the way.
pub(super) fn park(tx: &Tx, draft: &mut Draft, at: DateTime<Utc>, failing: Option<Failing>) -> Result<(), StoreError> {
    let over = tx.now >= draft.row.give_up_at;
    if over && (failing.is_some() || draft.row.attempts > 0) {
        let Failing { reason, code } =
            failing.unwrap_or(Failing { reason: FailureReason::ProviderUnavailable, code: String::new() });
        if draft.row.failure_code.is_empty() {
            draft.row.failure_code = code;
        }
        return give_up(tx, draft, reason);
    }
    let end = last_start(draft.channel()?, draft.row.expires_at);
    let end = if over { end } else { end.min(draft.row.give_up_at) };
    draft.row.parked_until = Some(at.min(end));
    Ok(())
}

/// Puts a delivery off that may go and must not yet, since hours are quiet where the patient is.
pub(super) fn hold(tx: &Tx, draft: &mut Draft, until: DateTime<Utc>) {
    draft.row.not_before = until;
    draft.row.parked_until = None;
    draft.note(Note::new(Author::system(), "Held until quiet hours are over."), tx.now);
}

/// The latest moment at which a call still makes sense. A provider of texts is told how long it may try, and less than this is
/// not worth a try (Twilio, `ValidityPeriod`).
pub(super) fn last_start(channel: Channel, expires_at: DateTime<Utc>) -> DateTime<Utc> {
    if channel == Channel::Sms { expires_at - TimeDelta::seconds(5) } else { expires_at }
}

/// A delivery that may not go. Before any try it is skipped. After tries that were all a definite no it failed; after one
/// that may have arrived it stays unconfirmed, since "skipped" would claim that nothing left.
pub(super) fn refuse(tx: &Tx, draft: &mut Draft, reason: SkipReason) {
    let ending = if reason == SkipReason::Expired { Ending::Expired } else { Ending::Skipped };
    let facts = ending.fact(tries(&draft.row));
    let detail = match (facts, draft.row.attempts) {
        (Facts::UNKNOWN_CLOSED, _) => "Not sent again; whether the earlier attempt arrived is unknown.",
        (Facts::EXPIRED, _) => "It was tried in vain until it was too late.",
        (_, 0) => "Checked again just before sending: not sent.",
        (_, _) => "Checked again just before the next try: not sent.",
    };
    draft.row.skip_reason = Some(reason.number());
    if facts == Facts::EXPIRED {
        let code = draft.row.failure_code.clone();
        draft.fail(&Failure { reason: FailureReason::Expired, provider_code: code, fail_time: tx.now });
    }
    // `add` only fails on a channel that cannot be read, which `World::claim` has ruled out.
    let _ = draft.add(facts, tx.now);
    draft.close();
    draft.note(Note::new(Author::system(), detail), tx.now);
}

/// Ends a delivery that is not tried again. After an unknown outcome it stays unconfirmed: "failed" would claim that nothing
/// arrived.
pub(super) fn give_up(tx: &Tx, draft: &mut Draft, reason: FailureReason) -> Result<(), StoreError> {
    let fact = Ending::GaveUp.fact(tries(&draft.row));
    draft.add(fact, tx.now)?;
    if fact == Facts::GAVE_UP {
        let code = draft.row.failure_code.clone();
        draft.fail(&Failure { reason, provider_code: code, fail_time: tx.now });
    }
    draft.close();
    draft.note(Note::new(Author::system(), "Nothing more is tried."), tx.now);
    Ok(())
}
