//! What was refused: on whose trail it is told, that a flood of it stays small, and that what cannot be told is not shown.

use futures::future::join_all;
use heedwell::{
    domain::{
        Practices,
        Role::{self, Directory, Operator, PracticeAdmin, Sender, Staff},
    },
    grpc::proto::{
        AuditEvent, BatchSendNotificationsRequest, Channel, GetNotificationRequest, GetPatientRequest,
        ListDeliveriesRequest, NotificationView, batch_send_notifications_request::BatchItem,
    },
};
use reqwest::StatusCode;
use tonic::Code;

use super::{of, short, trail, until_trail};
use crate::{
    e2e::{
        access::{CALLS, call},
        attachments::own,
        callbacks::{FORM, form, post},
        given::{new_key, practice, practice_named, reminder, send, try_send},
        inbound::{sid, text, url},
        seen::refused,
    },
    support::app::{ACME, Pass, TestApp, on_a_server},
};

const NOBODY: &str = "01980000-0000-7000-8000-000000000000";

/// The refusals of somebody: the call, the code, and what it was about.
fn refusals<'a>(events: &'a [AuditEvent], actor: &str) -> Vec<(&'a str, i32, &'a str)> {
    let of_actor = |event: &&AuditEvent| event.actor.as_ref().is_some_and(|it| it.id == actor) && event.code != 0;
    events.iter().filter(of_actor).map(|event| (short(event), event.code, event.resource.as_str())).collect()
}

/// How many refused calls those entries stand for.
fn total(events: &[AuditEvent], actor: &str) -> u64 {
    let count = |(call, _, resource): &(&str, i32, &str)| match *call {
        "calls.refused" => resource.strip_prefix("calls/").unwrap().parse().unwrap(),
        _ => 1,
    };
    refusals(events, actor).iter().map(count).sum()
}

async fn get_patient(t: &TestApp, token: &str, practice: &str, patient: &str) -> Result<(), tonic::Status> {
    let request = GetPatientRequest { practice_id: practice.into(), patient_id: patient.into() };
    t.caller_with(token).directory.get_patient(request).await.map(drop)
}

on_a_server! {
    async fn whoever_is_refused_is_told_with_the_call_and_the_code(t: &mut TestApp) {
        practice(t).await;
        let (mallory, robin) = (of(t, "mallory", &[Sender], &[ACME]), of(t, "robin", &[Staff], &[ACME]));
        refused(get_patient(t, &mallory, ACME, "pat").await, Code::PermissionDenied, "ROLE_REQUIRED");
        refused(get_patient(t, &robin, ACME, "nobody").await, Code::NotFound, "NOT_FOUND");
        let full = GetNotificationRequest {
            practice_id: ACME.into(),
            notification_id: NOBODY.into(),
            view: NotificationView::Full.into(),
        };
        let answer = t.caller_with(&robin).notify.get_notification(full.clone()).await;
        refused(answer, Code::NotFound, "NOT_FOUND");
        refused(t.caller_with(&mallory).notify.get_notification(full).await, Code::PermissionDenied, "ROLE_REQUIRED");
        let list = ListDeliveriesRequest { practice_id: ACME.into(), page_token: "forged".into(), ..Default::default() };
        refused(t.caller_with(&robin).notify.list_deliveries(list).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        // A patient who asks for somebody else.
        let kim = GetPatientRequest { practice_id: ACME.into(), patient_id: "kim".into() };
        refused(own(t, "pat").directory.get_patient(kim).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        // An item of a batch is refused as a call is.
        let item = |patient| BatchItem { request_id: new_key(), notification: Some(reminder(t, patient, &[Channel::InApp])) };
        let batch = BatchSendNotificationsRequest { practice_id: ACME.into(), items: vec![item("pat"), item("nobody")] };
        t.caller_with(&mallory).notify.batch_send_notifications(batch).await.unwrap();

        let told = until_trail(t, ACME, |events| {
            [("mallory", 3), ("robin", 3), ("tester", 1)].iter().all(|(who, count)| refusals(events, who).len() == *count)
        });
        let told = told.await;
        let sorted = |who: &str| {
            let mut found = refusals(&told, who);
            found.sort_unstable();
            found
        };
        assert_eq!(sorted("mallory"), [
            ("DirectoryService/GetPatient", 7, ""),
            ("NotifyService/BatchSendNotifications", 5, "patient/nobody"),
            ("NotifyService/GetNotification", 7, ""),
        ]);
        let nobody = format!("notification/{NOBODY}");
        assert_eq!(sorted("robin"), [
            ("DirectoryService/GetPatient", 5, "patient/nobody"),
            ("NotifyService/GetNotification", 5, nobody.as_str()),
            ("NotifyService/ListDeliveries", 3, ""),
        ]);
        assert_eq!(sorted("tester"), [("DirectoryService/GetPatient", 7, "")]);
        let refused = told.iter().filter(|event| event.code != 0);
        assert!(refused.into_iter().all(|it| it.source_address == "127.0.0.1" && !it.trace_id.is_empty()));
    }

    async fn each_call_that_a_role_forbids_is_told(t: &mut TestApp) {
        practice(t).await;
        for (place, (method, roles)) in CALLS.iter().enumerate() {
            let Some(role) = Role::ALL.into_iter().find(|role| {
                !roles.contains(role) && *role != Role::Patient && !(*role == PracticeAdmin && roles.contains(&Staff))
            }) else {
                continue;
            };
            let token = of(t, &format!("stranger {place}"), &[role], &[ACME]);
            let answer = call(t, &token, method, ACME).await;
            refused(answer, Code::PermissionDenied, "ROLE_REQUIRED");
        }
        let expected: Vec<_> = CALLS.iter().map(|(method, ..)| *method).filter(|it| *it != "DirectoryService/GetPractice").collect();
        let told = until_trail(t, ACME, |events| {
            events.iter().filter(|event| event.code == 7).count() == expected.len()
        });
        let told = told.await;
        let told: Vec<_> = told.iter().filter(|event| event.code == 7).map(short).collect();
        for method in expected {
            assert!(told.contains(&method), "{method}");
        }
    }

    async fn a_practice_hears_nothing_of_those_who_are_not_its_own(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        let before = trail(t, "beta").await.len();
        let mallory = of(t, "mallory", &[Staff], &[ACME]);
        for asked in ["beta", "nowhere", "canary not an id", ""] {
            refused(get_patient(t, &mallory, asked, "pat").await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        }
        // An operator is everywhere, and what is nowhere has no trail.
        let everywhere = Pass { practices: Practices::All, subject: "operator".into(), ..Pass::new(&[Operator], &[]) };
        let operator = t.token_of(&everywhere);
        refused(get_patient(t, &operator, "nowhere", "pat").await, Code::PermissionDenied, "ROLE_REQUIRED");
        refused(get_patient(t, &operator, "beta", "pat").await, Code::PermissionDenied, "ROLE_REQUIRED");
        let own = until_trail(t, ACME, |events| refusals(events, "mallory").len() == 4).await;
        let expected = [("DirectoryService/GetPatient", 7, "another practice"); 4];
        assert_eq!(refusals(&own, "mallory"), expected);
        let beta = until_trail(t, "beta", |events| refusals(events, "operator").len() == 1).await;
        assert_eq!((refusals(&beta, "mallory").len(), beta.len()), (0, before + 1));
    }

    async fn a_flood_of_refusals_stays_small_and_is_counted_and_holds_nobody_up(t: &mut TestApp) {
        practice(t).await;
        let before = trail(t, ACME).await.len();
        let mallory = of(t, "mallory", &[Sender], &[ACME]);
        for _ in 0..20 {
            let flood = join_all((0..50).map(|_| get_patient(t, &mallory, ACME, "pat"))).await;
            assert!(flood.into_iter().all(|answer| answer.is_err()));
            send(t, reminder(t, "pat", &[Channel::InApp])).await;
        }
        let robin = of(t, "robin", &[Directory], &[ACME]);
        get_patient(t, &robin, ACME, "nobody").await.unwrap_err();
        let seen = until_trail(t, ACME, |events| !refusals(events, "robin").is_empty()).await;
        assert_eq!(total(&seen, "robin"), 1, "one who is refused now and then is told by name");
        // The minute may have passed meanwhile; the rest is counted when the server stops.
        t.stop().await;
        t.start().await;
        let told = trail(t, ACME).await;
        assert_eq!(total(&told, "mallory"), 1_000, "none is forgotten");
        let entries = refusals(&told, "mallory").len();
        assert!((11..=33).contains(&entries), "{entries} entries");
        assert_eq!(told.len(), before + 20 + 1 + entries);
    }

    async fn what_is_not_from_a_provider_is_told_and_nothing_else_is_kept(t: &mut TestApp) {
        practice(t).await;
        let before = trail(t, ACME).await.len();
        let id = sid(1);
        let fields = text(&id, "+12025550177", "canary-said");
        let inbound = url(t, ACME);
        assert_eq!(post(&inbound, Some("c2lnbmF0dXJl"), FORM, form(&fields)).await, StatusCode::FORBIDDEN);
        assert_eq!(post(&inbound, None, "text/plain", String::new()).await, StatusCode::FORBIDDEN);
        assert_eq!(post(&url(t, "nowhere"), None, FORM, form(&fields)).await, StatusCode::FORBIDDEN);
        let status = t.url(&format!("/webhooks/twilio/{ACME}/status/AAAAAAAAAAAAAAAAAAAAAA"));
        assert_eq!(post(&status, None, FORM, form(&fields)).await, StatusCode::FORBIDDEN);
        for path in ["sendgrid", "bounce"] {
            let url = t.url(&format!("/webhooks/{path}/{ACME}"));
            assert_eq!(post(&url, None, "application/json", "[]".into()).await, StatusCode::FORBIDDEN, "{path}");
        }
        let told = until_trail(t, ACME, |events| events.len() == before + 5).await;
        let mut found: Vec<_> = told[before..].iter().map(|event| event.action.as_str()).collect();
        found.sort_unstable();
        let expected = ["webhook.bounce", "webhook.sendgrid", "webhook.twilio.inbound", "webhook.twilio.inbound", "webhook.twilio.status"];
        assert_eq!(found, expected);
        for event in &told[before..] {
            assert_eq!((event.code, event.resource.as_str(), event.source_address.as_str()), (7, "", "127.0.0.1"));
        }
    }

    async fn what_cannot_be_told_is_neither_shown_nor_done(t: &mut TestApp) {
        practice(t).await;
        let sent = send(t, reminder(t, "pat", &[Channel::InApp])).await;
        let read = GetNotificationRequest {
            practice_id: ACME.into(),
            notification_id: sent.notification_id,
            view: NotificationView::Full.into(),
        };
        let brief = GetNotificationRequest { view: NotificationView::Basic.into(), ..read.clone() };
        t.execute("ALTER TABLE audit RENAME TO audit_gone").await;
        refused(get_patient(t, &t.token(Staff), ACME, "pat").await, Code::Internal, "INTERNAL");
        refused(t.staff().get_notification(read.clone()).await, Code::Internal, "INTERNAL");
        let key = new_key();
        let order = || reminder(t, "pat", &[Channel::InApp]);
        refused(try_send(t, &key, order()).await, Code::Internal, "INTERNAL");
        t.staff().get_notification(brief).await.unwrap();
        t.execute("ALTER TABLE audit_gone RENAME TO audit").await;
        t.staff().get_notification(read).await.unwrap();
        // Nothing was kept of what failed, its key neither.
        assert!(!try_send(t, &key, order()).await.unwrap().replayed);
        let told = trail(t, ACME).await;
        assert_eq!(told.iter().filter(|event| short(event) == "NotifyService/SendNotification").count(), 2);
        assert_eq!(told.iter().filter(|event| short(event) == "NotifyService/GetNotification").count(), 1);
    }

    async fn what_is_done_again_changes_nothing_and_is_not_told_again(t: &mut TestApp) {
        practice(t).await;
        let key = new_key();
        for replayed in [false, true, true] {
            assert_eq!(try_send(t, &key, reminder(t, "pat", &[Channel::InApp])).await.unwrap().replayed, replayed);
        }
        let told = trail(t, ACME).await;
        assert_eq!(told.iter().filter(|event| short(event) == "NotifyService/SendNotification").count(), 1);
        let positions: Vec<_> = told.iter().map(|event| event.position).collect();
        assert!(positions.is_sorted());
    }
}
