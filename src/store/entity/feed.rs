//! Changes, in the order of their commits.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "feed")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub seq: i64,
    pub stream: i16,
    pub entity_id: Uuid,
    pub revision: i64,
    pub state: Option<i16>,
    pub previous_state: Option<i16>,
    pub previous_failure: Option<i16>,
    #[sea_orm(column_type = "Blob")]
    pub image: Vec<u8>,
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
