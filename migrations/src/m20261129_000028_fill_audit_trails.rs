//! Entries of the audit trail are found by patient, actor and time, and its head gets a seal, so that the end of a trail cannot
//! be cut off unseen. Nothing was entered before.

use sea_orm_migration::{
    prelude::*,
    schema::{blob_null, text},
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

/// By what entries are found, each index with the column beside the practice's.
const INDEXES: [(&str, &str); 3] = [("audit_patient", "patient_id"), ("audit_actor", "actor_bi"), ("audit_at", "at")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("audit_head").add_column(blob_null("seal")).to_owned()).await?;
        for column in [text("action").default(""), text("patient_id").default("")] {
            m.alter_table(Table::alter().table("audit").add_column(column).to_owned()).await?;
        }
        m.alter_table(Table::alter().table("audit").add_column(blob_null("actor_bi")).to_owned()).await?;
        for (name, column) in INDEXES {
            let index = Index::create().name(name).table("audit").col("practice_id").col(column).col("seq").to_owned();
            m.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            m.drop_index(Index::drop().name(name).table("audit").to_owned()).await?;
        }
        for column in ["action", "patient_id", "actor_bi"] {
            m.alter_table(Table::alter().table("audit").drop_column(column).to_owned()).await?;
        }
        m.alter_table(Table::alter().table("audit_head").drop_column("seal").to_owned()).await
    }
}
