//! Finds the text messages to a number whose id is not known: a look may find the message of any of them.

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
                .name("attempt_unnamed")
                .table("attempt")
                .col("practice_id")
                .col("address_bi")
                .and_where(Expr::col("provider_ref").eq(""))
                .and_where(Expr::col("provider").eq(2))
                .to_owned(),
        )
        .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("attempt_unnamed").table("attempt").to_owned()).await
    }
}
