//! Attempts to hand a delivery over, each with a token of its own.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempt")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub n: i32,
    pub epoch: i32,
    pub practice_id: String,
    #[sea_orm(column_type = "Blob")]
    pub token: Vec<u8>,
    #[sea_orm(column_type = "Blob")]
    pub address_bi: Vec<u8>,
    pub consent_seq: i64,
    pub intent_at: DateTimeUtc,
    pub ended_at: Option<DateTimeUtc>,
    pub verdict: Option<i16>,
    pub facts: i32,
    pub provider: i16,
    pub sender: String,
    pub provider_ref: String,
    pub code: String,
}

impl ActiveModelBehavior for ActiveModel {}
