//! What patients chose, kept with them, since whoever reads the one wants the other. Patients from before have chosen nothing.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text, timestamp_with_time_zone_null},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column a statement.
        let choices = text("choices").default("").to_owned();
        m.alter_table(Table::alter().table("patient").add_column(choices).to_owned()).await?;
        let choices_time = timestamp_with_time_zone_null("choices_time");
        m.alter_table(Table::alter().table("patient").add_column(choices_time).to_owned()).await?;
        let choices_revision = big_integer("choices_revision").default(0).to_owned();
        m.alter_table(Table::alter().table("patient").add_column(choices_revision).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for column in ["choices_revision", "choices_time", "choices"] {
            m.alter_table(Table::alter().table("patient").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}
