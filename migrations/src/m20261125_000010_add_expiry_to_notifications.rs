//! Whether a notification's end is the usual one, which starts anew when staff send again, and what bounds it then. Rows
//! from before keep the end that they have.

use sea_orm_migration::{
    prelude::*,
    schema::{boolean, timestamp_with_time_zone_null},
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
        let default_expiry = boolean("default_expiry").default(false).to_owned();
        m.alter_table(Table::alter().table("notification").add_column(default_expiry).to_owned()).await?;
        let visit_time = timestamp_with_time_zone_null("visit_time");
        m.alter_table(Table::alter().table("notification").add_column(visit_time).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("notification").drop_column("visit_time").to_owned()).await?;
        m.alter_table(Table::alter().table("notification").drop_column("default_expiry").to_owned()).await
    }
}
