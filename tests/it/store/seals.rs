//! PostgreSQL itself keeps practices apart: whatever a statement asks for, and whoever the server connects as.

use std::{collections::BTreeSet, sync::Arc};

use heedwell::{
    clock::SystemClock,
    domain::Channel,
    store::{OpenError, Settings, Store, StoreError, Time},
    wake::Wake,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, Statement};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
};

use super::{
    given::{NORTH, Order, SOUTH, claim, patient, practice, ready_practice},
    *,
};
use crate::support::{Backend, Home, as_superuser, run};

/// A connection as the server's user that works for a practice, for the engine, or for nobody.
async fn connected(url: &str, setting: Option<(&str, &str)>) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    let settings: Vec<_> = setting.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
    options.max_connections(1).sqlx_logging(false).map_sqlx_postgres_opts(move |it| it.options(settings.clone()));
    Database::connect(options).await.unwrap()
}

async fn numbers(db: &DatabaseConnection, query: &str) -> Result<Vec<i64>, DbErr> {
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), query)).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

async fn changed(db: &DatabaseConnection, statement: &str) -> Result<u64, DbErr> {
    let statement = Statement::from_string(db.get_database_backend(), statement);
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// The tables, each with whether it has a practice, and whether it is sealed for its owner too.
async fn tables(t: &TestStore) -> Vec<(String, bool, bool)> {
    let query = "SELECT c.relname::text, EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'practice_id'), \
                 c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid) \
                 FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace ORDER BY 1";
    let rows = t.rows(query).await;
    let get = |row: &sea_orm::QueryResult| {
        (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap(), row.try_get_by_index(2).unwrap())
    };
    rows.iter().map(get).collect()
}

/// Fills the tables that most is kept in, for two practices alike.
async fn fill(t: &TestStore) {
    for id in [NORTH, SOUTH] {
        let scope = ready_practice(t, id).await;
        t.store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
        Order::new("r1", &[Channel::Sms, Channel::Email, Channel::InApp]).accept(t, &scope).await;
        assert_eq!(claim(t, &scope, 1).await.len(), 1);
        // As the store would, a file in parts.
        let id = uuid::Uuid::new_v4();
        t.execute(&format!(
            "INSERT INTO attachment (id, practice_id, side, patient_id, request_id, state, about_ct, size_bytes, parts, place, tries, \
             create_time) VALUES ('{id}', '{}', 1, '', 'f1', 2, '', 1, 1, 0, 0, now())",
            scope.practice()
        ))
        .await;
        t.execute(&format!("INSERT INTO attachment_part (attachment_id, n, data_ct) VALUES ('{id}', 0, '')")).await;
    }
}

async fn each_practice_for_itself(t: &TestStore) {
    fill(t).await;
    let url = &t.home.url;
    let nobody = connected(url, None).await;
    let empty = connected(url, Some(("heedwell.practice", ""))).await;
    let north = connected(url, Some(("heedwell.practice", NORTH))).await;
    let engine = connected(url, Some(("heedwell.engine", "on"))).await;
    let (mut open, mut filled) = (BTreeSet::new(), 0);
    for (table, has_practice, sealed) in tables(t).await {
        let count = format!("SELECT count(*) FROM \"{table}\"");
        let all = t.number(&count).await;
        if !sealed {
            assert!(
                !has_practice,
                "{table} has a practice and is not sealed: end the change that makes it with `seal`"
            );
            open.insert(table);
            continue;
        }
        assert_eq!(numbers(&nobody, &count).await.unwrap(), [0], "{table} for whoever says nothing");
        assert_eq!(numbers(&empty, &count).await.unwrap(), [0], "{table} for no practice");
        assert_eq!(numbers(&engine, &count).await.unwrap(), [all], "{table} for the engine");
        let own = if has_practice { t.number(&format!("{count} WHERE practice_id = 'north'")).await } else { all / 2 };
        assert_eq!(numbers(&north, &count).await.unwrap(), [own], "{table} for one of two practices");
        filled += i32::from(own > 0);
        if !has_practice {
            continue;
        }
        // What is another's is neither changed nor taken, nor is anything given to others.
        for statement in [
            format!("UPDATE \"{table}\" SET practice_id = practice_id WHERE practice_id = 'south'"),
            format!("DELETE FROM \"{table}\" WHERE practice_id = 'south'"),
        ] {
            assert_eq!(changed(&north, &statement).await.unwrap(), 0, "{statement}");
        }
        if own > 0 {
            let given = changed(&north, &format!("UPDATE \"{table}\" SET practice_id = 'south'")).await;
            assert!(given.unwrap_err().to_string().contains("row-level security"), "{table}");
            let copied = format!("INSERT INTO \"{table}\" SELECT * FROM \"{table}\" ON CONFLICT DO NOTHING");
            assert!(changed(&nobody, &copied).await.is_ok_and(|count| count == 0), "{table}");
        }
    }
    assert_eq!(
        open.into_iter().collect::<Vec<_>>(),
        ["installation", "instance", "lease", "schema_floor", "seaql_migrations"]
    );
    assert!(filled >= 16, "{filled}");
    for db in [nobody, empty, north, engine] {
        db.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_shown_the_rows_of_whom_it_works_for() {
    run(Backend::Postgres, each_practice_for_itself).await;
}

async fn opened(home: &Home, database_url: String) -> Result<Store, OpenError> {
    let settings = Settings { database_url, ..home.settings() };
    Store::open(settings, home.keys(), Time::Database(Arc::new(SystemClock)), Wake::default()).await
}

/// The server's statements are those of the role: what that may not do, the server may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superuser_steps_down() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let Some(url) = as_superuser(&home.url) else { return };
    // In a database of its own: what it makes is the superuser's.
    let store = opened(&home, url.clone()).await.unwrap();
    let scope = heedwell::domain::Engine::new().scope(NORTH.parse().unwrap(), heedwell::domain::Author::system());
    store.practice_put(&scope, practice(NORTH), None).await.unwrap();
    store.patients_put(&scope, vec![patient("ann")]).await.unwrap();
    let ann = "ann".parse().unwrap();
    store.patient_get(&scope, &ann).await.unwrap();
    let raw = home.raw().await;
    for (table, allowed) in [("patient", false), ("patient", true), ("practice", false), ("practice", true)] {
        let word = if allowed { "GRANT SELECT ON" } else { "REVOKE SELECT ON" };
        let preposition = if allowed { "TO" } else { "FROM" };
        raw.execute_unprepared(&format!("{word} {table} {preposition} heedwell_bound")).await.unwrap();
        let (read, written) =
            (store.patient_get(&scope, &ann).await, store.practice_put(&scope, practice(NORTH), None).await);
        let refused = |denied: bool| denied && !allowed;
        assert_eq!(matches!(read, Err(StoreError::Internal(_))), refused(table == "patient"), "{read:?}");
        assert_eq!(matches!(written, Err(StoreError::Internal(_))), refused(table == "practice"), "{written:?}");
    }
    raw.close().await.unwrap();
    store.close().await;
    opened(&home, url).await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_no_policy_binds_and_who_cannot_step_down_is_refused_with_what_to_run() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let Some(superuser) = as_superuser(&home.url) else { return };
    let user = format!("bypassing_{}", uuid::Uuid::new_v4().simple());
    let raw = connected(&superuser, None).await;
    raw.execute_unprepared(&format!("CREATE ROLE {user} LOGIN BYPASSRLS")).await.unwrap();
    raw.execute_unprepared(&format!(
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' OWNER TO {user}'; END $$"
    ))
    .await
    .unwrap();
    let url = superuser.replacen("postgres://postgres@", &format!("postgres://{user}@"), 1);
    let error = opened(&home, url.clone()).await.unwrap_err();
    assert!(matches!(error, OpenError::Unsealed), "{error:?}");
    // It does what it is told.
    raw.execute_unprepared(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'heedwell_bound') THEN CREATE ROLE heedwell_bound; \
         END IF; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    )
    .await
    .unwrap();
    for words in [
        &format!("GRANT heedwell_bound TO {user}"),
        "GRANT USAGE ON SCHEMA public TO heedwell_bound",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO heedwell_bound",
    ] {
        let told = words.split(" TO ").next().unwrap();
        assert!(error.to_string().contains(told), "{told}");
        raw.execute_unprepared(words).await.unwrap();
    }
    opened(&home, url).await.unwrap().close().await;
    raw.close().await.unwrap();
}

/// Whoever restores a backup, or looks for himself, is shown everything by a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_shown_all_rows_when_asking_for_them() {
    let Some(home) = Home::new(Backend::Postgres).await else { return };
    let store = home.open(Time::Database(Arc::new(SystemClock))).await.unwrap();
    let scope = heedwell::domain::Engine::new().scope(NORTH.parse().unwrap(), heedwell::domain::Author::system());
    store.practice_put(&scope, practice(NORTH), None).await.unwrap();
    store.close().await;
    let owner = connected(&home.url, None).await;
    assert_eq!(numbers(&owner, "SELECT count(*) FROM practice").await.unwrap(), [0]);
    owner.execute_unprepared("SET heedwell.engine = 'on'").await.unwrap();
    assert_eq!(numbers(&owner, "SELECT count(*) FROM practice").await.unwrap(), [1]);
    owner.close().await.unwrap();
    home.leave().await;
}

/// Stands before the database as a pooler does that does not pass on what a connection says of itself. Yields its address.
async fn pooler(folder: String) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(format!("{folder}/.s.PGSQL.5432")).await.unwrap();
            tokio::spawn(async move {
                // The first message: its length, a version, and names and values, each ending in a zero.
                let mut length = [0; 4];
                client.read_exact(&mut length).await.unwrap();
                let mut message = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
                client.read_exact(&mut message).await.unwrap();
                let words: Vec<&[u8]> = message[4..].split(|byte| *byte == 0).collect();
                let mut passed = message[..4].to_vec();
                for pair in words.chunks(2).take_while(|pair| !pair[0].is_empty()).filter(|pair| pair[0] != b"options")
                {
                    passed.extend([pair[0], b"\0", pair[1], b"\0"].concat());
                }
                passed.push(0);
                let length = u32::try_from(passed.len() + 4).unwrap().to_be_bytes();
                server.write_all(&[&length[..], &passed].concat()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_loses_what_a_connection_says_of_itself_is_refused() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let Some((head, folder)) = home.url.split_once("?host=") else { return };
    let addr = pooler(folder.to_owned()).await;
    let through = |host: &str| format!("{}?sslmode=disable", head.replacen("@localhost/", &format!("@{host}/"), 1));
    let error = opened(&home, through(&addr.to_string())).await.unwrap_err();
    assert!(matches!(error, OpenError::Pooled), "{error:?}");
    opened(&home, home.url.clone()).await.unwrap().close().await;
}
