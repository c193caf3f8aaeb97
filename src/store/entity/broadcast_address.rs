//! The addresses that a broadcast writes to, each once a channel.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "broadcast_address")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub broadcast_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub address_bi: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
