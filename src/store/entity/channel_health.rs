//! How the provider of a channel last answered.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "channel_health")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: i16,
    pub last_success_time: Option<DateTimeUtc>,
    pub failing_since: Option<DateTimeUtc>,
    pub failure_code: String,
}

impl ActiveModelBehavior for ActiveModel {}
