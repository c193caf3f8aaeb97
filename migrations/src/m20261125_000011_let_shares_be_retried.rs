//! A broadcast writes to each recipient once a channel. A delivery that staff send again is another row of the same
//! broadcast, recipient and channel, and is held unique by `retry_of`.

use sea_orm_migration::prelude::*;

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

fn index() -> IndexCreateStatement {
    Index::create()
        .name("delivery_broadcast")
        .table("delivery")
        .col("broadcast_id")
        .col("patient_id")
        .col("channel")
        .unique()
        .and_where(Expr::col("broadcast_id").is_not_null())
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("delivery_broadcast").table("delivery").to_owned()).await?;
        m.create_index(index().and_where(Expr::col("retry_of").is_null()).to_owned()).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_index(Index::drop().name("delivery_broadcast").table("delivery").to_owned()).await?;
        m.create_index(index()).await
    }
}
