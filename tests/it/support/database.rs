//! A store of a test's own, on either database, with a clock that only the test moves.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use heedwell::{
    clock::{Clock, ManualClock},
    crypto::KeyFile,
    domain::{Call, Engine, PracticeId, Scope},
    store::{OpenError, Reserve, Settings, Store, Time},
    wake::Wake,
};
use heedwell_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{invariants, postgres};

/// Which database a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A SQLite file with a schema and no rows, to be copied: to make one, change by change, takes longer than most tests.
static SCHEMA: OnceCell<Vec<u8>> = OnceCell::const_new();

async fn schema() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("heedwell.db");
    let db = Database::connect(format!("sqlite:{}?mode=rwc", path.display())).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    db.close().await.unwrap();
    fs::read(path).unwrap()
}

/// Where a store lives: a database without rows, and a key file.
pub(crate) struct Home {
    pub(crate) backend: Backend,
    pub(crate) url: String,
    folder: TempDir,
    database: Option<postgres::Database>,
}

impl Home {
    /// One whose database may have a schema already. Unset when there is no PostgreSQL on this machine, which has been
    /// said aloud then.
    pub(crate) async fn new(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => {
                let home = Self::with(None);
                fs::write(home.path("heedwell.db"), SCHEMA.get_or_init(schema).await).unwrap();
                Some(home)
            }
            Backend::Postgres => Some(Self::with(Some(postgres::Database::take().await?))),
        }
    }

    /// One whose database has nothing at all.
    pub(crate) async fn bare(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => Some(Self::with(None)),
            Backend::Postgres => Some(Self::with(Some(postgres::Database::create().await?))),
        }
    }

    /// One on a server of PostgreSQL that a test has for itself.
    pub(crate) fn on(server: &postgres::Logging) -> Self {
        Self { backend: Backend::Postgres, url: server.url.clone(), ..Self::with(None) }
    }

    fn with(database: Option<postgres::Database>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        KeyFile::create(&folder.path().join("keys")).unwrap();
        let (backend, url) = match &database {
            None => (Backend::Sqlite, format!("sqlite:{}", folder.path().join("heedwell.db").display())),
            Some(database) => (Backend::Postgres, database.url.clone()),
        };
        Self { backend, url, folder, database }
    }

    /// A file beside the key file.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            database_url: self.url.clone(),
            migrate: true,
            sms_regions: vec!["US".into()],
            lease: Duration::from_secs(60),
            connections: 16,
            hints: true,
            // However full the disk is that the tests happen to run on.
            reserve: Reserve { percent: 0, ..Reserve::default() },
            key_uses: heedwell::crypto::DATA_KEY_USES,
            telemetry: heedwell::telemetry::Telemetry::default(),
        }
    }

    pub(crate) fn keys(&self) -> KeyFile {
        KeyFile::load(&self.path("keys")).unwrap()
    }

    /// Opens a store here.
    pub(crate) async fn open(&self, time: Time) -> Result<Store, OpenError> {
        Store::open(self.settings(), self.keys(), time, Wake::default()).await
    }

    /// A connection past the store, to look at rows or to damage them.
    pub(crate) async fn raw(&self) -> DatabaseConnection {
        let url = match self.backend {
            Backend::Sqlite => format!("{}?mode=rwc", self.url),
            Backend::Postgres => postgres::unbound(&self.url),
        };
        let mut options = sea_orm::ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        Database::connect(options).await.unwrap()
    }

    /// Call it when all went well: the database serves another test.
    pub(crate) async fn leave(self) {
        if let Some(database) = self.database {
            database.give_back().await;
        }
    }
}

/// An open store.
pub(crate) struct TestStore {
    pub(crate) home: Home,
    pub(crate) store: Store,
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) raw: DatabaseConnection,
}

impl TestStore {
    pub(crate) async fn open(backend: Backend) -> Option<Self> {
        Some(Self::at(Home::new(backend).await?).await)
    }

    pub(crate) async fn at(home: Home) -> Self {
        let start = DateTime::parse_from_rfc3339("2026-03-02T15:00:00.123456Z").unwrap();
        let clock = Arc::new(ManualClock::new(start.to_utc()));
        let store = home.open(Time::Injected(clock.clone())).await.unwrap();
        let raw = home.raw().await;
        Self { home, store, engine: Engine::new(), clock, raw }
    }

    /// The same after a restart of the process.
    pub(crate) async fn reopened(self) -> Self {
        let Self { home, store, engine, clock, raw } = self;
        store.close().await;
        drop(store);
        let store = home.open(Time::Injected(clock.clone())).await.unwrap();
        Self { home, store, engine, clock, raw }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// The key to a practice's rows, for somebody on its staff.
    pub(crate) fn scope(&self, practice: &str) -> Scope {
        let author = heedwell::domain::Author {
            kind: heedwell::domain::ActorType::Staff,
            id: "front-desk".into(),
            display_name: "Robin".into(),
        };
        // As if somebody called, so that the audit trail is written wherever it is in production.
        let call =
            Call { action: "test".into(), trace_id: "trace".into(), source_address: "192.0.2.1".into(), trace: None };
        self.engine.scope(practice.parse().unwrap(), author).during(call)
    }

    /// Runs a statement past the store.
    pub(crate) async fn execute(&self, statement: &str) {
        let backend = self.raw.get_database_backend();
        self.raw.execute_raw(Statement::from_string(backend, statement)).await.unwrap();
    }

    /// The rows of a query past the store.
    pub(crate) async fn rows(&self, query: &str) -> Vec<sea_orm::QueryResult> {
        self.raw.query_all_raw(Statement::from_string(self.raw.get_database_backend(), query)).await.unwrap()
    }

    /// The one number that a query yields.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        self.rows(query).await[0].try_get_by_index(0).unwrap()
    }

    /// Waits until a statement of this database waits for a lock. SQLite has one writer and shows no queue.
    pub(crate) async fn somebody_waits(&self) {
        if self.home.backend == Backend::Sqlite {
            return;
        }
        let other = self.home.raw().await;
        let query =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            loop {
                tick.tick().await;
                let statement = Statement::from_string(other.get_database_backend(), query);
                let row = other.query_one_raw(statement).await.unwrap();
                if row.unwrap().try_get_by_index::<i64>(0).unwrap() > 0 {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    pub(crate) async fn practices(&self) -> Vec<PracticeId> {
        let rows = self.rows("SELECT practice_id FROM practice ORDER BY practice_id").await;
        rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap().parse().unwrap()).collect()
    }
}

/// Runs a test on a store of its own, then checks what holds after every test.
pub(crate) async fn run(backend: Backend, test: impl AsyncFnOnce(&TestStore)) {
    let Some(t) = TestStore::open(backend).await else { return };
    test(&t).await;
    invariants::check(&t).await;
    t.raw.close().await.unwrap();
    t.store.close().await;
    t.home.leave().await;
}
