//! What evidence adds to the timeline of its delivery: a line for each thing that came in, none for its repeats, and no more
//! than staff can learn from.

use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};

use super::{Evidence, EvidenceSource, Hearing};
use crate::{
    domain::{ActorType, FailureReason},
    store::{
        StoreError,
        attempts::is_proved,
        draft::Note,
        entity::{attempt, delivery_event},
        image::POSSIBLE_DUPLICATE,
        tx::Tx,
    },
};

/// Lines that reports of one attempt may have in the timeline, but for those that tell something new. A mail that waits for the
/// three days that mail systems try has a handful of different codes; beyond some dozens nobody learns anything, and whoever
/// invents codes shall not fill the database.
const MOST_REPORTS: usize = 24;

/// What the last of them says, whatever its own words.
const LAST_REPORT: &str = "The provider reports on; what adds nothing is not told from here on.";

/// One attempt made two messages: something on the way has sent the request twice.
const SECOND_MESSAGE: &str = "The provider reports a second message of this attempt: the patient may have it twice.";

fn line(attempt: &attempt::Model, evidence: &Evidence) -> Note {
    let detail = if is_second(attempt, evidence) { SECOND_MESSAGE } else { evidence.detail };
    Note {
        status: evidence.status.clone(),
        code: evidence.code.clone(),
        attempt: evidence.attempt,
        ..Note::new(evidence.author.clone(), detail)
    }
}

pub(super) fn is_second(attempt: &attempt::Model, evidence: &Evidence) -> bool {
    let other = !evidence.provider_ref.is_empty() && attempt.provider_ref != evidence.provider_ref;
    other && !attempt.provider_ref.is_empty() && evidence.source.proves() && is_proved(attempt)
}

impl Hearing {
    /// The line for what came in; unset where nothing is left to say. `news`: it adds a fact, a proof or an id.
    pub(super) async fn line_on(
        &self,
        tx: &Tx,
        attempt: &attempt::Model,
        evidence: &Evidence,
        news: bool,
    ) -> Result<Option<Note>, StoreError> {
        let line = line(attempt, evidence);
        if news {
            return Ok(Some(line));
        }
        if self.is_on_record_on(tx, attempt, &line).await? {
            return Ok(None);
        }
        // Looks and questions are few, since we make them.
        if evidence.source != EvidenceSource::Token || self.weighs(attempt, evidence) {
            return Ok(Some(line));
        }
        Ok(match self.reports_on(tx, attempt).await?.saturating_add(1) {
            ..MOST_REPORTS => Some(line),
            MOST_REPORTS => Some(Note { detail: LAST_REPORT, ..line }),
            _ => None,
        })
    }

    /// Whether a report that adds no fact changes what is shown or done all the same: it gives a reason that counts for more than
    /// the one that is shown, tells of an opt-out, or is the first of a second message. Each can happen a few times at most.
    fn weighs(&self, attempt: &attempt::Model, evidence: &Evidence) -> bool {
        let Some(draft) = self.drafts.get(&attempt.delivery_id) else { return false };
        let shown = draft.row.failure_reason.and_then(FailureReason::from_number);
        let better = evidence.failure.is_some_and(|reason| {
            reason == FailureReason::OptedOutAtProvider || shown.is_none_or(|shown| reason < shown)
        });
        better || (is_second(attempt, evidence) && draft.row.flags & POSSIBLE_DUPLICATE == 0)
    }

    /// How many lines the timeline has of reports about the attempt.
    async fn reports_on(&self, tx: &Tx, attempt: &attempt::Model) -> Result<usize, StoreError> {
        let reports = ActorType::Provider as i16;
        let heard = self.drafts.get(&attempt.delivery_id).map_or(0, |draft| {
            draft.news().filter(|event| event.attempt == attempt.n && event.actor_type == reports).count()
        });
        let written = delivery_event::Entity::find()
            .filter(delivery_event::Column::DeliveryId.eq(attempt.delivery_id))
            .filter(delivery_event::Column::Attempt.eq(attempt.n))
            .filter(delivery_event::Column::ActorType.eq(reports))
            .count(&tx.db)
            .await?;
        Ok(usize::try_from(written).unwrap_or(usize::MAX).saturating_add(heard))
    }

    /// Whether the timeline has a line about the attempt with the provider's same words. Of a second message it must say so.
    pub(in crate::store) async fn is_on_record_on(
        &self,
        tx: &Tx,
        attempt: &attempt::Model,
        line: &Note,
    ) -> Result<bool, StoreError> {
        // What was heard just before is not written yet.
        let heard = self.drafts.get(&attempt.delivery_id).is_some_and(|draft| {
            let same = |event: &delivery_event::Model| {
                let words = event.provider_status == line.status && event.provider_code == line.code;
                event.attempt == attempt.n && words && (line.detail != SECOND_MESSAGE || event.detail == line.detail)
            };
            draft.news().any(same)
        });
        if heard {
            return Ok(true);
        }
        let mut query = delivery_event::Entity::find()
            .select_only()
            .column(delivery_event::Column::N)
            .filter(delivery_event::Column::DeliveryId.eq(attempt.delivery_id))
            .filter(delivery_event::Column::Attempt.eq(attempt.n))
            .filter(delivery_event::Column::ProviderStatus.eq(&line.status))
            .filter(delivery_event::Column::ProviderCode.eq(&line.code));
        if line.detail == SECOND_MESSAGE {
            query = query.filter(delivery_event::Column::Detail.eq(SECOND_MESSAGE));
        }
        Ok(query.limit(1).into_tuple::<i32>().one(&tx.db).await?.is_some())
    }
}
