//! Opening a store: what it refuses to work with, and that what was stored is there after a restart.

use std::sync::Arc;

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    clock::{Clock, SystemClock},
    crypto::KeyFile,
    domain::{Channel, DeliveryState},
    store::{OpenError, Settings, Store, Time},
    wake::Wake,
};

use super::{
    given::{NORTH, Order, accepted, claim_one, ready_practice, settle},
    *,
};
use crate::support::{Apart, Backend, Home};

fn system_time() -> Time {
    Time::Database(Arc::new(SystemClock))
}

async fn refusal(settings: Settings, keys: KeyFile) -> OpenError {
    Store::open(settings, keys, system_time(), Wake::default()).await.unwrap_err()
}

#[tokio::test]
async fn another_kind_of_database_is_refused() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    for url in ["mysql://localhost/heedwell", "heedwell.db", ""] {
        let settings = Settings { database_url: url.into(), ..home.settings() };
        assert!(matches!(refusal(settings, home.keys()).await, OpenError::UnknownDatabase), "{url}");
    }
}

#[tokio::test]
async fn a_sqlite_file_belongs_to_one_process() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    let first = home.open(system_time()).await.unwrap();
    let second = refusal(home.settings(), home.keys()).await;
    assert!(matches!(&second, OpenError::Locked(path) if *path == home.path("heedwell.db")), "{second:?}");
    first.close().await;
    drop(first);
    home.open(system_time()).await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    let url = format!("sqlite:{}", home.path("nowhere").join("heedwell.db").display());
    let error = refusal(Settings { database_url: url, ..home.settings() }, home.keys()).await;
    assert!(matches!(&error, OpenError::Lock { path, .. } if path.ends_with("nowhere/heedwell.db.lock")), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    std::fs::write(home.path("heedwell.db"), "no database at all ".repeat(100)).unwrap();
    let error = refusal(home.settings(), home.keys()).await;
    assert!(matches!(error, OpenError::Unreachable(_) | OpenError::Damaged), "{error:?}");
}

#[tokio::test]
async fn an_unreachable_server_is_refused_without_its_password() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    let url = "postgres://heedwell:hunter2@localhost/heedwell?host=/nowhere";
    let error = refusal(Settings { database_url: url.into(), ..home.settings() }, home.keys()).await;
    assert!(matches!(error, OpenError::Unreachable(_)), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_unmigrated_server_is_refused_unless_it_may_be_migrated() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let settings = || Settings { migrate: false, ..home.settings() };
    assert!(matches!(refusal(settings(), home.keys()).await, OpenError::OlderSchema));
    home.open(system_time()).await.unwrap().close().await;
    let store = Store::open(settings(), home.keys(), system_time(), Wake::default()).await.unwrap();
    assert!(store.ready().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_start_at_once_migrate_once() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let opened = join_all((0..4).map(|_| home.open(system_time()))).await;
    for store in opened {
        assert!(store.unwrap().ready().await.unwrap());
    }
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_confirmed_is_refused() {
    let home = Home::new(Backend::Sqlite).await.unwrap();
    for setting in ["fsync", "full_page_writes"] {
        let Some(careless) = Apart::start(format!("{setting}=off")).await else { return };
        let settings = Settings { database_url: careless.url.clone(), ..home.settings() };
        let error = refusal(settings, home.keys()).await;
        assert!(matches!(&error, OpenError::UnsafeSetting { name, .. } if *name == setting), "{error:?}");
    }
}

async fn wrong_key(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    home.open(system_time()).await.unwrap().close().await;
    let other = KeyFile::create(&home.path("other-keys")).unwrap();
    assert!(matches!(refusal(home.settings(), other).await, OpenError::WrongKey));
    home.open(system_time()).await.unwrap();
}

async fn newer_schema(backend: Backend) {
    let Some(home) = Home::bare(backend).await else { return };
    home.open(system_time()).await.unwrap().close().await;
    let raw = home.raw().await;
    let insert = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_add_wings', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&raw, insert).await.unwrap();
    // It only adds: releases that know the floor go on.
    let beside = home.open(system_time()).await.unwrap();
    assert!(beside.ready().await.unwrap());
    beside.close().await;
    drop(beside);
    let raise = "UPDATE schema_floor SET migration = 'm29990101_000001_add_wings'";
    sea_orm::ConnectionTrait::execute_unprepared(&raw, raise).await.unwrap();
    raw.close().await.unwrap();
    let error = refusal(home.settings(), home.keys()).await;
    assert!(matches!(&error, OpenError::NewerSchema(name) if name == "m29990101_000001_add_wings"), "{error:?}");
}

#[tokio::test]
async fn another_key_file_is_refused_sqlite() {
    wrong_key(Backend::Sqlite).await;
}

#[tokio::test]
async fn another_key_file_is_refused_postgres() {
    wrong_key(Backend::Postgres).await;
}

#[tokio::test]
async fn a_newer_schema_is_worked_beside_or_refused_sqlite() {
    newer_schema(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_newer_schema_is_worked_beside_or_refused_postgres() {
    newer_schema(Backend::Postgres).await;
}

on_both! {
    async fn a_store_that_is_open_is_ready_and_says_so_no_more_when_its_schema_is_gone(t: &TestStore) {
        assert!(t.store.ready().await.unwrap());
        t.execute("UPDATE seaql_migrations SET version = 'm29990101_000001_add_wings' WHERE version LIKE '%_000005_%'")
            .await;
        assert!(!t.store.ready().await.unwrap());
        t.execute(
            "UPDATE seaql_migrations SET version = 'm20261125_000005_create_ledgers' WHERE version LIKE '%add_wings'",
        )
        .await;
        assert!(t.store.ready().await.unwrap());
    }

    async fn the_injected_clock_is_the_time(t: &TestStore) {
        assert_eq!(t.store.now().await.unwrap(), t.now());
        t.advance(3);
        assert_eq!(t.store.now().await.unwrap(), t.now());
    }
}

async fn restart(backend: Backend) {
    let Some(t) = TestStore::open(backend).await else { return };
    let scope = ready_practice(&t, NORTH).await;
    let record = Order::new("r1", &[Channel::Sms]).accept(&t, &scope).await;
    let t = t.reopened().await;
    assert_eq!(t.store.notification_get(&scope, record.id).await.unwrap(), record);
    let claimed = claim_one(&t, &scope).await;
    settle(&t, &claimed, accepted("SM1")).await;
    let detail = t.store.notification_detail(&scope, record.id, true).await.unwrap();
    assert_eq!(detail.record.deliveries[0].state, DeliveryState::Sent);
    assert_eq!(detail.details[0].1.as_ref().unwrap().text.expose(), "Your visit is tomorrow at 9.");
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_sqlite() {
    restart(Backend::Sqlite).await;
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart_postgres() {
    restart(Backend::Postgres).await;
}

#[tokio::test]
async fn the_servers_clock_is_the_time_on_postgres() {
    let Some(home) = Home::bare(Backend::Postgres).await else { return };
    let store = home.open(system_time()).await.unwrap();
    let (before, now, after) = (SystemClock.now(), store.now().await.unwrap(), SystemClock.now());
    let slack = TimeDelta::milliseconds(1);
    assert!(before - slack <= now && now <= after + slack);
    assert_eq!(now.timestamp_subsec_nanos() % 1000, 0);
}
