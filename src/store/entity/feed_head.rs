//! The newest position of each feed, how much of each class is still open, and how many segments of text messages were taken on.

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
    /// The last day, since 1970 in UTC, on which a text message was taken on.
    pub text_day: i32,
    /// Segments of that day.
    pub text_segments: i64,
}

impl ActiveModelBehavior for ActiveModel {}
