//! How often the key of a patient has sealed: another takes its place in time, as with that of a practice.

use sea_orm_migration::{prelude::*, schema::big_integer};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMN: &str = "uses";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // The default is for servers of the release before, which insert without it.
        m.alter_table(Table::alter().table("subject_key").add_column(big_integer(COLUMN).default(0)).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("subject_key").drop_column(COLUMN).to_owned()).await
    }
}
