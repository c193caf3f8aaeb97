//! Files of messages, without their contents. What they are called and where they come from is sealed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attachment")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub side: i16,
    pub patient_id: String,
    pub request_id: String,
    pub state: i16,
    #[sea_orm(column_type = "Blob")]
    pub about_ct: Vec<u8>,
    pub size_bytes: i64,
    pub parts: i16,
    pub message_id: Option<Uuid>,
    pub place: i16,
    pub tries: i16,
    pub try_at: Option<DateTimeUtc>,
    pub create_time: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
