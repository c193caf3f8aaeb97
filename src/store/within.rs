//! Reads of one practice. On PostgreSQL they go over connections of their own, each of which is shown the rows of one practice at
//! a time: a query that forgets to ask for the practice finds nothing of others. To say the practice costs a round trip. It is
//! spared where the same practice was read just before, and paid back by not asking after each read whether the connection lives.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    prelude::async_trait::async_trait, sea_query::Values,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, pool::PoolConnection, query::Query, query_with};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{
    dialect::{Connections, PATIENCE},
    vault::PracticeKeys,
};
use crate::domain::{PracticeId, Scope};

/// Has a connection work for a practice, and for nobody else.
const BIND: &str = "SELECT set_config('heedwell.engine', '', false), set_config('heedwell.practice', $1, false)";
/// How long a connection is believed to live without a word from it.
const TRUST: Duration = Duration::from_secs(1);

/// What tells whose rows are meant.
pub(super) trait OfPractice {
    /// The practice's id.
    fn practice_id(&self) -> &str;
}

impl OfPractice for Scope {
    fn practice_id(&self) -> &str {
        self.practice().as_str()
    }
}

impl OfPractice for PracticeId {
    fn practice_id(&self) -> &str {
        self.as_str()
    }
}

impl OfPractice for PracticeKeys {
    fn practice_id(&self) -> &str {
        self.practice()
    }
}

/// The database, as far as one practice goes. Each statement is one read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within<'s> {
    connections: &'s Connections,
    practice: &'s str,
}

impl<'s> Within<'s> {
    pub(super) fn new(connections: &'s Connections, practice: &'s str) -> Self {
        Self { connections, practice }
    }
}

#[async_trait]
impl ConnectionTrait for Within<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.connections.read.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        let Some(pool) = &self.connections.bound else { return self.connections.read.execute_raw(statement).await };
        let mut turn = pool.turn(self.practice).await?;
        let done = query(&statement).execute(turn.connection()?).await;
        turn.end(done.map(Into::into).map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))))
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        let Some(pool) = &self.connections.bound else { return self.connections.read.execute_unprepared(sql).await };
        let mut turn = pool.turn(self.practice).await?;
        let done = turn.connection()?.execute(AssertSqlSafe(sql)).await;
        turn.end(done.map(Into::into).map_err(|error| DbErr::Exec(RuntimeErr::SqlxError(Arc::new(error)))))
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let Some(pool) = &self.connections.bound else { return self.connections.read.query_one_raw(statement).await };
        let mut turn = pool.turn(self.practice).await?;
        let row = query(&statement).fetch_optional(turn.connection()?).await;
        turn.end(row.map(|row| row.map(Into::into)).map_err(query_error))
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let Some(pool) = &self.connections.bound else { return self.connections.read.query_all_raw(statement).await };
        let mut turn = pool.turn(self.practice).await?;
        let rows = query(&statement).fetch_all(turn.connection()?).await;
        turn.end(rows.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(query_error))
    }
}

fn query(statement: &Statement) -> Query<'_, Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or(Values(Vec::new()));
    query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}

fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
}

/// Connections that work for one practice at a time.
#[derive(Debug)]
pub(super) struct BoundPool {
    pool: PgPool,
    /// One for each connection that there may be. Whoever has one finds a connection that waits, or room for a new one.
    turns: Semaphore,
    /// What waits, the one that was used last at the end.
    idle: Mutex<VecDeque<Bound>>,
}

/// A connection, and for whom it works.
#[derive(Debug)]
struct Bound {
    connection: PoolConnection<Postgres>,
    practice: String,
    used: Instant,
}

/// A connection that works for the practice that was asked for, until it is given back. One that is not, since its read failed or
/// nobody waits for it any more, goes to the pool, which looks after it.
struct Turn<'p> {
    pool: &'p BoundPool,
    bound: Option<Bound>,
    _permit: SemaphorePermit<'p>,
}

impl BoundPool {
    pub(super) fn new(pool: PgPool, connections: u32) -> Self {
        let turns = usize::try_from(connections).unwrap_or(1);
        Self { pool, turns: Semaphore::new(turns), idle: Mutex::default() }
    }

    /// How many connections are in use, and the most that there may be.
    pub(super) fn in_use(&self) -> (u64, u64) {
        let most = u64::from(self.pool.options().get_max_connections());
        (most.saturating_sub(self.turns.available_permits() as u64), most)
    }

    /// Closes what waits. Whatever is under way ends first.
    pub(super) async fn close(&self) {
        self.turns.close();
        self.idle().clear();
        self.pool.close().await;
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Bound>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, practice: &str) -> Result<Turn<'_>, DbErr> {
        let waited = timeout(PATIENCE, self.turns.acquire()).await;
        let permit = waited.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))?;
        let permit = permit.map_err(|_| DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        let bound = self.take(practice).await.map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))?;
        Ok(Turn { pool: self, bound: Some(bound), _permit: permit })
    }

    async fn take(&self, practice: &str) -> Result<Bound, sqlx::Error> {
        while let Some(mut bound) = self.waiting(practice) {
            if bound.practice == practice && bound.used.elapsed() < TRUST {
                return Ok(bound);
            }
            // One that broke meanwhile goes to the pool, which forgets it.
            if bind(&mut bound.connection, practice).await.is_ok() {
                practice.clone_into(&mut bound.practice);
                return Ok(bound);
            }
        }
        let mut connection = self.pool.acquire().await?;
        bind(&mut connection, practice).await?;
        Ok(Bound { connection, practice: practice.to_owned(), used: Instant::now() })
    }

    /// What worked for this practice last; else what has not been used for longest.
    fn waiting(&self, practice: &str) -> Option<Bound> {
        let mut idle = self.idle();
        match idle.iter().rposition(|bound| bound.practice == practice) {
            Some(place) => idle.remove(place),
            None => idle.pop_front(),
        }
    }
}

async fn bind(connection: &mut PgConnection, practice: &str) -> Result<(), sqlx::Error> {
    sqlx::query(BIND).bind(practice).execute(connection).await.map(drop)
}

impl Turn<'_> {
    fn connection(&mut self) -> Result<&mut PgConnection, DbErr> {
        let bound = self.bound.as_mut().ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))?;
        Ok(&mut bound.connection)
    }

    /// Gives the connection back after a read that went well.
    fn end<T>(mut self, done: Result<T, DbErr>) -> Result<T, DbErr> {
        if let (Ok(_), Some(mut bound)) = (&done, self.bound.take()) {
            bound.used = Instant::now();
            self.pool.idle().push_back(bound);
        }
        done
    }
}
