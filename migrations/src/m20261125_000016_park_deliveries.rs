//! A delivery that is due and may not go yet, because of its sender's pace or its account's trouble, is parked. That is the
//! queue's own affair and no change of the delivery, so it has a column of its own beside the time that is shown.

use sea_orm_migration::{prelude::*, schema::timestamp_with_time_zone_null};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

/// When the queue looks at a delivery, word for word as the store asks: only then is the index used.
const READY: &str = "CASE WHEN parked_until > not_before THEN parked_until ELSE not_before END";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        let column = timestamp_with_time_zone_null("parked_until");
        m.alter_table(Table::alter().table("delivery").add_column(column).to_owned()).await?;
        ready(m, &format!("({READY})")).await
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        ready(m, "not_before").await?;
        m.alter_table(Table::alter().table("delivery").drop_column("parked_until").to_owned()).await
    }
}

/// Makes the index of what is due anew, in the order of `time`.
async fn ready(m: &SchemaManager<'_>, time: &str) -> Result<(), DbErr> {
    m.drop_index(Index::drop().name("delivery_ready").table("delivery").to_owned()).await?;
    let create = format!(
        "CREATE INDEX \"delivery_ready\" ON \"delivery\" (\"practice_id\", \"class\", {time}) WHERE \"phase\" = 0"
    );
    m.get_connection().execute_unprepared(&create).await.map(drop)
}
