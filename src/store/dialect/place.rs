//! Where a database is: what tells it from every copy of it. PostgreSQL is asked within the statements that must know. A SQLite
//! file is told by when it was born, and, since whoever puts a copy back in its place may write over the file that is there, by a
//! token that changes again and again, in the file and beside it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, Statement,
    sea_query::{Expr, ExprTrait},
};
use uuid::Uuid;

use super::{Dialect, OpenError, setting};

/// What a token is before there was one.
pub(in crate::store) const NO_TOKEN: &str = "00000000000000000000000000000000";

/// The cluster, which `initdb` makes one of its kind, the database in it, and the table in that: it is another one also where a dump
/// was restored into the database that it was made of. A standby that takes over has all three.
const IDENTITY: &str = "(SELECT system_identifier::text FROM pg_control_system()) || '/' || (SELECT oid::text FROM pg_database \
    WHERE datname = current_database()) || '/' || 'instance'::regclass::oid::text";

/// A SQLite file.
#[derive(Debug)]
pub(in crate::store) struct Place {
    database: PathBuf,
    beside: PathBuf,
    /// Held for as long as the process has the file to itself; unset: another process has.
    lock: Option<File>,
}

/// What stands beside a SQLite file: its token, and the one that it is about to get or has just had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Tokens(pub(in crate::store) [String; 2]);

impl Place {
    /// The file at `path`, which may not be there yet.
    pub(in crate::store) fn of(path: &Path) -> Self {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        Self { database: path.to_owned(), beside: beside.into(), lock: None }
    }

    /// Takes the file for this process alone.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let mut place = Self::of(path);
        let failed = |source| OpenError::Lock { path: place.beside.clone(), source };
        // Not truncated: what stands in it outlives the process.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&place.beside);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => place.lock = Some(file),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(place)
    }

    /// That it cannot be asked, or nothing put beside it.
    pub(in crate::store) fn fault(&self, source: io::Error) -> OpenError {
        OpenError::Place { path: self.database.clone(), source }
    }

    /// Whether no other process has the file.
    pub(in crate::store) const fn is_ours(&self) -> bool {
        self.lock.is_some()
    }

    /// Its number on its disk, and when it was born, as far as the file system tells.
    pub(in crate::store) fn identity(&self) -> io::Result<String> {
        let file = fs::metadata(&self.database)?;
        let born = file.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or_else(|| "-".to_owned(), |born| format!("{}.{:09}", born.as_secs(), born.subsec_nanos()));
        Ok(format!("{}/{born}", file.ino()))
    }

    /// What stands beside it; unset: nothing that means anything.
    pub(in crate::store) fn tokens(&self) -> Option<Tokens> {
        let text = fs::read_to_string(&self.beside).ok()?;
        let mut lines = text.lines().filter(|line| Uuid::try_parse(line).is_ok()).map(str::to_owned);
        Some(Tokens([lines.next()?, lines.next()?]))
    }

    /// Puts tokens beside it, in place and in one piece. `lasting`: a power failure does not take that back.
    pub(in crate::store) fn put(&self, tokens: &Tokens, lasting: bool) -> io::Result<()> {
        let Some(lock) = &self.lock else { return Err(ErrorKind::PermissionDenied.into()) };
        let Tokens([one, other]) = tokens;
        lock.write_all_at(format!("{one}\n{other}\n").as_bytes(), 0)?;
        if lasting { lock.sync_data() } else { Ok(()) }
    }
}

/// Whether both tell of one file. When it was born decides: some file systems number files anew with each mount. Where one of them
/// does not know that, the number does.
pub(in crate::store) fn is_same(one: &str, other: &str) -> bool {
    let (Some((number, born)), Some((other_number, other_born))) = (one.split_once('/'), other.split_once('/')) else {
        return one == other;
    };
    if born == "-" || other_born == "-" { number == other_number } else { born == other_born }
}

impl Dialect {
    /// That `column` is the identity of the database that the statement runs in; unset: no statement can tell.
    pub(in crate::store) fn is_here(self, column: Expr) -> Option<Expr> {
        self.identity_expr().map(|identity| column.eq(identity))
    }

    /// The identity of the database that the statement runs in; unset: no statement can tell.
    pub(in crate::store) fn identity_expr(self) -> Option<Expr> {
        (self == Self::Postgres).then(|| Expr::cust(IDENTITY))
    }
}

/// What tells a database from every copy of it.
pub(in crate::store) async fn identity(db: &DatabaseConnection, place: Option<&Place>) -> Result<String, OpenError> {
    if let Some(place) = place {
        return place.identity().map_err(|source| place.fault(source));
    }
    let may = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')::text";
    if setting(db, may).await? != "true" {
        return Err(OpenError::Nameless);
    }
    setting(db, &format!("SELECT {IDENTITY}")).await
}

/// The same of the database that a transaction is in; unset: no statement can tell.
pub(in crate::store) async fn identity_on(
    db: &impl ConnectionTrait,
    dialect: Dialect,
) -> Result<Option<String>, DbErr> {
    if dialect == Dialect::Sqlite {
        return Ok(None);
    }
    let statement = Statement::from_string(db.get_database_backend(), format!("SELECT {IDENTITY}"));
    db.query_one_raw(statement).await?.map(|row| row.try_get_by_index(0)).transpose()
}

/// Copies a SQLite database into an empty file, as of one moment. Its writers go on meanwhile: it reads as of a snapshot, and only
/// what they write stays in the write-ahead log until it is done. SQLite's backup API would begin again with each of their commits.
pub(in crate::store) async fn copy_into(db: &DatabaseConnection, path: &str) -> Result<(), DbErr> {
    let statement = Statement::from_sql_and_values(db.get_database_backend(), "VACUUM INTO ?", [path.into()]);
    db.execute_raw(statement).await.map(drop)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_file_is_the_same_where_it_was_born_at_the_same_time() {
        let check = |one, other, same| assert_eq!(is_same(one, other), same, "{one} {other}");
        check("7/1.5", "7/1.5", true);
        check("7/1.5", "8/1.5", true);
        check("7/1.5", "7/1.6", false);
        check("7/-", "7/1.5", true);
        check("7/-", "7/-", true);
        check("7/-", "8/1.5", false);
        check("", "7/1.5", false);
    }

    #[test]
    fn tokens_stand_beside_the_file_of_whoever_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        File::create(&path).unwrap();
        let place = Place::take(&path).unwrap();
        assert_eq!(place.tokens(), None);
        let tokens = Tokens([NO_TOKEN.to_owned(), Uuid::new_v4().simple().to_string()]);
        place.put(&tokens, true).unwrap();
        assert_eq!(Place::of(&path).tokens().as_ref(), Some(&tokens));
        assert!(Place::of(&path).put(&tokens, false).is_err(), "only whoever has the file");
        assert!(matches!(Place::take(&path), Err(OpenError::Locked(_))));
        // A restart finds what it left.
        drop(place);
        assert_eq!(Place::take(&path).unwrap().tokens(), Some(tokens));

        let moved = folder.path().join("b.db");
        let born = Place::of(&path).identity().unwrap();
        fs::rename(&path, &moved).unwrap();
        assert!(is_same(&born, &Place::of(&moved).identity().unwrap()), "moved, it is the same");
        fs::copy(&moved, &path).unwrap();
        assert!(!is_same(&born, &Place::of(&path).identity().unwrap()), "a copy is not");
    }
}
