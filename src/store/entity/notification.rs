//! Notifications as they were accepted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub patient_id: String,
    pub kind: i16,
    pub reference: String,
    pub request_id: String,
    pub urgent: bool,
    pub security: bool,
    pub requested: i16,
    pub create_time: DateTimeUtc,
    pub schedule_time: Option<DateTimeUtc>,
    pub expire_time: DateTimeUtc,
    pub cancel_time: Option<DateTimeUtc>,
    pub default_expiry: bool,
    pub visit_time: Option<DateTimeUtc>,
    pub creator_type: i16,
    pub creator_id: String,
    pub creator_name: String,
    pub broadcast_id: Option<Uuid>,
    #[sea_orm(column_type = "Blob")]
    pub decisions_ct: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
