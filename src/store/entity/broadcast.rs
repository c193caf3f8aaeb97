//! Broadcasts: where they stand, and their counts.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "broadcast")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub channels: i16,
    pub create_time: DateTimeUtc,
    pub schedule_time: Option<DateTimeUtc>,
    pub due_time: DateTimeUtc,
    pub start_time: Option<DateTimeUtc>,
    pub complete_time: Option<DateTimeUtc>,
    pub cancel_time: Option<DateTimeUtc>,
    pub creator_type: i16,
    pub creator_id: String,
    pub creator_name: String,
    pub canceller_type: Option<i16>,
    pub canceller_id: String,
    pub canceller_name: String,
    pub work_at: Option<DateTimeUtc>,
    pub term: i64,
    pub cursor: String,
    pub planned: bool,
    pub recipients: i64,
    pub reached: i64,
    pub pending: i64,
    pub unconfirmed: i64,
    pub sent: i64,
    pub delivered: i64,
    pub failed: i64,
    pub skipped: i64,
    pub cancelled: i64,
}

impl ActiveModelBehavior for ActiveModel {}
