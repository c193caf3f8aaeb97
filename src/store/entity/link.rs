//! Secure links; the token itself is kept nowhere.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "link")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub token_digest: Vec<u8>,
    pub practice_id: String,
    pub notification_id: Uuid,
    #[sea_orm(column_type = "Blob")]
    pub target_ct: Vec<u8>,
    pub create_time: DateTimeUtc,
    pub expire_time: DateTimeUtc,
    pub max_opens: i32,
    pub opens: i32,
    pub revoke_time: Option<DateTimeUtc>,
    pub first_open_time: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
