//! How many deliveries that were made within an hour are in one state.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery_count")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    /// Since 1970, in UTC.
    #[sea_orm(primary_key, auto_increment = false)]
    pub hour: i64,
    /// 0 for a conversation's message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub state: i16,
    /// 0 unless failed.
    #[sea_orm(primary_key, auto_increment = false)]
    pub failure_reason: i16,
    pub count: i64,
}

impl ActiveModelBehavior for ActiveModel {}
