//! Seals the rows of practices from each other: a statement that forgets the practice finds nothing of others. A binary that does
//! not say for whom it works, as those before this one, finds nothing at all.

use sea_orm_migration::prelude::*;

use crate::seal;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        seal::seal(m).await?;
        seal::seal_parts(m).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        seal::unseal(m).await
    }
}
