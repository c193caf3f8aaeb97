//! Which releases may still work with the schema: those that know this change of it.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "schema_floor")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub migration: String,
}

impl ActiveModelBehavior for ActiveModel {}
