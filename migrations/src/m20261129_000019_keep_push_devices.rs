//! The devices that patients registered for push, and indexes for reading an inbox: what is shown first, and what is unread.

use sea_orm_migration::{
    prelude::*,
    schema::{integer, text, timestamp_with_time_zone, uuid},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let count = integer("push_devices").default(0).to_owned();
        m.alter_table(Table::alter().table("patient").add_column(count).to_owned()).await?;
        m.create_table(
            Table::create()
                .table("push_device")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(text("patient_id"))
                .col(ColumnDef::new("token_bi").blob().not_null())
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone("seen_time"))
                .to_owned(),
        )
        .await?;
        let devices = || Index::create().table("push_device").col("practice_id").to_owned();
        m.create_index(devices().name("push_device_token").col("token_bi").unique().to_owned()).await?;
        m.create_index(devices().name("push_device_patient").col("patient_id").col("seen_time").to_owned()).await?;
        m.drop_index(Index::drop().name("inbox_item_patient").table("inbox_item").to_owned()).await?;
        let items = || Index::create().table("inbox_item").col("practice_id").col("patient_id").to_owned();
        let unread = items().name("inbox_item_unread").and_where(Expr::col("read_time").is_null()).to_owned();
        m.create_index(unread).await?;
        let shown = items().name("inbox_item_shown").col("security").col("create_time").col("delivery_id").to_owned();
        m.create_index(shown).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for index in ["inbox_item_shown", "inbox_item_unread"] {
            m.drop_index(Index::drop().name(index).table("inbox_item").to_owned()).await?;
        }
        let listed = Index::create()
            .name("inbox_item_patient")
            .table("inbox_item")
            .col("practice_id")
            .col("patient_id")
            .col("create_time")
            .to_owned();
        m.create_index(listed).await?;
        m.drop_table(Table::drop().table("push_device").to_owned()).await?;
        m.alter_table(Table::alter().table("patient").drop_column("push_devices").to_owned()).await
    }
}
