//! Databases to throw away, on disk and with every safeguard on: the server refuses others.

use std::{path::Path, time::Duration};

use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use sqlx::{Connection, PgConnection};

use crate::machine;

#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "tests want more of it")]
mod postgres;

pub(crate) use postgres::{Apart, unbound};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// As it is named on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// The URL of an empty database; an SQLite file lies in `folder`.
    pub(crate) async fn create(self, folder: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", folder.join("heedwell.db").display()),
            Self::Postgres => postgres::Database::create().await.unwrap().url,
        }
    }
}

/// The process whose children serve the connections to that database, if any do.
pub(crate) async fn postmaster(url: &str) -> Option<u32> {
    if !url.starts_with("postgres") {
        return None;
    }
    let mut connection = PgConnection::connect(url).await.unwrap();
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await.unwrap();
    machine::parent(backend.cast_unsigned())
}

/// How often is looked for what is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A look at the rows of all practices, beside the server.
pub(crate) struct Look(DatabaseConnection);

impl Look {
    pub(crate) async fn open(url: &str) -> Self {
        let url = if url.starts_with("postgres") { unbound(url) } else { url.to_owned() };
        Self(Database::connect(url).await.unwrap())
    }

    /// Returns once nothing is open.
    pub(crate) async fn close(self) {
        self.0.close().await.unwrap();
    }

    /// What a query counts.
    pub(crate) async fn count(&self, query: &str) -> usize {
        let statement = Statement::from_string(self.0.get_database_backend(), query);
        let row = self.0.query_one_raw(statement).await.unwrap().unwrap();
        row.try_get_by_index::<i64>(0).unwrap().try_into().unwrap()
    }

    /// Runs a statement.
    pub(crate) async fn run(&self, statement: &str) {
        self.0.execute_raw(Statement::from_string(self.0.get_database_backend(), statement)).await.unwrap();
    }

    /// The texts that a query yields.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let statement = Statement::from_string(self.0.get_database_backend(), query);
        let rows = self.0.query_all_raw(statement).await.unwrap();
        rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
    }

    /// Waits until a query counts nothing.
    pub(crate) async fn none(&self, query: &str) {
        while self.count(query).await > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until nothing is on its way to a provider.
    pub(crate) async fn settled(&self) {
        self.none("SELECT count(*) FROM delivery WHERE phase = 1").await;
    }
}
