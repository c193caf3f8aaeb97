//! Gives the keys of uploads a number of their own: they had that of broadcasts, so that a key of the one was taken for the other.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // What a server of the release before still stores under the old number is at worst uploaded once more.
        let part = "UPDATE idem SET resource = 7 WHERE resource = 6 AND resource_id IN (SELECT id FROM attachment)";
        m.get_connection().execute_unprepared(part).await.map(drop)
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // One that a broadcast has as well stays where it is, and is free for the release before.
        let join = "UPDATE idem SET resource = 6 WHERE resource = 7 AND NOT EXISTS (SELECT 1 FROM idem AS other \
                    WHERE other.practice_id = idem.practice_id AND other.resource = 6 AND other.request_id = idem.request_id)";
        m.get_connection().execute_unprepared(join).await.map(drop)
    }
}
