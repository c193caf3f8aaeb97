//! Entries of the consent ledger get an id, by which a repeated request finds its own, and incoming texts are kept, each once.
//! The ledger is made anew: no release has ever written to it.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, small_integer, text, timestamp_with_time_zone, uuid},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table("consent_ledger").to_owned()).await?;
        m.create_table(ledger().col(uuid("id").unique_key()).to_owned()).await?;
        m.create_index(patients()).await?;
        m.create_table(
            Table::create()
                .table("inbound_message")
                .col(text("practice_id"))
                .col(text("sid"))
                .col(ColumnDef::new("from_bi").blob())
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(timestamp_with_time_zone("received_at"))
                .primary_key(Index::create().col("practice_id").col("sid"))
                .to_owned(),
        )
        .await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for table in ["inbound_message", "consent_ledger"] {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        m.create_table(ledger()).await?;
        m.create_index(patients()).await
    }
}

/// The ledger as it was.
fn ledger() -> TableCreateStatement {
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
        .to_owned()
}

fn patients() -> IndexCreateStatement {
    Index::create()
        .name("consent_ledger_patient")
        .table("consent_ledger")
        .col("practice_id")
        .col("patient_id")
        .col("channel")
        .to_owned()
}
