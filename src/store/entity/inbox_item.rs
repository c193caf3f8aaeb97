//! In-app deliveries as the portal lists them.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox_item")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    pub practice_id: String,
    pub patient_id: String,
    pub kind: i16,
    pub security: bool,
    pub create_time: DateTimeUtc,
    pub read_time: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
