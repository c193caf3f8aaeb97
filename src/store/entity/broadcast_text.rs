//! What a broadcast says and to whom, sealed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "broadcast_text")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub broadcast_id: Uuid,
    pub practice_id: String,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
