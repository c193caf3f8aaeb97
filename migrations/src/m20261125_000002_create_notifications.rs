//! Notifications, the keys that make them idempotent, their texts, inbox items and secure links.

use sea_orm_migration::{
    prelude::*,
    schema::{
        boolean, integer, small_integer, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    #[expect(clippy::too_many_lines, reason = "a list of tables reads best whole")]
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("notification")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(text("patient_id"))
                .col(small_integer("kind"))
                .col(text("reference"))
                .col(text("request_id"))
                .col(boolean("urgent"))
                .col(boolean("security"))
                .col(small_integer("requested"))
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone_null("schedule_time"))
                .col(timestamp_with_time_zone("expire_time"))
                .col(timestamp_with_time_zone_null("cancel_time"))
                .col(small_integer("creator_type"))
                .col(text("creator_id"))
                .col(text("creator_name"))
                .col(uuid_null("broadcast_id"))
                .col(ColumnDef::new("decisions_ct").blob().not_null())
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("notification_reference")
                .table("notification")
                .col("practice_id")
                .col("patient_id")
                .col("reference")
                .and_where(Expr::col("reference").ne(""))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("idem")
                .col(text("practice_id"))
                .col(small_integer("resource"))
                .col(text("request_id"))
                .col(ColumnDef::new("fingerprint").blob().not_null())
                .col(uuid("resource_id"))
                .primary_key(Index::create().col("practice_id").col("resource").col("request_id"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("content")
                .col(uuid("delivery_id").primary_key())
                .col(text("practice_id"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("inbox_item")
                .col(uuid("delivery_id").primary_key())
                .col(text("practice_id"))
                .col(text("patient_id"))
                .col(small_integer("kind"))
                .col(boolean("security"))
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone_null("read_time"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("inbox_item_patient")
                .table("inbox_item")
                .col("practice_id")
                .col("patient_id")
                .col("create_time")
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("link")
                .col(ColumnDef::new("token_digest").blob().not_null().primary_key())
                .col(text("practice_id"))
                .col(uuid("notification_id"))
                .col(ColumnDef::new("target_ct").blob().not_null())
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone("expire_time"))
                .col(integer("max_opens"))
                .col(integer("opens").default(0))
                .col(timestamp_with_time_zone_null("revoke_time"))
                .col(timestamp_with_time_zone_null("first_open_time"))
                .to_owned(),
        )
        .await?;
        m.create_index(Index::create().name("link_notification").table("link").col("notification_id").to_owned())
            .await?;

        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in ["link", "inbox_item", "content", "idem", "notification"] {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
