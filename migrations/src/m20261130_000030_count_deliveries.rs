//! Deliveries counted by the hour in which they were made: what statistics read. A change keeps the reason that it took back,
//! so that counts can follow the feed. What was there before is counted here, once.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, small_integer, small_integer_null, text},
    sea_orm::DatabaseBackend,
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
                .table("delivery_count")
                .col(text("practice_id"))
                .col(big_integer("hour"))
                .col(small_integer("kind"))
                .col(small_integer("channel"))
                .col(small_integer("state"))
                .col(small_integer("failure_reason"))
                .col(big_integer("count"))
                .primary_key(
                    Index::create()
                        .col("practice_id")
                        .col("hour")
                        .col("kind")
                        .col("channel")
                        .col("state")
                        .col("failure_reason"),
                )
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("delivery_count_head")
                .col(text("practice_id").primary_key())
                .col(big_integer("counted"))
                .to_owned(),
        )
        .await?;
        let previous = small_integer_null("previous_failure");
        m.alter_table(Table::alter().table("feed").add_column(previous).to_owned()).await?;
        for statement in backfill(m.get_database_backend()) {
            m.get_connection().execute_unprepared(&statement).await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.alter_table(Table::alter().table("feed").drop_column("previous_failure").to_owned()).await?;
        m.drop_table(Table::drop().table("delivery_count_head").to_owned()).await?;
        m.drop_table(Table::drop().table("delivery_count").to_owned()).await
    }
}

/// On PostgreSQL other servers may write meanwhile: one statement sees deliveries and the ends of the feeds as of one moment.
fn backfill(backend: DatabaseBackend) -> Vec<String> {
    // Tests, of kind 3, are nobody's statistics; 5 is a failed delivery.
    let counts = |hour: &str| {
        format!(
            "INSERT INTO delivery_count (practice_id, hour, kind, channel, state, failure_reason, count) \
             SELECT practice_id, {hour} AS hour, kind, channel, state, \
             CASE WHEN state = 5 THEN coalesce(failure_reason, 0) ELSE 0 END AS reason, count(*) \
             FROM delivery WHERE source_kind <> 3 GROUP BY practice_id, hour, kind, channel, state, reason"
        )
    };
    let heads = "INSERT INTO delivery_count_head (practice_id, counted) SELECT practice_id, seq FROM feed_head";
    if backend == DatabaseBackend::Postgres {
        let counts = counts("floor(extract(epoch FROM create_time) / 3600)::bigint");
        vec![format!("WITH counts AS ({counts} RETURNING 1) {heads}")]
    } else {
        vec![counts("CAST(strftime('%s', create_time) AS INTEGER) / 3600"), heads.to_owned()]
    }
}
