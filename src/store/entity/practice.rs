//! Practices.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "practice")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    pub legal_name: String,
    pub display_name: String,
    pub phone: String,
    pub time_zone: String,
    pub locale: String,
    pub portal_url: String,
    pub postal_address: String,
    pub update_time: DateTimeUtc,
    pub revision: i64,
    pub wording_revision: i64,
}

impl ActiveModelBehavior for ActiveModel {}
