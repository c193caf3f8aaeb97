//! Timelines of deliveries; only added to.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "delivery_event")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub n: i32,
    pub practice_id: String,
    pub event_time: DateTimeUtc,
    pub state: i16,
    pub provider_status: String,
    pub provider_code: String,
    pub detail: String,
    pub actor_type: i16,
    pub actor_id: String,
    pub actor_name: String,
    pub attempt: i32,
    pub consent_position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
