//! The command line proves the ledgers, also by the anchors that the server left, and takes a trail out.

use std::{fs, path::PathBuf, process::Command};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{AuditEvent, Channel, ConsentState},
};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

use super::{
    consent::{decision, record},
    given::{practice, reminder, send, send_over},
    seen::until_state,
    trail::trail,
};
use crate::support::app::{ACME, TestApp, on_a_server};

/// Runs `heedwell audit` on the database of a server that has stopped. Yields its exit code and what it printed.
pub(super) fn audit(t: &TestApp, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_heedwell"))
        .arg("audit")
        .args(arguments)
        .env_clear()
        .env("HEEDWELL_DATABASE_URL", &t.home.url)
        .env("HEEDWELL_DATA_DIR", t.home.path("data"))
        .env("HEEDWELL_MASTER_KEY_FILE", t.home.path("keys"))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Where the server writes its anchors.
fn anchors(t: &TestApp) -> PathBuf {
    t.home.path("anchors")
}

fn lines(t: &TestApp) -> Vec<String> {
    fs::read_to_string(anchors(t)).unwrap_or_default().lines().map(str::to_owned).collect()
}

on_a_server! {
    async fn the_command_line_proves_the_ledgers(t: &mut TestApp) {
        practice(t).await;
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        for state in [ConsentState::OptedOut, ConsentState::OptedIn] {
            record(&mut t.caller(Role::Staff), decision(Channel::Sms, state)).await.unwrap();
        }
        t.stop().await;
        // The practice, its patient, its settings; a send; two decisions.
        let counts = "acme: 2 entries, 1 attempts, 6 audit events";
        assert_eq!(audit(t, &["verify"]), (Some(0), format!("{counts}: holds\n")));
        t.execute("UPDATE consent_ledger SET source = 8 WHERE seq = 1").await;
        let found = format!("acme: entry 1 is not what was written there\n{counts}: DOES NOT HOLD\n");
        assert_eq!(audit(t, &["verify"]), (Some(1), found));
        t.execute("UPDATE consent_ledger SET source = 2 WHERE seq = 1").await;
        t.execute("UPDATE audit SET patient_id = 'kim' WHERE seq = 4").await;
        let found = format!("acme: audit trail: entry 4 is not what was written there\n{counts}: DOES NOT HOLD\n");
        assert_eq!(audit(t, &["verify", "--practice", ACME]), (Some(1), found));
        t.execute("UPDATE audit SET patient_id = 'pat' WHERE seq = 4").await;
        t.execute("UPDATE attempt SET consent_seq = 1").await;
        let (code, text) = audit(t, &["verify"]);
        assert!(code == Some(1) && text.contains("attempt 1 of delivery") && text.contains("entry 1"), "{text}");
    }

    async fn a_server_leaves_an_anchor_when_it_stops_and_one_an_hour(t: &mut TestApp) {
        // Nothing was there to be anchored.
        assert_eq!(lines(t).len(), 0);
        practice(t).await;
        t.stop().await;
        assert_eq!(lines(t).len(), 1);
        t.start().await;
        send(t, reminder(t, "pat", &[Channel::InApp])).await;
        t.stop().await;
        assert_eq!(lines(t).len(), 2, "within the hour that began with the first start");
        t.advance(TimeDelta::minutes(61));
        t.start().await;
        let (file, seen) = (anchors(t), || async {
            let mut look = tokio::time::interval(std::time::Duration::from_millis(20));
            while fs::read_to_string(anchors(t)).unwrap().lines().count() < 3 {
                look.tick().await;
            }
        });
        tokio::time::timeout(crate::support::app::LIMIT, seen()).await.unwrap();
        t.stop().await;
        assert_eq!(lines(t).len(), 4);
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(file).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    async fn what_was_anchored_proves_what_came_before(t: &mut TestApp) {
        practice(t).await;
        for _ in 0..3 {
            send(t, reminder(t, "pat", &[Channel::InApp])).await;
        }
        record(&mut t.caller(Role::Staff), decision(Channel::Email, ConsentState::OptedOut)).await.unwrap();
        t.stop().await;
        let file = anchors(t).display().to_string();
        let holds = "acme: 1 entries, 0 attempts, 7 audit events: holds\n";
        assert_eq!(audit(t, &["verify", "--anchors", &file]), (Some(0), holds.to_owned()));

        // Anybody can verify them, with what is printed and no key.
        let (code, jwk) = audit(t, &["key"]);
        let jwk: Value = serde_json::from_str(&jwk).unwrap();
        let decoded = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, decoded(jwk["x"].as_str().unwrap()));
        let anchor = lines(t).pop().unwrap();
        let (signed, signature) = anchor.rsplit_once('.').unwrap();
        assert!(code == Some(0) && public.verify(signed.as_bytes(), &decoded(signature)).is_ok());
        let payload: Value = serde_json::from_slice(&decoded(signed.split_once('.').unwrap().1)).unwrap();
        let head = &payload["heads"][0];
        assert_eq!((&head["practice"], &head["audit"]["position"]), (&ACME.into(), &7.into()));
        assert_eq!(head["consent"]["position"], 1);

        // Whoever cuts off the end, and has an older copy of the head, is found by the anchor alone.
        let keep = |name: &str| format!("CREATE TABLE kept_{name} AS SELECT * FROM {name}");
        t.execute(&keep("audit_head")).await;
        t.start().await;
        send(t, reminder(t, "pat", &[Channel::InApp])).await;
        t.stop().await;
        t.execute("DELETE FROM audit WHERE seq > 7").await;
        t.execute("DELETE FROM audit_head").await;
        t.execute("INSERT INTO audit_head SELECT * FROM kept_audit_head").await;
        t.execute("DROP TABLE kept_audit_head").await;
        assert_eq!(audit(t, &["verify"]).0, Some(0), "by itself it holds");
        let (code, text) = audit(t, &["verify", "--practice", ACME, "--anchors", &file]);
        assert!(code == Some(1) && text.contains("acme: audit trail: entry 8, which was anchored on 2026-03-02T"), "{text}");
        // What is not signed with this key proves nothing, and says that somebody was there.
        fs::write(t.home.path("forged"), format!("\n{anchor}x\n")).unwrap();
        let (code, text) = audit(t, &["verify", "--anchors", &t.home.path("forged").display().to_string()]);
        assert!(code == Some(1) && text.contains("forged, line 2: no anchor that was signed with this key\n"), "{text}");
        assert_eq!(audit(t, &["verify", "--anchors", "/nowhere/at/all"]).0, Some(1));
        // A practice that is gone with all that it had is missed as well.
        for table in ["audit", "audit_head", "consent_ledger", "consent_head", "data_key", "practice"] {
            t.execute(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
            t.execute(&format!("DELETE FROM {table}")).await;
        }
        let (code, text) = audit(t, &["verify", "--anchors", &file]);
        assert!(code == Some(1) && text.contains("acme: entry 1, which was anchored on"), "{text}");
        for table in ["audit", "audit_head", "consent_ledger", "consent_head", "data_key", "practice"] {
            t.execute(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
            t.execute(&format!("DROP TABLE kept_{table}")).await;
        }
        // So that what follows every test finds each send on the trail.
        t.execute("DELETE FROM notification").await;
        t.execute("DELETE FROM idem").await;
    }

    async fn a_trail_is_taken_out_line_by_line_and_says_that_it_was(t: &mut TestApp) {
        practice(t).await;
        let events = trail(t, ACME).await;
        t.stop().await;
        let (code, text) = audit(t, &["export", "--practice", ACME]);
        assert_eq!(code, Some(0));
        let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // Whoever looked at the trail is on it, and so is this.
        assert_eq!(objects.len(), events.len() + 2);
        let last = &objects[objects.len() - 1];
        assert_eq!((&last["action"], &last["actor_type"], &last["code"]), (&"audit.export".into(), &"system".into(), &0.into()));
        for (place, (object, event)) in objects.iter().zip(&events).enumerate() {
            assert_eq!(object["position"], place + 1);
            check(object, event);
        }
        let (_, rest) = audit(t, &["export", "--practice", ACME, "--after", "3"]);
        let first: Value = serde_json::from_str(rest.lines().next().unwrap()).unwrap();
        assert_eq!((&first["position"], rest.lines().count()), (&4.into(), objects.len() - 3 + 1));
        assert_eq!(audit(t, &["export", "--practice", "nowhere"]).0, Some(1));
    }
}

/// A line says what the API says.
fn check(object: &Value, event: &AuditEvent) {
    let actor = event.actor.as_ref().unwrap();
    let kind = ["", "service", "staff", "patient", "system", "provider"][usize::try_from(actor.r#type).unwrap()];
    let hash: String = event.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    for (field, value) in [
        ("actor_type", kind),
        ("actor_id", &actor.id),
        ("actor_name", &actor.display_name),
        ("action", &event.action),
        ("patient_id", &event.patient_id),
        ("resource", &event.resource),
        ("trace_id", &event.trace_id),
        ("source_address", &event.source_address),
        ("hash", &hash),
    ] {
        assert_eq!(object[field], value, "{field}");
    }
    assert_eq!(object["code"], event.code);
    assert!(object["event_time"].as_str().unwrap().ends_with('Z'));
}
