//! The feed of changes, one dense sequence per practice, and the head row that numbers it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, small_integer, small_integer_null, text, timestamp_with_time_zone, uuid},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("feed_head")
                .col(text("practice_id").primary_key())
                .col(big_integer("seq").default(0))
                .col(big_integer("open0").default(0))
                .col(big_integer("open1").default(0))
                .col(big_integer("open2").default(0))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("feed")
                .col(text("practice_id"))
                .col(big_integer("seq"))
                .col(small_integer("stream"))
                .col(uuid("entity_id"))
                .col(big_integer("revision"))
                .col(small_integer_null("state"))
                .col(small_integer_null("previous_state"))
                .col(ColumnDef::new("image").blob().not_null())
                .col(timestamp_with_time_zone("at"))
                .primary_key(Index::create().col("practice_id").col("seq"))
                .to_owned(),
        )
        .await?;
        m.create_index(Index::create().name("feed_time").table("feed").col("practice_id").col("at").to_owned()).await?;
        if m.get_database_backend() == sea_orm_migration::sea_orm::DbBackend::Postgres {
            m.get_connection().execute_unprepared("ALTER TABLE feed_head SET (fillfactor = 50)").await?;
        }

        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in ["feed", "feed_head"] {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
