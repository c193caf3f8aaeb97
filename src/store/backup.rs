//! A copy of a SQLite database, taken while a server writes to it. It is whole or not there, and says that it is a copy.

use std::{
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};

use super::{OpenError, Settings, Time, dialect, instance, schema};
use crate::domain::Engine;

/// Why there is no backup; nothing is left of it then.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has tools of its own.
    #[error(
        "PostgreSQL is backed up by its own tools. What pg_dump wrote is known for a copy wherever it is restored, and sends nothing \
         until `heedwell resume`. What pg_basebackup, a snapshot or point-in-time recovery brings back cannot be told from the \
         original: run `heedwell hold` on it before a server opens it"
    )]
    NotSqlite,
    /// There is no database.
    #[error("there is no database at {0}")]
    Absent(PathBuf),
    /// The database cannot be read.
    #[error("HEEDWELL_DATABASE_URL")]
    Open(#[source] OpenError),
    /// Something has that name.
    #[error("{0} is there already, and is not overwritten")]
    Exists(PathBuf),
    /// The copy cannot be written where it was asked for.
    #[error("{path} cannot be written: check that its folder exists, can be written to, and has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The copy could not be made.
    #[error("{path} could not be made: check that its disk has room")]
    Copy {
        /// The file.
        path: PathBuf,
        /// What the database said.
        #[source]
        source: DbErr,
    },
    /// The copy is not sound: neither is what it was made of.
    #[error("the copy is damaged, and so is the database: run `PRAGMA integrity_check` on it")]
    Damaged,
}

/// A backup that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its size in bytes.
    pub bytes: u64,
    /// Not later than this is what it holds.
    pub time: DateTime<Utc>,
}

/// Whether there is a database of this release, as far as that is known without opening one of PostgreSQL.
///
/// # Errors
/// [`OpenError`] when it cannot be read.
pub async fn is_there(settings: &Settings) -> Result<bool, OpenError> {
    let Some(source) = dialect::source(settings).await? else { return Ok(!dialect::is_sqlite(settings)?) };
    let state = schema(&source).await.map_err(OpenError::Statement);
    let _ = source.close().await;
    Ok(state?.missing.is_empty())
}

/// Whether the database can be copied to `target`. Changes nothing.
///
/// # Errors
/// [`BackupError`], which says what to mend.
pub async fn may_be_copied(settings: &Settings, target: &Path) -> Result<(), BackupError> {
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let source = dialect::source(settings).await.map_err(BackupError::Open)?;
    let Some(source) = source else { return Err(dialect::absent(settings)) };
    let state = schema(&source).await;
    let _ = source.close().await;
    match state {
        Ok(state) if state.missing.is_empty() => Ok(()),
        Ok(_) => Err(BackupError::Open(OpenError::OlderSchema)),
        Err(error) => Err(BackupError::Open(OpenError::Statement(error))),
    }
}

/// Copies the database to `target`, whose owner alone may read it.
///
/// # Errors
/// [`BackupError`], which says what to mend.
pub async fn backup(settings: &Settings, target: &Path, time: &Time, _: &Engine) -> Result<Backup, BackupError> {
    may_be_copied(settings, target).await?;
    let exists = || BackupError::Exists(target.to_owned());
    let wrong = |source| BackupError::Write { path: target.to_owned(), source };
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let source = dialect::source(settings).await.map_err(BackupError::Open)?;
    let Some(source) = source else { return Err(dialect::absent(settings)) };
    // Under another name until it is whole; the crate makes it for the owner alone, and removes it if this ends early.
    let file = tempfile::Builder::new().prefix(".heedwell-backup-").tempfile_in(folder).map_err(wrong)?;
    let made = fill(&source, file.path(), time).await;
    let _ = source.close().await;
    let made = made.map_err(|error| match error {
        Some(source) => BackupError::Copy { path: target.to_owned(), source },
        None => BackupError::Damaged,
    })?;
    file.as_file().sync_all().map_err(wrong)?;
    let bytes = file.as_file().metadata().map_err(wrong)?.len();
    file.persist_noclobber(target).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => wrong(error.error),
    })?;
    // Its name as well.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(wrong)?;
    Ok(Backup { bytes, time: made })
}

/// Fills an empty file. Unset as error: what it was filled with is damaged.
async fn fill(source: &DatabaseConnection, path: &Path, time: &Time) -> Result<DateTime<Utc>, Option<DbErr>> {
    let name = path.to_str().ok_or_else(|| DbErr::Custom("the name of the folder is no text".into()))?;
    dialect::copy_into(source, name).await?;
    let made = time.clock().now();
    let copy = dialect::copy(name).await?;
    let checked = async {
        instance::mark_backup(&copy, made).await?;
        let check = Statement::from_string(copy.get_database_backend(), "PRAGMA integrity_check(1)");
        copy.query_one_raw(check).await?.map(|row| row.try_get_by_index::<String>(0)).transpose()
    };
    let checked = checked.await;
    copy.close().await?;
    if checked?.as_deref() == Some("ok") { Ok(made) } else { Err(None) }
}
