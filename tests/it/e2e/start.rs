//! When the server does not start: it says why, and which variable to mend.

use std::{error::Error, fs};

use heedwell::{
    app::{App, StartError},
    config::{self, Env},
    crypto::KeyFile,
};
use tokio::net::TcpListener;

use crate::support::app::{TestApp, on_a_server};

/// Tries to start a server with those settings, and yields everything that the operator is told.
async fn refusal(t: &TestApp, env: &Env) -> String {
    let config = config::read(env, false).unwrap();
    let error = App::start(config, t.time()).await.expect_err("it does not start");
    told(&error)
}

/// The error with its causes, as it is printed.
fn told(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

on_a_server! {
    async fn a_port_that_is_taken_is_named(t: &mut TestApp) {
        t.stop().await;
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = taken.local_addr().unwrap().to_string();
        for variable in ["HEEDWELL_GRPC_ADDR", "HEEDWELL_HTTP_ADDR"] {
            let mut env = t.env();
            env.set(variable, addr.clone());
            let told = refusal(t, &env).await;
            assert!(told.starts_with(variable) && told.contains(&addr), "{told}");
        }
        // Nothing was left behind that would keep the next one from starting.
        t.start().await;
    }

    async fn a_master_key_of_another_database_is_refused(t: &mut TestApp) {
        t.stop().await;
        KeyFile::create(&t.home.path("other-keys")).unwrap();
        let mut env = t.env();
        env.set("HEEDWELL_MASTER_KEY_FILE", t.home.path("other-keys").display().to_string());
        let told = refusal(t, &env).await;
        assert!(told.contains("HEEDWELL_MASTER_KEY_FILE") && told.contains("does not belong"), "{told}");
        fs::write(t.home.path("other-keys"), "nonsense").unwrap();
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_MASTER_KEY_FILE") && !told.contains("nonsense"), "{told}");
        t.start().await;
    }

    async fn limits_that_do_not_fit_together_are_refused(t: &mut TestApp) {
        t.stop().await;
        let mut config = config::read(&t.env(), false).unwrap();
        config.store.lease = std::time::Duration::from_secs(30);
        let error = App::start(config, t.time()).await.expect_err("a claim would end before its call");
        assert!(told(&error).contains("a lease of 30s is too short for calls that begin within 15s"), "{error}");
        t.start().await;
    }

    async fn a_schema_of_a_newer_release_is_left_alone(t: &mut TestApp) {
        t.stop().await;
        t.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_later', 0)").await;
        // It only adds: a server of the release before serves beside it.
        t.start().await;
        t.stop().await;
        t.execute("UPDATE schema_floor SET migration = 'm20990101_000001_later'").await;
        let told = refusal(t, &t.env()).await;
        assert!(told.starts_with("HEEDWELL_DATABASE_URL") && told.contains("newer"), "{told}");
        assert!(told.contains("m20990101_000001_later"), "{told}");
        t.execute("DELETE FROM seaql_migrations WHERE version = 'm20990101_000001_later'").await;
        t.execute("UPDATE schema_floor SET migration = 'm20261130_000047_let_older_releases_start'").await;
        t.start().await;
    }
}

on_a_server! {
    sqlite:
    async fn one_sqlite_file_serves_one_process(t: &mut TestApp) {
        // The first runs; the second has ports and data folder of its own.
        let mut env = t.env();
        env.set("HEEDWELL_DATA_DIR", t.home.path("second").display().to_string());
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_DATABASE_URL") && told.contains("in use by another"), "{told}");
        t.stop().await;
        t.start().await;
    }

    async fn a_database_that_is_none_is_refused(t: &mut TestApp) {
        let damaged = t.home.path("damaged.db");
        fs::write(
            &damaged,
            "this is no database, whatever its name says, and it is long enough to be read".repeat(100),
        )
        .unwrap();
        let mut env = t.env();
        env.set("HEEDWELL_DATABASE_URL", format!("sqlite:{}", damaged.display()));
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_DATABASE_URL"), "{told}");
        env.set("HEEDWELL_DATABASE_URL", format!("sqlite:{}", t.home.path("no/such/folder/heedwell.db").display()));
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_DATABASE_URL"), "{told}");
        env.set("HEEDWELL_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing");
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_DATABASE_URL"), "{told}");
    }

    async fn a_data_folder_that_cannot_be_made_is_named(t: &mut TestApp) {
        fs::write(t.home.path("a-file"), "").unwrap();
        let mut env = t.env();
        env.set("HEEDWELL_DATA_DIR", t.home.path("a-file").join("data").display().to_string());
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_DATA_DIR"), "{told}");
    }

    async fn files_of_the_server_are_for_its_owner_alone(t: &mut TestApp) {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(t.home.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("data"), mode("data/signing-key")), (0o700, 0o600));
        fs::set_permissions(t.home.path("data/signing-key"), fs::Permissions::from_mode(0o644)).unwrap();
        t.stop().await;
        let told = refusal(t, &t.env()).await;
        assert!(told.starts_with("HEEDWELL_JWKS") && told.contains("chmod 600"), "{told}");
        fs::set_permissions(t.home.path("data/signing-key"), fs::Permissions::from_mode(0o600)).unwrap();
        t.start().await;
    }
}

#[test]
fn all_faults_of_the_settings_are_told_at_once() {
    let mut env = Env::default();
    env.set("HEEDWELL_GRPC_ADDR", "canary");
    env.set("HEEDWELL_HTTP_ADDR", "0.0.0.0:8080");
    env.set("HEEDWELL_DATABASE_URL", "mysql://canary");
    env.set("HEEDWELL_TWILIO_URL", "http://127.0.0.1:4010");
    env.set("HEEDWELL_MASTER_KEYFILE", "misspelt");
    env.set("HEEDWELL_DRAIN_SECONDS", "soon");
    let faults = config::read(&env, false).expect_err("they are refused").to_string();
    for variable in [
        "HEEDWELL_GRPC_ADDR",
        "HEEDWELL_PUBLIC_URL",
        "HEEDWELL_DATABASE_URL",
        "HEEDWELL_TWILIO_URL",
        "HEEDWELL_MASTER_KEYFILE",
        "HEEDWELL_MASTER_KEY_FILE",
        "HEEDWELL_JWKS",
        "HEEDWELL_DRAIN_SECONDS",
    ] {
        assert!(faults.contains(variable), "{variable} is missing in {faults}");
    }
    assert!(!faults.contains("canary"), "values may be secrets");
}
