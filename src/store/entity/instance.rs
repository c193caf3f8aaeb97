//! The one row that says which database this is, and whether it may send.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "instance")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i16,
    pub state: i16,
    pub identity: String,
    pub token: String,
    pub since: Option<DateTimeUtc>,
    pub copy_time: Option<DateTimeUtc>,
    pub cut: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
