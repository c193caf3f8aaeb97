//! Schema changes: each can be taken back and applied anew, and what was applied is not applied again.

use std::collections::BTreeSet;

use heedwell_migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, QueryResult, Statement};

use crate::support::{Backend, Home};

/// Tables, columns and indexes, as the database describes them.
async fn schema(db: &DatabaseConnection) -> BTreeSet<String> {
    let query = match db.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT name || ': ' || coalesce(sql, '') FROM sqlite_master WHERE tbl_name <> 'seaql_migrations'"
        }
        _ => {
            "SELECT table_name || '.' || column_name || ': ' || data_type || ' ' || is_nullable || ' ' \
                    || coalesce(column_default, '') \
             FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'seaql_migrations' \
             UNION \
             SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'seaql_migrations' \
             UNION \
             SELECT relname || ': ' || array_to_string(reloptions, ',') FROM pg_class \
             WHERE reloptions IS NOT NULL AND relkind = 'r' AND relnamespace = 'public'::regnamespace"
        }
    };
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn applied(db: &DatabaseConnection) -> Vec<(String, i64)> {
    let query = Statement::from_string(
        db.get_database_backend(),
        "SELECT version, applied_at FROM seaql_migrations ORDER BY version",
    );
    let rows = db.query_all_raw(query).await.unwrap();
    rows.iter().map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())).collect()
}

async fn up_down_up(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    Migrator::up(&db, None).await.unwrap();
    let first = schema(&db).await;
    assert!(first.iter().any(|line| line.contains("delivery_ready")), "{first:?}");

    let steps = u32::try_from(Migrator::migrations().len()).unwrap();
    // One step at a time, so that each change is seen to take back what it made and no more.
    for left in (0..steps).rev() {
        Migrator::down(&db, Some(1)).await.unwrap();
        assert_eq!(applied(&db).await.len(), usize::try_from(left).unwrap());
    }
    assert_eq!(schema(&db).await, BTreeSet::new());

    for _ in 0..steps {
        Migrator::up(&db, Some(1)).await.unwrap();
    }
    assert_eq!(schema(&db).await, first);
}

async fn again(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    Migrator::up(&db, None).await.unwrap();
    let (before, applied_before) = (schema(&db).await, applied(&db).await);
    Migrator::up(&db, None).await.unwrap();
    assert_eq!((schema(&db).await, applied(&db).await), (before, applied_before));
    let names: Vec<String> = applied(&db).await.into_iter().map(|(name, _)| name).collect();
    let known: Vec<String> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    assert_eq!(names, known, "names sort in the order in which the changes are applied");
}

/// Notifications from before `default_expiry` keep the end that they have: it may have been the sender's.
async fn old_notifications(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    let change = "m20261125_000010_add_expiry_to_notifications";
    let before = Migrator::migrations().iter().position(|migration| migration.name() == change).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let (id, bytes) = match backend {
        Backend::Sqlite => ("x'00000000000000000000000000000001'", "x'00'"),
        Backend::Postgres => ("'00000000-0000-0000-0000-000000000001'", "'\\x00'"),
    };
    let insert = format!(
        "INSERT INTO notification (id, practice_id, patient_id, kind, reference, request_id, urgent, security, requested, \
         create_time, expire_time, creator_type, creator_id, creator_name, decisions_ct) \
         VALUES ({id}, 'acme', 'pat', 1, '', 'r1', false, false, 0, \
         '2026-03-02 15:00:00+00:00', '2026-03-03 15:00:00+00:00', 1, '', '', {bytes})"
    );
    db.execute_unprepared(&insert).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    let query = "SELECT default_expiry, visit_time IS NULL, expire_time > create_time FROM notification";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    let row: Vec<bool> = (0..3).map(|place| rows[0].try_get_by_index(place).unwrap()).collect();
    assert_eq!((rows.len(), row), (1, vec![false, true, true]));
}

/// What is there when statistics come is counted once, and the feed is followed from there.
async fn old_deliveries(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    let change = "m20261130_000030_count_deliveries";
    let before = Migrator::migrations().iter().position(|migration| migration.name() == change).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let sqlite = backend == Backend::Sqlite;
    let id = |n: u32| {
        if sqlite { format!("x'{n:032x}'") } else { format!("'00000000-0000-0000-0000-{n:012x}'") }
    };
    db.execute_unprepared("INSERT INTO feed_head (practice_id, seq, open0, open1, open2) VALUES ('acme', 41, 0, 0, 0)")
        .await
        .unwrap();
    // Source, kind, state, reason, time: a test, twice the same in one hour, the next hour, and a failure.
    for (n, (source, kind, state, reason, time)) in (1..).zip([
        (3, 0, 4, "NULL", "15:00:00"),
        (1, 1, 4, "NULL", "15:00:00"),
        (1, 1, 4, "NULL", "15:59:59.999999"),
        (1, 1, 4, "NULL", "16:00:00"),
        (2, 0, 5, "2", "16:00:00"),
    ]) {
        db.execute_unprepared(&old_delivery(&id(n), source, kind, state, reason, time)).await.unwrap();
    }
    Migrator::up(&db, None).await.unwrap();
    let query =
        "SELECT hour * 3600, kind, channel, state, failure_reason, count FROM delivery_count ORDER BY hour, kind";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    let rows: Vec<[i64; 6]> = rows.iter().map(|row| [0, 1, 2, 3, 4, 5].map(|place| number(row, place))).collect();
    let hour = 1_772_463_600;
    assert_eq!(rows, [[hour, 1, 3, 4, 0, 2], [hour + 3_600, 0, 3, 5, 2, 1], [hour + 3_600, 1, 3, 4, 0, 1]]);
    let query = Statement::from_string(db.get_database_backend(), "SELECT counted FROM delivery_count_head");
    let rows = db.query_all_raw(query).await.unwrap();
    assert_eq!(rows.iter().map(|row| number(row, 0)).collect::<Vec<_>>(), [41]);
}

fn old_delivery(id: &str, source: i16, kind: i16, state: i16, reason: &str, time: &str) -> String {
    let time = format!("'2026-03-02 {time}+00:00'");
    format!(
        "INSERT INTO delivery (id, practice_id, patient_id, source_kind, source_id, kind, channel, class, address_hint, \
         reference, facts, state, revision, flags, phase, epoch, not_before, give_up_at, expires_at, attempts, crashes, looks, \
         absences, events, failure_reason, failure_code, provider_ref, sms_segments, create_time, update_time) \
         VALUES ({id}, 'acme', 'pat', {source}, {id}, {kind}, 3, 1, '', '', 0, {state}, 1, 0, 3, 0, {time}, {time}, {time}, \
         0, 0, 0, 0, 0, {reason}, '', '', 0, {time}, {time})"
    )
}

fn number(row: &QueryResult, place: usize) -> i64 {
    row.try_get_by_index(place).or_else(|_| row.try_get_by_index::<i16>(place).map(i64::from)).unwrap()
}

/// Patients from before `choices` have chosen nothing, and whoever does not know of it yet can still bring some.
async fn old_patients(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    let change = "m20261125_000008_add_choices_to_patients";
    let before = Migrator::migrations().iter().position(|migration| migration.name() == change).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let bytes = if backend == Backend::Sqlite { "x'00'" } else { "'\\x00'" };
    let insert = |id: &str| {
        format!(
            "INSERT INTO patient (practice_id, patient_id, contact_ct, locale, time_zone, portal_enabled, inactive, \
             update_time, revision) VALUES ('acme', '{id}', {bytes}, '', '', true, false, '2026-03-02 15:00:00+00:00', 3)"
        )
    };
    db.execute_unprepared(&insert("old")).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    db.execute_unprepared(&insert("new")).await.unwrap();
    let query = "SELECT choices, choices_revision, choices_time IS NULL, revision FROM patient ORDER BY patient_id";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "");
        let numbers: [i64; 2] = [1, 3].map(|place| row.try_get_by_index(place).unwrap());
        assert_eq!((numbers, row.try_get_by_index::<bool>(2).unwrap()), ([0, 3], true));
    }
}

/// Practices from before `wording_revision` say nothing in words of their own, and whoever does not know of it yet can still bring
/// some.
async fn old_practices(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    let change = "m20261129_000018_create_templates";
    let before = Migrator::migrations().iter().position(|migration| migration.name() == change).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let insert = |id: &str| {
        format!(
            "INSERT INTO practice (practice_id, legal_name, display_name, phone, time_zone, locale, portal_url, \
             postal_address, update_time, revision) VALUES \
             ('{id}', 'Acme', 'Acme', '', 'UTC', 'en', '', '', '2026-03-02 15:00:00+00:00', 3)"
        )
    };
    db.execute_unprepared(&insert("old")).await.unwrap();
    Migrator::up(&db, None).await.unwrap();
    db.execute_unprepared(&insert("new")).await.unwrap();
    let query = "SELECT wording_revision, revision FROM practice";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        let numbers: [i64; 2] = [0, 1].map(|place| row.try_get_by_index(place).unwrap());
        assert_eq!(numbers, [0, 3]);
    }
}

/// Keys of uploads from before they had a number of their own are known under it, and those of broadcasts under theirs.
async fn old_keys(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    let db = home.raw().await;
    let change = "m20261130_000048_part_keys_of_files";
    let before = Migrator::migrations().iter().position(|migration| migration.name() == change).unwrap();
    Migrator::up(&db, Some(u32::try_from(before).unwrap())).await.unwrap();
    let sqlite = backend == Backend::Sqlite;
    let id = |n: u32| {
        if sqlite { format!("x'{n:032x}'") } else { format!("'00000000-0000-0000-0000-{n:012x}'") }
    };
    let bytes = if sqlite { "x'00'" } else { "'\\x00'" };
    let file = format!(
        "INSERT INTO attachment (id, practice_id, side, patient_id, request_id, state, about_ct, size_bytes, parts, place, \
         tries, create_time) VALUES ({}, 'acme', 1, '', 'a', 1, {bytes}, 1, 1, 0, 0, '2026-03-02 15:00:00+00:00')",
        id(1)
    );
    db.execute_unprepared(&file).await.unwrap();
    let key = |resource: i16, request_id: &str, n: u32| {
        format!(
            "INSERT INTO idem (practice_id, resource, request_id, fingerprint, resource_id) \
             VALUES ('acme', {resource}, '{request_id}', {bytes}, {})",
            id(n)
        )
    };
    let keys = async || {
        let query = "SELECT resource, request_id FROM idem ORDER BY request_id, resource";
        let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await.unwrap();
        let keys = rows.iter().map(|row| (number(row, 0), row.try_get_by_index::<String>(1).unwrap()));
        keys.map(|(resource, key)| format!("{key}{resource}")).collect::<Vec<_>>()
    };
    for (request_id, n) in [("a", 1), ("b", 2)] {
        db.execute_unprepared(&key(6, request_id, n)).await.unwrap();
    }
    Migrator::up(&db, Some(1)).await.unwrap();
    assert_eq!(keys().await, ["a7", "b6"]);
    // The way back, with a key that both have.
    db.execute_unprepared(&key(7, "b", 3)).await.unwrap();
    Migrator::down(&db, Some(1)).await.unwrap();
    assert_eq!(keys().await, ["a6", "b6", "b7"]);
}

#[tokio::test]
async fn keys_of_uploads_from_before_are_known_sqlite() {
    old_keys(Backend::Sqlite).await;
}

#[tokio::test]
async fn keys_of_uploads_from_before_are_known_postgres() {
    old_keys(Backend::Postgres).await;
}

#[tokio::test]
async fn practices_from_before_have_no_wording_of_their_own_sqlite() {
    old_practices(Backend::Sqlite).await;
}

#[tokio::test]
async fn practices_from_before_have_no_wording_of_their_own_postgres() {
    old_practices(Backend::Postgres).await;
}

#[tokio::test]
async fn patients_from_before_have_chosen_nothing_sqlite() {
    old_patients(Backend::Sqlite).await;
}

#[tokio::test]
async fn patients_from_before_have_chosen_nothing_postgres() {
    old_patients(Backend::Postgres).await;
}

#[tokio::test]
async fn notifications_from_before_keep_their_end_sqlite() {
    old_notifications(Backend::Sqlite).await;
}

#[tokio::test]
async fn notifications_from_before_keep_their_end_postgres() {
    old_notifications(Backend::Postgres).await;
}

#[tokio::test]
async fn old_deliveries_are_counted_sqlite() {
    old_deliveries(Backend::Sqlite).await;
}

#[tokio::test]
async fn old_deliveries_are_counted_postgres() {
    old_deliveries(Backend::Postgres).await;
}

#[tokio::test]
async fn every_change_can_be_taken_back_and_applied_anew_sqlite() {
    up_down_up(Backend::Sqlite).await;
}

#[tokio::test]
async fn every_change_can_be_taken_back_and_applied_anew_postgres() {
    up_down_up(Backend::Postgres).await;
}

#[tokio::test]
async fn what_was_applied_is_not_applied_again_sqlite() {
    again(Backend::Sqlite).await;
}

#[tokio::test]
async fn what_was_applied_is_not_applied_again_postgres() {
    again(Backend::Postgres).await;
}

#[test]
fn every_change_is_one_transaction() {
    for migration in Migrator::migrations() {
        assert_eq!(migration.use_transaction(), Some(true), "{}", migration.name());
    }
}
