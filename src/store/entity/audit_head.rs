//! The newest position of each audit trail.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_head")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    pub seq: i64,
    #[sea_orm(column_type = "Blob")]
    pub mac: Vec<u8>,
    #[sea_orm(column_type = "Blob", nullable)]
    pub seal: Option<Vec<u8>>,
}

impl ActiveModelBehavior for ActiveModel {}
