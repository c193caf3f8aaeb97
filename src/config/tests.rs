#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn env(values: &[(&str, &str)]) -> Env {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn faulty(values: &[(&str, &str)]) -> Vec<String> {
    let faults = read(&env(values), false).err().unwrap_or_default();
    faults.iter().map(|fault| fault.variable.to_string()).collect()
}

#[test]
fn nothing_set_is_a_server_on_this_machine_only() {
    let config = read(&env(&[]), false).unwrap();
    assert!(config.grpc_addr.ip().is_loopback() && config.http_addr.ip().is_loopback());
    assert!(config.custody.may_make && !config.providers.allow_private && config.public_url.is_none());
    assert_eq!(config.store.database_url, "sqlite:heedwell-data/heedwell.db");
    assert_eq!(config.providers.twilio_url.as_str(), "https://api.twilio.com/");
    assert_eq!(config.providers.sendgrid_url.as_str(), "https://api.sendgrid.com/");
    assert_eq!(config.providers.fcm_url.as_str(), "https://fcm.googleapis.com/");
    assert_eq!(config.providers.google_token_url.as_str(), "https://oauth2.googleapis.com/token");
}

#[test]
fn every_fault_is_named_at_once() {
    let faults = faulty(&[
        ("HEEDWELL_GRPC_ADDR", "everywhere"),
        ("HEEDWELL_DATABASE_URL", "mysql://x"),
        ("HEEDWELL_ALLOW_PRIVATE_PROVIDERS", "maybe"),
        ("HEEDWELL_PUBLIC_URL", "http://practice.example"),
        ("HEEDWELL_ANCHOR_FILE", "/nowhere/at/all"),
        ("HEEDWELL_CONTENT_RETENTION", "90"),
        ("HEEDWELL_HISTORY_RETENTION", "29d"),
        ("HEEDWELL_SMS_REGIONS", "usa"),
        ("HEEDWELL_SMS_RATE", "fast"),
        ("HEEDWELL_SMS_PER_DAY", "0"),
        ("HEEDWELL_SMS_PER_BLOCK", "many"),
        ("HEEDWELL_CALLS_PER_SECOND", "1000001"),
        ("HEEDWELL_DRAIN_SECONDS", "long"),
        ("HEEDWELL_MAX_OPEN_DELIVERIES", "0"),
        ("HEEDWELL_DISK_RESERVE_MIB", "7"),
        ("HEEDWELL_TWILIO_URL", "http://127.0.0.1:1"),
        ("HEEDWELL_SENDGRID_URL", "api.sendgrid.com"),
        ("HEEDWELL_FCM_URL", "http://127.0.0.1:1"),
        ("HEEDWELL_GOOGLE_TOKEN_URL", "token"),
        ("HEEDWELL_LOG_FORMAT", "xml"),
        ("HEEDWELL_GRPC_ADRR", "127.0.0.1:1"),
    ]);
    for variable in [
        "HEEDWELL_GRPC_ADDR",
        "HEEDWELL_DATABASE_URL",
        "HEEDWELL_ALLOW_PRIVATE_PROVIDERS",
        "HEEDWELL_PUBLIC_URL",
        "HEEDWELL_ANCHOR_FILE",
        "HEEDWELL_CONTENT_RETENTION",
        "HEEDWELL_HISTORY_RETENTION",
        "HEEDWELL_SMS_REGIONS",
        "HEEDWELL_SMS_RATE",
        "HEEDWELL_SMS_PER_DAY",
        "HEEDWELL_SMS_PER_BLOCK",
        "HEEDWELL_CALLS_PER_SECOND",
        "HEEDWELL_DRAIN_SECONDS",
        "HEEDWELL_MAX_OPEN_DELIVERIES",
        "HEEDWELL_DISK_RESERVE_MIB",
        "HEEDWELL_TWILIO_URL",
        "HEEDWELL_SENDGRID_URL",
        "HEEDWELL_FCM_URL",
        "HEEDWELL_GOOGLE_TOKEN_URL",
        "HEEDWELL_LOG_FORMAT",
        "HEEDWELL_GRPC_ADRR",
    ] {
        assert!(faults.iter().any(|fault| fault == variable), "{variable} in {faults:?}");
    }
}

#[test]
fn an_open_address_wants_keys_and_a_public_address() {
    let faults = faulty(&[("HEEDWELL_HTTP_ADDR", "0.0.0.0:8080")]);
    assert_eq!(faults, ["HEEDWELL_PUBLIC_URL", "HEEDWELL_MASTER_KEY_FILE", "HEEDWELL_JWKS"]);
}

#[test]
fn a_fault_never_repeats_the_value() {
    let secret = "postgress://user:hunter2@db/x";
    let faults = read(&env(&[("HEEDWELL_DATABASE_URL", secret)]), false).err().unwrap();
    assert!(!faults.to_string().contains("hunter2"));
}

#[test]
fn half_of_a_tls_pair_is_refused() {
    assert_eq!(
        faulty(&[("HEEDWELL_TLS_CERT_FILE", "/nowhere.pem")]),
        ["HEEDWELL_TLS_CERT_FILE", "HEEDWELL_TLS_KEY_FILE"]
    );
}

#[test]
fn the_pace_of_text_messages_is_a_word_or_a_number() {
    let rate = |text| read(&env(&[("HEEDWELL_SMS_RATE", text)]), false).ok().map(|config| config.dispatch.sms_rate);
    for (text, expected) in [
        ("", Some(SmsRate::Auto)),
        ("auto", Some(SmsRate::Auto)),
        ("unlimited", Some(SmsRate::Unlimited)),
        ("0.5", Some(SmsRate::Segments(0.5))),
        ("75", Some(SmsRate::Segments(75.0))),
        ("0", None),
        ("-1", None),
        ("NaN", None),
        ("inf", None),
        ("1001", None),
        ("Unlimited", None),
    ] {
        assert_eq!(rate(text), expected, "{text}");
    }
}

#[test]
fn texts_and_histories_are_kept_for_good_or_for_so_many_days() {
    let kept = |name, text, kept: fn(duties::Settings) -> Option<TimeDelta>| {
        let config = read(&env(&[(name, text)]), false).ok();
        config.map(|config| kept(config.duties).map(|time| time.num_days()))
    };
    let texts = |text| kept("HEEDWELL_CONTENT_RETENTION", text, |duties| duties.content_retention);
    let histories = |text| kept("HEEDWELL_HISTORY_RETENTION", text, |duties| duties.history_retention);
    for (text, expected) in [
        ("", Some(None)),
        ("off", Some(None)),
        ("7d", Some(Some(7))),
        ("36500d", Some(Some(36_500))),
        ("6d", None),
        ("36501d", None),
        ("-90d", None),
        ("90", None),
        ("90h", None),
        ("d", None),
        ("99999999999999999999d", None),
    ] {
        assert_eq!(texts(text), expected, "{text}");
    }
    for (text, expected) in [
        ("", Some(None)),
        ("off", Some(None)),
        ("29d", None),
        ("30d", Some(Some(30))),
        ("36500d", Some(Some(36_500))),
        ("36501d", None),
    ] {
        assert_eq!(histories(text), expected, "{text}");
    }
}

#[test]
fn keys_come_from_one_source_and_vault_is_reached_safely() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "canary").unwrap();
    let token = token.display().to_string();
    let vault = |url: &str, key: &str, more: &[(&str, &str)]| {
        let values = [("HEEDWELL_VAULT_URL", url), ("HEEDWELL_VAULT_KEY", key), ("HEEDWELL_VAULT_TOKEN_FILE", &token)];
        faulty(&[&values[..], more].concat())
    };
    for (url, key) in [
        ("https://vault.example:8200", "heedwell"),
        ("https://10.0.0.7:8200/", "transit/heedwell"),
        ("https://vault.internal/prefix", "ns1/team.a/transit/heedwell_1"),
        ("http://127.0.0.1:8100", "heedwell"),
        ("http://localhost:8100", "heedwell"),
        ("http://[::1]:8100", "heedwell"),
    ] {
        assert_eq!(vault(url, key, &[]), Vec::<String>::new(), "{url} {key}");
    }
    for url in [
        "http://vault.example",
        "http://10.0.0.7:8200",
        "https://user@v.example",
        "https://v.example?x",
        "v.example",
        "ftp://v",
    ] {
        assert_eq!(vault(url, "heedwell", &[]), ["HEEDWELL_VAULT_URL"], "{url}");
    }
    for key in ["", "/heedwell", "transit/", "transit//heedwell", "../sys/heedwell", "a key", "key?x", "transit/.."] {
        assert_eq!(vault("https://v.example", key, &[]), ["HEEDWELL_VAULT_KEY"], "{key}");
    }
    assert_eq!(
        vault("https://v.example", "k", &[("HEEDWELL_VAULT_CA_FILE", "/nowhere.pem")]),
        ["HEEDWELL_VAULT_CA_FILE"]
    );
    let names = ["HEEDWELL_VAULT_KEY", "HEEDWELL_VAULT_TOKEN_FILE", "HEEDWELL_VAULT_CA_FILE"];
    assert_eq!(faulty(&names.map(|name| (name, "x"))), names);
    assert_eq!(
        faulty(&[("HEEDWELL_VAULT_URL", "http://vault.example")]),
        ["HEEDWELL_VAULT_URL", "HEEDWELL_VAULT_KEY", "HEEDWELL_VAULT_TOKEN_FILE"]
    );
    let both = [("HEEDWELL_MASTER_KEY_FILE", token.as_str()), ("HEEDWELL_MASTER_KEY_COMMAND", "cat keys")];
    assert_eq!(faulty(&both), ["HEEDWELL_MASTER_KEY_COMMAND"]);
    let open = [("HEEDWELL_HTTP_ADDR", "0.0.0.0:8080"), ("HEEDWELL_MASTER_KEY_COMMAND", "cat keys")];
    assert_eq!(faulty(&open), ["HEEDWELL_PUBLIC_URL", "HEEDWELL_JWKS"]);
}
