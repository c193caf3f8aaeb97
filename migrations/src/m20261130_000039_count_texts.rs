//! How many segments of text messages a practice has taken on in a day, so that a stolen key cannot spend without end.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, integer},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const COLUMNS: [&str; 2] = ["text_day", "text_segments"];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // SQLite takes one column at a time.
        for column in [integer("text_day").default(0).to_owned(), big_integer("text_segments").default(0).to_owned()] {
            m.alter_table(Table::alter().table("feed_head").add_column(column).to_owned()).await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for column in COLUMNS {
            m.alter_table(Table::alter().table("feed_head").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
