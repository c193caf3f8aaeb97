//! The rows of a notification, written as fast as the database takes them: copies of one that the product wrote, with new
//! keys, a statement a table. Nothing is sent to the database but the keys, which is less than anybody could do with.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use crate::{database::unbound, product::practice};

/// What differs from copy to copy.
#[derive(Clone, Copy)]
pub(super) enum Key {
    Notification,
    Delivery,
    RequestId,
    Seq,
    Practice,
    /// Differs only in what is finished.
    Patient,
    /// As well.
    Reference,
    Token,
    ProviderRef,
}

use Key::{Delivery, Notification, Patient, Practice, ProviderRef, Reference, RequestId, Seq, Token};

pub(super) type Table = (&'static str, &'static [(&'static str, Key)]);

/// What an accept writes, and which of its columns are keys.
pub(super) const ACCEPT: [Table; 6] = [
    ("idem", &[("request_id", RequestId), ("resource_id", Notification), ("practice_id", Practice)]),
    (
        "notification",
        &[
            ("id", Notification),
            ("request_id", RequestId),
            ("practice_id", Practice),
            ("patient_id", Patient),
            ("reference", Reference),
        ],
    ),
    (
        "delivery",
        &[
            ("id", Delivery),
            ("source_id", Notification),
            ("practice_id", Practice),
            ("patient_id", Patient),
            ("reference", Reference),
            ("provider_ref", ProviderRef),
        ],
    ),
    ("content", &[("delivery_id", Delivery), ("practice_id", Practice)]),
    ("delivery_event", &[("delivery_id", Delivery), ("practice_id", Practice)]),
    ("feed", &[("entity_id", Delivery), ("seq", Seq), ("practice_id", Practice)]),
];
const HEAD: &str = "UPDATE feed_head SET seq = seq + $1, open1 = open1 + $1 WHERE practice_id = $2 RETURNING seq - $1";

/// A connection with every safeguard on.
pub(super) enum Database {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Database {
    pub(super) async fn open(url: &str) -> Self {
        if url.starts_with("postgres") {
            let mut connection = PgConnection::connect(&unbound(url)).await.unwrap();
            for setting in ["SHOW fsync", "SHOW synchronous_commit"] {
                let value: String = sqlx::query_scalar(setting).fetch_one(&mut connection).await.unwrap();
                assert_eq!(value, "on", "{setting}");
            }
            return Self::Postgres(connection);
        }
        let options: SqliteConnectOptions = url.parse().unwrap();
        let options = options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        Self::Sqlite(SqliteConnection::connect_with(&options).await.unwrap())
    }

    pub(super) async fn run(&mut self, statement: String) {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement));
        match self {
            Self::Postgres(db) => drop(statement.execute(db).await.unwrap()),
            Self::Sqlite(db) => drop(statement.execute(db).await.unwrap()),
        }
    }

    /// The delivery that `query` finds, and its id as SQL.
    pub(super) async fn delivery(&mut self, query: String) -> (Uuid, String) {
        let query = AssertSqlSafe(query);
        match self {
            Self::Postgres(db) => {
                let id: Uuid = sqlx::query_scalar(query).fetch_one(db).await.unwrap();
                (id, format!("'{id}'::uuid"))
            }
            Self::Sqlite(db) => {
                let id: Uuid = sqlx::query_scalar(query).fetch_one(db).await.unwrap();
                (id, format!("x'{}'", hex(id)))
            }
        }
    }

    /// The statement that copies each row of `source` to `table`, with new keys, once for each row of `from`.
    pub(super) async fn copy(
        &mut self,
        (table, keys): Table,
        value: impl Fn(Key) -> &'static str,
        from: &str,
        source: &str,
    ) -> String {
        let keys: Vec<_> = keys.iter().map(|(name, key)| (*name, value(*key))).collect();
        self.copying(table, &keys, from, source).await
    }

    async fn copying(&mut self, table: &str, changed: &[(&str, &str)], from: &str, source: &str) -> String {
        let columns = self.columns(table).await;
        let values = columns.iter().map(|column| match changed.iter().find(|(name, _)| name == column) {
            Some((_, value)) => (*value).to_owned(),
            None => format!("t.{column}"),
        });
        let (values, columns) = (values.collect::<Vec<_>>().join(", "), columns.join(", "));
        format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {from} CROSS JOIN {source} t")
    }

    /// Copies the row of `table` that `model` names once for each row of `from`, but for what is `changed`.
    pub(super) async fn copy_but(&mut self, table: &str, changed: &[(&str, &str)], from: &str, model: &str) {
        let copy = self.copying(table, changed, from, &source(table, model)).await;
        self.run(copy).await;
    }

    /// The numbers from 1 on, so many, each with an id that goes by it, of a time before all others; `kind` is below 10.
    pub(super) fn numbers(&self, kind: u8, count: usize) -> String {
        match self {
            Self::Postgres(_) => format!(
                "(SELECT n, ('00000000000{kind}70008000' || lpad(to_hex(n), 12, '0'))::uuid id \
                 FROM generate_series(1, {count}) n) u"
            ),
            Self::Sqlite(_) => format!(
                "(WITH RECURSIVE s(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM s WHERE n < {count}) \
                 SELECT n, unhex(printf('00000000000{kind}70008000%012x', n)) id FROM s) u"
            ),
        }
    }

    /// Brings the statistics up to date, and what was written to its place.
    pub(super) async fn tidy(&mut self) {
        let tidy: &[&str] = match self {
            Self::Postgres(_) => &["VACUUM ANALYZE", "CHECKPOINT"],
            Self::Sqlite(_) => &["PRAGMA wal_checkpoint(TRUNCATE)"],
        };
        for statement in tidy {
            self.run((*statement).to_owned()).await;
        }
    }

    pub(super) async fn columns(&mut self, table: &str) -> Vec<String> {
        const POSTGRES: &str = "SELECT column_name::text FROM information_schema.columns \
            WHERE table_schema = 'public' AND table_name = $1 ORDER BY ordinal_position";
        const SQLITE: &str = "SELECT name FROM pragma_table_info($1)";
        match self {
            Self::Postgres(db) => {
                let rows = sqlx::query(POSTGRES).bind(table).fetch_all(db).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
            Self::Sqlite(db) => {
                let rows = sqlx::query(SQLITE).bind(table).fetch_all(db).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }
}

fn source(table: &str, model: &str) -> String {
    format!("(SELECT * FROM {table} {model})")
}

/// Which row of a table is copied, with all that belongs to `delivery`.
pub(super) fn model_of(table: &str, delivery: &str) -> String {
    match table {
        "delivery" => format!("WHERE id = {delivery}"),
        "delivery_event" | "attempt" | "content" => format!("WHERE delivery_id = {delivery}"),
        "feed" => format!("WHERE entity_id = {delivery} ORDER BY seq DESC LIMIT 1"),
        _ => "LIMIT 1".into(),
    }
}

/// Accepts for one practice.
pub(super) struct Writer {
    database: Database,
    practice: String,
    /// The delivery that is copied, as SQL; it is not claimed, since its copies would be sent already.
    model: String,
    statements: Vec<String>,
}

impl Writer {
    pub(super) async fn open(url: &str, number: usize) -> Self {
        let mut database = Database::open(url).await;
        let (value, from): (fn(Key) -> &'static str, _) = match database {
            Database::Postgres(_) => (of_arrays, "unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY u(n, d, o)"),
            Database::Sqlite(_) => (of_json, "json_each($1) u"),
        };
        let practice = practice(number);
        let first = format!("SELECT id FROM delivery WHERE practice_id = '{practice}' ORDER BY id LIMIT 1");
        let (_, model) = database.delivery(first).await;
        let mut statements = Vec::new();
        for table in ACCEPT {
            let model = source(table.0, &model_of(table.0, &model));
            statements.push(database.copy(table, value, from, &model).await);
        }
        Self { database, practice, model, statements }
    }

    /// Commits the rows of so many notifications.
    pub(super) async fn commit(&mut self, count: usize) {
        let ids = || std::iter::repeat_with(Uuid::now_v7).take(count).collect::<Vec<_>>();
        let (notifications, deliveries) = (ids(), ids());
        let count = i64::try_from(count).unwrap();
        let (feed, others) = self.statements.split_last().unwrap();
        match &mut self.database {
            Database::Postgres(db) => {
                let insert = |statement: &String, seq: i64| {
                    sqlx::query(AssertSqlSafe(statement.clone()))
                        .bind(notifications.clone())
                        .bind(deliveries.clone())
                        .bind(seq)
                        .bind(self.practice.clone())
                };
                let mut tx = db.begin().await.unwrap();
                for statement in others {
                    insert(statement, 0).execute(&mut *tx).await.unwrap();
                }
                let head = sqlx::query_scalar(HEAD).bind(count).bind(&self.practice);
                let seq = head.fetch_one(&mut *tx).await.unwrap();
                insert(feed, seq).execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }
            Database::Sqlite(db) => {
                let pairs = notifications.iter().zip(&deliveries).map(|(n, d)| [hex(*n), hex(*d)]);
                let keys = serde_json::to_string(&pairs.collect::<Vec<_>>()).unwrap();
                let insert = |statement: &String, seq: i64| {
                    let insert = sqlx::query(AssertSqlSafe(statement.clone()));
                    insert.bind(keys.clone()).bind(0).bind(seq).bind(self.practice.clone())
                };
                let mut tx = db.begin_with("BEGIN IMMEDIATE").await.unwrap();
                for statement in others {
                    insert(statement, 0).execute(&mut *tx).await.unwrap();
                }
                let head = sqlx::query_scalar(HEAD).bind(count).bind(&self.practice);
                let seq = head.fetch_one(&mut *tx).await.unwrap();
                insert(feed, seq).execute(&mut *tx).await.unwrap();
                tx.commit().await.unwrap();
            }
        }
    }

    /// Takes up to so many that wait.
    pub(super) async fn claim(&mut self, count: usize) -> Vec<Uuid> {
        let count = i64::try_from(count).unwrap();
        let model = self.model.clone();
        let claim = |lock| {
            AssertSqlSafe(format!(
                "UPDATE delivery SET phase = 1, epoch = epoch + 1 WHERE id IN (SELECT id FROM delivery \
                 WHERE practice_id = $1 AND phase = 0 AND class = 1 AND id <> {model} ORDER BY \
                 CASE WHEN parked_until > not_before THEN parked_until ELSE not_before END LIMIT $2{lock}) RETURNING id"
            ))
        };
        match &mut self.database {
            Database::Postgres(db) => {
                let claim = sqlx::query_scalar(claim(" FOR UPDATE SKIP LOCKED")).bind(&self.practice).bind(count);
                claim.fetch_all(db).await.unwrap()
            }
            Database::Sqlite(db) => {
                let claim = sqlx::query_scalar(claim("")).bind(&self.practice).bind(count);
                claim.fetch_all(db).await.unwrap()
            }
        }
    }

    /// Marks these as sent.
    pub(super) async fn settle(&mut self, sent: &[Uuid]) {
        match &mut self.database {
            Database::Postgres(db) => {
                const SETTLE: &str = "UPDATE delivery SET phase = 3, facts = 3 WHERE id = ANY($1)";
                sqlx::query(SETTLE).bind(sent).execute(db).await.unwrap();
            }
            Database::Sqlite(db) => {
                const SETTLE: &str = "UPDATE delivery SET phase = 3, facts = 3 \
                    WHERE id IN (SELECT unhex(value) FROM json_each($1))";
                let ids = sent.iter().map(|id| hex(*id)).collect::<Vec<_>>();
                sqlx::query(SETTLE).bind(serde_json::to_string(&ids).unwrap()).execute(db).await.unwrap();
            }
        }
    }
}

fn hex(id: Uuid) -> String {
    id.simple().to_string()
}

const fn of_arrays(key: Key) -> &'static str {
    match key {
        Notification => "u.n",
        Delivery => "u.d",
        RequestId => "u.n::text",
        Seq => "u.o + $3",
        Practice => "$4",
        Patient => "t.patient_id",
        Reference => "t.reference",
        ProviderRef => "t.provider_ref",
        Token => "NULL",
    }
}

const fn of_json(key: Key) -> &'static str {
    match key {
        Notification => "unhex(u.value ->> 0)",
        Delivery => "unhex(u.value ->> 1)",
        RequestId => "u.value ->> 0",
        Seq => "u.key + 1 + $3",
        Practice => "$4",
        Patient => "t.patient_id",
        Reference => "t.reference",
        ProviderRef => "t.provider_ref",
        Token => "NULL",
    }
}
