//! The installation, practices, their keys and settings, and patients.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, boolean, small_integer, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
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
                .table("installation")
                .col(small_integer("id").primary_key())
                .col(ColumnDef::new("key_check").blob().not_null())
                .col(timestamp_with_time_zone("create_time"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("practice")
                .col(text("practice_id").primary_key())
                .col(text("legal_name"))
                .col(text("display_name"))
                .col(text("phone"))
                .col(text("time_zone"))
                .col(text("locale"))
                .col(text("portal_url"))
                .col(text("postal_address"))
                .col(timestamp_with_time_zone("update_time"))
                .col(big_integer("revision"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("data_key")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(ColumnDef::new("wrapped").blob().not_null())
                .col(big_integer("uses").default(0))
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone_null("retire_time"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create().name("data_key_current").table("data_key").col("practice_id").col("create_time").to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("practice_settings")
                .col(text("practice_id").primary_key())
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(timestamp_with_time_zone("update_time"))
                .col(big_integer("revision"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("channel_health")
                .col(text("practice_id"))
                .col(small_integer("channel"))
                .col(timestamp_with_time_zone_null("last_success_time"))
                .col(timestamp_with_time_zone_null("failing_since"))
                .col(text("failure_code"))
                .primary_key(Index::create().col("practice_id").col("channel"))
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("patient")
                .col(text("practice_id"))
                .col(text("patient_id"))
                .col(ColumnDef::new("contact_ct").blob().not_null())
                .col(ColumnDef::new("email_bi").blob())
                .col(ColumnDef::new("phone_bi").blob())
                .col(text("locale"))
                .col(text("time_zone"))
                .col(boolean("portal_enabled"))
                .col(boolean("inactive"))
                .col(timestamp_with_time_zone("update_time"))
                .col(big_integer("revision"))
                .primary_key(Index::create().col("practice_id").col("patient_id"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("patient_email")
                .table("patient")
                .col("practice_id")
                .col("email_bi")
                .and_where(Expr::col("email_bi").is_not_null())
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("patient_phone")
                .table("patient")
                .col("practice_id")
                .col("phone_bi")
                .and_where(Expr::col("phone_bi").is_not_null())
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("patient_tag")
                .col(text("practice_id"))
                .col(text("tag"))
                .col(text("patient_id"))
                .primary_key(Index::create().col("practice_id").col("tag").col("patient_id"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("patient_tag_patient")
                .table("patient_tag")
                .col("practice_id")
                .col("patient_id")
                .to_owned(),
        )
        .await?;

        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in
            ["patient_tag", "patient", "channel_health", "practice_settings", "data_key", "practice", "installation"]
        {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
