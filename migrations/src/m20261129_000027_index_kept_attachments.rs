//! Finds the oldest files of messages that are still kept, for retention.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_index(
            Index::create()
                .name("attachment_kept")
                .table("attachment")
                .col("create_time")
                .and_where(Expr::col("state").eq(2).and(Expr::col("message_id").is_not_null()))
                .to_owned(),
        )
        .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("attachment_kept").table("attachment").to_owned()).await
    }
}
