//! Where the call that asked for a delivery stands in its trace, so that what is done for it later joins that trace.

use sea_orm_migration::{prelude::*, schema::blob_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMN: &str = "trace";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("delivery").add_column(blob_null(COLUMN)).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("delivery").drop_column(COLUMN).to_owned()).await
    }
}
