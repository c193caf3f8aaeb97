//! Databases to throw away, on disk and with every safeguard on: the server refuses others.

use std::path::Path;

use sqlx::{Connection, PgConnection};

use crate::machine;

#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "tests want more of it")]
mod postgres;

pub(crate) use postgres::unbound;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
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
