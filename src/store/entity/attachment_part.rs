//! Contents of files, in parts, sealed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attachment_part")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub attachment_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub n: i16,
    #[sea_orm(column_type = "Blob")]
    pub data_ct: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
