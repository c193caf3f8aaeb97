//! Where the master keys come from: a file, what a command prints, and either of them sealed by Vault.

use std::{error::Error, fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use heedwell::{
    app::App,
    config::{self, Config, Env},
    custody::KmsSettings,
    grpc::proto::Channel,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

use super::{
    given::{practice, send_over},
    seen::until_state,
};
use crate::support::{
    app::{LIMIT, TestApp, on_a_server},
    vault::{Mood, OTHER_TOKEN, TOKEN, Vault},
};

fn put(path: &Path, text: &str, mode: u32) {
    // What is there is replaced, whatever its mode.
    let _ = fs::remove_file(path);
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn text(t: &TestApp, name: &str) -> String {
    fs::read_to_string(t.home.path(name)).unwrap()
}

/// The keys in a plain text, which stand in nothing that anybody is told.
fn keys_in(text: &str) -> Vec<&str> {
    let keys: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(keys.len() >= 2 && keys.iter().all(|key| key.len() == 44), "a plain key file");
    keys
}

/// Settings with a copy of the key file that Vault has to open, once it is sealed.
fn with_vault(t: &TestApp, vault: &Vault) -> Env {
    put(&t.home.path("sealed"), &text(t, "keys"), 0o600);
    put(&t.home.path("token"), &format!("{TOKEN}\n"), 0o640);
    let mut env = t.env();
    env.set("HEEDWELL_MASTER_KEY_FILE", t.home.path("sealed").display().to_string());
    env.set("HEEDWELL_VAULT_URL", vault.url.clone());
    env.set("HEEDWELL_VAULT_KEY", "heedwell");
    env.set("HEEDWELL_VAULT_TOKEN_FILE", t.home.path("token").display().to_string());
    env
}

fn with(env: &Env, values: &[(&str, &str)]) -> Env {
    let mut env = env.clone();
    for (name, value) in values {
        env.set(name, *value);
    }
    env
}

fn with_command(env: &Env, command: &str) -> Env {
    with(env, &[("HEEDWELL_MASTER_KEY_FILE", ""), ("HEEDWELL_MASTER_KEY_COMMAND", command)])
}

/// What `heedwell` answers: its exit code, standard output, and standard error.
async fn heedwell(env: &Env, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heedwell"));
    let output = command.args(arguments).env_clear().envs(env.variables()).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The same of what goes well.
async fn done(env: &Env, arguments: &[&str]) -> String {
    let (code, printed, said) = heedwell(env, arguments).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("canary"), "{said}");
    printed
}

/// Why a server with these settings does not start: all that its operator is told.
async fn refusal(t: &TestApp, env: &Env) -> String {
    let mut config = config::read(env, false).unwrap();
    config.custody.patience = Duration::from_millis(500);
    if let Some(KmsSettings::Vault(vault)) = &mut config.custody.kms {
        vault.patience = Duration::from_secs(2);
    }
    let error = App::start(config, t.time()).await.expect_err("it does not start");
    let mut told = format!("{error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    let debug = format!("{error:?}");
    for secret in keys_in(&text(t, "keys")).into_iter().chain(["canary"]) {
        assert!(!told.contains(secret) && !debug.contains(secret), "{told} {debug}");
    }
    told
}

/// Starts a server with these settings, which sends: it opens what was sealed before.
async fn serves(t: &mut TestApp, env: &Env) {
    t.start_with(env).await;
    until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
    t.stop().await;
}

on_a_server! {
    sqlite:
    async fn a_server_starts_with_keys_from_each_source(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let print = format!("cat {}", t.home.path("keys").display());
        serves(t, &with_command(&t.env(), &print)).await;
        let vault = Vault::start().await;
        let env = with_vault(t, &vault);
        assert_eq!(done(&env, &["keys", "seal"]).await, "the key file is sealed: copy it to every replica\n");
        let sealed = text(t, "sealed");
        assert!(sealed.starts_with("vault:v1:"), "{sealed}");
        assert!(keys_in(&text(t, "keys")).iter().all(|key| !sealed.contains(key)));
        serves(t, &env).await;
        let print = format!("cat {}", t.home.path("sealed").display());
        serves(t, &with_command(&env, &print)).await;
        // Its name with the engine's, and another engine.
        vault.rotate("team/transit/other");
        vault.calls();
        let other = with(&env, &[("HEEDWELL_VAULT_KEY", "team/transit/other")]);
        let told = refusal(t, &other).await;
        assert!(told.starts_with("HEEDWELL_VAULT_KEY: Vault has no such key, or"), "{told}");
        assert_eq!(vault.calls(), ["team/transit/decrypt/other"]);
        serves(t, &with(&env, &[("HEEDWELL_VAULT_KEY", "transit/heedwell")])).await;
        t.start().await;
    }

    async fn a_first_start_seals_the_keys_that_it_makes(t: &mut TestApp) {
        t.stop().await;
        let vault = Vault::start().await;
        let [database, folder] = ["fresh.db", "fresh/data"].map(|name| t.home.path(name).display().to_string());
        let env = with(&with_vault(t, &vault), &[
            ("HEEDWELL_MASTER_KEY_FILE", ""),
            ("HEEDWELL_DATABASE_URL", &format!("sqlite:{database}")),
            ("HEEDWELL_DATA_DIR", &folder),
        ]);
        vault.set(Mood::Sealed);
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_VAULT_URL: Vault is sealed"), "{told}");
        assert!(!Path::new(&folder).join("master-key").exists(), "half of a start leaves no keys");
        // What does not open again would be lost with everything in the database.
        vault.set(Mood::Lying);
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_VAULT_URL: what Vault answered"), "{told}");
        assert!(!Path::new(&folder).join("master-key").exists());
        vault.set(Mood::Ready);
        t.start_with(&env).await;
        practice(t).await;
        t.stop().await;
        let path = Path::new(&folder).join("master-key");
        assert!(fs::read_to_string(&path).unwrap().starts_with("vault:v1:"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        serves(t, &env).await;
        t.start().await;
    }

    async fn a_master_is_rotated_and_stays_sealed(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let vault = Vault::start().await;
        let env = with_vault(t, &vault);
        done(&env, &["keys", "seal"]).await;
        let before = text(t, "sealed");
        // While Vault is sealed nothing is changed.
        vault.set(Mood::Sealed);
        let (code, printed, said) = heedwell(&env, &["keys", "rotate", "--new-master"]).await;
        assert!(code == Some(1) && printed.is_empty() && said.contains("HEEDWELL_VAULT_URL: Vault is sealed"), "{said}");
        vault.set(Mood::Lying);
        assert_eq!(heedwell(&env, &["keys", "rotate", "--new-master"]).await.0, Some(1));
        assert_eq!(text(t, "sealed"), before);
        vault.set(Mood::Ready);
        vault.rotate("transit/heedwell");
        let told = done(&env, &["keys", "rotate", "--new-master"]).await;
        assert_eq!(told, "added master.2: copy the file to every replica, and start one of them anew\n");
        let sealed = text(t, "sealed");
        assert!(sealed.starts_with("vault:v2:"), "by the newest version of Vault's key: {sealed}");
        assert_eq!(fs::metadata(t.home.path("sealed")).unwrap().permissions().mode() & 0o777, 0o600);
        let opened = vault.opened(&sealed);
        assert!(opened.starts_with(&text(t, "keys")) && opened.contains("\nmaster.2 "), "what was there stays");
        assert_eq!(done(&env, &["keys", "rotate"]).await, "1 data keys wrapped anew; in use: master.2\n");
        serves(t, &env).await;
        // The old text lacks the new master.
        put(&t.home.path("sealed"), &before, 0o600);
        let listed = done(&env, &["keys", "list"]).await;
        assert!(listed.contains("master.2"), "{listed}");
        put(&t.home.path("keys"), &opened, 0o600);
        t.start().await;
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
    }

    async fn a_master_for_a_command_is_printed_for_whoever_stores_it(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let keys = text(t, "keys");
        let env = with_command(&t.env(), &format!("cat {}", t.home.path("keys").display()));
        let (code, printed, said) = heedwell(&env, &["keys", "rotate", "--new-master"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(printed.starts_with(&keys) && printed.lines().last().unwrap().starts_with("master.2 "));
        assert_eq!(text(t, "keys"), keys, "nothing is changed");
        assert!(said.contains("nothing is changed yet: store what stands on standard output where HEEDWELL_MASTER_KEY_COMMAND"));
        assert!(keys_in(&printed).iter().all(|key| !said.contains(key)), "on standard output alone");
        put(&t.home.path("keys"), &printed, 0o600);
        assert_eq!(done(&env, &["keys", "rotate"]).await, "1 data keys wrapped anew; in use: master.2\n");
        serves(t, &env).await;
        // Sealed, it is printed sealed.
        let vault = Vault::start().await;
        let env = with_command(&with_vault(t, &vault), &format!("cat {}", t.home.path("sealed").display()));
        let sealed = done(&with_command(&env, &format!("cat {}", t.home.path("keys").display())), &["keys", "seal"]).await;
        put(&t.home.path("sealed"), &sealed, 0o600);
        let sealed = done(&env, &["keys", "rotate", "--new-master"]).await;
        assert!(sealed.starts_with("vault:v1:") && vault.opened(&sealed).contains("\nmaster.3 "), "{sealed}");
        t.start().await;
    }

    async fn a_command_that_gives_no_keys_refuses_the_start(t: &mut TestApp) {
        t.stop().await;
        let keys = t.home.path("keys").display().to_string();
        for (command, expected) in [
            ("echo canary >&2; exit 3".to_owned(), "it failed (exit status: 3)"),
            (format!("cat {keys}; exit 1"), "it failed (exit status: 1)"),
            ("no-such-program-canary".to_owned(), "it failed (exit status: 127)"),
            ("kill -9 $$".to_owned(), "it failed (signal: 9"),
            ("true".to_owned(), "what it printed cannot be used: the key file has no `master.<number>` line"),
            ("echo canary canary".to_owned(), "what it printed cannot be used: line 1"),
            ("printf '\\377\\376'".to_owned(), "no text (UTF-8)"),
            (format!("cat {keys}; head -c 70000 /dev/zero"), "more than 64 KiB"),
            ("yes canary".to_owned(), "more than 64 KiB"),
            ("sleep 600".to_owned(), "it did not end within 0.5 s"),
            // It has closed its output, or a child of it keeps that open.
            (format!("cat {keys}; exec >&-; sleep 600"), "it did not end within 0.5 s"),
            (format!("cat {keys}; sleep 600 &"), "it did not end within 0.5 s"),
            ("echo vault:v1:canary".to_owned(), "HEEDWELL_VAULT_URL: the master keys are sealed by Vault"),
        ] {
            let told = refusal(t, &with_command(&t.env(), &command)).await;
            let starts = ["HEEDWELL_MASTER_KEY_COMMAND: ", "HEEDWELL_VAULT_URL: "];
            assert!(starts.iter().any(|start| told.starts_with(start)) && told.contains(expected), "{command}: {told}");
        }
        // What it has started ends with it.
        let noted = t.home.path("pids");
        let command = format!("sleep 600 & echo $! $$ > {}; wait", noted.display());
        refusal(t, &with_command(&t.env(), &command)).await;
        for pid in fs::read_to_string(noted).unwrap().split_whitespace() {
            let is_there = || {
                let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !state.is_empty() && !state.contains(") Z ")
            };
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let gone = async {
                while is_there() {
                    tick.tick().await;
                }
            };
            tokio::time::timeout(LIMIT, gone).await.expect("it ends");
        }
        let (code, _, said) = heedwell(&with_command(&t.env(), "echo canary >&2; exit 3"), &["serve"]).await;
        assert!(code == Some(1) && said.contains("HEEDWELL_MASTER_KEY_COMMAND") && !said.contains("canary"), "{said}");
        t.start().await;
    }

    async fn a_vault_that_does_not_open_the_keys_refuses_the_start(t: &mut TestApp) {
        t.stop().await;
        let vault = Vault::start().await;
        let env = with_vault(t, &vault);
        // Vault before a plain file: it would protect nothing.
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_VAULT_URL: the master keys are not sealed by Vault: run `heedwell keys seal`"), "{told}");
        done(&env, &["keys", "seal"]).await;
        vault.calls();
        let sealed = text(t, "sealed");
        for (mood, expected) in [
            (Mood::Sealed, "HEEDWELL_VAULT_URL: Vault is sealed, or not ready: unseal it"),
            (Mood::Standby, "HEEDWELL_VAULT_URL: Vault answered with a redirection (307)"),
            (Mood::Broken, "HEEDWELL_VAULT_URL: Vault answered 500"),
            (Mood::Stranger, "HEEDWELL_VAULT_URL: what Vault answered is none of its answers"),
            (Mood::Silent, "HEEDWELL_VAULT_URL: Vault cannot be reached"),
        ] {
            vault.set(mood);
            let told = refusal(t, &env).await;
            assert!(told.starts_with(expected), "{told}");
        }
        vault.set(Mood::Ready);
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let wrong_token = t.home.path("wrong-token");
        put(&wrong_token, OTHER_TOKEN, 0o600);
        let no_token = t.home.path("no-token");
        put(&no_token, "\n", 0o600);
        let open_token = t.home.path("open-token");
        put(&open_token, TOKEN, 0o644);
        let path = |path: &Path| path.display().to_string();
        for (name, value, expected) in [
            ("URL", format!("http://{nobody}"), "HEEDWELL_VAULT_URL: Vault cannot be reached"),
            ("KEY", "unknown".to_owned(), "HEEDWELL_VAULT_KEY: Vault has no such key, or"),
            ("KEY", "nowhere/heedwell".to_owned(), "HEEDWELL_VAULT_KEY: Vault has nothing at nowhere/decrypt/heedwell"),
            ("TOKEN_FILE", path(&wrong_token), "HEEDWELL_VAULT_TOKEN_FILE: Vault refuses the token"),
            ("TOKEN_FILE", path(&no_token), "HEEDWELL_VAULT_TOKEN_FILE: the file cannot be read, or holds no token"),
            ("TOKEN_FILE", path(&open_token), "HEEDWELL_VAULT_TOKEN_FILE: the file is open to everybody; run: chmod 640"),
        ] {
            let told = refusal(t, &with(&env, &[(&format!("HEEDWELL_VAULT_{name}"), &value)])).await;
            assert!(told.starts_with(expected), "{told}");
        }
        // A text that is none of this key's; one that is no text; one that was sealed and is no key file.
        let end = sealed.trim_end().len() - 6;
        for damaged in [format!("{}AAAAAA", &sealed[..end]), "vault:v9:AAAA".into(), "vault:v1:\"}{".into()] {
            put(&t.home.path("sealed"), &damaged, 0o600);
            let told = refusal(t, &env).await;
            assert!(told.starts_with("HEEDWELL_VAULT_KEY: Vault has no such key, or the master keys were sealed by another"), "{told}");
        }
        put(&t.home.path("sealed"), &sealed, 0o644);
        let told = refusal(t, &env).await;
        assert!(told.starts_with("HEEDWELL_MASTER_KEY_FILE: the key file is open to others"), "{told}");
        put(&t.home.path("sealed"), &sealed, 0o600);
        let told = refusal(t, &with(&env, &[("HEEDWELL_VAULT_URL", ""), ("HEEDWELL_VAULT_KEY", ""), ("HEEDWELL_VAULT_TOKEN_FILE", "")])).await;
        assert!(told.starts_with("HEEDWELL_VAULT_URL: the master keys are sealed by Vault: set it"), "{told}");
        vault.set(Mood::Sealed);
        let (code, printed, said) = heedwell(&env, &["serve"]).await;
        assert!(code == Some(1) && printed.is_empty() && said.contains("HEEDWELL_VAULT_URL: Vault is sealed"), "{said}");
        assert!(!said.contains("canary"), "{said}");
        vault.set(Mood::Ready);
        serves_anybody(t, &env).await;
        t.start().await;
    }

    async fn vault_is_trusted_by_its_own_authority_alone(t: &mut TestApp) {
        t.stop().await;
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(signing_key.serialize_pem().as_bytes()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key)
            .unwrap();
        let vault = Vault::start_tls(TlsAcceptor::from(Arc::new(server))).await;
        put(&t.home.path("authority.pem"), &cert.pem(), 0o644);
        let stranger = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        put(&t.home.path("stranger.pem"), &stranger.cert.pem(), 0o644);
        put(&t.home.path("nothing.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644);
        let env = with_vault(t, &vault);
        let trusting = |name: &str| with(&env, &[("HEEDWELL_VAULT_CA_FILE", &t.home.path(name).display().to_string())]);
        done(&trusting("authority.pem"), &["keys", "seal"]).await;
        for (env, expected) in [
            (env.clone(), "HEEDWELL_VAULT_URL: Vault cannot be reached"),
            (trusting("stranger.pem"), "HEEDWELL_VAULT_URL: Vault cannot be reached"),
            (trusting("nothing.pem"), "HEEDWELL_VAULT_CA_FILE: "),
        ] {
            let told = refusal(t, &env).await;
            assert!(told.starts_with(expected), "{told}");
        }
        let env = trusting("authority.pem");
        serves_anybody(t, &env).await;
        t.start().await;
    }
}

/// Starts a server with these settings and stops it.
async fn serves_anybody(t: &mut TestApp, env: &Env) {
    t.start_with(env).await;
    t.stop().await;
}

#[test]
fn settings_show_no_command() {
    let mut env = Env::default();
    env.set("HEEDWELL_MASTER_KEY_COMMAND", "fetch --token canary");
    let config: Config = config::read(&env, false).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
}
