//! A connection that changes nothing, for whoever only wants to know how a database is.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbErr, Statement};

use super::{
    Dialect, LONGEST_CHECK, OpenError, Place, Settings, file, options, postgres,
    quick_check::{self, State},
};
use crate::{
    clock::SharedClock,
    store::{
        backup::BackupError,
        disk::{Disk, Room},
        examine::skew,
    },
};

/// Whom the server works as, by what PostgreSQL lets its user see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A user that policies bind.
    Bound,
    /// One that they do not bind, and that may step down to one that they do.
    StepsDown,
    /// One that sees everything, so that the server does not start.
    Unbound,
}

/// A database that was opened to be looked at.
pub(in crate::store) struct Look {
    pub(in crate::store) db: DatabaseConnection,
    pub(in crate::store) clock: Option<(TimeDelta, TimeDelta)>,
    pub(in crate::store) room: Option<Room>,
    /// The SQLite file.
    pub(in crate::store) place: Option<Place>,
}

/// Opens it. Unset: there is no such file.
pub(in crate::store) async fn look(settings: &Settings, clock: &SharedClock) -> Result<Option<Look>, OpenError> {
    match Dialect::of(&settings.database_url)? {
        Dialect::Sqlite => sqlite(settings).await,
        Dialect::Postgres => {
            let db = postgres::connect(&Settings { hints: false, ..settings.clone() }).await?.write;
            let before = clock.now();
            let statement = Statement::from_string(db.get_database_backend(), "SELECT clock_timestamp()");
            let row = db.query_one_raw(statement).await.map_err(OpenError::Statement)?;
            let theirs = row.and_then(|row| row.try_get_by_index::<DateTime<Utc>>(0).ok());
            let clock = theirs.map(|theirs| skew(before, theirs, clock.now()));
            Ok(Some(Look { db, clock, room: None, place: None }))
        }
    }
}

async fn sqlite(settings: &Settings) -> Result<Option<Look>, OpenError> {
    let path = file(&settings.database_url);
    if !path.exists() {
        return Ok(None);
    }
    let mut options = options(&settings.database_url, 1);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.read_only(true).create_if_missing(false));
    let db = Database::connect(options).await.map_err(OpenError::Unreachable)?;
    if quick_check::look(&db, LONGEST_CHECK).await.map_err(OpenError::Statement)? == State::Damaged {
        return Err(OpenError::Damaged);
    }
    Ok(Some(Look { db, clock: None, room: room(path, settings), place: Some(Place::of(path)) }))
}

/// How much is free where the file is, or will be; unset: that cannot be asked.
fn room(path: &Path, settings: &Settings) -> Option<Room> {
    Disk::of(path, settings.reserve).room()
}

/// What keeps the rows of practices apart: whom the server works as, and which tables have no policy that binds it. Unset: SQLite.
pub(in crate::store) async fn sealing(db: &DatabaseConnection) -> Result<Option<(Binding, Vec<String>)>, DbErr> {
    match db.get_database_backend() {
        sea_orm::DbBackend::Postgres => postgres::sealing(db).await.map(Some),
        _ => Ok(None),
    }
}

/// A SQLite file to be copied, which a server may have. Unset: there is none, or it is another database.
pub(in crate::store) async fn source(settings: &Settings) -> Result<Option<DatabaseConnection>, OpenError> {
    let is_there = Dialect::of(&settings.database_url)? == Dialect::Sqlite && file(&settings.database_url).exists();
    if !is_there {
        return Ok(None);
    }
    let mut options = options(&settings.database_url, 1);
    options.map_sqlx_sqlite_opts(|sqlite| sqlite.read_only(true).create_if_missing(false));
    Database::connect(options).await.map(Some).map_err(OpenError::Unreachable)
}

/// Whether it is one file.
pub(in crate::store) fn is_sqlite(settings: &Settings) -> Result<bool, OpenError> {
    Ok(Dialect::of(&settings.database_url)? == Dialect::Sqlite)
}

/// Why there is nothing to be copied.
pub(in crate::store) fn absent(settings: &Settings) -> BackupError {
    match Dialect::of(&settings.database_url) {
        Ok(Dialect::Sqlite) => BackupError::Absent(file(&settings.database_url).to_owned()),
        _ => BackupError::NotSqlite,
    }
}

/// A copy that nobody else has yet.
pub(in crate::store) async fn copy(path: &str) -> Result<DatabaseConnection, DbErr> {
    Database::connect(options(&format!("sqlite:{path}"), 1)).await
}
