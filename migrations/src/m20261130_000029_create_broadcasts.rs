//! Broadcasts: where each stands, its counts, and beside it, so that counting stays cheap, what it says and to whom. What the
//! report and a cancel look for is found in an index, and so are the patients of a page.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, boolean, small_integer, small_integer_null, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid,
    },
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

const INDEXES: [(&str, &str); 3] =
    [("delivery_report", "delivery"), ("delivery_share_open", "delivery"), ("patient_active", "patient")];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    #[expect(clippy::too_many_lines, reason = "a list of tables reads best whole")]
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("broadcast")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(small_integer("channels"))
                .col(timestamp_with_time_zone("create_time"))
                .col(timestamp_with_time_zone_null("schedule_time"))
                .col(timestamp_with_time_zone("due_time"))
                .col(timestamp_with_time_zone_null("start_time"))
                .col(timestamp_with_time_zone_null("complete_time"))
                .col(timestamp_with_time_zone_null("cancel_time"))
                .col(small_integer("creator_type"))
                .col(text("creator_id"))
                .col(text("creator_name"))
                .col(small_integer_null("canceller_type"))
                .col(text("canceller_id"))
                .col(text("canceller_name"))
                .col(timestamp_with_time_zone_null("work_at"))
                .col(big_integer("term").default(0))
                .col(text("cursor"))
                .col(boolean("planned"))
                .col(big_integer("recipients").default(0))
                .col(big_integer("reached").default(0))
                .col(big_integer("pending").default(0))
                .col(big_integer("unconfirmed").default(0))
                .col(big_integer("sent").default(0))
                .col(big_integer("delivered").default(0))
                .col(big_integer("failed").default(0))
                .col(big_integer("skipped").default(0))
                .col(big_integer("cancelled").default(0))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("broadcast_listed")
                .table("broadcast")
                .col("practice_id")
                .col("create_time")
                .col("id")
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("broadcast_work")
                .table("broadcast")
                .col("work_at")
                .and_where(Expr::col("work_at").is_not_null())
                .to_owned(),
        )
        .await?;
        m.create_table(
            Table::create()
                .table("broadcast_text")
                .col(uuid("broadcast_id").primary_key())
                .col(text("practice_id"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("delivery_report")
                .table("delivery")
                .col("practice_id")
                .col("broadcast_id")
                .col("create_time")
                .col("id")
                .and_where(Expr::col("broadcast_id").is_not_null())
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("delivery_share_open")
                .table("delivery")
                .col("broadcast_id")
                .col("id")
                .and_where(Expr::col("broadcast_id").is_not_null())
                .and_where(Expr::col("phase").lt(3))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("patient_active")
                .table("patient")
                .col("practice_id")
                .col("inactive")
                .col("patient_id")
                .to_owned(),
        )
        .await?;
        if m.get_database_backend() == sea_orm_migration::sea_orm::DbBackend::Postgres {
            // The counts are updated in place, over and over.
            m.get_connection()
                .execute_unprepared("ALTER TABLE broadcast SET (fillfactor = 50, autovacuum_vacuum_threshold = 200)")
                .await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        for (index, table) in INDEXES {
            m.drop_index(Index::drop().name(index).table(table).to_owned()).await?;
        }
        for table in ["broadcast_text", "broadcast"] {
            m.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}
