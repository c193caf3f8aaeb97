//! The head of a consent ledger gets a seal, so that the end of a ledger cannot be cut off unseen, and the entries of a patient
//! are found in their order.

use sea_orm_migration::{prelude::*, schema::blob_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("consent_head").add_column(blob_null("seal")).to_owned()).await?;
        patients(m, "seq").await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        patients(m, "channel").await?;
        m.alter_table(Table::alter().table("consent_head").drop_column("seal").to_owned()).await
    }
}

/// Makes the index of a patient's entries anew, with `last` as its last column.
async fn patients(m: &SchemaManager<'_>, last: &'static str) -> Result<(), DbErr> {
    m.drop_index(Index::drop().name("consent_ledger_patient").table("consent_ledger").to_owned()).await?;
    let index = Index::create()
        .name("consent_ledger_patient")
        .table("consent_ledger")
        .col("practice_id")
        .col("patient_id")
        .col(last)
        .to_owned();
    m.create_index(index).await
}
