//! Finds the latest messages that the server itself wrote into a conversation, so that it does not write too many.

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
                .name("conversation_message_automatic")
                .table("conversation_message")
                .col("conversation_id")
                .col("id")
                .and_where(Expr::col("author_type").eq(4))
                .to_owned(),
        )
        .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("conversation_message_automatic").table("conversation_message").to_owned())
            .await
    }
}
