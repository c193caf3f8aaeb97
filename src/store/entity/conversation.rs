//! Conversations, with all that would otherwise have to be counted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "conversation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    pub owner: String,
    pub patient_id: String,
    #[sea_orm(column_type = "Blob", nullable)]
    pub sender_ct: Option<Vec<u8>>,
    pub phone_hint: String,
    pub reached_at: String,
    pub state: i16,
    pub assignee_id: String,
    pub inbound_count: i64,
    pub outbound_count: i64,
    pub staff_unread: i64,
    pub patient_unread: i64,
    pub staff_read_id: Option<Uuid>,
    pub patient_read_id: Option<Uuid>,
    pub waiting_since: Option<DateTimeUtc>,
    pub stop_requested: bool,
    pub last_message_id: Option<Uuid>,
    pub last_time: DateTimeUtc,
    pub create_time: DateTimeUtc,
    pub labels: i64,
    pub revision: i64,
    pub moved_to: Option<Uuid>,
}

impl ActiveModelBehavior for ActiveModel {}
