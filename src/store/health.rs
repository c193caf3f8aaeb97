//! How the provider of a channel last answered: what the setup check shows.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};

use super::{Store, StoreError, entity::channel_health, tx::Tx};
use crate::domain::{Channel, PracticeId, Scope};

/// How a channel has been doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelHealth {
    /// The channel.
    pub channel: Channel,
    /// When a provider last accepted a message.
    pub last_success_time: Option<DateTime<Utc>>,
    /// The provider's code while it refuses credentials or sender.
    pub failing: Option<String>,
}

/// What an answer says about the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Well,
    Refused(String),
}

/// A success is noted at most this often, since every settled message would write the row.
const NOTED_EVERY: TimeDelta = TimeDelta::seconds(60);

pub(super) async fn note_on(tx: &Tx, practice: &PracticeId, channel: Channel, sign: &Sign) -> Result<(), StoreError> {
    let key = (practice.as_str().to_owned(), channel.number());
    let known = channel_health::Entity::find_by_id(key.clone()).one(&tx.db).await?;
    if let (Some(row), Sign::Well) = (&known, sign) {
        let recent = row.last_success_time.is_some_and(|time| tx.now - time < NOTED_EVERY);
        if recent && row.failing_since.is_none() {
            return Ok(());
        }
    }
    let (success, failing, code) = match sign {
        Sign::Well => (Some(tx.now), None, String::new()),
        Sign::Refused(code) => {
            let since = known.as_ref().and_then(|row| row.failing_since).unwrap_or(tx.now);
            (known.as_ref().and_then(|row| row.last_success_time), Some(since), code.clone())
        }
    };
    let row = channel_health::ActiveModel {
        practice_id: Set(key.0),
        channel: Set(key.1),
        last_success_time: Set(success),
        failing_since: Set(failing),
        failure_code: Set(code),
    };
    match known {
        Some(_) => drop(row.update(&tx.db).await?),
        None => {
            let key = [channel_health::Column::PracticeId, channel_health::Column::Channel];
            channel_health::Entity::insert(row).on_conflict_do_nothing_on(key).exec_without_returning(&tx.db).await?;
        }
    }
    Ok(())
}

impl Store {
    /// How the channels of the practice have been doing; those never used are left out.
    ///
    /// # Errors
    /// [`StoreError`] when the database refuses.
    pub async fn channel_health(&self, scope: &Scope) -> Result<Vec<ChannelHealth>, StoreError> {
        let rows = channel_health::Entity::find()
            .filter(channel_health::Column::PracticeId.eq(scope.practice().as_str()))
            .all(&self.within(scope))
            .await?;
        let health = rows.into_iter().filter_map(|row| {
            Some(ChannelHealth {
                channel: Channel::from_number(row.channel)?,
                last_success_time: row.last_success_time,
                failing: row.failing_since.map(|_| row.failure_code),
            })
        });
        Ok(health.collect())
    }
}
