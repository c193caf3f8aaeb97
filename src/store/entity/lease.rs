//! Who does what only one replica does at a time, and until when.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "lease")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub holder: Uuid,
    pub term: i64,
    pub until: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
