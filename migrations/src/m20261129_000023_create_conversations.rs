//! Conversations and their messages. A conversation has an owner, a patient or a number, and no owner has two; one whose messages
//! went to another leads there. What a list is asked for is found in an index, and what is counted stands in the row.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, boolean, small_integer, small_integer_null, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

#[derive(Debug, DeriveMigrationName)]
pub(crate) struct Migration;

/// A list in the order of the latest activity, of those that `which` names.
fn listed(name: &str, which: Option<SimpleExpr>) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table("conversation").col("practice_id").col("last_time").col("id");
    if let Some(which) = which {
        index.and_where(which);
    }
    index.to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    #[expect(clippy::too_many_lines, reason = "a list of tables reads best whole")]
    async fn up(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.create_table(
            Table::create()
                .table("conversation")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(text("owner"))
                .col(text("patient_id"))
                .col(ColumnDef::new("sender_ct").blob())
                .col(text("phone_hint"))
                .col(text("reached_at"))
                .col(small_integer("state"))
                .col(text("assignee_id"))
                .col(big_integer("inbound_count"))
                .col(big_integer("outbound_count"))
                .col(big_integer("staff_unread"))
                .col(big_integer("patient_unread"))
                .col(uuid_null("staff_read_id"))
                .col(uuid_null("patient_read_id"))
                .col(timestamp_with_time_zone_null("waiting_since"))
                .col(boolean("stop_requested"))
                .col(uuid_null("last_message_id"))
                .col(timestamp_with_time_zone("last_time"))
                .col(timestamp_with_time_zone("create_time"))
                .col(big_integer("labels"))
                .col(big_integer("revision"))
                .col(uuid_null("moved_to"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("conversation_owner")
                .table("conversation")
                .col("practice_id")
                .col("owner")
                .unique()
                .to_owned(),
        )
        .await?;
        for index in [
            listed("conversation_listed", None),
            listed("conversation_unread", Some(Expr::col("staff_unread").gt(0))),
            listed("conversation_unseen", Some(Expr::col("patient_unread").gt(0))),
            listed("conversation_waiting", Some(Expr::col("waiting_since").is_not_null())),
            listed("conversation_unlinked", Some(Expr::col("patient_id").eq(""))),
            listed("conversation_stop_requested", Some(Expr::col("stop_requested"))),
        ] {
            m.create_index(index).await?;
        }
        for (name, column) in [("conversation_state", "state"), ("conversation_assignee", "assignee_id")] {
            let mut index = Index::create();
            index.name(name).table("conversation").col("practice_id").col(column).col("last_time").col("id");
            m.create_index(index).await?;
        }
        m.create_table(
            Table::create()
                .table("conversation_message")
                .col(uuid("id").primary_key())
                .col(text("practice_id"))
                .col(uuid("conversation_id"))
                .col(small_integer("direction"))
                .col(small_integer("route"))
                .col(small_integer("news_for"))
                .col(big_integer("inbound_rank"))
                .col(big_integer("outbound_rank"))
                .col(small_integer("author_type"))
                .col(text("author_id"))
                .col(text("author_name"))
                .col(ColumnDef::new("body_ct").blob().not_null())
                .col(timestamp_with_time_zone("create_time"))
                .col(uuid_null("delivery_id"))
                .col(small_integer_null("consent_source"))
                .to_owned(),
        )
        .await?;
        m.create_index(
            Index::create()
                .name("conversation_message_listed")
                .table("conversation_message")
                .col("conversation_id")
                .col("id")
                .to_owned(),
        )
        .await?;
        if m.get_database_backend() == sea_orm_migration::sea_orm::DbBackend::Postgres {
            // Each message changes the row of its conversation: leave room on the page.
            m.get_connection().execute_unprepared("ALTER TABLE conversation SET (fillfactor = 70)").await?;
        }
        Ok(())
    }

    async fn down(&self, m: &SchemaManager) -> Result<(), DbErr> {
        m.drop_table(Table::drop().table("conversation_message").to_owned()).await?;
        m.drop_table(Table::drop().table("conversation").to_owned()).await
    }
}
