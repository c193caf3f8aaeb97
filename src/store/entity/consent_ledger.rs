//! Entries of the consent ledgers: only ever inserted, each chained to the one before.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "consent_ledger")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub patient_id: String,
    pub channel: i16,
    #[sea_orm(column_type = "Blob")]
    pub address_bi: Option<Vec<u8>>,
    pub state: i16,
    pub source: i16,
    pub effective_at: DateTimeUtc,
    pub at: DateTimeUtc,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub mac: Vec<u8>,
    pub id: Uuid,
}

impl ActiveModelBehavior for ActiveModel {}
