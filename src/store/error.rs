//! What can go wrong between a row and the domain. A variant exists only where some caller acts on it.

use std::sync::Arc;

use sea_orm::{DbErr, RuntimeErr};
use sqlx::error::DatabaseError;

/// A store operation failed; nothing of it was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such row in this practice; for a practice itself: no such practice.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Somebody else changed the row since it was read.
    #[error("the row was changed meanwhile")]
    Conflict {
        /// The revision that it has now.
        current: i64,
    },
    /// The thing is there, and its state does not allow it.
    #[error("{message}")]
    StateForbids {
        /// The state, as a word for programs.
        state: &'static str,
        /// What stands in the way; fit to show to staff.
        message: &'static str,
    },
    /// The database is out of reach or too busy; worth another try.
    #[error("the database is out of reach")]
    Busy(#[source] Arc<DbErr>),
    /// More waits to be written than should: nothing was begun, and it is worth another try later.
    #[error("too much waits to be written")]
    Overloaded,
    /// A stored row does not mean anything.
    #[error("a stored {0} cannot be read")]
    Corrupt(&'static str),
    /// Anything else; a fault of this server.
    #[error("the database refused a statement")]
    Internal(#[source] Arc<DbErr>),
    /// The task that held the transaction is gone.
    #[error("a transaction was abandoned")]
    Abandoned,
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match &error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Busy(error.into()),
            _ if is_transient(&error) => Self::Busy(error.into()),
            _ => Self::Internal(error.into()),
        }
    }
}

impl StoreError {
    /// Whether SQLite could not write: its disk is full, or it cannot say more than that writing failed.
    pub(super) fn is_for_want_of_room(&self) -> bool {
        let Self::Busy(error) = self else { return false };
        database(error).is_some_and(|error| matches!(sqlite(error), Some(IO_ERROR | FULL)))
    }
}

const IO_ERROR: i32 = 10;
const FULL: i32 = 13;

/// Conditions that pass by themselves: a lock or statement that timed out, a deadlock, a restarting server, a full disk.
fn is_transient(error: &DbErr) -> bool {
    // PostgreSQL: lock not available, query cancelled, deadlock, shutdown, starting up, out of space, idle too long in a
    // transaction. SQLite: busy, locked, I/O error, full.
    const POSTGRES: [&str; 8] = ["55P03", "57014", "40P01", "57P01", "57P02", "57P03", "53100", "25P03"];
    match (database(error), error) {
        (Some(error), _) => {
            let known = error.code().is_some_and(|code| POSTGRES.contains(&code.as_ref()));
            known || matches!(sqlite(error), Some(5 | 6 | IO_ERROR | FULL))
        }
        (None, DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) => {
            use sqlx::Error::{Io, PoolClosed, PoolTimedOut, Tls};
            matches!(error.as_ref(), Io(_) | PoolTimedOut | PoolClosed | Tls(_))
        }
        _ => false,
    }
}

/// What the database itself said.
fn database(error: &DbErr) -> Option<&dyn DatabaseError> {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error else {
        return None;
    };
    error.as_database_error()
}

/// SQLite's code without what makes it longer; PostgreSQL's have five characters.
fn sqlite(error: &dyn DatabaseError) -> Option<i32> {
    let code = error.code()?;
    if code.len() < 5 { code.parse::<i32>().ok().map(|code| code & 0xff) } else { None }
}
