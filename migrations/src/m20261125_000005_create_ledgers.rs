//! The consent ledger and the audit trail, each a chain per practice.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, small_integer, text, timestamp_with_time_zone},
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
                .table("consent_head")
                .col(text("practice_id").primary_key())
                .col(big_integer("seq").default(0))
                .col(ColumnDef::new("mac").blob().not_null())
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("consent_ledger")
                .col(text("practice_id"))
                .col(big_integer("seq"))
                .col(text("patient_id"))
                .col(small_integer("channel"))
                .col(ColumnDef::new("address_bi").blob())
                .col(small_integer("state"))
                .col(small_integer("source"))
                .col(timestamp_with_time_zone("effective_at"))
                .col(timestamp_with_time_zone("at"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(ColumnDef::new("mac").blob().not_null())
                .primary_key(Index::create().col("practice_id").col("seq"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("consent_ledger_patient")
                .table("consent_ledger")
                .col("practice_id")
                .col("patient_id")
                .col("channel")
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("audit_head")
                .col(text("practice_id").primary_key())
                .col(big_integer("seq").default(0))
                .col(ColumnDef::new("mac").blob().not_null())
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("audit")
                .col(text("practice_id"))
                .col(big_integer("seq"))
                .col(timestamp_with_time_zone("at"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(ColumnDef::new("mac").blob().not_null())
                .primary_key(Index::create().col("practice_id").col("seq"))
                .to_owned(),
        )
        .await?;

        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in ["audit", "audit_head", "consent_ledger", "consent_head"] {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
