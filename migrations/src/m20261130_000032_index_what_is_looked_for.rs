//! Finds what staff look for among millions of deliveries: what went wrong, and what has a reference. What goes well, and has
//! none, is in neither index and pays for neither.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const INDEXES: [(&str, &str); 2] = [("delivery_trouble", "state"), ("delivery_reference", "reference")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (name, column) in INDEXES {
            let rows = match column {
                // Unconfirmed, failed, skipped, cancelled; word for word as the store asks.
                "state" => "state IN (2, 5, 6, 7)",
                _ => "reference <> ''",
            };
            let create = format!(
                "CREATE INDEX \"{name}\" ON \"delivery\" (\"practice_id\", \"{column}\", \"create_time\", \"id\") WHERE {rows}"
            );
            m.get_connection().execute_unprepared(&create).await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            m.drop_index(Index::drop().name(name).table("delivery").to_owned()).await?;
        }
        Ok(())
    }
}
