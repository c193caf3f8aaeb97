//! Which database this is, so that a copy of it is told from it.

use sea_orm_migration::{
    prelude::*,
    schema::{small_integer, text, timestamp_with_time_zone_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("instance")
            .col(small_integer("id").primary_key())
            .col(small_integer("state"))
            .col(text("identity"))
            .col(text("token"))
            .col(timestamp_with_time_zone_null("since"))
            .col(timestamp_with_time_zone_null("copy_time"))
            .col(timestamp_with_time_zone_null("cut"))
            .to_owned();
        m.create_table(table).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table("instance").to_owned()).await
    }
}
