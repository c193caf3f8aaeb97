//! Who was erased. From where to where a text came is not kept any more: nobody ever read it, and the message says it.

use sea_orm_migration::{
    prelude::*,
    schema::{text, timestamp_with_time_zone, timestamp_with_time_zone_null},
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
            .table("erasure")
            .col(text("practice_id"))
            .col(text("patient_id"))
            .col(timestamp_with_time_zone("erase_time"))
            .col(timestamp_with_time_zone_null("sweep_at"))
            .primary_key(Index::create().col("practice_id").col("patient_id"))
            .to_owned();
        m.create_table(table).await?;
        m.create_index(Index::create().name("erasure_sweep").table("erasure").col("sweep_at").to_owned()).await?;
        m.alter_table(Table::alter().table("inbound_message").drop_column("body_ct").to_owned()).await?;
        seal::seal(m).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let body = ColumnDef::new("body_ct").blob().not_null().default(Vec::<u8>::new()).to_owned();
        m.alter_table(Table::alter().table("inbound_message").add_column(body).to_owned()).await?;
        m.drop_table(Table::drop().table("erasure").to_owned()).await
    }
}
