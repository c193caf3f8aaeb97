//! Messages of conversations; what they say is sealed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "conversation_message")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub conversation_id: Uuid,
    pub direction: i16,
    pub route: i16,
    pub news_for: i16,
    pub inbound_rank: i64,
    pub outbound_rank: i64,
    pub author_type: i16,
    pub author_id: String,
    pub author_name: String,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
    pub create_time: DateTimeUtc,
    pub delivery_id: Option<Uuid>,
    pub consent_source: Option<i16>,
}

impl ActiveModelBehavior for ActiveModel {}
