//! Connections to PostgreSQL. Each says when it is opened for whom it works: for the engine, which spans practices, or for nobody,
//! until it is told a practice. The policies of the tables go by that, so that a statement that forgets the practice finds nothing
//! of others.

use std::{str::FromStr, sync::Arc};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbErr, RuntimeErr, Statement};
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{Binding, Connections, Dialect, HintOptions, OpenError, STATEMENTS, Settings, expect, options, setting};
use crate::store::within::BoundPool;

/// Has the rest of a transaction work for a practice, and tells the time.
pub(super) const ENTER: &str = "SELECT statement_timestamp(), set_config('heedwell.engine', '', true), \
    set_config('heedwell.practice', $1, true)";

/// What a server steps down to whose own user no policy binds.
const BOUND: &str = "heedwell_bound";

/// Whether such a user may step down, and the role may do here what the server does.
const MAY_STEP_DOWN: &str = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heedwell_bound' \
    AND NOT rolsuper AND NOT rolbypassrls AND pg_has_role(oid, 'MEMBER') \
    AND has_table_privilege(oid, 'feed_head', 'SELECT, INSERT, UPDATE, DELETE'))::text";

/// Of all connections, those that work for one practice at a time. The rest write, and do the engine's work.
const fn bound(connections: u32) -> u32 {
    let share = connections * 3 / 8;
    if share == 0 { 1 } else { share }
}

/// As the database's own user, for the engine: changes of the schema are made so too.
pub(super) async fn connect(settings: &Settings) -> Result<Connections, OpenError> {
    let write = open(settings, None).await?;
    for name in ["fsync", "full_page_writes", "synchronous_commit"] {
        let in_memory = name == "synchronous_commit" && mutant!("commit in memory");
        expect(&write, &format!("SHOW {name}"), name, if in_memory { "off" } else { "on" }).await?;
    }
    if setting(&write, "SELECT coalesce(current_setting('heedwell.engine', true), '')").await? != "on" {
        return Err(OpenError::Pooled);
    }
    let hints = if settings.hints { Some(hint_options(&settings.database_url)?) } else { None };
    let read = write.clone();
    Ok(Connections { write, read, bound: None, dialect: Dialect::Postgres, hints, disk: None, place: None })
}

/// Opens what works for one practice at a time. A user whom no policy binds steps down first, if that is possible.
pub(super) async fn bind(connections: Connections, settings: &Settings) -> Result<Connections, OpenError> {
    let mut connections = connections;
    let role = if is_bound(&connections.write).await? {
        None
    } else if setting(&connections.write, MAY_STEP_DOWN).await? == "true" {
        let write = open(settings, Some(BOUND)).await?;
        let own = std::mem::replace(&mut connections.write, write);
        connections.read = connections.write.clone();
        own.close().await.map_err(OpenError::Statement)?;
        Some(BOUND)
    } else {
        return Err(OpenError::Unsealed);
    };
    let own = url(&settings.database_url)?.disable_statement_logging();
    let count = bound(settings.connections);
    let pool = PgPoolOptions::new()
        .max_connections(count)
        .acquire_timeout(super::PATIENCE)
        // As for the others: see `options`.
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(tuned(own, role));
    connections.bound = Some(BoundPool::new(pool, count));
    Ok(connections)
}

/// Whether the policies bind the connection's user.
async fn is_bound(db: &DatabaseConnection) -> Result<bool, OpenError> {
    Ok(setting(db, "SELECT row_security_active('feed_head')::text").await? == "true")
}

/// Tables with rows of practices that the policies of the migrations do not keep apart, also from whoever owns them.
const OPEN_TABLES: &str = "SELECT c.relname::text FROM pg_class c \
    WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace \
    AND (c.relname IN ('attachment_part', 'broadcast_address') OR EXISTS (SELECT FROM pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attname = 'practice_id' AND NOT a.attisdropped)) \
    AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policies p \
        WHERE p.schemaname = current_schema() AND p.tablename = c.relname AND p.policyname = 'own_practice')) \
    ORDER BY 1";

/// What keeps the rows of practices apart here.
pub(super) async fn sealing(db: &DatabaseConnection) -> Result<(Binding, Vec<String>), DbErr> {
    // Not by what is active for one table: a policy that is gone there says nothing of the user.
    let user = "SELECT (rolsuper OR rolbypassrls)::text FROM pg_roles WHERE rolname = current_user";
    let binding = match text(db, user).await?.as_deref() {
        Some("false") => Binding::Bound,
        _ if text(db, MAY_STEP_DOWN).await?.as_deref() == Some("true") => Binding::StepsDown,
        _ => Binding::Unbound,
    };
    let query = Statement::from_string(db.get_database_backend(), OPEN_TABLES);
    let rows = db.query_all_raw(query).await?;
    let tables = rows.iter().map(|row| row.try_get_by_index::<String>(0)).collect::<Result<_, _>>()?;
    Ok((binding, tables))
}

async fn text(db: &DatabaseConnection, query: &str) -> Result<Option<String>, DbErr> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    row.map(|row| row.try_get_by_index::<String>(0)).transpose()
}

/// For the engine.
async fn open(settings: &Settings, role: Option<&'static str>) -> Result<DatabaseConnection, OpenError> {
    let most = settings.connections.saturating_sub(bound(settings.connections)).max(1);
    let mut options = options(&settings.database_url, most);
    options.map_sqlx_postgres_opts(move |postgres| tuned(postgres, role).options([("heedwell.engine", "on")]));
    Database::connect(options).await.map_err(OpenError::Unreachable)
}

/// For changes of the schema, which may take as long as they need once they have begun. For a lock they wait a little: whoever comes
/// after them waits behind them.
pub(in crate::store) async fn patient(settings: &Settings) -> Result<DatabaseConnection, OpenError> {
    let mut options = options(&settings.database_url, 1);
    options.map_sqlx_postgres_opts(move |postgres| {
        let limits =
            [("lock_timeout", "10000"), ("statement_timeout", "0"), ("idle_in_transaction_session_timeout", "0")];
        tuned(postgres, None).options([("heedwell.engine", "on")]).options(limits)
    });
    Database::connect(options).await.map_err(OpenError::Unreachable)
}

fn tuned(postgres: PgConnectOptions, role: Option<&str>) -> PgConnectOptions {
    let postgres = postgres.application_name("heedwell").statement_cache_capacity(STATEMENTS).options([
        ("lock_timeout", "1000"),
        ("statement_timeout", "5000"),
        ("idle_in_transaction_session_timeout", "5000"),
        ("default_transaction_isolation", "read committed"),
        ("synchronous_commit", if mutant!("commit in memory") { "off" } else { "on" }),
    ]);
    match role {
        Some(role) => postgres.options([("role", role)]),
        None => postgres,
    }
}

/// A hint is worth nothing after a crash, so that nobody waits for the disk on its behalf.
fn hint_options(database_url: &str) -> Result<HintOptions, OpenError> {
    let options = url(database_url)?.application_name("heedwell hints");
    Ok(HintOptions(options.options([("synchronous_commit", "off"), ("statement_timeout", "5000")])))
}

fn url(database_url: &str) -> Result<PgConnectOptions, OpenError> {
    PgConnectOptions::from_str(database_url)
        .map_err(|error| OpenError::Unreachable(DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)))))
}
