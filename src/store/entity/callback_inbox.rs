//! Signed callbacks that cannot be applied yet.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "callback_inbox")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub provider: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub dedupe_key: Vec<u8>,
    pub practice_id: String,
    #[sea_orm(column_type = "Blob")]
    pub token: Option<Vec<u8>>,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    pub received_at: DateTimeUtc,
    pub applied_at: Option<DateTimeUtc>,
    pub tries: i32,
    pub try_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
