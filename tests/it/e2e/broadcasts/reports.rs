//! The report as files: what the command line writes is what the list shows.

use heedwell::{domain::Role, grpc::proto::Channel};

use super::{BOTH, all, create, family, input, over, report, settled};
use crate::{
    e2e::seen::{skipped, state},
    support::app::{ACME, TestApp, on_a_server},
};

/// Runs `heedwell export broadcast`. Yields whether it went well, and what it said on standard error.
async fn export(t: &TestApp, id: &str, practice: &str) -> (bool, String) {
    let [grpc, _] = t.addresses();
    let token = t.home.path("token");
    std::fs::write(&token, t.token(Role::Auditor)).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_heedwell"))
        .args(["export", "broadcast", id, "--practice", practice])
        .arg("--server")
        .arg(format!("http://{grpc}"))
        .arg("--token-file")
        .arg(token)
        .arg("--output")
        .arg(t.home.path(""))
        .env_clear()
        .output()
        .await
        .unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

on_a_server! { sqlite:
    async fn the_command_line_writes_the_report(t: &mut TestApp) {
        family(t).await;
        let made = create(t, input(all(), &BOTH)).await;
        over(t, &made.broadcast_id).await;
        settled(t, &made.broadcast_id, 2).await;
        let (well, said) = export(t, &made.broadcast_id, ACME).await;
        assert!(well, "{said}");
        let read = |ending: &str| {
            std::fs::read_to_string(t.home.path(&format!("{}.{ending}", made.broadcast_id))).unwrap()
        };
        let all = report(t, &made.broadcast_id).await;
        let csv = read("csv");
        let lines: Vec<_> = csv.split("\r\n").collect();
        assert_eq!(lines.len(), all.len() + 2, "a header, a line a delivery, and nothing after the last");
        assert!(lines[0].starts_with("delivery_id,patient_id,channel,address_hint,state,skip_reason,"));
        let objects: Vec<serde_json::Value> =
            read("ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), all.len());
        for ((one, object), line) in all.iter().zip(&objects).zip(&lines[1..]) {
            assert_eq!(object["delivery_id"], one.delivery_id);
            assert_eq!(object["patient_id"], one.patient_id);
            assert_eq!(object["state"], state(one).to_lowercase());
            let reason = if state(one) == "SKIPPED" { skipped(one).to_lowercase() } else { String::new() };
            assert_eq!(object["skip_reason"], reason);
            assert!(line.starts_with(&format!("{},{},", one.delivery_id, one.patient_id)), "{line}");
        }
        // Addresses are masked, and there is no text.
        for secret in ["ann@example.com", "2025550150", "Friday", "Dear"] {
            assert!(!csv.contains(secret) && !read("ndjson").contains(secret), "{secret}");
        }
        assert!(all.iter().any(|one| one.channel() == Channel::Sms));

        let (well, said) = export(t, &made.broadcast_id, ACME).await;
        assert!(!well && said.contains("is there already"), "{said}");
        let (well, said) = export(t, "00000000-0000-0000-0000-000000000001", ACME).await;
        assert!(!well && said.contains("no such broadcast"), "{said}");
        let (well, said) = export(t, &made.broadcast_id, "south").await;
        assert!(!well && said.contains("does not cover"), "{said}");
    }
}
