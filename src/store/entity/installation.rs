//! The one row that ties a database to its key file.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "installation")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    #[sea_orm(column_type = "Blob")]
    pub key_check: Vec<u8>,
    pub create_time: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
