//! Data keys, each wrapped under a master key.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "data_key")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    #[sea_orm(column_type = "Blob")]
    pub wrapped: Vec<u8>,
    pub uses: i64,
    pub create_time: DateTimeUtc,
    pub retire_time: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
