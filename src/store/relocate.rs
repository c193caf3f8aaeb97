//! From SQLite to PostgreSQL. What the tables and their columns are is asked of both databases, so that none can be forgotten. All
//! rows arrive in one transaction, or none does; until they are proven they are in a database that is held.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult, Statement, StreamTrait,
    TransactionTrait, Value,
    sea_query::{Alias, Expr, Query},
};
use uuid::Uuid;

use super::{
    OpenError, Settings, Store, Time, check_key,
    dialect::{self, Connections, Dialect},
    instance,
};
use crate::{crypto::KeyFile, domain::Engine};

/// Rows of one statement: few enough that their values are fewer than a statement may have.
const ROWS: usize = 200;
/// Values of one statement at most, by PostgreSQL's protocol.
const VALUES: usize = 60_000;
/// Bytes of text and files in one statement, or a row more.
const BYTES: usize = 4 << 20;

/// What each database writes for itself.
const OWN: [&str; 3] = ["seaql_migrations", "schema_floor", "instance"];
/// What the first start writes, which is that of the source in the end.
const FIRST_START: &str = "installation";

const SOURCE: &str = "SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c \
    WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1, 2";
const TARGET: &str = "SELECT table_name::text, column_name::text, udt_name::text FROM information_schema.columns \
    JOIN information_schema.tables USING (table_schema, table_name) \
    WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY 1, 2";
/// The move may take longer than any statement of a server.
const NO_HURRY: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; \
    SET LOCAL idle_in_transaction_session_timeout = 0";

/// Why nothing was moved. The source is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// Only from SQLite to PostgreSQL.
    #[error("only from SQLite (HEEDWELL_DATABASE_URL) to PostgreSQL (--to)")]
    Direction,
    /// The target cannot be used.
    #[error("--to")]
    Target(#[source] OpenError),
    /// It has rows.
    #[error("--to: the database is not empty: there are rows in {0}")]
    NotEmpty(String),
    /// Their schemas are not the same.
    #[error("--to: {0} is not the same in both databases")]
    Different(String),
    /// PostgreSQL has a type of column that this binary cannot write.
    #[error("--to: {0} has a type that cannot be written")]
    UnknownType(String),
    /// Not all arrived.
    #[error("--to: {0} has another number of rows than it should")]
    Miscounted(String),
    /// A database refused a statement.
    #[error("a database refused a statement")]
    Statement(#[from] DbErr),
}

/// How a column is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Bytes,
    I16,
    I32,
    I64,
    Text,
    Time,
    Uuid,
}

impl Kind {
    /// By PostgreSQL's own name.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "bool" => Self::Bool,
            "bytea" => Self::Bytes,
            "int2" => Self::I16,
            "int4" => Self::I32,
            "int8" => Self::I64,
            "text" | "varchar" => Self::Text,
            "timestamptz" => Self::Time,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    fn read(self, row: &QueryResult, place: usize) -> Result<Value, DbErr> {
        Ok(match self {
            Self::Bool => row.try_get_by_index::<Option<bool>>(place)?.into(),
            Self::Bytes => row.try_get_by_index::<Option<Vec<u8>>>(place)?.into(),
            Self::I16 => row.try_get_by_index::<Option<i16>>(place)?.into(),
            Self::I32 => row.try_get_by_index::<Option<i32>>(place)?.into(),
            Self::I64 => row.try_get_by_index::<Option<i64>>(place)?.into(),
            Self::Text => row.try_get_by_index::<Option<String>>(place)?.into(),
            Self::Time => row.try_get_by_index::<Option<DateTime<Utc>>>(place)?.into(),
            Self::Uuid => row.try_get_by_index::<Option<Uuid>>(place)?.into(),
        })
    }
}

type Table = Vec<(String, Kind)>;

/// Copies all rows of `source` to an empty database that has the schema, which is held then. Tells how many rows there are, and of
/// each group that has arrived.
///
/// # Errors
/// [`RelocateError`]: nothing has changed then.
pub async fn relocate(
    source: &Store,
    target: &Settings,
    keys: &KeyFile,
    time: &Time,
    mut told: impl FnMut(Rows),
    _: &Engine,
) -> Result<(), RelocateError> {
    let is_postgres = Dialect::of(&target.database_url).is_ok_and(|dialect| dialect == Dialect::Postgres);
    if source.inner.connections.dialect != Dialect::Sqlite || !is_postgres {
        return Err(RelocateError::Direction);
    }
    let connections = dialect::connect(target, false).await.map_err(RelocateError::Target)?;
    let done = fill(&source.inner.connections.read, &connections, keys, time, &mut told).await;
    let _ = connections.write.close().await;
    done
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// There are so many.
    Total(u64),
    /// So many more have arrived.
    Arrived(usize),
}

async fn fill(
    from: &DatabaseConnection,
    target: &Connections,
    keys: &KeyFile,
    time: &Time,
    told: &mut impl FnMut(Rows),
) -> Result<(), RelocateError> {
    super::bring_up_to_date(target, None).await.map_err(RelocateError::Target)?;
    let tables = tables(from, &target.write).await?;
    for table in tables.keys().filter(|table| *table != FIRST_START) {
        if count(&target.write, table).await? > 0 {
            return Err(RelocateError::NotEmpty(table.clone()));
        }
    }
    // Before anything is written to it: keys that do not fit are somebody else's database.
    check_key(target, keys, time).await.map_err(RelocateError::Target)?;
    instance::recognise(target, time).await.map_err(RelocateError::Target)?;
    let mut counts = BTreeMap::new();
    for table in tables.keys() {
        counts.insert(table.clone(), count(from, table).await?);
    }
    told(Rows::Total(counts.values().map(|count| count.unsigned_abs()).sum()));
    let tx = target.write.begin().await?;
    tx.execute_unprepared(NO_HURRY).await?;
    instance::hold_on(&tx, target.dialect.now(&tx, time).await?).await?;
    let first = Query::delete().from_table(Alias::new(FIRST_START)).to_owned();
    tx.execute(&first).await?;
    for (table, columns) in &tables {
        copy(from, &tx, table, columns, told).await?;
        if counts.get(table) != Some(&count(&tx, table).await?) {
            return Err(RelocateError::Miscounted(table.clone()));
        }
    }
    tx.commit().await?;
    Ok(())
}

/// The tables that both have, with their columns.
async fn tables(from: &DatabaseConnection, to: &DatabaseConnection) -> Result<BTreeMap<String, Table>, RelocateError> {
    let (mut there, mut tables) = (BTreeMap::<String, Vec<String>>::new(), BTreeMap::<String, Table>::new());
    for row in rows(from, SOURCE).await? {
        there.entry(row.try_get_by_index(0)?).or_default().push(row.try_get_by_index(1)?);
    }
    for row in rows(to, TARGET).await? {
        let (table, column): (String, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        let kind = Kind::of(&row.try_get_by_index::<String>(2)?);
        if !OWN.contains(&table.as_str()) {
            let kind = kind.ok_or_else(|| RelocateError::UnknownType(format!("{table}.{column}")))?;
            tables.entry(table).or_default().push((column, kind));
        }
    }
    for columns in tables.values_mut() {
        columns.sort_by(|one, other| one.0.cmp(&other.0));
    }
    there.retain(|table, _| !OWN.contains(&table.as_str()));
    for columns in there.values_mut() {
        columns.sort();
    }
    let names = |columns: &Table| columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let odd = tables.iter().find(|(table, columns)| there.get(*table) != Some(&names(columns))).map(|(table, _)| table);
    match odd.or_else(|| there.keys().find(|table| !tables.contains_key(*table))) {
        Some(table) => Err(RelocateError::Different(table.clone())),
        None => Ok(tables),
    }
}

async fn rows(db: &DatabaseConnection, query: &str) -> Result<Vec<QueryResult>, DbErr> {
    db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await
}

async fn count(db: &impl ConnectionTrait, table: &str) -> Result<i64, DbErr> {
    let query = Query::select().expr(Expr::cust("count(*)")).from(Alias::new(table)).to_owned();
    db.query_one(&query).await?.map_or(Ok(0), |row| row.try_get_by_index(0))
}

/// Copies one table, as many rows at a time as fit into a statement and not too much memory.
async fn copy(
    from: &DatabaseConnection,
    to: &DatabaseTransaction,
    table: &str,
    columns: &Table,
    told: &mut impl FnMut(Rows),
) -> Result<(), RelocateError> {
    let names = || columns.iter().map(|(name, _)| Alias::new(name));
    let query = Query::select().columns(names()).from(Alias::new(table)).to_owned();
    let most = Ord::min(ROWS, VALUES / columns.len().max(1));
    let mut there = from.stream(&query).await?;
    let (mut group, mut bytes) = (Vec::new(), 0);
    loop {
        let row = there.try_next().await?;
        let ended = row.is_none();
        if let Some(row) = row {
            let values = columns.iter().enumerate().map(|(place, (_, kind))| kind.read(&row, place));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            bytes += values.iter().map(weight).sum::<usize>();
            group.push(values);
        }
        if group.len() >= most || bytes >= BYTES || (ended && !group.is_empty()) {
            let mut insert = Query::insert();
            insert.into_table(Alias::new(table)).columns(names());
            let arrived = group.len();
            for values in group.drain(..) {
                insert.values(values.into_iter().map(Expr::val)).map_err(|error| DbErr::Custom(error.to_string()))?;
            }
            to.execute(&insert).await?;
            told(Rows::Arrived(arrived));
            bytes = 0;
        }
        if ended {
            return Ok(());
        }
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::Bytes(Some(bytes)) => bytes.len(),
        Value::String(Some(text)) => text.len(),
        _ => 0,
    }
}
