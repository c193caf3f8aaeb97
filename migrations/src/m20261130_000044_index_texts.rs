//! Finds what was said long ago and is not removed yet. What is removed is in the index no more.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // Word for word as the store asks.
        let create =
            "CREATE INDEX conversation_message_text ON conversation_message (create_time) WHERE length(body_ct) > 0";
        m.get_connection().execute_unprepared(create).await?;
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let index = Index::drop().name("conversation_message_text").table("conversation_message").to_owned();
        m.drop_index(index).await
    }
}
