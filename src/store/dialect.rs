//! The only file that asks which database this is: how to connect, which of its settings must hold, and what time it is.

mod look;
mod place;
mod postgres;
mod quick_check;

use std::{
    future::ready,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, IsolationLevel,
    SqliteTransactionMode, Statement, TransactionOptions,
    sea_query::Expr,
    sqlx::{
        postgres::PgConnectOptions,
        sqlite::{SqliteJournalMode, SqliteSynchronous},
    },
};

use sqlx::{Connection, SqlitePool};
use tracing::info;

use self::quick_check::State;
use super::{
    Settings,
    disk::{Disk, Reserve},
    within::BoundPool,
};
use crate::clock::SharedClock;
pub use look::Binding;
pub(super) use look::{Look, absent, copy, is_sqlite, look, sealing, source};
pub(super) use place::{NO_TOKEN, Place, Tokens, copy_into, identity, identity_on, is_same};
pub(super) use postgres::patient;

/// Why the database cannot be used. Each says what to mend; the variable is `HEEDWELL_DATABASE_URL` unless named.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite:` nor `postgres://`.
    #[error("the database URL must begin with sqlite: or postgres://")]
    UnknownDatabase,
    /// Another process holds the SQLite file.
    #[error("{0} is in use by another heedwell process: stop that one, or use another HEEDWELL_DATA_DIR")]
    Locked(PathBuf),
    /// The lock file beside the SQLite file cannot be made.
    #[error("cannot lock {path}: check that its folder exists and can be written to")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The SQLite file cannot be asked which it is.
    #[error("cannot look at {path}: check that it can be read")]
    Place {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// PostgreSQL does not say which cluster it is, so that no restored copy could be told from it.
    #[error(
        "the database's user may not ask which cluster this is, so that a restored copy could send everything again: run, as a \
         superuser, `GRANT EXECUTE ON FUNCTION pg_control_system() TO` this user, and where it steps down, to `heedwell_bound`"
    )]
    Nameless,
    /// The server or file cannot be reached.
    #[error("cannot open the database: check that it exists, runs, and lets this user in")]
    Unreachable(#[source] DbErr),
    /// A setting of the database would let accepted messages be lost.
    #[error("the database setting {name} is {value}, but must be {wanted}, or accepted messages could be lost")]
    UnsafeSetting {
        /// Its name.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The SQLite file is damaged.
    #[error("the SQLite file is damaged: restore it from a backup")]
    Damaged,
    /// A newer release changed the schema.
    #[error("the schema is newer than this binary (it holds {0}): start the newer release")]
    NewerSchema(String),
    /// The schema is older than this binary.
    #[error("the schema is older than this binary: run `heedwell migrate`, or start with --migrate")]
    OlderSchema,
    /// A schema change failed.
    #[error("a schema change failed")]
    Migration(#[source] DbErr),
    /// The key file does not belong to this database.
    #[error(
        "the master key does not belong to this database: HEEDWELL_MASTER_KEY_FILE must name the file it was made with"
    )]
    WrongKey,
    /// What a connection says of itself does not reach PostgreSQL, or not for long.
    #[error(
        "connections to the database do not keep their settings: connect to PostgreSQL itself, or by way of a pooler in session mode \
         that passes `options` on"
    )]
    Pooled,
    /// PostgreSQL would show the server the rows of all practices, whatever it asks for.
    #[error(
        "the database's user is a superuser or has BYPASSRLS, so that PostgreSQL cannot seal practices from each other: connect as \
         an ordinary user that owns the tables; or run, as a superuser, `CREATE ROLE heedwell_bound; GRANT heedwell_bound TO` this \
         user, then `GRANT USAGE ON SCHEMA public TO heedwell_bound; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \
         public TO heedwell_bound`, and start again"
    )]
    Unsealed,
    /// A statement failed while starting.
    #[error("the database refused a statement")]
    Statement(#[source] DbErr),
}

/// Statements that a connection keeps prepared: all of those that are common, in each of their lengths.
const STATEMENTS: usize = 256;
/// Memory for pages of SQLite, in KiB (negative: `PRAGMA cache_size`), which is taken as it is needed. The keys of attempts are
/// random by purpose, so that each new one is on another page: with the default of 2 MiB they are read again and again.
const WRITER_CACHE: &str = "-32768";
/// The same for each connection that only reads.
const READER_CACHE: &str = "-8192";

/// How long a statement waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a start looks for damage to a SQLite file. Millions of deliveries would take it many minutes.
const LONGEST_CHECK: Duration = Duration::from_secs(2);

/// The connections of one database.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) write: DatabaseConnection,
    /// Sees the rows of all practices.
    pub(super) read: DatabaseConnection,
    /// Each sees the rows of one practice; unset where [`Self::read`] has to do.
    pub(super) bound: Option<BoundPool>,
    pub(super) dialect: Dialect,
    /// How replicas reach each other; unset where there can be no other.
    pub(super) hints: Option<HintOptions>,
    /// The disk that is ours to watch; unset where it is another server's.
    pub(super) disk: Option<Disk>,
    /// The SQLite file; unset: another database.
    pub(super) place: Option<Place>,
}

impl Connections {
    /// Of each pool how many connections are in use, and the most that there may be.
    pub(super) fn in_use(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut found = Vec::new();
        let mut tell = |pool, used, most| found.extend([(pool, "used", used), (pool, "max", most)]);
        match self.dialect {
            Dialect::Sqlite => {
                for (name, db) in [("write", &self.write), ("read", &self.read)] {
                    let pool: &SqlitePool = db.get_sqlite_connection_pool();
                    let used = u64::from(pool.size()).saturating_sub(pool.num_idle() as u64);
                    tell(name, used, u64::from(pool.options().get_max_connections()));
                }
            }
            Dialect::Postgres => {
                let pool = self.write.get_postgres_connection_pool();
                let used = u64::from(pool.size()).saturating_sub(pool.num_idle() as u64);
                tell("all", used, u64::from(pool.options().get_max_connections()));
            }
        }
        if let Some(bound) = &self.bound {
            let (used, most) = bound.in_use();
            tell("practice", used, most);
        }
        found
    }
}

/// How to open connections for hints.
pub(super) struct HintOptions(PgConnectOptions);

impl HintOptions {
    pub(super) const fn get(&self) -> &PgConnectOptions {
        &self.0
    }
}

impl std::fmt::Debug for HintOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // They hold the password.
        f.write_str("HintOptions")
    }
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    pub(super) fn of(url: &str) -> Result<Self, OpenError> {
        match url.split(':').next() {
            Some("sqlite") => Ok(Self::Sqlite),
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            _ => Err(OpenError::UnknownDatabase),
        }
    }

    /// How a writing transaction begins. SQLite: at once as a writer, since a reader that becomes one may be refused
    /// past every time-out.
    pub(super) fn transaction(self) -> TransactionOptions {
        let mode = (self == Self::Sqlite).then_some(SqliteTransactionMode::Immediate);
        TransactionOptions { sqlite_transaction_mode: mode, ..Default::default() }
    }

    /// How a transaction begins that only reads, and reads all as of one moment. SQLite does so by itself.
    pub(super) fn snapshot(self) -> TransactionOptions {
        let postgres = self == Self::Postgres;
        TransactionOptions {
            isolation_level: postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: postgres.then_some(AccessMode::ReadOnly),
            ..Default::default()
        }
    }

    /// Has the rest of a transaction see the rows of one practice. Yields its time, which is asked for in the same breath.
    pub(super) async fn enter(
        self,
        db: &impl ConnectionTrait,
        time: &Time,
        practice: &str,
    ) -> Result<DateTime<Utc>, DbErr> {
        if self == Self::Sqlite {
            return self.now(db, time).await;
        }
        let statement = Statement::from_sql_and_values(db.get_database_backend(), postgres::ENTER, [practice.into()]);
        let row = db.query_one_raw(statement).await?;
        let row = row.ok_or_else(|| DbErr::RecordNotFound("statement_timestamp".into()))?;
        match time {
            Time::Database(_) => Ok(row.try_get_by_index::<DateTime<Utc>>(0)?.trunc_subsecs(6)),
            Time::Injected(clock) => Ok(clock.now()),
        }
    }

    /// The time by which leases and schedules go: PostgreSQL's, so that replicas agree; otherwise the injected clock's.
    pub(super) async fn now(self, db: &impl ConnectionTrait, time: &Time) -> Result<DateTime<Utc>, DbErr> {
        match (self, time) {
            (Self::Postgres, Time::Database(_)) => {
                let statement = Statement::from_string(db.get_database_backend(), "SELECT statement_timestamp()");
                let row = db.query_one_raw(statement).await?;
                let row = row.ok_or_else(|| DbErr::RecordNotFound("statement_timestamp".into()))?;
                Ok(row.try_get_by_index::<DateTime<Utc>>(0)?.trunc_subsecs(6))
            }
            (Self::Sqlite, Time::Database(clock)) | (_, Time::Injected(clock)) => Ok(clock.now()),
        }
    }

    /// The same as a part of a statement, which spares asking for it first.
    pub(super) fn now_expr(self, time: &Time) -> Expr {
        match (self, time) {
            (Self::Postgres, Time::Database(_)) => Expr::cust("statement_timestamp()"),
            (Self::Sqlite, Time::Database(clock)) | (_, Time::Injected(clock)) => Expr::val(clock.now()),
        }
    }

    /// Bounds what each further statement of a claim may take: others wait for their turn meanwhile.
    pub(super) async fn bound_claim(self, db: &impl ConnectionTrait) -> Result<(), DbErr> {
        match self {
            Self::Postgres => db.execute_unprepared("SET LOCAL statement_timeout = '2s'").await.map(drop),
            // Its one writer waits for nobody once it has begun.
            Self::Sqlite => Ok(()),
        }
    }
}

/// Whose clock decides.
#[derive(Clone, Debug)]
pub enum Time {
    /// The database's, where it has one that replicas share; else this one.
    Database(SharedClock),
    /// This one, for tests.
    Injected(SharedClock),
}

impl Time {
    /// The clock in it.
    #[must_use]
    pub const fn clock(&self) -> &SharedClock {
        match self {
            Self::Database(clock) | Self::Injected(clock) => clock,
        }
    }
}

/// `beside`: also while another process has the SQLite file.
pub(super) async fn connect(settings: &Settings, beside: bool) -> Result<Connections, OpenError> {
    match Dialect::of(&settings.database_url)? {
        Dialect::Sqlite => sqlite(&settings.database_url, settings.reserve, beside).await,
        Dialect::Postgres => postgres::connect(settings).await,
    }
}

/// Sees to it that no statement finds rows of another practice than the one that it works for, once the schema is there.
pub(super) async fn bind(connections: Connections, settings: &Settings) -> Result<Connections, OpenError> {
    match connections.dialect {
        Dialect::Sqlite => Ok(connections),
        Dialect::Postgres => postgres::bind(connections, settings).await,
    }
}

fn options(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(PATIENCE)
        // To ask each time would double the round trips. Whoever has one that broke meanwhile is told, and tries again.
        .test_before_acquire_if_idle_for(Duration::from_secs(1))
        // Either would have sqlx (0.9.0) look over the idle connections now and then, as often as it believes that there are. It
        // counts one off before it has counted it in where a release and a claim meet, and then goes round for good on a thread
        // of its own: `for _ in 0..usize::MAX`, without a pause.
        .idle_timeout(None)
        .max_lifetime(None)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

async fn sqlite(url: &str, reserve: Reserve, beside: bool) -> Result<Connections, OpenError> {
    let path = file(url);
    let place = match Place::take(path) {
        Err(OpenError::Locked(_)) if beside => Place::of(path),
        place => place?,
    };
    let open = async |connections: u32, cache: &'static str| {
        let mut options = options(url, connections);
        options.map_sqlx_sqlite_opts(move |sqlite| {
            sqlite
                .pragma("cache_size", cache)
                .create_if_missing(true)
                .foreign_keys(true)
                .busy_timeout(Duration::from_secs(5))
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .statement_cache_capacity(STATEMENTS)
        });
        // SQLite ends a transaction by itself when the disk is full. The ROLLBACK then finds nothing to end, and sqlx would
        // believe for ever that the connection is in a transaction.
        options.map_sqlx_sqlite_pool_opts(|pool| {
            pool.before_acquire(|connection, _| Box::pin(ready(Ok(!connection.is_in_transaction()))))
        });
        Database::connect(options).await.map_err(OpenError::Unreachable)
    };
    let (write, read) = (open(1, WRITER_CACHE).await?, open(4, READER_CACHE).await?);
    let disk = Some(Disk::of(path, reserve));
    let place = Some(place);
    let connections = Connections { write, read, bound: None, dialect: Dialect::Sqlite, hints: None, disk, place };
    // SQLite's own default of `synchronous` depends on how it was compiled: read back what holds.
    expect(&connections.write, "PRAGMA synchronous", "synchronous", "2").await?;
    expect(&connections.write, "PRAGMA journal_mode", "journal_mode", "wal").await?;
    match quick_check::look(&connections.write, LONGEST_CHECK).await.map_err(OpenError::Statement)? {
        State::Damaged => return Err(OpenError::Damaged),
        State::Sound => {}
        State::Unknown => info!("the SQLite file is too large to be looked through at every start"),
    }
    Ok(connections)
}

/// The file that a URL of SQLite names.
fn file(url: &str) -> &Path {
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//");
    Path::new(path.split('?').next().unwrap_or(path))
}

async fn expect(
    db: &DatabaseConnection,
    query: &str,
    name: &'static str,
    wanted: &'static str,
) -> Result<(), OpenError> {
    let value = setting(db, query).await?;
    if value == wanted { Ok(()) } else { Err(OpenError::UnsafeSetting { name, value, wanted }) }
}

async fn setting(db: &DatabaseConnection, query: &str) -> Result<String, OpenError> {
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await;
    let Some(row) = row.map_err(OpenError::Statement)? else { return Ok(String::new()) };
    let text = row.try_get_by_index::<String>(0);
    text.or_else(|_| row.try_get_by_index::<i32>(0).map(|number| number.to_string())).map_err(OpenError::Statement)
}
