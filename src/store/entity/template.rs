//! Places that a practice has wording of its own for.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "template")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub practice_id: String,
    /// 0: one that the practice made, with a key.
    pub kind: i16,
    pub key: String,
    pub channel: i16,
    pub locale: String,
    /// The highest number of a version.
    pub newest: i32,
    /// The version in use; 0: none.
    pub active: i32,
    pub update_time: DateTimeUtc,
    pub revision: i64,
}

impl ActiveModelBehavior for ActiveModel {}
