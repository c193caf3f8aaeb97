//! Rows and the domain. Every public method is one transaction (or one read) and wants a [`Scope`](crate::domain::Scope), so
//! that forgetting the practice does not compile; the few that span practices want [`Engine`]. Rows leave only as types of
//! the domain. The row is the truth: what must happen together commits together, and nothing is written first and enqueued
//! later.

mod anchors;
mod attempts;
mod audit;
mod backup;
mod broadcasts;
mod chain;
mod choices;
mod consent;
mod conversations;
mod counts;
mod deliveries;
mod devices;
mod dialect;
mod directory;
mod disk;
mod draft;
mod entity;
mod erasure;
mod error;
mod evidence;
mod examine;
mod feed;
mod forget;
mod grounds;
mod health;
mod hints;
mod idem;
mod image;
mod inbox;
mod instance;
mod keys;
mod lane;
mod ledger;
mod links;
mod notifications;
mod outcomes;
mod page;
mod parked;
mod polls;
mod preferences;
mod proof;
mod queue;
mod receipts;
mod reconcile;
mod relocate;
mod retention;
mod retry;
mod rows;
mod stand_ins;
mod stats;
mod stop;
mod subjects;
mod templates;
mod test_messages;
mod tx;
mod vault;
mod within;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use heedwell_migrations::{Migrator, MigratorTrait};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, QuerySelect, Statement};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use anchors::{Anchor, Anchored, LedgerHead, PracticeHeads};
pub use audit::{AuditPage, AuditQuery};
pub use backup::{Backup, BackupError, backup, is_there, may_be_copied};
pub use broadcasts::{
    AddressKey, AudiencePage, BroadcastPage, Created, Member, NewBroadcast, PlanTurn, Position, SharePage,
};
pub use consent::{ConsentChange, NewConsent, Recorded, Subscription};
pub use conversations::{
    ConversationPage, Correspondent, Heard, InboundText, Labels, MediaDue, MediaFetched, MessagePage, NewAttachment,
    NewMessage, NewText, Sent, Target, Uploaded,
};
pub use counts::Counts;
pub use deliveries::DeliveryPage;
pub use dialect::{Binding, OpenError, Time};
pub use directory::{PatientPage, PatientQuery};
pub use disk::{Reserve, Room};
pub use erasure::Erasure;
pub use error::StoreError;
pub use examine::{Examination, Examined, SchemaState, Sealing, examine};
pub use feed::{FeedBounds, FeedPage, OpenDeliveries};
pub use grounds::GroundsRow;
pub use health::ChannelHealth;
pub use inbox::{InboxPage, InboxPlace};
pub use instance::{Quiet, Reason, Standing};
pub use keys::KeyRecord;
pub use ledger::{ConsentPage, ConsentQuery};
pub use links::{LinkState, NewLink};
pub use notifications::{Accepted, Basis, NewDelivery, NewNotification, NotificationDetail, NotificationRecord, Over};
pub use page::Keyset;
pub use parked::Parked;
pub use polls::{Answer, Poll};
pub use proof::{Finding, Flaw, Proof};
pub use queue::{Asked, CLASSES, Claimed, Destination, Failing, Handover, Leave, Settlement, Taken, Turn, place};
pub use receipts::{Applied, MailAttempt, Receipt};
pub use reconcile::{Doubt, Rival};
pub use relocate::{RelocateError, Rows, relocate};
pub use retry::{NewRetry, Retried};
pub use stop::Cancelled;
pub use templates::{NewVersion, StoredTemplate, StoredVersion, TemplateHistory, WordingHome};
pub use test_messages::{NewTestMessage, TestAccepted};
pub use vault::ReadAnew;

use crate::{
    crypto::{KeyFile, TokenKey},
    domain::Engine,
    telemetry::Telemetry,
    wake::Wake,
};
use dialect::{Connections, Dialect};
use lane::Lanes;
use within::{OfPractice, Within};

/// Lanes of each sort: as many groups are under way at once.
const LANES: usize = 4;

/// How the store is opened.
#[derive(Clone)]
pub struct Settings {
    /// `sqlite:path` or `postgres://…` (`HEEDWELL_DATABASE_URL`).
    pub database_url: String,
    /// Whether an older schema is brought up to date. SQLite always is.
    pub migrate: bool,
    /// Regions that may be texted, such as `US` (`HEEDWELL_SMS_REGIONS`).
    pub sms_regions: Vec<String>,
    /// How long a claim holds before others may take the delivery over.
    pub lease: Duration,
    /// Connections to PostgreSQL at most, besides the two of `hints`.
    pub connections: u32,
    /// Whether replicas tell each other of changes at once. Without it they look.
    pub hints: bool,
    /// How much of the disk of a SQLite file is kept for what was accepted (`HEEDWELL_DISK_RESERVE_MIB`).
    pub reserve: Reserve,
    /// How often a data key seals before another takes its place.
    pub key_uses: i64,
    /// Where is counted what comes of transactions.
    pub telemetry: Telemetry,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings")
            .field("migrate", &self.migrate)
            .field("sms_regions", &self.sms_regions)
            .field("lease", &self.lease)
            .field("reserve", &self.reserve)
            .finish_non_exhaustive()
    }
}

/// All that is kept.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connections: Connections,
    time: Time,
    vault: vault::Vault,
    tokens: TokenKey,
    wake: Wake,
    tasks: TaskTracker,
    asks: Lanes<notifications::Ask>,
    accepts: Lanes<notifications::Accept>,
    outcomes: Lanes<outcomes::Outcome>,
    reads: Lanes<audit::Seen>,
    trails: audit::Trails,
    counters: counts::Counters,
    sms_regions: Arc<[String]>,
    wording: templates::Shelf,
    lease: Duration,
    key_uses: i64,
    telemetry: Telemetry,
    asked: Mutex<Option<Instant>>,
}

impl Store {
    /// Opens the database, brings its schema up to date where that is wanted, and makes sure that the key file belongs to
    /// it.
    ///
    /// # Errors
    /// [`OpenError`], which says what to mend.
    pub async fn open(settings: Settings, keys: KeyFile, time: Time, wake: Wake) -> Result<Self, OpenError> {
        let connections = dialect::connect(&settings, false).await?;
        // On the heap: what it passes through is not carried along by whoever opens stores.
        Box::pin(Self::over(connections, settings, keys, time, wake)).await
    }

    /// As [`Self::open`], also while a server has the SQLite file: for what an operator must be able to do then.
    ///
    /// # Errors
    /// [`OpenError`], which says what to mend.
    pub async fn open_beside(settings: Settings, keys: KeyFile, time: Time) -> Result<Self, OpenError> {
        let connections = dialect::connect(&settings, true).await?;
        Box::pin(Self::over(connections, settings, keys, time, Wake::default())).await
    }

    async fn over(
        connections: Connections,
        settings: Settings,
        keys: KeyFile,
        time: Time,
        wake: Wake,
    ) -> Result<Self, OpenError> {
        let alone = connections.place.as_ref().is_some_and(dialect::Place::is_ours);
        bring_up_to_date(&connections, (settings.migrate || alone).then_some(&settings)).await?;
        check_key(&connections, &keys, &time).await?;
        let connections = dialect::bind(connections, &settings).await?;
        // As whom everything is done from here on.
        instance::recognise(&connections, &time).await?;
        // More than one writer would only wait for each other.
        let lanes = if connections.dialect == Dialect::Sqlite { 1 } else { LANES };
        let inner = Inner {
            connections,
            tokens: keys.tokens(),
            vault: vault::Vault::new(keys, time.clone(), settings.key_uses),
            wake,
            tasks: TaskTracker::new(),
            asks: Lanes::new(LANES),
            accepts: Lanes::new(lanes),
            outcomes: Lanes::new(lanes),
            reads: Lanes::new(lanes),
            trails: audit::Trails::default(),
            counters: counts::Counters::default(),
            sms_regions: settings.sms_regions.into(),
            wording: templates::Shelf::default(),
            lease: settings.lease,
            asked: Mutex::default(),
            key_uses: settings.key_uses,
            telemetry: settings.telemetry,
            time,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits for transactions under way, then closes the connections.
    pub async fn close(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let connections = &self.inner.connections;
        // Whoever copied the file while it was open has another one than it is from now on.
        if let Err(error) = instance::renew(connections).await {
            tracing::warn!(error = %crate::telemetry::chain(&error), "the database's token stays");
        }
        if let Some(bound) = &connections.bound {
            bound.close().await;
        }
        let _ = connections.write.clone().close().await;
        let _ = connections.read.clone().close().await;
    }

    /// Hints about what changes here.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.inner.wake
    }

    /// Where is counted what comes of what is kept here.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.inner.telemetry
    }

    /// Whether the database answers and has the schema of this binary.
    ///
    /// # Errors
    /// [`StoreError`] when it does not.
    pub async fn ready(&self) -> Result<bool, StoreError> {
        let state = schema(&self.inner.connections.read).await?;
        Ok(state.missing.is_empty())
    }

    /// The time by which leases and schedules go.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be asked.
    pub async fn now(&self) -> Result<DateTime<Utc>, StoreError> {
        Ok(self.inner.connections.dialect.now(&self.inner.connections.read, &self.inner.time).await?)
    }

    /// For reads of one practice: rows of others are not there for them.
    fn within<'s>(&'s self, whose: &'s impl OfPractice) -> Within<'s> {
        Within::new(&self.inner.connections, whose.practice_id())
    }

    /// For the reads of the engine, which span practices.
    fn across(&self) -> &sea_orm::DatabaseConnection {
        &self.inner.connections.read
    }

    async fn keys(&self, practice: &crate::domain::PracticeId) -> Result<Arc<vault::PracticeKeys>, StoreError> {
        self.inner.vault.practice(&self.within(practice), practice).await
    }

    /// Whether no other process can have this database open.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.inner.connections.dialect == Dialect::Sqlite
    }

    /// Whether anybody asked within the last second to have something sent.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        let asked = *self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_some_and(|asked| asked.elapsed() < Duration::from_secs(1))
    }

    /// How many deliveries of all practices are not finished; for draining a demo and for tests.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be asked.
    pub async fn open_deliveries(&self, _: &Engine) -> Result<i64, StoreError> {
        use entity::feed_head;
        let heads = feed_head::Entity::find().select_only().columns([
            feed_head::Column::Open0,
            feed_head::Column::Open1,
            feed_head::Column::Open2,
        ]);
        let rows: Vec<(i64, i64, i64)> = heads.into_tuple().all(self.across()).await?;
        Ok(rows.into_iter().map(|(urgent, normal, bulk)| urgent + normal + bulk).sum())
    }
}

struct Schema {
    applied: usize,
    /// Whether this release may work with it though it holds changes that are unknown here.
    open_to_us: bool,
    missing: Vec<String>,
    unknown: Vec<String>,
}

/// Compares the changes that were applied with those that this binary knows. The migrator's own look-ups fail when the
/// database holds a change that the binary does not know, which is what a roll-out looks like to the old release.
async fn schema(db: &impl ConnectionTrait) -> Result<Schema, sea_orm::DbErr> {
    let query = match db.get_database_backend() {
        sea_orm::DbBackend::Sqlite => {
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'"
        }
        _ => {
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'seaql_migrations'"
        }
    };
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    let exists = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?.unwrap_or_default() > 0;
    let mut applied = Vec::new();
    if exists {
        let query = "SELECT version FROM seaql_migrations";
        for row in db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await? {
            applied.push(row.try_get_by_index::<String>(0)?);
        }
    }
    let known: Vec<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let count = applied.len();
    let missing: Vec<_> = known.iter().filter(|name| !applied.contains(name)).cloned().collect();
    let unknown = applied.into_iter().filter(|name| !known.contains(name)).collect();
    let open_to_us = match &missing[..] {
        [] => entity::schema_floor::Entity::find().one(db).await?.is_some_and(|floor| known.contains(&floor.migration)),
        _ => false,
    };
    Ok(Schema { applied: count, open_to_us, missing, unknown })
}

/// With the settings by which an older schema is changed; without them it is refused.
async fn bring_up_to_date(connections: &Connections, migrate: Option<&Settings>) -> Result<(), OpenError> {
    let db = &connections.write;
    let state = schema(db).await.map_err(OpenError::Statement)?;
    if let Some(name) = state.unknown.into_iter().next() {
        if !state.open_to_us {
            return Err(OpenError::NewerSchema(name));
        }
        tracing::info!(change = name, "the schema is of a newer release, which this one may work beside");
    }
    if state.missing.is_empty() {
        return Ok(());
    }
    let Some(settings) = migrate else { return Err(OpenError::OlderSchema) };
    match connections.dialect {
        Dialect::Sqlite => Migrator::up(db, None).await.map_err(OpenError::Migration),
        Dialect::Postgres => {
            // `up` takes no lock of its own, and two replicas may start at once.
            let lock = sea_orm::TransactionTrait::begin(db).await.map_err(OpenError::Statement)?;
            lock.execute_unprepared("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SELECT pg_advisory_xact_lock(727501)")
                .await
                .map_err(OpenError::Statement)?;
            // With time for what takes long on a database that has grown.
            let own = dialect::patient(settings).await?;
            let done = Migrator::up(&own, None).await;
            let _ = own.close().await;
            lock.commit().await.map_err(OpenError::Statement)?;
            done.map_err(OpenError::Migration)
        }
    }
}

/// The first start ties the key file to the database; later starts refuse another one, which could open nothing and would
/// look up nobody.
async fn check_key(connections: &Connections, keys: &KeyFile, time: &Time) -> Result<(), OpenError> {
    use entity::installation;
    let db = &connections.write;
    let check = keys.key_check().to_vec();
    let now = connections.dialect.now(db, time).await.map_err(OpenError::Statement)?;
    let row = installation::ActiveModel { id: Set(1), key_check: Set(check.clone()), create_time: Set(now) };
    installation::Entity::insert(row)
        .on_conflict_do_nothing_on([installation::Column::Id])
        .exec_without_returning(db)
        .await
        .map_err(OpenError::Statement)?;
    let stored = installation::Entity::find_by_id(1_i16).one(db).await.map_err(OpenError::Statement)?;
    match stored {
        Some(row) if row.key_check == check => Ok(()),
        _ => Err(OpenError::WrongKey),
    }
}
