//! Devices registered for push; their tokens are sealed, and found again by blind index.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "push_device")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub patient_id: String,
    #[sea_orm(column_type = "Blob")]
    pub token_bi: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    pub create_time: DateTimeUtc,
    pub seen_time: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
