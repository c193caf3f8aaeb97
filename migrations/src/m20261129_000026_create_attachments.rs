//! Files of messages, and their contents in parts: no row is so long that a statement of a few of them is. What is still to be
//! fetched, and what was uploaded and never sent, is found in an index.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, small_integer, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
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
                .table("attachment")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(small_integer("side"))
                .col(text("patient_id"))
                .col(text("request_id"))
                .col(small_integer("state"))
                .col(ColumnDef::new("about_ct").blob().not_null())
                .col(big_integer("size_bytes"))
                .col(small_integer("parts"))
                .col(uuid_null("message_id"))
                .col(small_integer("place"))
                .col(small_integer("tries"))
                .col(timestamp_with_time_zone_null("try_at"))
                .col(timestamp_with_time_zone("create_time"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("attachment_part")
                .col(uuid("attachment_id"))
                .col(small_integer("n"))
                .col(ColumnDef::new("data_ct").blob().not_null())
                .primary_key(Index::create().col("attachment_id").col("n"))
                .to_owned(),
        )
        .await?;
        for (name, column, which) in [
            ("attachment_message", "message_id", Expr::col("message_id").is_not_null()),
            ("attachment_due", "try_at", Expr::col("try_at").is_not_null()),
            ("attachment_unused", "create_time", Expr::col("message_id").is_null()),
        ] {
            let mut index = Index::create();
            index.name(name).table("attachment").col(column).and_where(which);
            m.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table("attachment_part").to_owned()).await?;
        m.drop_table(Table::drop().table("attachment").to_owned()).await
    }
}
