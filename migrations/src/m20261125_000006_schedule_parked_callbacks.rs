//! When a parked callback is tried next, and how many a practice has.

use sea_orm_migration::{prelude::*, schema::timestamp_with_time_zone_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(
            Table::alter().table("callback_inbox").add_column(timestamp_with_time_zone_null("try_at")).to_owned(),
        )
        .await?;
        m.create_index(Index::create().name("callback_due").table("callback_inbox").col("try_at").to_owned()).await?;
        m.create_index(Index::create().name("callback_practice").table("callback_inbox").col("practice_id").to_owned())
            .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for index in ["callback_practice", "callback_due"] {
            m.drop_index(Index::drop().name(index).table("callback_inbox").to_owned()).await?;
        }
        m.alter_table(Table::alter().table("callback_inbox").drop_column("try_at").to_owned()).await
    }
}
