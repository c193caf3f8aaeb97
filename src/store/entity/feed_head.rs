//! The newest position of each feed, and how much of each class is still open.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "feed_head")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub practice_id: String,
    pub seq: i64,
    pub open0: i64,
    pub open1: i64,
    pub open2: i64,
}

impl ActiveModelBehavior for ActiveModel {}
