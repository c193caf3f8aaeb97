//! Finished deliveries by the million, made by the database itself as copies of one that the product finished. Each table is filled
//! without its indexes, which are sorted together afterwards. A power failure in between would leave nothing of use, so that nobody
//! waits for the disk until the end.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use sqlx::{
    AssertSqlSafe, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::{task::JoinSet, time::Instant};

use super::copies::{
    ACCEPT, Database,
    Key::{self, Delivery, Notification, Patient, Practice, ProviderRef, Reference, RequestId, Seq, Token},
    Table, model_of,
};
use crate::product::PRACTICES;

/// What sending adds.
const ATTEMPT: Table = (
    "attempt",
    &[("delivery_id", Delivery), ("token", Token), ("provider_ref", ProviderRef), ("practice_id", Practice)],
);
/// What a patient has who was written to.
const GATE: Table = ("recipient_gate", &[("subject", Token), ("practice_id", Practice)]);
/// So many patients in each practice, if there are as many deliveries.
const PATIENTS: usize = 25_000;
/// Changes are kept for so many days, and statistics read so many.
const HISTORY: [usize; 2] = [7, 92];
/// What nothing that is compared reads: what was said, and how it went step by step.
const BULKY: [&str; 2] = ["content", "delivery_event"];
/// Deliveries of one statement.
const PAGE: usize = 1_000_000;
/// Tables that PostgreSQL fills at once.
const WIDTH: usize = 2;

/// What so many deliveries take.
#[derive(Debug)]
pub(crate) struct Stored {
    deliveries: usize,
    bytes: u64,
    /// Rows, and those with their indexes, of each table, where the database tells.
    tables: Vec<(&'static str, u64, u64)>,
}

/// Adds so many deliveries to those that the product finished. `lean`: as small as they can be without any index being smaller. Texts
/// and timelines are left out, which nothing that is compared reads, as are changes that would have been forgotten; decisions are cut
/// off, and rows that nobody will update leave no room for that.
pub(crate) async fn fill(url: &str, count: usize, lean: bool) -> Stored {
    let mut bulk = Bulk::open(url).await;
    let before = bulk.0.bytes().await;
    let finished = "SELECT id FROM delivery WHERE phase = 3 ORDER BY id LIMIT 1";
    let (id, model) = bulk.0.delivery(finished.into()).await;
    bulk.0.close().await;
    // Ids go by time, as the product's do, and end where its own begin.
    let source = Arc::new(Source { model, base: (id.as_u128() >> 80) - count as u128 / 10, count, lean });
    let tables = ACCEPT.into_iter().chain([ATTEMPT, GATE]).filter(|(name, _)| !lean || !BULKY.contains(name));
    let mut tables: Vec<Table> = tables.collect();
    // The one with the most indexes first: nobody waits for it in the end.
    tables.sort_by_key(|(name, _)| *name != "delivery");
    let left = Arc::new(Mutex::new(VecDeque::from(tables)));
    let mut workers = JoinSet::new();
    // SQLite has room for one writer.
    for _ in 0..if url.starts_with("sqlite") { 1 } else { WIDTH } {
        let (left, source, url) = (Arc::clone(&left), Arc::clone(&source), url.to_owned());
        workers.spawn(async move {
            let mut bulk = Bulk::open(&url).await;
            let next = || left.lock().unwrap().pop_front();
            while let Some(table) = next() {
                bulk.fill(table, &source).await;
            }
            bulk.0.close().await;
        });
    }
    workers.join_all().await;
    let mut database = Database::open(url).await;
    count_up(&mut database).await;
    database.settle(url).await;
    let bytes = database.bytes().await.saturating_sub(before);
    let mut tables = Vec::new();
    for (table, _) in ACCEPT.into_iter().chain([ATTEMPT]) {
        tables.extend(database.table(table).await);
    }
    Stored { deliveries: count, bytes, tables }
}

/// What is copied, and how often.
struct Source {
    /// The delivery, as SQL.
    model: String,
    /// Where the ids begin.
    base: u128,
    count: usize,
    lean: bool,
}

impl Source {
    /// Of which deliveries a table has rows.
    fn range(&self, table: &str) -> Range<usize> {
        let [kept, all] = HISTORY;
        match table {
            "feed" if self.lean => self.count - self.count * kept / all..self.count,
            "recipient_gate" => 0..self.count.min(PATIENTS * PRACTICES),
            _ => 0..self.count,
        }
    }
}

/// A connection that is in a hurry.
struct Bulk(Database);

impl Bulk {
    async fn open(url: &str) -> Self {
        if url.starts_with("postgres") {
            let mut database = Database::open(url).await;
            database.run("SET maintenance_work_mem = '1GB'; SET statement_timeout = 0".into()).await;
            return Self(database);
        }
        let options: SqliteConnectOptions = url.parse().unwrap();
        let options = options
            .journal_mode(SqliteJournalMode::Off)
            .synchronous(SqliteSynchronous::Off)
            // Half a GiB, for sorting as well.
            .pragma("cache_size", "-524288")
            .pragma("threads", "2");
        Self(Database::Sqlite(SqliteConnection::connect_with(&options).await.unwrap()))
    }

    async fn fill(&mut self, table: Table, source: &Source) {
        let (start, name, range) = (Instant::now(), table.0, source.range(table.0));
        let indexes = self.indexes(name).await;
        for Index { drop, .. } in &indexes {
            self.0.run(drop.clone()).await;
        }
        // Of a table of its own: what SQLite reads from the table that it writes to, it copies first.
        let model = format!("CREATE TEMP TABLE model_{name} AS SELECT * FROM {name} {}", model_of(name, &source.model));
        self.0.run(model).await;
        let is_postgres = matches!(self.0, Database::Postgres(_));
        let packed = source.lean && name == "delivery";
        let set = |room, itself| {
            let room = if packed { format!(", fillfactor = {room}") } else { String::new() };
            format!("ALTER TABLE {name} SET (autovacuum_enabled = {itself}{room})")
        };
        if is_postgres {
            self.0.run(set(100, false)).await;
        }
        if source.lean && name == "notification" {
            let cut = "UPDATE model_notification SET decisions_ct = substr(decisions_ct, 1, 16)";
            self.0.run(cut.into()).await;
        }
        for begin in range.clone().step_by(PAGE) {
            let from = self.keys(begin..range.end.min(begin + PAGE), source.base);
            let copy = self.0.copy(table, of_row, &from, &format!("model_{name}")).await;
            self.0.run(copy).await;
        }
        for Index { make, .. } in indexes {
            self.0.run(make).await;
        }
        if is_postgres {
            // Else it would do so by itself while something is measured.
            self.0.run(format!("VACUUM (ANALYZE) {name}")).await;
            // As the schema has it.
            self.0.run(set(70, true)).await;
        }
        println!("    {name}: {:.0} s", start.elapsed().as_secs_f64());
    }

    /// The indexes of a table that need not be there while it is filled.
    async fn indexes(&mut self, table: &str) -> Vec<Index> {
        const POSTGRES: &str = "SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %I', i.relname) \
                ELSE format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, c.conname) END, \
            CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.oid) \
                ELSE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) END \
            FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid \
            LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype IN ('p', 'u') \
            WHERE t.relname = $1 AND t.relnamespace = 'public'::regnamespace";
        const SQLITE: &str = "SELECT 'DROP INDEX ' || name, sql FROM sqlite_master \
            WHERE type = 'index' AND tbl_name = $1 AND sql IS NOT NULL";
        match &mut self.0 {
            Database::Postgres(db) => {
                let rows = sqlx::query(POSTGRES).bind(table).fetch_all(db).await.unwrap();
                rows.iter().map(|row| Index { drop: row.get(0), make: row.get(1) }).collect()
            }
            Database::Sqlite(db) => {
                let rows = sqlx::query(SQLITE).bind(table).fetch_all(db).await.unwrap();
                rows.iter().map(|row| Index { drop: row.get(0), make: row.get(1) }).collect()
            }
        }
    }

    /// The keys of a range of deliveries.
    fn keys(&self, range: Range<usize>, base: u128) -> String {
        let (first, last) = (range.start, range.end - 1);
        let patient = format!("'patient-' || (o / {PRACTICES} % {PATIENTS})");
        match self.0 {
            Database::Postgres(_) => {
                let id = |odd| {
                    format!(
                        "(lpad(to_hex({base} + o / 10), 12, '0') || '70008' || lpad(to_hex(o * 2 + {odd}), 15, '0'))::uuid"
                    )
                };
                format!(
                    "(SELECT {} n, {} d, lpad(o::text, 12, '0') r, 'visit-' || o f, o / {PRACTICES} + 100 s, \
                     'practice-' || o % {PRACTICES} p, {patient} h, decode(lpad(to_hex(o), 32, '0'), 'hex') k, \
                     'SM' || lpad(to_hex(o), 32, '0') x FROM generate_series({first}::bigint, {last}) o) u",
                    id(0),
                    id(1)
                )
            }
            Database::Sqlite(_) => {
                let id = |odd| format!("unhex(printf('%012x70008%015x', {base} + o / 10, o * 2 + {odd}))");
                format!(
                    "(WITH RECURSIVE s(o) AS (VALUES({first}) UNION ALL SELECT o + 1 FROM s WHERE o < {last}) \
                     SELECT {} n, {} d, printf('%012d', o) r, 'visit-' || o f, o / {PRACTICES} + 100 s, \
                     'practice-' || (o % {PRACTICES}) p, {patient} h, unhex(printf('%032x', o)) k, \
                     printf('SM%032x', o) x FROM s) u",
                    id(0),
                    id(1)
                )
            }
        }
    }
}

/// An index, by the statements that take it away and make it.
struct Index {
    drop: String,
    make: String,
}

/// Brings the heads of the feeds to where they would be, and the statistics up to date.
async fn count_up(database: &mut Database) {
    let heads = "UPDATE feed_head SET seq = (SELECT max(seq) FROM feed WHERE practice_id = feed_head.practice_id)";
    // What they are counted as, hour by hour of three months: as much as statistics ever read.
    let hours = match database {
        Database::Postgres(_) => "generate_series(0, 2207) h(n)",
        Database::Sqlite(_) => {
            "(WITH RECURSIVE s(n) AS (VALUES(0) UNION ALL SELECT n + 1 FROM s WHERE n < 2207) SELECT n FROM s) h"
        }
    };
    for statement in [
        heads.to_owned(),
        "DELETE FROM delivery_count".to_owned(),
        format!(
            "INSERT INTO delivery_count (practice_id, hour, kind, channel, state, failure_reason, count) \
             SELECT f.practice_id, {} / 3600 - h.n, k.n, c.n, 4, 0, 3 FROM feed_head f, {hours}, \
             (SELECT 1 n UNION SELECT 4 UNION SELECT 7 UNION SELECT 9) k, \
             (SELECT 1 n UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) c WHERE f.practice_id = 'practice-0'",
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
        ),
        "DELETE FROM delivery_count_head".to_owned(),
        "INSERT INTO delivery_count_head (practice_id, counted) SELECT practice_id, seq FROM feed_head".to_owned(),
    ] {
        database.run(statement).await;
    }
}

impl Stored {
    /// Says what each of them takes.
    pub(crate) fn print(&self) {
        let Self { deliveries, bytes, tables } = self;
        let each = |bytes: u64| bytes / (*deliveries).max(1) as u64;
        let tables: Vec<_> =
            tables.iter().map(|(name, rows, all)| format!("{name} {} + {}", each(*rows), each(all - rows))).collect();
        println!(
            "  {deliveries} finished deliveries take {:.1} GB, {} bytes each{}{}",
            *bytes as f64 / 1e9,
            each(*bytes),
            if tables.is_empty() { "" } else { ", as rows and in indexes: " },
            tables.join(", ")
        );
    }
}

impl Database {
    async fn close(self) {
        match self {
            Self::Postgres(db) => db.close().await.unwrap(),
            Self::Sqlite(db) => db.close().await.unwrap(),
        }
    }

    /// Has all that was written be on the disk.
    pub(super) async fn settle(&mut self, url: &str) {
        match self {
            Self::Postgres(_) => self.run("CHECKPOINT".into()).await,
            Self::Sqlite(_) => {
                // Whoever reads or writes just then keeps it from being done as a whole.
                while self.number("PRAGMA wal_checkpoint(TRUNCATE)".into()).await > 0 {}
                std::fs::File::open(url.trim_start_matches("sqlite:")).unwrap().sync_all().unwrap();
            }
        }
    }

    async fn number(&mut self, query: String) -> u64 {
        let query = AssertSqlSafe(query);
        let number: i64 = match self {
            Self::Postgres(db) => sqlx::query_scalar(query).fetch_one(db).await.unwrap(),
            Self::Sqlite(db) => sqlx::query_scalar(query).fetch_one(db).await.unwrap(),
        };
        number.cast_unsigned()
    }

    /// How large it is.
    async fn bytes(&mut self) -> u64 {
        let query = match self {
            Self::Postgres(_) => "SELECT pg_database_size(current_database())",
            Self::Sqlite(_) => "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
        };
        self.number(query.into()).await
    }

    /// How large the rows of a table are, and all of it. SQLite would have to read everything to tell.
    async fn table(&mut self, name: &'static str) -> Option<(&'static str, u64, u64)> {
        if let Self::Sqlite(_) = self {
            return None;
        }
        let rows = self.number(format!("SELECT pg_table_size('{name}')")).await;
        Some((name, rows, self.number(format!("SELECT pg_total_relation_size('{name}')")).await))
    }
}

const fn of_row(key: Key) -> &'static str {
    match key {
        Notification => "u.n",
        Delivery => "u.d",
        RequestId => "u.r",
        Reference => "u.f",
        Seq => "u.s",
        Practice => "u.p",
        Patient => "u.h",
        Token => "u.k",
        ProviderRef => "u.x",
    }
}
