//! Whether a SQLite file is damaged.

use std::time::Duration;

use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};
use tokio::time::Instant;

/// Steps of SQLite between two looks at the clock.
const STEPS: i32 = 1_000;
/// SQLITE_INTERRUPT (sqlite.org/rescode.html#interrupt).
const INTERRUPTED: &str = "9";

/// What is known about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its pages are all in order.
    Sound,
    /// They are not.
    Damaged,
    /// What was seen in the time given is in order.
    Unknown,
}

/// Looks through the file for no longer than `limit`.
pub(super) async fn look(db: &DatabaseConnection, limit: Duration) -> Result<State, DbErr> {
    let mut connection = db.get_sqlite_connection_pool().acquire().await.map_err(failed)?;
    let begin = Instant::now();
    connection.lock_handle().await.map_err(failed)?.set_progress_handler(STEPS, move || begin.elapsed() < limit);
    let found = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&mut *connection).await;
    connection.lock_handle().await.map_err(failed)?.remove_progress_handler();
    match found {
        Ok(found) if found == "ok" => Ok(State::Sound),
        Ok(_) => Ok(State::Damaged),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(INTERRUPTED) => Ok(State::Unknown),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests;
