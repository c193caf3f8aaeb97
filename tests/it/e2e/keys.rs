//! `heedwell keys shred`, as an operator runs it beside a server that has work: nothing that the practice sealed opens any more, and
//! what is proven of it holds; and what else operators do with keys, which leaves entries.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{BatchPutPatientsRequest, Channel, GetDeliveryStatsRequest, GetPatientRequest},
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use serde_json::Value;
use tonic::Code;

use super::{
    batch::{item, send_all},
    given::{new_key, patient, practice, reminder, token},
    isolation::furnish,
    restores::{done, heedwell},
    seen::refused,
};
use crate::support::{
    Backend,
    app::{ACME, TestApp, on_a_server, timestamp},
};

const PATIENTS: usize = 50;
const TEXTS: usize = 2_000;
const BETA: &str = "beta";

async fn texts_of(raw: &DatabaseConnection, query: &str) -> Vec<String> {
    let rows = raw.query_all_raw(Statement::from_string(raw.get_database_backend(), query)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// The tables with a column whose name is like that, and the column.
async fn columns(raw: &DatabaseConnection, like: &str) -> Vec<(String, String)> {
    let query = match raw.get_database_backend() {
        DbBackend::Sqlite => format!(
            "SELECT m.name || '.' || p.name FROM sqlite_master m, pragma_table_info(m.name) p \
             WHERE m.type = 'table' AND p.name LIKE '{like}' ESCAPE '\\'"
        ),
        _ => format!(
            "SELECT table_name || '.' || column_name FROM information_schema.columns \
             WHERE table_schema = 'public' AND column_name LIKE '{like}' ESCAPE '\\'"
        ),
    };
    let names = texts_of(raw, &query).await;
    names.iter().map(|name| name.split_once('.').unwrap()).map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
}

fn of(table: &str, practice: &str) -> String {
    match table {
        "attachment_part" => format!("attachment_id IN (SELECT id FROM attachment WHERE practice_id = '{practice}')"),
        _ => format!("practice_id = '{practice}'"),
    }
}

/// Of each sealed value of a practice, the id of the key that opens it, by its column.
async fn sealed(raw: &DatabaseConnection, practice: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for (table, column) in columns(raw, "%\\_ct").await {
        let query = format!("SELECT {column} FROM {table} WHERE {} AND {column} IS NOT NULL", of(&table, practice));
        let rows = raw.query_all_raw(Statement::from_string(raw.get_database_backend(), query)).await.unwrap();
        let values = rows.iter().map(|row| row.try_get_by_index::<Vec<u8>>(0).unwrap());
        let keys: Vec<_> = values.filter(|value| !value.is_empty()).map(|value| value[1..17].to_vec()).collect();
        found.insert(format!("{table}.{column}"), keys);
    }
    found
}

/// The keys that are there, of all practices.
async fn kept(raw: &DatabaseConnection) -> BTreeSet<Vec<u8>> {
    let query = "SELECT id FROM data_key UNION ALL SELECT id FROM subject_key";
    let rows = raw.query_all_raw(Statement::from_string(raw.get_database_backend(), query)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index::<uuid::Uuid>(0).unwrap().into_bytes().to_vec()).collect()
}

/// How many values open, and how many do not.
fn open(sealed: &BTreeMap<String, Vec<Vec<u8>>>, kept: &BTreeSet<Vec<u8>>) -> (usize, usize) {
    let (open, shut): (Vec<_>, Vec<_>) = sealed.values().flatten().partition(|key| kept.contains(*key));
    (open.len(), shut.len())
}

/// How many rows a practice has in each table.
async fn counts(raw: &DatabaseConnection, practice: &str) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for (table, _) in columns(raw, "practice\\_id").await {
        let query = format!("SELECT CAST(count(*) AS text) FROM {table} WHERE {}", of(&table, practice));
        counts.insert(table, texts_of(raw, &query).await[0].parse().unwrap());
    }
    counts
}

/// What lists and statistics rest on.
async fn states(raw: &DatabaseConnection) -> Vec<String> {
    let deliveries = "SELECT practice_id || state || '/' || CAST(count(*) AS text) FROM delivery GROUP BY practice_id, state ORDER BY 1";
    let heads = "SELECT practice_id || '/' || CAST(seq AS text) FROM feed_head ORDER BY 1";
    [texts_of(raw, deliveries).await, texts_of(raw, heads).await].concat()
}

async fn get(t: &TestApp, practice: &str, id: &str) -> Result<(), tonic::Status> {
    let request = GetPatientRequest { practice_id: practice.into(), patient_id: id.into() };
    t.caller_with(&token(t, Role::Staff, practice)).directory.get_patient(request).await.map(drop)
}

on_a_server! {
    async fn nothing_of_a_practice_opens_once_its_keys_are_destroyed_and_its_proofs_hold(t: &mut TestApp) {
        Box::pin(furnish(t, ACME)).await;
        Box::pin(furnish(t, BETA)).await;
        let ids: Vec<_> = (0..PATIENTS).map(|n| format!("many-{n}")).collect();
        let people = ids.iter().zip(1_000..).map(|(id, n)| patient(id, &format!("{id}@example.com"), &format!("+1201555{n}")));
        let put = BatchPutPatientsRequest { practice_id: ACME.into(), patients: people.collect() };
        t.caller(Role::Directory).directory.batch_put_patients(put).await.unwrap();
        for page in (0..TEXTS).collect::<Vec<_>>().chunks(500) {
            let items = page.iter().map(|n| item(&new_key(), reminder(t, &ids[n % PATIENTS], &[Channel::InApp])));
            send_all(t, items.collect()).await.unwrap();
        }
        // What is not counted yet is counted with the question.
        for practice in [ACME, BETA] {
            let start_time = Some(timestamp(t.now() - TimeDelta::days(1)));
            let stats = GetDeliveryStatsRequest { practice_id: practice.into(), start_time, ..Default::default() };
            t.caller_with(&token(t, Role::Staff, practice)).notify.get_delivery_stats(stats).await.unwrap();
        }
        let raw = t.home.raw().await;
        let (ours, theirs) = (sealed(&raw, ACME).await, sealed(&raw, BETA).await);
        let all: usize = ours.values().map(Vec::len).sum();
        assert!(ours["content.body_ct"].len() >= TEXTS && all > 2 * TEXTS, "{all} sealed values");
        let empty: Vec<_> = ours.iter().filter(|(_, keys)| keys.is_empty()).map(|(column, _)| column).collect();
        assert_eq!(empty, ["callback_inbox.body_ct"], "there is something in each place");
        assert_eq!(open(&ours, &kept(&raw).await), (all, 0));
        let (rows, shown) = (counts(&raw, ACME).await, states(&raw).await);
        let their_rows = counts(&raw, BETA).await;

        // Beside the server, with the id twice.
        let env = t.env();
        for wrong in [&["keys", "shred", "--practice", ACME][..], &["keys", "shred", "--practice", ACME, "--confirm", BETA]] {
            let (code, said) = heedwell(&env, wrong).await;
            assert!(code != Some(0) && said.contains("--confirm"), "{said}");
        }
        assert_eq!(kept(&raw).await.len() as i64, rows["data_key"] + rows["subject_key"] + their_rows["data_key"] + their_rows["subject_key"]);
        let said = done(&env, &["keys", "shred", "--practice", ACME, "--confirm", ACME]).await;
        assert!(rows["subject_key"] > PATIENTS as i64, "each patient has a key");
        assert_eq!(said, format!("{ACME}: {} keys destroyed\n", rows["data_key"] + rows["subject_key"]));

        let left = kept(&raw).await;
        assert_eq!(open(&sealed(&raw, ACME).await, &left), (0, all + 1), "what tells of it included");
        assert_eq!(open(&theirs, &left).1, 0, "and all of the other's");
        let mut after = counts(&raw, ACME).await;
        assert_eq!(["data_key", "subject_key"].map(|table| after.insert(table.into(), rows[table])), [Some(0), Some(0)]);
        after.entry("audit".into()).and_modify(|count| *count -= 1);
        assert_eq!(after, rows, "every row is there");
        assert_eq!(counts(&raw, BETA).await, their_rows);
        assert_eq!(states(&raw).await, shown);

        // The server learns of it within a minute, and goes on for the other.
        t.advance(TimeDelta::seconds(61));
        refused(get(t, ACME, "many-1").await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        get(t, BETA, "pat-of-beta").await.unwrap();
        t.stop().await;
        let said = done(&env, &["audit", "verify"]).await;
        assert!(said.contains("acme: ") && said.matches(": holds\n").count() == 2, "{said}");
        assert_eq!(done(&env, &["keys", "list"]).await.lines().filter(|line| line.starts_with("acme ")).count(), 0);
        let (code, said) = heedwell(&env, &["audit", "export", "--practice", ACME]).await;
        assert!(code == Some(1) && !said.contains("many-"), "{said}");
        assert_eq!(done(&env, &["keys", "shred", "--practice", ACME, "--confirm", ACME]).await, "acme: 0 keys destroyed\n");
        // For the checks after each test it never was.
        for (table, _) in columns(&raw, "practice\\_id").await {
            raw.execute_unprepared(&format!("DELETE FROM {table} WHERE practice_id = '{ACME}'")).await.unwrap();
        }
        raw.execute_unprepared("DELETE FROM attachment_part WHERE attachment_id NOT IN (SELECT id FROM attachment)").await.unwrap();
        raw.execute_unprepared("DELETE FROM broadcast_address WHERE broadcast_id NOT IN (SELECT id FROM broadcast)").await.unwrap();
        raw.close().await.unwrap();
    }

    async fn what_operators_do_with_keys_and_copies_is_on_the_trails(t: &mut TestApp) {
        practice(t).await;
        let env = t.env();
        let issued = done(&env, &["token", "--practice", ACME, "--role", "staff", "--role", "auditor", "--subject", "dana"]).await;
        assert_eq!(issued.split('.').count(), 3, "{issued}");
        done(&env, &["token", "--practice", "*", "--role", "operator", "--ttl", "90s"]).await;
        // Of a practice that is not there nobody has a trail.
        done(&env, &["token", "--practice", "nowhere", "--role", "staff"]).await;
        done(&env, &["keys", "rotate", "--new-master"]).await;
        done(&env, &["keys", "rotate", "--practice", ACME]).await;
        let copy = t.home.path("copy.db").display().to_string();
        let (code, _) = heedwell(&env, &["backup", &copy]).await;
        let copied = t.home.backend == Backend::Sqlite;
        assert_eq!(code, Some(i32::from(!copied)));
        t.stop().await;
        let trail = done(&env, &["audit", "export", "--practice", ACME]).await;
        let told = trail.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let told: Vec<_> = told.filter(|event| event["actor_type"] == "system").collect();
        let told: Vec<_> = told.iter().map(|event| [&event["action"], &event["resource"]].map(|text| text.as_str().unwrap())).collect();
        let mut expected = vec![
            ["token.issue", "token/dana/staff+auditor/3600s"],
            ["token.issue", "token/local/operator/90s"],
            ["keys.master", "keys/master.2"],
            ["keys.wrap", "keys/master.2"],
            ["keys.begin", "keys"],
            ["instance.backup", "instance"],
            ["audit.export", "audit"],
        ];
        expected.retain(|[action, _]| copied || *action != "instance.backup");
        assert_eq!(told, expected);
    }
}
