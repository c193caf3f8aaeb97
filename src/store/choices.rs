//! What patients chose, in the rows of the patients themselves, so that whoever decides on a message has it at hand.

use std::collections::BTreeMap;

use sea_orm::{ActiveValue::Set, EntityTrait, QuerySelect};

use super::{Store, StoreError, entity::patient};
use crate::domain::{Channel, Choices, Kind, PatientId, Scope, Stored};

/// The channels of each kind, by their numbers, as they are stored.
type Numbers = BTreeMap<i16, Vec<i16>>;

impl Store {
    /// Replaces what a patient chose if its revision still is `expected`.
    ///
    /// # Errors
    /// NotFound when the practice has no such patient; Conflict when the stored revision differs.
    pub async fn choices_put(
        &self,
        scope: &Scope,
        patient: &PatientId,
        value: Choices,
        expected: i64,
    ) -> Result<Stored<Choices>, StoreError> {
        let key = (scope.practice().as_str().to_owned(), patient.as_str().to_owned());
        let choices = to_text(&value)?;
        let (scope, patient) = (scope.clone(), patient.clone());
        self.write_within(scope.practice().clone(), move |tx| {
            Box::pin(async move {
                // A claim that is decided now is waited for, and the next one finds the new choice.
                let row = patient::Entity::find_by_id(key.clone()).lock_exclusive().one(&tx.db).await?;
                let current = row.ok_or(StoreError::NotFound("patient"))?.choices_revision;
                if current != expected {
                    return Err(StoreError::Conflict { current });
                }
                let row = patient::ActiveModel {
                    practice_id: Set(key.0),
                    patient_id: Set(key.1),
                    choices: Set(choices),
                    choices_time: Set(Some(tx.now)),
                    choices_revision: Set(current + 1),
                    ..Default::default()
                };
                patient::Entity::update(row).exec(&tx.db).await?;
                tx.note(&scope, Some(&patient), "preferences");
                Ok(Stored { value, update_time: tx.now, revision: current + 1 })
            })
        })
        .await
    }
}

/// What the patient of this row chose; revision 0 if nothing ever.
pub(super) fn stored_choices(row: &patient::Model) -> Result<Stored<Choices>, StoreError> {
    let update_time = row.choices_time.unwrap_or_default();
    Ok(Stored { value: from_text(&row.choices)?, update_time, revision: row.choices_revision })
}

fn to_text(choices: &Choices) -> Result<String, StoreError> {
    let numbers: Numbers = choices
        .iter()
        .map(|(kind, channels)| (kind.number(), channels.iter().map(Channel::number).collect()))
        .collect();
    serde_json::to_string(&numbers).map_err(|_| StoreError::Corrupt("value"))
}

fn from_text(text: &str) -> Result<Choices, StoreError> {
    let corrupt = || StoreError::Corrupt("patient");
    let mut choices = Choices::default();
    if text.is_empty() {
        return Ok(choices);
    }
    let numbers: Numbers = serde_json::from_str(text).map_err(|_| corrupt())?;
    for (kind, channels) in numbers {
        let kind = Kind::from_number(kind).ok_or_else(corrupt)?;
        let channels = channels.into_iter().map(|number| Channel::from_number(number).ok_or_else(corrupt));
        choices.set(kind, Some(channels.collect::<Result<_, _>>()?));
    }
    Ok(choices)
}
