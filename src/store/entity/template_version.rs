//! Versions of wording: only ever inserted.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "template_version")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub template_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    pub practice_id: String,
    pub create_time: DateTimeUtc,
    #[sea_orm(column_type = "Blob")]
    pub body_ct: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
