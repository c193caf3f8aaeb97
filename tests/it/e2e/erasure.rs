//! Erasing a patient: who they were and what was said is gone, and what was done can still be proven.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ConsentState, DeliveryFilter, ErasePatientRequest, GetPatientRequest, ListConversationsRequest,
        ListInboxItemsRequest, ListPatientsRequest, MessageRoute, NotificationInput, NotificationView,
        notification_input::Payload,
    },
};
use tonic::{Code, Status};

use super::{
    attachments::{PNG, download, own, say, to_pat, upload},
    callbacks::browser,
    consent::{all_said, ledger},
    given::{PHONE, link, new_key, patient, practice, put_patient, reminder, send, send_over, try_send, visit},
    inbound::{posted, says, sid, text},
    seen::{delivery, list, read, refused, settled, skipped, texts, until_state},
};
use crate::support::app::{ACME, TestApp, on_a_server};

pub(super) async fn erase(t: &TestApp, id: &str) -> Result<(), Status> {
    let request = ErasePatientRequest { practice_id: ACME.into(), patient_id: id.into() };
    t.caller(Role::PracticeAdmin).directory.erase_patient(request).await.map(drop)
}

pub(super) async fn inbox(t: &TestApp, id: &str) -> usize {
    let request = ListInboxItemsRequest { practice_id: ACME.into(), patient_id: id.into(), ..Default::default() };
    t.caller(Role::Portal).inbox.list_inbox_items(request).await.unwrap().into_inner().items.len()
}

async fn conversations(t: &TestApp) -> Vec<String> {
    let request = ListConversationsRequest { practice_id: ACME.into(), ..Default::default() };
    let page = t.caller(Role::Staff).conversations.list_conversations(request).await.unwrap().into_inner();
    page.conversations.into_iter().map(|it| it.patient_id).collect()
}

/// Reminds somebody over every channel, with a link. Yields the notification and the address in the text.
pub(super) async fn reminded(t: &TestApp, id: &str, phone: &str) -> (String, String) {
    let visit = heedwell::grpc::proto::AppointmentDetails { link: Some(link()), ..visit(t) };
    let every = [Channel::InApp, Channel::Email, Channel::Sms];
    let input = NotificationInput { payload: Some(Payload::AppointmentReminder(visit)), ..reminder(t, id, &every) };
    let sent = send(t, input).await;
    settled(t, &sent.deliveries, ["DELIVERED", "SENT", "DELIVERED"]).await;
    let text = texts(t, phone).pop().unwrap().body;
    let url = text.split_whitespace().find(|word| word.contains("/l/")).unwrap().to_owned();
    (sent.notification_id, url)
}

on_a_server! {
    async fn who_they_were_and_what_was_said_goes_and_the_proof_stays(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("kim", "kim@example.com", "+12025550144")).await;
        let (pats, url) = reminded(t, "pat", PHONE).await;
        let (kims, kims_url) = reminded(t, "kim", "+12025550144").await;
        says(t, "my rash is worse").await;
        let staff = t.caller(Role::Staff);
        let file = upload(&staff, "x-ray.png", "image/png", PNG).await;
        say(&staff, to_pat(MessageRoute::Portal, "Please look at this.", std::slice::from_ref(&file))).await.unwrap();
        let answer = say(&staff, to_pat(MessageRoute::Sms, "Come at 4.", &[])).await.unwrap();
        until_state(t, &answer.delivery_id, "DELIVERED").await;
        let unsent = upload(&own(t, "pat"), "card.png", "image/png", PNG).await;
        let kim = text("SM00000000000000000000000000000009", "+12025550144", "hello");
        assert_eq!(posted(t, &kim).await.as_u16(), 200);
        let mut later = reminder(t, "pat", &[Channel::Sms]);
        later.schedule_time = Some(t.after(TimeDelta::hours(2)));
        let waiting = send(t, later).await.deliveries.remove(0).delivery_id;
        says(t, "STOP").await;
        assert_eq!(skipped(&delivery(t, &waiting).await), "OPTED_OUT");
        let mut later = reminder(t, "pat", &[Channel::Email]);
        later.schedule_time = Some(t.after(TimeDelta::hours(2)));
        let waiting = send(t, later).await.deliveries.remove(0).delivery_id;
        let before = ledger(t).await;
        assert!(before.iter().all(|record| !record.evidence.is_empty()));
        let kept = list(t, DeliveryFilter::default()).await.deliveries;

        erase(t, "pat").await.unwrap();

        let get = GetPatientRequest { practice_id: ACME.into(), patient_id: "pat".into() };
        refused(t.caller(Role::Staff).directory.get_patient(get).await, Code::NotFound, "NOT_FOUND");
        let all = ListPatientsRequest { practice_id: ACME.into(), ..Default::default() };
        let found = t.caller(Role::Staff).directory.list_patients(all).await.unwrap().into_inner().patients;
        assert_eq!(found.iter().map(|patient| patient.patient_id.as_str()).collect::<Vec<_>>(), ["kim"]);
        let never = refused(try_send(t, &new_key(), reminder(t, "nobody", &[])).await, Code::NotFound, "NOT_FOUND");
        let gone = refused(try_send(t, &new_key(), reminder(t, "pat", &[])).await, Code::NotFound, "NOT_FOUND");
        assert_eq!(gone.message().replace("pat", "nobody"), never.message().replace("pat", "nobody"));

        // What was done is still told, and to whom by their id alone.
        let shown = list(t, DeliveryFilter::default()).await.deliveries;
        assert_eq!(shown.len(), kept.len());
        for (old, new) in kept.iter().zip(&shown) {
            assert_eq!((&old.delivery_id, &old.patient_id), (&new.delivery_id, &new.patient_id));
            if new.patient_id == "kim" {
                assert!(old == new, "another one's is as it was");
            } else {
                assert_eq!(new.address_hint, "");
                assert!(old.state == new.state || new.delivery_id == waiting);
            }
        }
        assert_eq!(skipped(&until_state(t, &waiting, "SKIPPED").await), "PATIENT_INACTIVE");
        let full = read(t, &pats, NotificationView::Full).await;
        assert!(full.details.iter().all(|detail| detail.content.is_none() && !detail.events.is_empty()));
        assert!(full.decisions.is_empty());
        let full = read(t, &kims, NotificationView::Full).await;
        assert!(full.details.iter().all(|detail| detail.content.is_some()) && !full.decisions.is_empty());
        let after = ledger(t).await;
        assert_eq!(after.len(), before.len());
        for (old, new) in before.iter().zip(&after) {
            assert_eq!((old.position, &old.hash, old.state, &old.patient_id), (new.position, &new.hash, new.state, &new.patient_id));
            assert_eq!((new.evidence.as_str(), new.address_hint.as_str()), ("", ""));
            assert_eq!(new.actor.as_ref().map(|actor| &actor.id), old.actor.as_ref().map(|actor| &actor.id), "who decided");
        }

        assert_eq!(conversations(t).await, ["kim"]);
        for file in [&file, &unsent] {
            refused(download(&staff, file).await, Code::NotFound, "NOT_FOUND");
        }
        assert_eq!((inbox(t, "kim").await, texts(t, "+12025550144").len()), (1, 1));
        assert_eq!(browser().post(&url).send().await.unwrap().status().as_u16(), 404);
        assert_eq!(browser().post(&kims_url).send().await.unwrap().status().as_u16(), 303);
        // What they text now is a stranger's, whom staff may write to no more than before.
        assert_eq!(posted(t, &text(&sid(77), PHONE, "are you there?")).await.as_u16(), 200);
        let mut known = conversations(t).await;
        known.sort();
        assert_eq!(known, ["", "kim"]);

        erase(t, "pat").await.unwrap();
        refused(erase(t, "nobody").await, Code::NotFound, "NOT_FOUND");
    }

    async fn whoever_comes_back_begins_anew_and_what_they_refused_still_holds(t: &mut TestApp) {
        practice(t).await;
        let (pats, _) = reminded(t, "pat", PHONE).await;
        says(t, "STOP").await;
        erase(t, "pat").await.unwrap();
        put_patient(t, ACME, patient("pat", "pat@example.com", PHONE)).await;
        assert_eq!(inbox(t, "pat").await, 0);
        assert_eq!(conversations(t).await, Vec::<String>::new());
        let full = read(t, &pats, NotificationView::Full).await;
        assert!(full.details.iter().all(|detail| detail.content.is_none()));
        assert_eq!(skipped(&until_state(t, &send_over(t, "pat", Channel::Sms).await, "SKIPPED").await), "OPTED_OUT");
        until_state(t, &send_over(t, "pat", Channel::Email).await, "SENT").await;
        send_over(t, "pat", Channel::InApp).await;
        assert_eq!(inbox(t, "pat").await, 1);
        says(t, "START").await;
        assert_eq!(ledger(t).await[0].state, i32::from(ConsentState::OptedIn));
        assert_eq!(all_said(t).await.len(), 2);
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
    }

    async fn a_number_that_became_theirs_goes_with_them(t: &mut TestApp) {
        practice(t).await;
        let stranger = "+12025550177";
        assert_eq!(posted(t, &text(&sid(5), stranger, "it is me, Pat")).await.as_u16(), 200);
        let list = ListConversationsRequest { practice_id: ACME.into(), ..Default::default() };
        let mut staff = t.caller(Role::Staff).conversations;
        let found = staff.list_conversations(list).await.unwrap().into_inner().conversations.remove(0);
        let link = heedwell::grpc::proto::LinkConversationRequest {
            practice_id: ACME.into(),
            conversation_id: found.conversation_id.clone(),
            patient_id: "pat".into(),
            ..Default::default()
        };
        staff.link_conversation(link).await.unwrap();
        erase(t, "pat").await.unwrap();
        assert_eq!(conversations(t).await, Vec::<String>::new());
        let get = heedwell::grpc::proto::GetConversationRequest {
            practice_id: ACME.into(),
            conversation_id: found.conversation_id,
        };
        refused(staff.get_conversation(get).await, Code::NotFound, "NOT_FOUND");
    }

    async fn who_erased_whom_is_on_the_audit_trail(t: &mut TestApp) {
        practice(t).await;
        erase(t, "pat").await.unwrap();
        let request = heedwell::grpc::proto::ListAuditEventsRequest {
            practice_id: ACME.into(),
            action_prefix: "heedwell.v1.DirectoryService/ErasePatient".into(),
            ..Default::default()
        };
        let events = t.caller(Role::Auditor).audit.list_audit_events(request).await.unwrap().into_inner().events;
        let told: Vec<_> = events.iter().map(|event| (event.patient_id.as_str(), event.resource.as_str(), event.code)).collect();
        assert_eq!(told, [("pat", "patient/pat", 0)]);
    }
}
