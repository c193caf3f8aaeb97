//! What seals practices from each other in PostgreSQL. SQLite has nothing of the kind.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{DbBackend, Statement},
};

/// A row is there for whoever works for its practice (`heedwell.practice`), and for the server's own work, which spans practices
/// (`heedwell.engine`): the store says on each connection which it is. Whoever says nothing sees nothing.
///
/// Not as plain comparisons: the planner would take each for one more filter that leaves few rows, beside the one that the
/// statement has, and look for another way to find so few. Of `IS NOT NULL` it believes that it leaves nearly all.
const OWN: &str = "CASE WHEN practice_id = current_setting('heedwell.practice', true) THEN 1 \
    WHEN current_setting('heedwell.engine', true) = 'on' THEN 1 END IS NOT NULL";

/// Tables whose rows belong to a row of another table, which tells the practice: the table, what names the other's row, the other.
const PARTS: [(&str, &str, &str); 2] =
    [("attachment_part", "attachment_id", "attachment"), ("broadcast_address", "broadcast_id", "broadcast")];

/// The tables of this schema that have a practice, and whose rows are not sealed yet.
const UNSEALED: &str = "SELECT c.relname::text FROM pg_class c \
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'practice_id' AND NOT a.attisdropped \
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace AND NOT c.relforcerowsecurity ORDER BY 1";

/// Seals every table that has a practice and is not sealed yet. A change that makes such a table ends with this.
pub(crate) async fn seal(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = m.get_connection();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let query = Statement::from_string(DbBackend::Postgres, UNSEALED);
    for row in db.query_all_raw(query).await? {
        seal_one(db, &row.try_get_by_index::<String>(0)?, OWN).await?;
    }
    Ok(())
}

/// Seals the tables that have no practice of their own.
pub(crate) async fn seal_parts(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = m.get_connection();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    for (table, id, whole) in PARTS {
        let own = format!(
            "CASE WHEN current_setting('heedwell.engine', true) = 'on' THEN 1 \
             WHEN EXISTS (SELECT 1 FROM \"{whole}\" AS whole WHERE whole.id = {id}) THEN 1 END IS NOT NULL"
        );
        seal_one(db, table, &own).await?;
    }
    Ok(())
}

async fn seal_one(db: &SchemaManagerConnection<'_>, table: &str, own: &str) -> Result<(), DbErr> {
    // FORCE, or the tables' owner, who is whom the server connects as, would see all.
    for statement in [
        format!("ALTER TABLE \"{table}\" ENABLE ROW LEVEL SECURITY"),
        format!("ALTER TABLE \"{table}\" FORCE ROW LEVEL SECURITY"),
        format!("CREATE POLICY own_practice ON \"{table}\" USING ({own})"),
    ] {
        db.execute_unprepared(&statement).await?;
    }
    Ok(())
}

/// Opens all that is sealed.
pub(crate) async fn unseal(m: &SchemaManager<'_>) -> Result<(), DbErr> {
    let db = m.get_connection();
    if db.get_database_backend() != DbBackend::Postgres {
        return Ok(());
    }
    let sealed = "SELECT tablename::text FROM pg_policies WHERE policyname = 'own_practice' AND schemaname = current_schema() ORDER BY 1";
    for row in db.query_all_raw(Statement::from_string(DbBackend::Postgres, sealed)).await? {
        let table: String = row.try_get_by_index(0)?;
        for statement in [
            format!("DROP POLICY own_practice ON \"{table}\""),
            format!("ALTER TABLE \"{table}\" NO FORCE ROW LEVEL SECURITY"),
            format!("ALTER TABLE \"{table}\" DISABLE ROW LEVEL SECURITY"),
        ] {
            db.execute_unprepared(&statement).await?;
        }
    }
    Ok(())
}
