//! Entries of the audit trails: only ever inserted, each chained to the one before.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub at: DateTimeUtc,
    pub action: String,
    pub patient_id: String,
    #[sea_orm(column_type = "Blob", nullable)]
    pub actor_bi: Option<Vec<u8>>,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub mac: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
