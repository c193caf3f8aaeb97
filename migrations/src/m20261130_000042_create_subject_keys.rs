//! Keys of patients, and of those who write from a number that is nobody's.

use sea_orm_migration::{
    prelude::*,
    schema::{text, text_null, timestamp_with_time_zone, uuid},
};

use crate::seal;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("subject_key")
            .col(uuid("id").primary_key())
            .col(text("practice_id"))
            .col(text("patient_id"))
            .col(text_null("owner"))
            .col(ColumnDef::new("wrapped").blob().not_null())
            .col(timestamp_with_time_zone("create_time"))
            .to_owned();
        m.create_table(table).await?;
        let owner = Index::create()
            .name("subject_key_owner")
            .table("subject_key")
            .col("practice_id")
            .col("owner")
            .unique()
            .to_owned();
        m.create_index(owner).await?;
        let patient = Index::create()
            .name("subject_key_patient")
            .table("subject_key")
            .col("practice_id")
            .col("patient_id")
            .to_owned();
        m.create_index(patient).await?;
        seal::seal(m).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table("subject_key").to_owned()).await
    }
}
