//! Copies of a database: whatever way one was made and put back, it sends nothing until an operator says what became of its
//! original; and the move to another database, after which the first sends nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join;
use heedwell::{
    config::Env,
    grpc::proto::{Channel, DeliveryFilter, NotificationInput},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use super::{
    fairness::wait_for,
    given::{PHONE, practice, reminder, send, send_over},
    isolation::furnish,
    seen::{Watcher, delivery, everything, list, state, texts, until_state},
};
use crate::support::{
    Backend, Home,
    app::{ACME, TestApp, timestamp},
    database_dump, database_restore,
    process::Process,
};

/// Longer than a server waits before it looks for due work by itself, twice.
const A_WHILE: Duration = Duration::from_millis(1_300);

/// What `heedwell` answers: its exit code, and all that it says.
pub(super) async fn heedwell(env: &Env, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heedwell"));
    let output = command.args(arguments).env_clear().envs(env.variables()).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// The same of what goes well.
pub(super) async fn done(env: &Env, arguments: &[&str]) -> String {
    let (code, said) = heedwell(env, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

/// The settings for another database.
fn on(env: &Env, url: &str) -> Env {
    let mut env = env.clone();
    env.set("HEEDWELL_DATABASE_URL", url);
    env
}

fn at(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// Three texts that are due a moment from now. Yields the ids of their deliveries.
async fn soon(t: &TestApp, moment: TimeDelta) -> Vec<String> {
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let due = timestamp(DateTime::<Utc>::from(SystemTime::now()) + moment);
        let input = NotificationInput { schedule_time: Some(due), ..reminder(t, "pat", &[Channel::Sms]) };
        waiting.push(send(t, input).await.deliveries[0].delivery_id.clone());
    }
    waiting
}

/// Sees that no more texts leave than these, though one is due.
async fn no_more_than(t: &TestApp, count: usize) {
    let more = wait_for("another text", async || texts(t, PHONE).len() > count);
    assert!(timeout(A_WHILE, more).await.is_err(), "something was sent: {}", texts(t, PHONE).len());
    assert_eq!(texts(t, PHONE).len(), count);
}

async fn all_in(t: &TestApp, ids: &[String], wanted: &str) {
    for id in ids {
        until_state(t, id, wanted).await;
    }
}

/// A server on a copy takes calls, says that it sends nothing, and does not; the doctor says so too. Yields what it took.
async fn is_quiet(t: &mut TestApp, env: &Env, count: usize) -> String {
    t.start_apart(env, "info").await;
    assert_eq!(t.process().said().after("NOTHING ").await, "IS");
    let new = send_over(t, "pat", Channel::Sms).await;
    no_more_than(t, count).await;
    assert_eq!(state(&delivery(t, &new).await), "PENDING");
    let (code, said) = heedwell(env, &["doctor"]).await;
    assert!(
        code == Some(1) && said.contains("instance: HEEDWELL_DATABASE_URL: is a copy of another database"),
        "{said}"
    );
    new
}

/// What was due in the copy is not sent any more, and what it took itself is.
async fn resumes_without_what_waited(t: &TestApp, env: &Env, waiting: &[String], new: &str, count: usize) {
    let (code, said) = heedwell(env, &["resume"]).await;
    assert!(code == Some(2) && said.contains("--send-pending"), "{said}");
    let said = done(env, &["resume", "--cancel-pending"]).await;
    assert!(said.contains("are cancelled that the original may have sent") && said.contains("opt-outs"), "{said}");
    until_state(t, new, "DELIVERED").await;
    all_in(t, waiting, "CANCELLED").await;
    assert_eq!(texts(t, PHONE).len(), count + 1);
    assert_eq!(done(env, &["resume", "--send-pending"]).await, "it is live: there is nothing to resume\n");
}

/// How many rows each table has, but for what says which database it is.
async fn counts(url: &str) -> BTreeMap<String, i64> {
    let db = sea_orm::Database::connect(format!("{url}?mode=ro")).await.unwrap();
    let mut counts = BTreeMap::new();
    for row in rows(&db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'instance'").await {
        let table: String = row.try_get_by_index(0).unwrap();
        let count = rows(&db, &format!("SELECT count(*) FROM \"{table}\"")).await[0].try_get_by_index(0).unwrap();
        counts.insert(table, count);
    }
    let check: String = rows(&db, "PRAGMA integrity_check").await[0].try_get_by_index(0).unwrap();
    assert_eq!(check, "ok");
    db.close().await.unwrap();
    counts
}

async fn rows(db: &DatabaseConnection, query: &str) -> Vec<sea_orm::QueryResult> {
    db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_server_that_sends_is_whole_and_stays_quiet() {
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "info", |_| {}).await.unwrap();
    practice(&t).await;
    let env = t.env();
    let [busy, idle] = ["busy.db", "idle.db"].map(|name| t.home.path(name));
    let [busy_name, idle_name] = [&busy, &idle].map(|path| path.display().to_string());
    let waiting = soon(&t, TimeDelta::seconds(3)).await;
    let load = async {
        for _ in 0..40 {
            send_over(&t, "pat", Channel::Sms).await;
        }
    };
    let (said, ()) = join(done(&env, &["backup", &busy_name]), load).await;
    assert!(said.starts_with(&busy_name) && said.contains(" bytes, as of "), "{said}");
    assert_eq!(fs::metadata(&busy).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, said) = heedwell(&env, &["backup", &busy_name]).await;
    assert!(code == Some(1) && said.contains("is there already, and is not overwritten"), "{said}");
    let nowhere = t.home.path("no/such/folder").display().to_string();
    let (code, said) = heedwell(&env, &["backup", &nowhere]).await;
    assert!(code == Some(1) && said.contains("check that its folder exists"), "{said}");
    let (code, said) = heedwell(&on(&env, "postgres://nobody@127.0.0.1:1/none"), &["backup", &idle_name]).await;
    assert!(code == Some(1) && said.contains("PostgreSQL is backed up by its own tools"), "{said}");
    let left = fs::read_dir(t.home.path("")).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.starts_with(".heedwell-backup")), "nothing is left of a copy");

    all_in(&t, &waiting, "DELIVERED").await;
    wait_for("everything is sent", async || texts(&t, PHONE).len() == 43).await;
    t.stop().await;
    // Of a database that rests it is the same to the row.
    done(&env, &["backup", &idle_name]).await;
    assert_eq!(counts(&at(&idle)).await, counts(&t.home.url).await);
    let proven = done(&env, &["audit", "verify"]).await;
    assert_eq!(done(&on(&env, &at(&idle)), &["audit", "verify"]).await, proven);
    counts(&at(&busy)).await;
    let copy = on(&env, &at(&busy));
    done(&copy, &["audit", "verify"]).await;

    let new = is_quiet(&mut t, &copy, 43).await;
    assert!(heedwell(&copy, &["doctor"]).await.1.contains("another database, made at "), "a backup knows its time");
    assert!(everything(&t).await.len() > waiting.len(), "it is read");
    resumes_without_what_waited(&t, &copy, &waiting, &new, 43).await;
    t.stop().await;
    done(&copy, &["audit", "verify"]).await;
    let trail = done(&copy, &["audit", "export", "--practice", ACME]).await;
    assert_eq!(trail.matches("\"instance.backup\"").count(), 1, "it tells of itself");
    assert!(trail.contains("\"instance.resume\"") && trail.contains("\"pending/cancelled/"), "{trail}");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_copied_stays_quiet_wherever_it_is_put() {
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "info", |_| {}).await.unwrap();
    practice(&t).await;
    let env = t.env();
    let [original, kept, other, moved] =
        ["heedwell.db", "kept.db", "other.db", "moved.db"].map(|name| t.home.path(name));
    let waiting = soon(&t, TimeDelta::milliseconds(2_500)).await;
    t.stop().await;
    assert_eq!(texts(&t, PHONE).len(), 0, "they are not due yet");
    fs::copy(&original, &kept).unwrap();
    fs::copy(&original, &other).unwrap();
    // The original goes on, also after a kill, and under another name.
    t.start_apart(&env, "info").await;
    all_in(&t, &waiting, "DELIVERED").await;
    t.kill().await;
    fs::rename(&original, &moved).unwrap();
    for end in ["-wal", "-shm", ".lock"] {
        let [from, to] = [&original, &moved].map(|path| format!("{}{end}", path.display()));
        fs::rename(from, to).unwrap();
    }
    t.start_apart(&on(&env, &at(&moved)), "info").await;
    until_state(&t, &send_over(&t, "pat", Channel::Sms).await, "DELIVERED").await;
    assert_eq!(texts(&t, PHONE).len(), 4);
    t.stop().await;
    fs::rename(&moved, &original).unwrap();
    fs::rename(format!("{}.lock", moved.display()), format!("{}.lock", original.display())).unwrap();

    // Over the file that is there, which stays the same to the file system.
    fs::copy(&kept, &original).unwrap();
    let new = is_quiet(&mut t, &env, 4).await;
    resumes_without_what_waited(&t, &env, &waiting, &new, 4).await;
    t.stop().await;

    let copy = on(&env, &at(&other));
    let new = is_quiet(&mut t, &copy, 5).await;
    let said = done(&copy, &["resume", "--send-pending"]).await;
    assert!(said.starts_with("live again: what waits is sent\n"), "{said}");
    all_in(&t, &waiting, "DELIVERED").await;
    until_state(&t, &new, "DELIVERED").await;
    assert_eq!(texts(&t, PHONE).len(), 9, "each once");
    // It is the one that sends from now on.
    t.stop().await;
    t.start_apart(&copy, "info").await;
    until_state(&t, &send_over(&t, "pat", Channel::Sms).await, "DELIVERED").await;
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_stays_quiet_wherever_it_is_restored() {
    let Some(mut t) = TestApp::spawn_apart(Backend::Postgres, "info", |_| {}).await else { return };
    practice(&t).await;
    let waiting = soon(&t, TimeDelta::seconds(2)).await;
    let dump = database_dump(&t.home.url);
    all_in(&t, &waiting, "DELIVERED").await;
    t.stop().await;
    let other = Home::bare(Backend::Postgres).await.unwrap();
    database_restore(&other.url, &dump);
    let env = on(&t.env(), &other.url);
    let new = is_quiet(&mut t, &env, 3).await;
    resumes_without_what_waited(&t, &env, &waiting, &new, 3).await;
    t.stop().await;
    assert!(heedwell(&env, &["doctor"]).await.1.contains("instance: HEEDWELL_DATABASE_URL: may send"));
    done(&env, &["audit", "verify"]).await;
    // Into the very database that it is of.
    let dump = database_dump(&other.url);
    let raw = other.raw().await;
    raw.execute_unprepared("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner")
        .await
        .unwrap();
    raw.close().await.unwrap();
    database_restore(&other.url, &dump);
    let (code, said) = heedwell(&env, &["doctor"]).await;
    assert!(code == Some(1) && said.contains("is a copy of another database"), "{said}");
    t.end().await;
}

/// Each server of a database goes by the same row.
async fn hold(backend: Backend) {
    let Some(mut t) = TestApp::spawn_apart(backend, "info", |_| {}).await else { return };
    practice(&t).await;
    let env = t.env();
    let second = match backend {
        Backend::Postgres => Some(Process::start(&env, "info", &t.home.path("")).await),
        Backend::Sqlite => None,
    };
    until_state(&t, &send_over(&t, "pat", Channel::Sms).await, "DELIVERED").await;
    let said = done(&env, &["hold"]).await;
    assert!(said.starts_with("held: nothing is sent until `heedwell resume`\n"), "{said}");
    let new = send_over(&t, "pat", Channel::Sms).await;
    no_more_than(&t, 1).await;
    assert!(done(&env, &["hold"]).await.starts_with("it was quiet already, since "));
    assert_eq!(t.process().said().after("NOTHING ").await, "IS");
    let (code, said) = heedwell(&env, &["doctor"]).await;
    assert!(code == Some(1) && said.contains("since an operator held it"), "{said}");
    done(&env, &["resume", "--send-pending"]).await;
    until_state(&t, &new, "DELIVERED").await;
    assert_eq!(texts(&t, PHONE).len(), 2);
    if let Some(second) = second {
        second.stop().await;
    }
    t.stop().await;
    let trail = done(&env, &["audit", "export", "--practice", ACME]).await;
    assert!(trail.contains("\"instance.hold\"") && trail.contains("\"pending/sent\""), "{trail}");
    t.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_database_sends_nothing_until_it_is_resumed_sqlite() {
    hold(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_database_sends_nothing_until_it_is_resumed_postgres() {
    hold(Backend::Postgres).await;
}

/// Every row of every table as values of one form, whichever database it is in.
async fn contents(db: &DatabaseConnection, kinds: &[(String, String, String)]) -> BTreeMap<String, Vec<String>> {
    let mut contents = BTreeMap::new();
    for (table, ..) in kinds {
        let columns: Vec<_> = kinds.iter().filter(|(of, ..)| of == table).collect();
        let names = columns.iter().map(|(_, name, _)| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let mut lines = Vec::new();
        for row in rows(db, &format!("SELECT {names} FROM \"{table}\"")).await {
            let value = |place: usize, kind: &str| match kind {
                "bool" => format!("{:?}", row.try_get_by_index::<Option<bool>>(place).unwrap()),
                "bytea" => format!("{:?}", row.try_get_by_index::<Option<Vec<u8>>>(place).unwrap()),
                "int2" => format!("{:?}", row.try_get_by_index::<Option<i16>>(place).unwrap()),
                "int4" => format!("{:?}", row.try_get_by_index::<Option<i32>>(place).unwrap()),
                "int8" => format!("{:?}", row.try_get_by_index::<Option<i64>>(place).unwrap()),
                "timestamptz" => format!("{:?}", row.try_get_by_index::<Option<DateTime<Utc>>>(place).unwrap()),
                "uuid" => format!("{:?}", row.try_get_by_index::<Option<Uuid>>(place).unwrap()),
                _ => format!("{:?}", row.try_get_by_index::<Option<String>>(place).unwrap()),
            };
            lines.push(columns.iter().enumerate().map(|(place, (.., kind))| value(place, kind)).collect());
        }
        lines.sort();
        contents.insert(table.clone(), lines);
    }
    contents
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_to_postgres_and_goes_on_there() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let mut t = TestApp::spawn(Backend::Sqlite).await.unwrap();
    Box::pin(furnish(&t, ACME)).await;
    let (before, cursor) = (everything(&t).await, list(&t, DeliveryFilter::default()).await.watch_cursor);
    let (env, to) = (t.env(), on(&t.env(), &home.url));
    let command = ["move", "--to", &home.url];
    let (code, said) = heedwell(&env, &command).await;
    assert!(code == Some(1) && said.contains("is in use by another heedwell process"), "{said}");
    t.stop().await;
    let (code, said) = heedwell(&env, &command).await;
    assert!(code == Some(1) && said.contains("run `heedwell migrate`"), "{said}");
    done(&to, &["migrate"]).await;

    // A table that only one of them has is not left behind in silence, and a database that has rows is not written to.
    let raw = home.raw().await;
    t.execute("CREATE TABLE later (id integer)").await;
    let (code, said) = heedwell(&env, &command).await;
    assert!(code == Some(1) && said.contains("later is not the same in both databases"), "{said}");
    t.execute("DROP TABLE later").await;
    raw.execute_unprepared("INSERT INTO lease (name, holder, term, until) SELECT 'x', gen_random_uuid(), 1, now()")
        .await
        .unwrap();
    let (code, said) = heedwell(&env, &command).await;
    assert!(code == Some(1) && said.contains("there are rows in lease"), "{said}");
    raw.execute_unprepared("DELETE FROM lease").await.unwrap();
    for odd in ["pg_constraint WHERE contype = 'f'", "pg_class WHERE relkind = 'S'"] {
        let query = format!(
            "SELECT count(*) FROM {odd} AND {}namespace = 'public'::regnamespace",
            if odd.contains("contype") { "con" } else { "rel" }
        );
        assert_eq!(rows(&raw, &query).await[0].try_get_by_index::<i64>(0).unwrap(), 0, "the move knows of none: {odd}");
    }

    let said = done(&env, &command).await;
    assert!(said.contains("acme: ") && said.ends_with("this one sends nothing any more\n"), "{said}");
    let query = "SELECT table_name::text, column_name::text, udt_name::text FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name NOT IN ('instance', 'seaql_migrations', 'audit', 'audit_head') ORDER BY 1, 2";
    let kinds: Vec<_> = rows(&raw, query)
        .await
        .iter()
        .map(|row| {
            (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap(), row.try_get_by_index(2).unwrap())
        })
        .collect();
    let source = t.home.raw().await;
    assert_eq!(source.get_database_backend(), DbBackend::Sqlite);
    let [there, here] = [contents(&source, &kinds).await, contents(&raw, &kinds).await];
    for (table, lines) in &there {
        assert!(here[table] == *lines, "{table} is not what it was");
    }
    let filled = there.values().filter(|lines| !lines.is_empty()).count();
    assert!(filled >= 30, "{filled} tables of {} have rows", there.len());
    source.close().await.unwrap();
    raw.close().await.unwrap();

    // The first sends nothing any more, and is not moved twice; nor does a slip wake it up.
    let (code, said) = heedwell(&env, &command).await;
    assert!(code == Some(1) && said.contains("moved already"), "{said}");
    let (code, said) = heedwell(&env, &["resume", "--send-pending"]).await;
    assert!(code == Some(1) && said.contains("--after-move"), "{said}");
    // Nor does one of a backup that was made afterwards.
    let backup = t.home.path("moved.db");
    done(&env, &["backup", &backup.display().to_string()]).await;
    let (code, said) = heedwell(&on(&env, &at(&backup)), &["resume", "--send-pending"]).await;
    assert!(code == Some(1) && said.contains("--after-move"), "{said}");
    let (code, said) = heedwell(&env, &["doctor"]).await;
    assert!(code == Some(1) && said.contains("was moved to another database"), "{said}");
    done(&to, &["audit", "verify"]).await;

    t.start_with(&to).await;
    assert!(everything(&t).await == before, "lists show the same");
    let mut watcher = Watcher::from(&t, &cursor).await;
    let new = send_over(&t, "pat", Channel::InApp).await;
    watcher.until(|delivery| delivery.delivery_id == new && state(delivery) == "DELIVERED").await;
    t.stop().await;
    t.end().await;
    home.leave().await;
}
