//! The wording of practices: one row for each place that wording is for, and its versions, which are only ever inserted. A practice
//! counts the changes of what is in use, so that whoever reads the practice knows whether what it remembers still holds.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, integer, small_integer, text, timestamp_with_time_zone, uuid},
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
                .table("template")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(small_integer("kind"))
                .col(text("key"))
                .col(small_integer("channel"))
                .col(text("locale"))
                .col(integer("newest"))
                .col(integer("active"))
                .col(timestamp_with_time_zone("update_time"))
                .col(big_integer("revision"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("template_place")
                .table("template")
                .col("practice_id")
                .col("kind")
                .col("key")
                .col("channel")
                .col("locale")
                .unique()
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("template_version")
                .col(uuid("template_id"))
                .col(integer("version"))
                .col(text("practice_id"))
                .col(timestamp_with_time_zone("create_time"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .primary_key(Index::create().col("template_id").col("version"))
                .to_owned(),
        )
        .await?;
        let revision = big_integer("wording_revision").default(0).to_owned();
        m.alter_table(Table::alter().table("practice").add_column(revision).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("practice").drop_column("wording_revision").to_owned()).await?;
        m.drop_table(Table::drop().table("template_version").to_owned()).await?;
        m.drop_table(Table::drop().table("template").to_owned()).await
    }
}
