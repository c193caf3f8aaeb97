//! `heedwell doctor`: finds nothing wrong with what is in order, names each fault with what to mend, and changes nothing.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use heedwell::{
    auth::LocalKey,
    cli::doctor::{Around, Finding, Level, examine},
    clock::{Clock, SystemClock},
    config::{Env, local_key},
    crypto::KeyFile,
    domain::Role,
    grpc::proto::{
        EmailSettings, PracticeSettings, SmtpSettings, UpdatePracticeSettingsRequest, email_settings::Provider,
    },
};
use rcgen::{CertificateParams, KeyPair};
use sea_orm::{ConnectionTrait, Statement, Value};
use serde_json::Value as Json;
use tokio::process::Command;

use super::given::{AUTH_TOKEN, PHONE, mask, practice, practice_named, token};
use crate::support::{
    Backend,
    app::{TestApp, on_a_server},
    as_superuser,
    vault::{Mood, TOKEN, Vault},
};

/// A clock that is behind.
#[derive(Debug)]
struct Behind(Duration);

impl Clock for Behind {
    fn now(&self) -> DateTime<Utc> {
        DateTime::<Utc>::from(SystemTime::now() - self.0)
    }
}

fn around() -> Around {
    Around { clock: Arc::new(SystemClock), core_dumps: false }
}

fn with(env: &Env, values: &[(&str, &str)]) -> Env {
    let mut env = env.clone();
    for (name, value) in values {
        env.set(&format!("HEEDWELL_{name}"), *value);
    }
    env
}

fn put(path: &Path, text: &str, mode: u32) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

/// A certificate that is good from and until so many days from now, and its key.
fn pair(days: (i64, i64)) -> [String; 2] {
    let mut params = CertificateParams::new(vec!["grpc.acme.example".to_owned()]).unwrap();
    let from_now = |days: i64| {
        let day = SystemTime::now() + Duration::from_secs(4_000 * 86_400);
        let day = day - Duration::from_secs(u64::try_from(4_000 - days).unwrap() * 86_400);
        day.into()
    };
    (params.not_before, params.not_after) = (from_now(days.0), from_now(days.1));
    let key = KeyPair::generate().unwrap();
    [params.self_signed(&key).unwrap().pem(), key.serialize_pem()]
}

/// Settings with which there is nothing to find.
fn healthy(t: &TestApp) -> Env {
    let [chain, key] = pair((-1, 90));
    let signing = LocalKey::load_or_create(&local_key(&t.home.path("data"))).unwrap().0;
    let values = [
        ("PUBLIC_URL", "https://reach.acme.example".to_owned()),
        ("TLS_CERT_FILE", put(&t.home.path("chain.pem"), &chain, 0o644)),
        ("TLS_KEY_FILE", put(&t.home.path("key.pem"), &key, 0o600)),
        ("TLS_CLIENT_CA_FILE", put(&t.home.path("clients.pem"), &pair((-1, 400))[0], 0o644)),
        ("JWKS", put(&t.home.path("jwks.json"), &signing.jwks().to_string(), 0o644)),
    ];
    with(&t.env(), &values.each_ref().map(|(name, value)| (*name, value.as_str())))
}

/// What is found; nothing of it tells a secret, or of a patient.
async fn found(t: &TestApp, env: &Env, around: &Around) -> Vec<Finding> {
    let report = examine(env, around).await;
    let text = format!("{report:?}");
    let keys = fs::read_to_string(t.home.path("keys")).unwrap();
    let keys = keys.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').nth(1));
    for secret in keys.chain([AUTH_TOKEN, PHONE, TOKEN, "pat@example.com", "Doe", "canary"]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    report.iter().cloned().collect()
}

/// Sees that exactly this is found beside what is in order: how bad, what was looked at, the variable, and words.
async fn check(t: &TestApp, env: &Env, around: &Around, expected: &[(Level, &str, &str, &str)]) {
    let all = found(t, env, around).await;
    let bad: Vec<_> = all.iter().filter(|finding| finding.level != Level::Ok).collect();
    assert_eq!(bad.len(), expected.len(), "{bad:#?}");
    for (level, check, variable, words) in expected {
        let variable = if variable.is_empty() { String::new() } else { format!("HEEDWELL_{variable}") };
        let is_meant = |finding: &&&Finding| {
            (finding.level, finding.check) == (*level, *check)
                && finding.variable == variable
                && finding.text.contains(words)
        };
        assert_eq!(bad.iter().filter(is_meant).count(), 1, "{check} {variable}: {words} in {bad:#?}");
    }
}

/// Puts one value in a column in the place of what is there, which it yields.
async fn swap(t: &TestApp, table: &str, column: &str, value: Vec<u8>) -> Vec<u8> {
    let raw = t.home.raw().await;
    let backend = raw.get_database_backend();
    let row =
        raw.query_one_raw(Statement::from_string(backend, format!("SELECT {column} FROM {table}"))).await.unwrap();
    let before = row.unwrap().try_get_by_index::<Vec<u8>>(0).unwrap();
    let update = format!("UPDATE {table} SET {column} = $1");
    raw.execute_raw(Statement::from_sql_and_values(backend, update, [Value::from(value)])).await.unwrap();
    raw.close().await.unwrap();
    before
}

async fn heedwell(env: &Env, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heedwell"));
    let output = command.args(arguments).env_clear().envs(env.variables()).output().await.unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

use Level::{Warning, Wrong};

on_a_server! {
    async fn what_is_in_order_is_found_so(t: &mut TestApp) {
        practice(t).await;
        let env = healthy(t);
        let addresses = t.addresses().map(|addr| addr.to_string());
        // Beside a server that runs, and that has the addresses.
        let running = with(&env, &[("GRPC_ADDR", &addresses[0]), ("HTTP_ADDR", &addresses[1])]);
        check(t, &running, &around(), &[]).await;
        t.stop().await;
        check(t, &env, &around(), &[]).await;
        let all = found(t, &env, &around()).await;
        let mut looked: Vec<_> = all.iter().map(|finding| finding.check).collect();
        looked.dedup();
        let postgres = t.home.backend == Backend::Postgres;
        let own: &[_] = if postgres { &["row-level security", "clock"] } else { &["disk"] };
        let expected = [
            &["configuration", "data folder", "anchors", "certificates", "public address", "addresses", "core dumps"][..],
            &["callers' keys", "master keys", "database", "schema"],
            own,
            &["instance", "key check", "data keys", "practices", "providers"],
        ];
        assert_eq!(looked, expected.concat());
        let relay = format!("the relay {} can be reached", t.sandbox.smtp_addr());
        assert!(all.iter().any(|finding| finding.text == relay), "{all:#?}");
        // For people and for programs.
        let (code, lines) = heedwell(&env, &["doctor"]).await;
        assert_eq!(code, Some(0), "{lines}");
        assert!(lines.contains("\nok      schema: HEEDWELL_DATABASE_URL: is up to date\n"), "{lines}");
        let (code, json) = heedwell(&with(&env, &[("PUBLIC_URL", "")]), &["doctor", "--json"]).await;
        assert_eq!(code, Some(0), "a warning is nothing wrong: {json}");
        let json: Json = serde_json::from_str(&json).unwrap();
        let findings = json["findings"].as_array().unwrap();
        let public = findings.iter().find(|finding| finding["check"] == "public address").unwrap();
        assert_eq!((json["wrong"].as_bool(), &public["level"], &public["variable"]), (Some(false), &"warning".into(), &"HEEDWELL_PUBLIC_URL".into()));
        t.start().await;
    }

    async fn each_fault_of_the_database_is_named(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let env = healthy(t);
        let postgres = t.home.backend == Backend::Postgres;

        KeyFile::create(&t.home.path("other-keys")).unwrap();
        let other = with(&env, &[("MASTER_KEY_FILE", &t.home.path("other-keys").display().to_string())]);
        check(t, &other, &around(), &[(Wrong, "key check", "MASTER_KEY_FILE", "does not belong to this database")]).await;

        let before = swap(t, "practice_settings", "body_ct", b"canary".to_vec()).await;
        let words = "what acme has set up cannot be opened";
        // What is not opened does not say who uses what: no relay is looked for.
        check(t, &env, &around(), &[(Wrong, "practices", "MASTER_KEY_FILE", words)]).await;
        swap(t, "practice_settings", "body_ct", before).await;
        let before = swap(t, "data_key", "wrapped", b"canary".to_vec()).await;
        check(t, &env, &around(), &[(Wrong, "practices", "MASTER_KEY_FILE", "is a master missing in the key file?")]).await;
        swap(t, "data_key", "wrapped", before).await;

        for (uses, level) in [((1_i64 << 27) - 1, None), (1 << 27, Some(Warning)), ((1 << 31) + 1, Some(Wrong))] {
            t.execute(&format!("UPDATE data_key SET uses = {uses}")).await;
            let expected = level.map(|level| (level, "data keys", "", "run `heedwell keys rotate --practice acme`"));
            check(t, &env, &around(), expected.as_slice()).await;
        }
        t.execute("UPDATE data_key SET uses = 1").await;

        t.execute("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_later', 0)").await;
        check(t, &env, &around(), &[]).await;
        t.execute("UPDATE schema_floor SET migration = 'm20990101_000001_later'").await;
        check(t, &env, &around(), &[(Wrong, "schema", "DATABASE_URL", "m20990101_000001_later): start the newer release")]).await;
        t.execute("DELETE FROM seaql_migrations WHERE version = 'm20990101_000001_later'").await;
        t.execute("UPDATE schema_floor SET migration = 'm20261130_000047_let_older_releases_start'").await;
        t.execute("UPDATE seaql_migrations SET applied_at = -7 WHERE version = (SELECT max(version) FROM seaql_migrations)").await;
        t.execute("CREATE TABLE kept AS SELECT * FROM seaql_migrations WHERE applied_at = -7").await;
        t.execute("DELETE FROM seaql_migrations WHERE applied_at = -7").await;
        // Left as it is, however often it is looked at.
        for _ in 0..2 {
            let older = match postgres {
                true => (Wrong, "schema", "DATABASE_URL", "is older by 1 changes: run `heedwell migrate`"),
                false => (Warning, "schema", "DATABASE_URL", "is older by 1 changes: the next start makes them"),
            };
            check(t, &env, &around(), &[older]).await;
        }
        t.execute("INSERT INTO seaql_migrations SELECT * FROM kept").await;
        t.execute("DROP TABLE kept").await;

        check(t, &env, &around(), &[]).await;
        t.start().await;
    }
}

on_a_server! {
    postgres:
    async fn what_only_postgres_can_have_wrong_is_named(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let env = healthy(t);
        for (behind, level) in [(1, None), (10, Some(Warning)), (60, Some(Wrong))] {
            let around = Around { clock: Arc::new(Behind(Duration::from_secs(behind))), core_dumps: false };
            let expected = level.map(|level| (level, "clock", "", "have both machines set theirs by NTP"));
            check(t, &env, &around, expected.as_slice()).await;
        }
        for (open, shut) in [
            ("ALTER TABLE patient NO FORCE ROW LEVEL SECURITY", "ALTER TABLE patient FORCE ROW LEVEL SECURITY"),
            ("ALTER TABLE patient DISABLE ROW LEVEL SECURITY", "ALTER TABLE patient ENABLE ROW LEVEL SECURITY"),
            ("ALTER POLICY own_practice ON patient RENAME TO another", "ALTER POLICY another ON patient RENAME TO own_practice"),
        ] {
            t.execute(open).await;
            check(t, &env, &around(), &[(Wrong, "row-level security", "DATABASE_URL", "in patient apart: run `ALTER TABLE patient")]).await;
            t.execute(shut).await;
        }
        if let Some(url) = as_superuser(&t.home.url) {
            let words = "superuser or has BYPASSRLS";
            let all = found(t, &with(&env, &[("DATABASE_URL", &url)]), &around()).await;
            let finding = all.iter().find(|finding| finding.check == "row-level security").unwrap();
            assert!(finding.level != Level::Ok && finding.text.contains(words), "{finding:?}");
        }
        let nobody = with(&env, &[("DATABASE_URL", "postgres://canary:canary@127.0.0.1:1/canary")]);
        let expected = [(Wrong, "database", "DATABASE_URL", "cannot open the database: check that it exists")];
        check(t, &nobody, &around(), &expected).await;
        t.start().await;
    }
}

on_a_server! {
    sqlite:
    async fn each_fault_of_the_machine_is_named(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let env = healthy(t);
        let path = |name: &str| t.home.path(name).display().to_string();
        let core_dumps = Around { core_dumps: true, ..around() };
        check(t, &env, &core_dumps, &[(Warning, "core dumps", "", "LimitCORE=0")]).await;

        let keys = fs::read_to_string(t.home.path("keys")).unwrap();
        put(&t.home.path("open-keys"), &keys, 0o644);
        put(&t.home.path("no-keys"), "canary", 0o600);
        put(&t.home.path("no-set"), "{\"keys\": []}", 0o600);
        put(&t.home.path("damaged.db"), &"this is no database, whatever it says: canary".repeat(100), 0o600);
        put(&t.home.path("open-key.pem"), &fs::read_to_string(t.home.path("key.pem")).unwrap(), 0o644);
        let _socket = UnixListener::bind(t.home.path("socket")).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = taken.local_addr().unwrap().to_string();
        // Nobody listens there any more.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let nowhere = format!("http://{closed}");
        for (name, value, expected) in [
            ("MASTER_KEY_FILE", path("open-keys"), (Wrong, "master keys", "MASTER_KEY_FILE", "run: chmod 600")),
            ("MASTER_KEY_FILE", path("no-keys"), (Wrong, "master keys", "MASTER_KEY_FILE", "line 1 of the key file")),
            ("MASTER_KEY_FILE", path("absent"), (Wrong, "configuration", "MASTER_KEY_FILE", "must name a file")),
            ("JWKS", path("no-set"), (Wrong, "callers' keys", "JWKS", "the key set cannot be used")),
            ("JWKS", format!("https://{closed}/keys"), (Wrong, "callers' keys", "JWKS", "until it can be had nobody can call")),
            ("DATABASE_URL", format!("sqlite:{}", path("damaged.db")), (Wrong, "database", "DATABASE_URL", "")),
            ("ANCHOR_FILE", path("socket"), (Wrong, "anchors", "ANCHOR_FILE", "cannot be written to")),
            ("DATA_DIR", path("keys"), (Wrong, "data folder", "DATA_DIR", "is no folder")),
            ("PUBLIC_URL", String::new(), (Warning, "public address", "PUBLIC_URL", "is not set")),
            ("PUBLIC_URL", "http://127.0.0.1:8080".into(), (Warning, "public address", "PUBLIC_URL", "this machine or network alone")),
            ("PUBLIC_URL", "https://10.0.0.7".into(), (Warning, "public address", "PUBLIC_URL", "this machine or network alone")),
            ("TLS_KEY_FILE", path("open-key.pem"), (Warning, "certificates", "TLS_KEY_FILE", "run: chmod 600")),
            ("GRPC_ADDR", held.clone(), (Wrong, "addresses", "GRPC_ADDR", "in use by another process")),
            ("HTTP_ADDR", held.clone(), (Wrong, "addresses", "HTTP_ADDR", "in use by another process")),
            ("GRPC_ADDR", "127.0.0.1:everywhere".into(), (Wrong, "configuration", "GRPC_ADDR", "must be an address")),
            ("DISK_RESERVE_MIB", "1048576".into(), (Wrong, "disk", "DISK_RESERVE_MIB", "nothing new is accepted")),
            ("TWILIO_URL", nowhere.clone(), (Wrong, "providers", "TWILIO_URL", "there is no connection to it")),
            ("SENDGRID_URL", nowhere.clone(), (Warning, "providers", "SENDGRID_URL", "; no practice uses it")),
            ("FCM_URL", "http://nowhere.invalid".into(), (Warning, "providers", "FCM_URL", "cannot be resolved")),
            ("GOOGLE_TOKEN_URL", nowhere.clone(), (Warning, "providers", "GOOGLE_TOKEN_URL", "there is no connection")),
        ] {
            let env = with(&env, &[(name, &value)]);
            let all = found(t, &env, &around()).await;
            let (level, what, variable, words) = expected;
            let bad: Vec<_> = all.iter().filter(|finding| finding.level != Level::Ok).collect();
            let is_meant = |finding: &&Finding| {
                (finding.level, finding.check) == (level, what)
                    && finding.variable == format!("HEEDWELL_{variable}")
                    && finding.text.contains(words)
            };
            assert!(bad.iter().copied().any(|finding| is_meant(&finding)), "{name} {value}: {bad:#?}");
            // Nothing else, but where one look follows from another.
            let more = bad.iter().filter(|finding| !is_meant(finding) && finding.check != "configuration").count();
            assert_eq!(more, 0, "{name} {value}: {bad:#?}");
        }
        t.start().await;
    }

    async fn what_is_wrong_together_is_named_together(t: &mut TestApp) {
        practice(t).await;
        // A relay that is outside, at the port that the stand-in was given.
        practice_named(t, "other").await;
        let relay = SmtpSettings { host: "8.8.8.8".into(), ..Default::default() };
        let email = EmailSettings { provider: Some(Provider::Smtp(relay)), ..Default::default() };
        let update = UpdatePracticeSettingsRequest {
            practice_id: "other".into(),
            settings: Some(PracticeSettings { email: Some(email), ..Default::default() }),
            update_mask: Some(mask(&["email.smtp.host"])),
        };
        t.caller_with(&token(t, Role::PracticeAdmin, "other")).preferences.update_practice_settings(update).await.unwrap();
        t.stop().await;
        let env = healthy(t);
        // Private addresses are refused where practices could name them.
        let all = ["TWILIO_URL", "SENDGRID_URL", "FCM_URL", "GOOGLE_TOKEN_URL"].map(|name| (name, "https://127.0.0.1:1"));
        let closed = with(&with(&env, &all), &[("ALLOW_PRIVATE_PROVIDERS", "off")]);
        let words = "its address is not public";
        check(t, &closed, &around(), &[
            (Wrong, "providers", "TWILIO_URL", words),
            (Warning, "providers", "SENDGRID_URL", words),
            (Warning, "providers", "FCM_URL", words),
            (Warning, "providers", "GOOGLE_TOKEN_URL", words),
            (Wrong, "providers", "", words),
            (Wrong, "providers", "", "it must be 465, 587 or 2525"),
        ]).await;
        // All faults of the settings at once, and exit code 1.
        let faulty = with(&env, &[("SMS_RATE", "canary"), ("LOG_FORMAT", "canary"), ("TLS_KEY_FILE", "")]);
        check(t, &faulty, &around(), &[
            (Wrong, "configuration", "SMS_RATE", "must be auto"),
            (Wrong, "configuration", "LOG_FORMAT", "must be text or json"),
            (Wrong, "configuration", "TLS_KEY_FILE", "must be set with HEEDWELL_TLS_CERT_FILE"),
            (Warning, "configuration", "", "mend this first"),
        ]).await;
        let (code, lines) = heedwell(&faulty, &["doctor"]).await;
        assert_eq!(code, Some(1), "{lines}");
        assert!(lines.contains("wrong   configuration: HEEDWELL_SMS_RATE: must be auto"), "{lines}");
        t.start().await;
    }

    async fn certificates_are_looked_at_before_they_expire(t: &mut TestApp) {
        t.stop().await;
        let env = healthy(t);
        for (days, level, words) in [
            ((-1, 29), Warning, "expires on 2"),
            ((-60, -1), Wrong, "has expired on 2"),
            ((2, 90), Wrong, "is good only from 2"),
        ] {
            let [chain, key] = pair(days);
            put(&t.home.path("chain.pem"), &chain, 0o644);
            put(&t.home.path("key.pem"), &key, 0o600);
            check(t, &env, &around(), &[(level, "certificates", "TLS_CERT_FILE", words)]).await;
        }
        // A chain is as good as its worst part.
        let [chain, key] = pair((-1, 90));
        put(&t.home.path("chain.pem"), &format!("{chain}{}", pair((-1, 5))[0]), 0o644);
        put(&t.home.path("key.pem"), &key, 0o600);
        put(&t.home.path("clients.pem"), &pair((-9, -1))[0], 0o644);
        check(t, &env, &around(), &[
            (Warning, "certificates", "TLS_CERT_FILE", "expires on 2"),
            (Wrong, "certificates", "TLS_CLIENT_CA_FILE", "has expired on 2"),
        ]).await;
        // Not its own key.
        put(&t.home.path("key.pem"), &pair((-1, 90))[1], 0o600);
        let files = "TLS_CERT_FILE, HEEDWELL_TLS_KEY_FILE or HEEDWELL_TLS_CLIENT_CA_FILE";
        check(t, &env, &around(), &[
            (Wrong, "configuration", files, "the certificate and the key do not go together"),
            (Warning, "configuration", "", "mend this first"),
        ]).await;
        t.start().await;
    }

    async fn keys_in_vault_are_looked_at(t: &mut TestApp) {
        t.stop().await;
        let vault = Vault::start().await;
        let env = healthy(t);
        put(&t.home.path("sealed"), &fs::read_to_string(t.home.path("keys")).unwrap(), 0o600);
        let env = with(&env, &[
            ("MASTER_KEY_FILE", &t.home.path("sealed").display().to_string()),
            ("VAULT_URL", &vault.url),
            ("VAULT_KEY", "heedwell"),
            ("VAULT_TOKEN_FILE", &put(&t.home.path("token"), TOKEN, 0o600)),
        ]);
        check(t, &env, &around(), &[(Wrong, "master keys", "VAULT_URL", "run `heedwell keys seal`")]).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_heedwell"));
        assert!(command.args(["keys", "seal"]).env_clear().envs(env.variables()).output().await.unwrap().status.success());
        check(t, &env, &around(), &[]).await;
        vault.set(Mood::Sealed);
        check(t, &env, &around(), &[(Wrong, "master keys", "VAULT_URL", "unseal it")]).await;
        t.start().await;
    }

    async fn nothing_is_made_where_there_is_nothing_yet(t: &mut TestApp) {
        t.stop().await;
        let env = healthy(t);
        let fresh = t.home.path("fresh");
        let env = with(&env, &[
            ("DATA_DIR", &fresh.display().to_string()),
            ("DATABASE_URL", ""),
            ("MASTER_KEY_FILE", ""),
            ("ANCHOR_FILE", ""),
            ("JWKS", ""),
        ]);
        check(t, &env, &around(), &[]).await;
        let all = found(t, &env, &around()).await;
        for check in ["data folder", "database", "master keys", "callers' keys"] {
            let finding = all.iter().find(|finding| finding.check == check).unwrap();
            assert!(finding.text.contains("the first start makes"), "{finding:?}");
        }
        assert!(!fresh.exists(), "it only looks");
        t.start().await;
    }
}
