//! Tokens for emergencies: issued by the command line with a reason, short-lived, told of at once, and marked on all that is done.

use std::time::SystemTime;

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    auth::LocalKey,
    config::Env,
    domain::Role,
    grpc::proto::{AuditEvent, GetPatientRequest, ListDeliveriesRequest},
};
use tonic::Code;

use super::{
    given::{practice, practice_named},
    restores::{done, heedwell},
    seen::refused,
    telemetry::{metrics, value},
    trail::{trail, until_trail},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const REASON: &str = "the portal is down, and Dr. Ray has to know what was said";

fn alarms(metrics: &str) -> f64 {
    value(metrics, "heedwell_alarms_total{alarm=\"emergency\"}")
}

fn get(id: &str) -> GetPatientRequest {
    GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() }
}

/// What the bearer did.
async fn of_dana(t: &TestApp, count: usize) -> Vec<AuditEvent> {
    let dana = |events: &[AuditEvent]| {
        let mut events = events.to_vec();
        events.retain(|event| event.actor.as_ref().is_some_and(|actor| actor.id == "dana"));
        events
    };
    dana(&until_trail(t, ACME, |events| dana(events).len() >= count).await)
}

/// Has a token issued, and the server go by the true time from then on, as the command line does.
async fn issued(t: &TestApp, env: &Env, arguments: &[&str]) -> String {
    let token = done(env, arguments).await;
    t.advance(DateTime::<Utc>::from(SystemTime::now()) - t.now());
    token.trim().to_owned()
}

on_a_server! {
    async fn who_has_a_token_for_an_emergency_is_told_of_with_the_reason(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let env = t.env();
        let issue = ["token", "--practice", ACME, "--role", "staff", "--emergency", REASON, "--subject", "dana"];
        for (arguments, why) in [
            (&issue[..7], "--subject"),
            (&[&issue[..], &["--ttl", "61m"]].concat()[..], "an hour at most"),
            (&[&issue[..6], &["", "--subject", "dana"]].concat()[..], "1 to 200 characters"),
            (&[&issue[..6], &["a\nline", "--subject", "dana"]].concat()[..], "1 to 200 characters"),
        ] {
            let (code, said) = heedwell(&env, arguments).await;
            assert!(code != Some(0) && said.contains(why), "{said}");
        }
        let mut dana = t.caller_with(&issued(t, &env, &issue).await);
        assert_eq!(alarms(&metrics(t).await), 0.0);
        dana.directory.get_patient(get("pat")).await.unwrap();
        // What leaves no entry otherwise, and what is refused, here and of another practice.
        let list = |practice: &str| ListDeliveriesRequest { practice_id: practice.into(), ..Default::default() };
        dana.notify.list_deliveries(list(ACME)).await.unwrap();
        refused(dana.directory.get_patient(get("nobody")).await, Code::NotFound, "NOT_FOUND");
        refused(dana.notify.list_deliveries(list("beta")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        assert_eq!(alarms(&metrics(t).await), 2.0);
        let told = of_dana(t, 4).await;
        assert!(told.iter().all(|event| event.emergency_reason == REASON));
        let mut told: Vec<_> = told.iter().map(|event| (event.action.trim_start_matches("heedwell.v1."), event.code, &*event.resource)).collect();
        told.sort_unstable();
        assert_eq!(told, [
            ("DirectoryService/GetPatient", 0, "patient/pat"),
            ("DirectoryService/GetPatient", 5, "patient/nobody"),
            ("NotifyService/ListDeliveries", 0, ""),
            ("NotifyService/ListDeliveries", 7, "another practice"),
        ]);
        let all = trail(t, ACME).await;
        let told: Vec<_> = all.iter().filter(|event| event.action == "token.issue").collect();
        let [told] = &told[..] else { panic!("issued once") };
        assert_eq!((&*told.resource, &*told.emergency_reason), ("token/dana/staff/3600s", REASON));
        assert!(all.iter().all(|event| event.emergency_reason.is_empty() || event.actor.as_ref().unwrap().id != "tester"));

        // It ends, and the leeway for clocks with it.
        t.advance(TimeDelta::minutes(59));
        dana.directory.get_patient(get("pat")).await.unwrap();
        t.advance(TimeDelta::minutes(2));
        refused(dana.directory.get_patient(get("pat")).await, Code::Unauthenticated, "TOKEN_INVALID");
        t.stop().await;
        let exported = done(&env, &["audit", "export", "--practice", ACME]).await;
        assert_eq!(exported.matches(&format!("\"emergency_reason\":\"{REASON}\"")).count(), 6, "{exported}");
    }

    async fn what_cannot_be_told_is_not_shown_in_an_emergency(t: &mut TestApp) {
        practice(t).await;
        let env = t.env();
        let issue = ["token", "--practice", ACME, "--role", "staff", "--subject", "dana", "--emergency", REASON];
        let mut dana = t.caller_with(&issued(t, &env, &issue).await);
        let list = || ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        t.execute("ALTER TABLE audit RENAME TO audit_gone").await;
        refused(dana.notify.list_deliveries(list()).await, Code::Internal, "INTERNAL");
        t.staff().list_deliveries(list()).await.unwrap();
        let (code, said) = heedwell(&env, &issue).await;
        assert!(code == Some(1) && !said.contains("eyJ"), "no token: {said}");
        // An everyday one is issued all the same, and it is said that nobody is told.
        let said = done(&env, &issue[..7]).await;
        assert!(said.contains("this stands on no audit trail: ") && said.contains("eyJ"), "{said}");
        t.execute("ALTER TABLE audit_gone RENAME TO audit").await;
        dana.notify.list_deliveries(list()).await.unwrap();
    }
}

on_a_server! {
    sqlite:
    async fn beside_an_issuer_a_key_for_emergencies_signs_nothing_else(t: &mut TestApp) {
        practice(t).await;
        t.stop().await;
        let (issuer, jwks, key) = (t.home.path("issuer"), t.home.path("jwks.json"), t.home.path("emergency"));
        std::fs::write(&jwks, LocalKey::load_or_create(&issuer).unwrap().0.jwks().to_string()).unwrap();
        let mut env = t.env();
        env.set("HEEDWELL_JWKS", jwks.display().to_string());
        env.set("HEEDWELL_EMERGENCY_KEY_FILE", key.display().to_string());
        let (code, said) = heedwell(&env, &["serve"]).await;
        assert!(code == Some(1) && said.contains("HEEDWELL_EMERGENCY_KEY_FILE: the key for emergencies cannot be used"), "{said}");
        // The first of them makes the key.
        let issue = ["token", "--practice", ACME, "--role", "staff", "--subject", "dana", "--emergency", REASON];
        done(&env, &issue).await;
        let token = issued(t, &env, &issue).await;
        t.start_with(&env).await;
        t.caller_with(&token).directory.get_patient(get("pat")).await.unwrap();
        let now = t.now();
        let everyday = heedwell::auth::NewToken {
            subject: "dana".into(),
            name: String::new(),
            practices: heedwell::domain::Practices::Named([ACME.parse().unwrap()].into()),
            roles: [Role::Staff].into(),
            patient: None,
            ttl: std::time::Duration::from_secs(60),
        };
        let signed_by = |path: &std::path::Path| {
            LocalKey::load_or_create(path).unwrap().0.issue(&everyday, "heedwell", "heedwell", now)
        };
        let mut by_issuer = t.caller_with(&signed_by(&issuer));
        by_issuer.directory.get_patient(get("pat")).await.unwrap();
        let others = [signed_by(&key), signed_by(&heedwell::config::local_key(&t.home.path("data")))];
        for token in others {
            // Also the second time, when its signature is known.
            for _ in 0..2 {
                let answer = t.caller_with(&token).directory.get_patient(get("pat")).await;
                refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
            }
        }
    }
}
