//! The gates of patients and addresses: the rows on which an opt-out and a claim meet.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "recipient_gate")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: i16,
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject_kind: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Blob")]
    pub subject: Vec<u8>,
    pub consent: i16,
    pub consent_seq: i64,
    pub blocked_at: Option<DateTimeUtc>,
    pub block_reason: Option<i16>,
}

impl ActiveModelBehavior for ActiveModel {}
