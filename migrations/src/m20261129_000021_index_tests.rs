//! Finds the latest tests of a practice among its deliveries, so that they can be counted.

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
                .name("delivery_test")
                .table("delivery")
                .col("practice_id")
                .col("create_time")
                .and_where(Expr::col("source_kind").eq(3))
                .to_owned(),
        )
        .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("delivery_test").table("delivery").to_owned()).await
    }
}
