//! Settings of practices, sealed whole, as they hold secrets.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "practice_settings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    pub update_time: DateTimeUtc,
    pub revision: i64,
}

impl ActiveModelBehavior for ActiveModel {}
