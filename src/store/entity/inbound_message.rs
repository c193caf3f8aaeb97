//! Texts that patients sent, each once.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "inbound_message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub sid: String,
    #[sea_orm(column_type = "Blob")]
    pub from_bi: Option<Vec<u8>>,
    pub received_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
