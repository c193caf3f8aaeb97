//! Whoever can write to the database and has no key: each sealed value in the place of each other one, of whatever table, column,
//! row and practice, is refused by whatever reads it there.

use heedwell::domain::Role;
use reqwest::StatusCode;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value as Bound};
use serde_json::{Value, json};
use tonic::Code;

use super::{BETA, Home, Wire, calls, world::pass};
use crate::{
    e2e::callbacks::browser,
    support::{
        Backend,
        app::{ACME, TestApp, run},
    },
};

/// A sealed column: its table and name, what tells its rows apart, which rows are of interest, and the call that reads it with, as
/// SQL, what the call is asked.
struct Column {
    table: &'static str,
    name: &'static str,
    key: &'static [&'static str],
    rows: &'static str,
    call: &'static str,
    asked: &'static str,
}

const fn column(
    (table, name): (&'static str, &'static str),
    key: &'static [&'static str],
    rows: &'static str,
    (call, asked): (&'static str, &'static str),
) -> Column {
    Column { table, name, key, rows, call, asked }
}

/// Every sealed column that somebody can have read to them.
const COLUMNS: &[Column] = &[
    column(
        ("patient", "contact_ct"),
        &["practice_id", "patient_id"],
        "patient_id LIKE 'pat%'",
        ("DirectoryService/GetPatient", "patient_id"),
    ),
    column(
        ("practice_settings", "body_ct"),
        &["practice_id"],
        "true",
        ("PreferencesService/GetPracticeSettings", "practice_id"),
    ),
    column(
        ("notification", "decisions_ct"),
        &["id"],
        "patient_id LIKE 'pat-%' AND cancel_time IS NULL",
        ("NotifyService/GetNotification", "id"),
    ),
    column(
        ("content", "body_ct"),
        &["delivery_id"],
        "EXISTS (SELECT 1 FROM delivery d WHERE d.id = delivery_id AND d.source_kind = 1 AND d.patient_id LIKE 'pat-%')",
        ("NotifyService/GetNotification", "(SELECT d.source_id FROM delivery d WHERE d.id = delivery_id)"),
    ),
    column(("broadcast_text", "body_ct"), &["broadcast_id"], "true", ("BroadcastService/GetBroadcast", "broadcast_id")),
    column(
        ("template_version", "body_ct"),
        &["template_id", "version"],
        "template_id IN (SELECT m.id FROM template m WHERE m.channel = 1) AND version = (SELECT m.active FROM template m WHERE m.id = template_id)",
        ("TemplateService/GetTemplate", "(SELECT m.key FROM template m WHERE m.id = template_id)"),
    ),
    column(
        ("conversation", "sender_ct"),
        &["id"],
        "sender_ct IS NOT NULL AND moved_to IS NULL",
        ("ConversationsService/GetConversation", "id"),
    ),
    column(
        ("conversation_message", "body_ct"),
        &["id"],
        "route = 2",
        ("ConversationsService/ListMessages", "conversation_id"),
    ),
    column(
        ("attachment", "about_ct"),
        &["id"],
        "message_id IS NOT NULL",
        ("ConversationsService/DownloadAttachment", "id"),
    ),
    column(
        ("attachment_part", "data_ct"),
        &["attachment_id", "n"],
        "true",
        ("ConversationsService/DownloadAttachment", "attachment_id"),
    ),
    column(
        ("consent_ledger", "body_ct"),
        &["practice_id", "seq"],
        "true",
        ("PreferencesService/ListConsentRecords", "practice_id"),
    ),
    column(("audit", "body_ct"), &["practice_id", "seq"], "true", ("AuditService/ListAuditEvents", "practice_id")),
    column(("link", "target_ct"), &["token_digest"], "true", ("link", "practice_id")),
];

/// Sealed columns that are read in the course of the server's own work.
const OTHERS: [(&str, &str); 2] = [("push_device", "body_ct"), ("callback_inbox", "body_ct")];

/// Rows of each column and practice.
const ROWS: usize = 2;

/// A sealed value.
struct Cell {
    column: &'static Column,
    practice: String,
    key: Vec<Bound>,
    asked: String,
    sealed: Vec<u8>,
}

async fn cells(raw: &DatabaseConnection) -> Vec<Cell> {
    let backend = raw.get_database_backend();
    let text = |expression: &str| match backend {
        DbBackend::Sqlite => {
            format!("CASE typeof({expression}) WHEN 'blob' THEN lower(hex({expression})) ELSE {expression} END")
        }
        _ => format!("({expression})::text"),
    };
    let mut cells = Vec::new();
    for column in COLUMNS {
        for practice in [ACME, BETA] {
            let of = if column.table == "attachment_part" {
                format!(
                    "attachment_id IN (SELECT a.id FROM attachment a WHERE a.practice_id = '{practice}' AND a.message_id IS NOT NULL)"
                )
            } else {
                format!("practice_id = '{practice}'")
            };
            let Column { table, name, key, rows, asked, .. } = column;
            let query = format!(
                "SELECT {name}, {}, {} FROM {table} WHERE {of} AND {rows} ORDER BY {} LIMIT {ROWS}",
                text(asked),
                key.join(", "),
                key.iter().map(|name| format!("{table}.{name}")).collect::<Vec<_>>().join(", ")
            );
            let found = raw.query_all_raw(Statement::from_string(backend, query)).await.unwrap();
            assert!(!found.is_empty(), "no {table}.{name} of {practice}");
            for row in found {
                let part = |place: usize| -> Bound {
                    let (id, word) = (row.try_get_by_index::<uuid::Uuid>(place), row.try_get_by_index::<String>(place));
                    let (number, short) = (row.try_get_by_index::<i64>(place), row.try_get_by_index::<i32>(place));
                    let (shorter, bytes) = (row.try_get_by_index::<i16>(place), row.try_get_by_index::<Vec<u8>>(place));
                    let number = number.map(Bound::from).or(short.map(Bound::from)).or(shorter.map(Bound::from));
                    id.map(Bound::from).or(number).or(word.map(Bound::from)).or(bytes.map(Bound::from)).unwrap()
                };
                cells.push(Cell {
                    column,
                    practice: practice.to_owned(),
                    key: (0..key.len()).map(|place| part(place + 2)).collect(),
                    asked: row.try_get_by_index::<String>(1).unwrap(),
                    sealed: row.try_get_by_index(0).unwrap(),
                });
            }
        }
    }
    cells
}

impl Cell {
    async fn set(&self, raw: &DatabaseConnection, sealed: &[u8]) {
        let backend = raw.get_database_backend();
        let place = |n: usize| if backend == DbBackend::Sqlite { "?".to_owned() } else { format!("${n}") };
        let key: Vec<_> = self.column.key.iter().zip(2..).map(|(name, n)| format!("{name} = {}", place(n))).collect();
        let update =
            format!("UPDATE {} SET {} = {} WHERE {}", self.column.table, self.column.name, place(1), key.join(" AND "));
        let values = std::iter::once(Bound::from(sealed.to_vec())).chain(self.key.iter().cloned());
        let done = raw.execute_raw(Statement::from_sql_and_values(backend, update, values)).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    /// Whether it can be read; false: it is refused.
    async fn opens(&self, t: &TestApp, wire: &Wire, tokens: &[(String, String)], links: &[(String, String)]) -> bool {
        let of =
            |list: &[(String, String)]| list.iter().find(|(practice, _)| *practice == self.practice).unwrap().1.clone();
        if self.column.call == "link" {
            let answer = browser().post(t.url(&format!("/l/{}", of(links)))).send().await.unwrap();
            assert!(
                [StatusCode::SEE_OTHER, StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE]
                    .contains(&answer.status()),
                "{}",
                answer.status()
            );
            return answer.status() == StatusCode::SEE_OTHER;
        }
        let mut request: Value = match self.column.call {
            "DirectoryService/GetPatient" => json!({"patient_id": self.asked}),
            "NotifyService/GetNotification" => json!({"notification_id": self.asked, "view": 2}),
            "BroadcastService/GetBroadcast" => json!({"broadcast_id": self.asked}),
            "TemplateService/GetTemplate" => json!({"ref": {"key": self.asked, "channel": 1}}),
            "ConversationsService/GetConversation" => json!({"conversation_id": self.asked}),
            "ConversationsService/ListMessages" => json!({"conversation_id": self.asked, "page_size": 200}),
            "ConversationsService/DownloadAttachment" => json!({"attachment_id": self.asked}),
            "PreferencesService/ListConsentRecords" | "AuditService/ListAuditEvents" => json!({"page_size": 500}),
            _ => json!({}),
        };
        request["practice_id"] = json!(self.practice);
        match wire.call(t.channel(), &of(tokens), self.column.call, &request).await {
            Ok(_) => true,
            Err(status) => {
                assert_eq!(status.code(), Code::Internal, "{}: {}", self.column.call, status.message());
                false
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "how much was tried is there to be read: --nocapture")]
async fn swaps(t: &mut TestApp) {
    let (wire, bases) = (Wire::new(), calls::all());
    let homes = [Home::make(t, &wire, ACME, &bases).await, Home::make(t, &wire, BETA, &bases).await];
    for home in &homes {
        home.rests(t).await;
    }
    let roles: Vec<_> = Role::ALL.into_iter().filter(|role| *role != Role::Patient).collect();
    let tokens: Vec<_> = [ACME, BETA].map(|practice| (practice.to_owned(), t.token_of(&pass(&roles, practice)))).into();
    let links: Vec<_> = [ACME, BETA]
        .into_iter()
        .zip(&homes)
        .map(|(practice, home)| (practice.to_owned(), home.links()[0].1.clone()))
        .collect();
    let raw = t.home.raw().await;
    let backend = raw.get_database_backend();
    let query = match backend {
        DbBackend::Sqlite => {
            "SELECT m.name, p.name FROM sqlite_master m, pragma_table_info(m.name) p WHERE p.name LIKE '%\\_ct' ESCAPE '\\'"
        }
        _ => {
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public' AND column_name LIKE '%\\_ct'"
        }
    };
    for row in raw.query_all_raw(Statement::from_string(backend, query)).await.unwrap() {
        let (table, name): (String, String) = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
        let known = COLUMNS.iter().map(|column| (column.table, column.name)).chain(OTHERS);
        assert!(known.into_iter().any(|known| known == (&*table, &*name)), "{table}.{name} is sealed and not tried");
    }
    let cells = cells(&raw).await;
    let mut swapped = 0;
    for cell in &cells {
        let what = format!("{}.{} of {}", cell.column.table, cell.column.name, cell.practice);
        assert!(cell.opens(t, &wire, &tokens, &links).await, "{what}");
        for other in cells.iter().filter(|other| other.sealed != cell.sealed) {
            cell.set(&raw, &other.sealed).await;
            let from = format!("{}.{} of {}", other.column.table, other.column.name, other.practice);
            assert!(!cell.opens(t, &wire, &tokens, &links).await, "{from} opens as {what}");
            swapped += 1;
        }
        cell.set(&raw, &cell.sealed).await;
        assert!(cell.opens(t, &wire, &tokens, &links).await, "{what}");
    }
    raw.close().await.unwrap();
    println!("{swapped} swaps of {} values", cells.len());
    assert!(swapped > 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_value_opens_in_no_other_place_sqlite() {
    run(Backend::Sqlite, swaps).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_value_opens_in_no_other_place_postgres() {
    run(Backend::Postgres, swaps).await;
}
