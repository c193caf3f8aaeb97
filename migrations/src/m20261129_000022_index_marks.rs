//! Finds what of an inbox is to be marked in the order in which it is marked, so that each part of a long inbox is read once.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("inbox_item_unread").table("inbox_item").to_owned()).await?;
        let items =
            || Index::create().table("inbox_item").col("practice_id").col("patient_id").col("delivery_id").to_owned();
        let unread = items().name("inbox_item_unread").and_where(Expr::col("read_time").is_null()).to_owned();
        m.create_index(unread).await?;
        m.create_index(items().name("inbox_item_read").and_where(Expr::col("read_time").is_not_null()).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for index in ["inbox_item_read", "inbox_item_unread"] {
            m.drop_index(Index::drop().name(index).table("inbox_item").to_owned()).await?;
        }
        let unread = Index::create()
            .name("inbox_item_unread")
            .table("inbox_item")
            .col("practice_id")
            .col("patient_id")
            .and_where(Expr::col("read_time").is_null())
            .to_owned();
        m.create_index(unread).await
    }
}
