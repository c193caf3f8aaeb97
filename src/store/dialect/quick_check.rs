//! Whether a SQLite file is damaged.

use std::time::{Duration, Instant};

use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};

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
mod tests {
    use sea_orm::{ConnectionTrait, Database};

    use super::*;

    #[tokio::test]
    async fn a_large_file_is_looked_at_for_as_long_as_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let db = Database::connect(format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
        let rows = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                    INSERT INTO t SELECT i, hex(randomblob(40)) FROM n";
        for statement in ["CREATE TABLE t(i INTEGER PRIMARY KEY, x TEXT UNIQUE)", rows] {
            db.execute_unprepared(statement).await.unwrap();
        }
        assert_eq!(look(&db, Duration::from_secs(600)).await.unwrap(), State::Sound);
        assert_eq!(look(&db, Duration::ZERO).await.unwrap(), State::Unknown);
        db.close().await.unwrap();

        let mut pages = std::fs::read(&path).unwrap();
        let middle = pages.len() / 2 / 4096 * 4096;
        pages[middle..middle + 4096].fill(0xAA);
        std::fs::write(&path, pages).unwrap();
        let db = Database::connect(format!("sqlite:{}", path.display())).await.unwrap();
        assert_eq!(look(&db, Duration::from_secs(600)).await.unwrap(), State::Damaged);
        assert_eq!(look(&db, Duration::ZERO).await.unwrap(), State::Unknown, "nothing was seen of it");
    }
}
