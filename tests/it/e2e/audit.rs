//! The audit trail as compliance reads it: what is on it, newest first, and that reading it is on it too.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        ActorType, AuditEvent, Channel, ListAuditEventsRequest, ListAuditEventsResponse, ListConsentRecordsRequest,
        NotificationInput, notification_input::Payload,
    },
};
use tonic::{Code, Status};

use super::{
    callbacks::browser,
    given::{PHONE, link, patient, practice, practice_named, put_patient, reminder, send, token, visit},
    seen::{fields, refused, settled, texts, time},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const LISTED: &str = "heedwell.v1.AuditService/ListAuditEvents";

async fn try_list(t: &TestApp, request: ListAuditEventsRequest) -> Result<ListAuditEventsResponse, Status> {
    let practice = request.practice_id.clone();
    let mut audit = t.caller_with(&token(t, Role::Auditor, &practice)).audit;
    Ok(audit.list_audit_events(request).await?.into_inner())
}

async fn list(t: &TestApp, request: ListAuditEventsRequest) -> ListAuditEventsResponse {
    try_list(t, request).await.unwrap()
}

fn of(practice: &str) -> ListAuditEventsRequest {
    ListAuditEventsRequest { practice_id: practice.into(), ..Default::default() }
}

fn actions(events: &[AuditEvent]) -> Vec<&str> {
    events.iter().map(|event| event.action.as_str()).collect()
}

/// Sends a reminder with a link to a patient by text message, and opens the link. Yields the id of the notification.
async fn opened(t: &TestApp, id: &str, phone: &str) -> String {
    let visit = heedwell::grpc::proto::AppointmentDetails { link: Some(link()), ..visit(t) };
    let input =
        NotificationInput { payload: Some(Payload::AppointmentReminder(visit)), ..reminder(t, id, &[Channel::Sms]) };
    let sent = send(t, input).await;
    settled(t, &sent.deliveries, ["DELIVERED"]).await;
    let text = texts(t, phone).pop().unwrap().body;
    let url = text.split_whitespace().find(|word| word.contains("/l/")).unwrap().to_owned();
    browser().post(url).send().await.unwrap();
    sent.notification_id
}

on_a_server! {
    async fn each_opened_link_is_on_it_and_so_is_each_reader(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "+12025550144")).await;
        t.advance(TimeDelta::minutes(1));
        let first = opened(t, "pat", PHONE).await;
        let between = t.now() + TimeDelta::seconds(30);
        t.advance(TimeDelta::minutes(1));
        let second = opened(t, "kim", "+12025550144").await;

        let all = list(t, of(ACME)).await.events;
        let positions: Vec<_> = all.iter().map(|event| event.position).collect();
        assert_eq!(positions, (1..=positions.len() as i64).rev().collect::<Vec<_>>(), "newest first, without a gap");
        let opened = all.iter().filter(|event| event.action == "link.open").collect::<Vec<_>>();
        let (reader, [kims, pats]) = (&all[0], &opened[..]) else { panic!("two links") };
        for (event, patient, notification) in [(kims, "kim", &second), (pats, "pat", &first)] {
            assert_eq!((event.patient_id.as_str(), &event.resource), (patient, &format!("notification/{notification}")));
            let actor = event.actor.as_ref().unwrap();
            assert_eq!((actor.r#type, event.code), (ActorType::System.into(), 0));
            // Who opened it is not known, and nothing is kept that could tell.
            assert_eq!((event.source_address.as_str(), event.trace_id.as_str()), ("", ""));
        }
        assert_eq!((reader.action.as_str(), time(kims.event_time).unwrap()), (LISTED, t.now()));
        let actor = reader.actor.as_ref().unwrap();
        let expected = (ActorType::Staff.into(), "tester", "Robin");
        assert_eq!((actor.r#type, actor.id.as_str(), actor.display_name.as_str()), expected);
        assert_eq!((reader.resource.as_str(), reader.source_address.as_str()), ("audit", "127.0.0.1"));
        assert!(!reader.trace_id.is_empty());
        assert!(all.iter().all(|event| event.hash.len() == 32));

        // Of the openings, those that fit.
        let found = |request: ListAuditEventsRequest| async {
            let events = list(t, request).await.events;
            events.into_iter().filter(|event| event.action == "link.open").map(|event| event.position).collect::<Vec<_>>()
        };
        let (kims, pats) = (kims.position, pats.position);
        assert_eq!(found(ListAuditEventsRequest { patient_id: "pat".into(), ..of(ACME) }).await, [pats]);
        assert_eq!(found(ListAuditEventsRequest { actor_id: "heedwell".into(), ..of(ACME) }).await, [kims, pats]);
        assert_eq!(found(ListAuditEventsRequest { action_prefix: "link.".into(), ..of(ACME) }).await, [kims, pats]);
        assert_eq!(found(ListAuditEventsRequest { action_prefix: "LINK.".into(), ..of(ACME) }).await, [0; 0]);
        assert_eq!(found(ListAuditEventsRequest { action_prefix: "l%".into(), ..of(ACME) }).await, [0; 0]);
        let between = Some(prost_types::Timestamp { seconds: between.timestamp(), nanos: 0 });
        assert_eq!(found(ListAuditEventsRequest { start_time: between, ..of(ACME) }).await, [kims]);
        assert_eq!(found(ListAuditEventsRequest { end_time: between, ..of(ACME) }).await, [pats]);
        let mine = ListAuditEventsRequest { actor_id: "tester".into(), action_prefix: LISTED.into(), ..of(ACME) };
        let read = list(t, mine).await.events;
        assert!(actions(&read).into_iter().all(|action| action == LISTED) && read.len() == 9, "{}", read.len());
        // Whose entries were read is told too.
        assert_eq!(read.iter().filter(|event| event.patient_id == "pat").count(), 1);
    }

    async fn all_of_it_is_read_page_by_page(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        for _ in 0..5 {
            list(t, of(ACME)).await;
        }
        let request = ListAuditEventsRequest { page_size: 2, ..of(ACME) };
        let (mut token, mut positions) = (String::new(), Vec::new());
        loop {
            let page = list(t, ListAuditEventsRequest { page_token: token.clone(), ..request.clone() }).await;
            positions.extend(page.events.iter().map(|event| event.position));
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
        }
        // After the practice, its patient and its settings.
        assert_eq!(positions, [9, 8, 7, 6, 5, 4, 3, 2, 1], "what is entered meanwhile moves nothing");
        let invalid = "PAGE_TOKEN_INVALID";
        let token = list(t, request.clone()).await.next_page_token;
        for other in [
            ListAuditEventsRequest { page_token: token.clone(), ..of("beta") },
            ListAuditEventsRequest { page_token: token.clone(), action_prefix: "link.".into(), ..of(ACME) },
            ListAuditEventsRequest { page_token: "canary".into(), ..of(ACME) },
        ] {
            refused(try_list(t, other).await, Code::InvalidArgument, invalid);
        }
        let consent = ListConsentRecordsRequest {
            practice_id: ACME.into(), page_token: token, ..Default::default()
        };
        let answer = t.caller(Role::Auditor).preferences.list_consent_records(consent).await;
        refused(answer, Code::InvalidArgument, invalid);
    }
}

on_a_server! {
    sqlite:
    async fn each_fault_of_a_request_is_named(t: &mut TestApp) {
        practice(t).await;
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let bad = ListAuditEventsRequest {
            start_time: at(10),
            end_time: at(10),
            patient_id: "no id".into(),
            actor_id: "x".repeat(129),
            action_prefix: "a\u{7}".into(),
            ..of(ACME)
        };
        let status = refused(try_list(t, bad).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["action_prefix", "actor_id", "end_time", "patient_id"]);
        let bad = ListAuditEventsRequest { start_time: at(i64::MAX), ..of(ACME) };
        let status = refused(try_list(t, bad).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["start_time"]);
        // What is refused is no reading.
        let read = ListAuditEventsRequest { action_prefix: LISTED.into(), ..of(ACME) };
        let read = list(t, read).await.events;
        assert_eq!(read.iter().filter(|event| event.code == 0).count(), 1);
    }
}
