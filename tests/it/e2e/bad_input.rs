//! What breaks a rule of the contract is refused with the path of each field that does, before anything is stored, and
//! without a word of what was sent.

mod faults;
mod lists;
mod together;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        AppointmentDetails, BatchPutPatientsRequest, CancelNotificationRequest, DocumentDetails,
        GetNotificationRequest, GetPatientRequest, GetPracticeRequest, GetPracticeSettingsRequest,
        ListDeliveriesRequest, ListPatientsRequest, NotificationInput, Patient, Practice, PracticeSettings,
        PutPracticeRequest, RetryDeliveryRequest, SecureLink, SendNotificationRequest, UpdatePracticeSettingsRequest,
        WatchDeliveriesRequest, document_details::Action, notification_input::Payload, watch_deliveries_request::Start,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use self::faults::{
    CANARY, arm, control, filter_faults, long, no_time, order_faults, patient_faults, payload_faults, practice_faults,
    seconds, settings_faults,
};
use super::{
    given::{bare_practice, documents, mask, new_key, patient, practice, reminder, visit},
    seen::{everything, fields, refused},
};
use crate::support::app::{ACME, on_a_server};

/// Checks that a call was refused for these fields, sorted, and that nothing of what was sent is in the answer.
#[track_caller]
fn refused_for<T>(result: Result<T, Status>, expected: &[&str], what: &str) {
    let Err(status) = result else { panic!("taken: {what}") };
    let status = refused::<()>(Err(status), Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(fields(&status), expected, "{what}");
    tells_nothing(&status);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
}

#[track_caller]
fn tells_nothing(status: &Status) {
    let details = String::from_utf8_lossy(status.details()).to_lowercase();
    assert!(!status.message().to_lowercase().contains(CANARY) && !details.contains(CANARY), "it repeats a value");
}

on_a_server! {
    sqlite:
    async fn a_notification_with_a_fault_is_not_taken(t: &mut TestApp) {
        practice(t).await;
        let good = || SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            notification: Some(reminder(t, "pat", &[])),
        };
        for (field, spoil) in order_faults() {
            let mut request = good();
            spoil(t, &mut request);
            refused_for(t.sender().send_notification(request).await, &[field], field);
        }
        for (field, payload) in payload_faults(t) {
            let path = format!("notification.{}.{field}", arm(&payload));
            let mut request = good();
            request.notification.as_mut().unwrap().payload = Some(payload);
            refused_for(t.sender().send_notification(request).await, &[&path], &path);
        }
        assert!(everything(t).await.is_empty() && t.sandbox.journal().entries().is_empty());
        t.sender().send_notification(good()).await.unwrap();
    }

    async fn all_faults_of_a_request_are_told_at_once_and_twenty_at_most(t: &mut TestApp) {
        practice(t).await;
        let link = SecureLink { target_url: CANARY.into(), ttl: seconds(-1), max_opens: -1 };
        let documents =
            DocumentDetails { action: Action::Unspecified.into(), document_count: 0, link: Some(link), ..documents() };
        let request = SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: String::new(),
            notification: Some(NotificationInput {
                patient_id: control("/"),
                payload: Some(Payload::DocumentShared(documents)),
                channels: vec![7, 8],
                reference: long(200),
                priority: 7,
                ..Default::default()
            }),
        };
        let expected = [
            "notification.channels[0]",
            "notification.channels[1]",
            "notification.document_shared.action",
            "notification.document_shared.document_count",
            "notification.document_shared.link.max_opens",
            "notification.document_shared.link.target_url",
            "notification.document_shared.link.ttl",
            "notification.patient_id",
            "notification.priority",
            "notification.reference",
            "request_id",
        ];
        refused_for(t.sender().send_notification(request).await, &expected, "many");

        // What only the clock and the settings can tell is told at once, too.
        let visit = AppointmentDetails {
            link: Some(SecureLink { target_url: "https://canary.example/".into(), ..Default::default() }),
            ..visit(t)
        };
        let request = SendNotificationRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            notification: Some(NotificationInput {
                patient_id: "pat".into(),
                payload: Some(Payload::AppointmentConfirmed(visit)),
                schedule_time: Some(t.after(TimeDelta::days(401))),
                expire_time: Some(t.after(TimeDelta::days(-1))),
                ..Default::default()
            }),
        };
        let expected = [
            "notification.appointment_confirmed.link.target_url",
            "notification.expire_time",
            "notification.schedule_time",
        ];
        refused_for(t.sender().send_notification(request).await, &expected, "late");

        let patients = (0..30).map(|_| patient("canary/", "", "")).collect();
        let request = BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        let answer = t.caller(Role::Directory).directory.batch_put_patients(request).await;
        let status = refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status).len(), 20);
        // Trailers are small: some clients take no more than 8 KiB.
        assert!(status.details().len() < 4_096);
        tells_nothing(&status);
        assert!(everything(t).await.is_empty());
    }

    async fn a_practice_with_a_fault_is_not_stored(t: &mut TestApp) {
        let mut operator = t.caller(Role::Operator).directory;
        let request = |practice| PutPracticeRequest { practice_id: ACME.into(), practice };
        refused_for(operator.put_practice(request(None)).await, &["practice"], "none");
        for (field, practice) in practice_faults() {
            refused_for(operator.put_practice(request(Some(practice))).await, &[field], field);
        }
        let get = GetPracticeRequest { practice_id: ACME.into() };
        refused(operator.get_practice(get).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let bare = Practice {
            legal_name: "Acme".into(),
            display_name: "Acme".into(),
            time_zone: "America/Chicago".into(),
            ..Default::default()
        };
        let stored = operator.put_practice(request(Some(bare))).await.unwrap().into_inner().practice.unwrap();
        assert_eq!((stored.locale.as_str(), stored.practice_id.as_str()), ("en-US", ACME));
    }

    async fn patients_are_stored_all_or_none(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut directory = t.caller(Role::Directory).directory;
        let request = |patients| BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        refused_for(directory.batch_put_patients(request(vec![])).await, &["patients"], "none");
        let many = (0..501).map(|n| patient(&format!("p-{n}"), "", "")).collect();
        refused_for(directory.batch_put_patients(request(many)).await, &["patients"], "501");
        for (field, faulty) in patient_faults() {
            let path = format!("patients[1].{field}");
            let patients = vec![patient("first", "", ""), faulty, patient("third", "", "")];
            refused_for(directory.batch_put_patients(request(patients)).await, &[&path], &path);
        }
        let twice = vec![patient("same", "", ""), patient("same", "", "")];
        refused_for(directory.batch_put_patients(request(twice)).await, &["patients[1].patient_id"], "twice");
        for id in ["first", "third", "same", "p-1"] {
            let get = GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() };
            refused(directory.get_patient(get).await, Code::NotFound, "NOT_FOUND");
        }
        let list = ListPatientsRequest { practice_id: ACME.into(), ..Default::default() };
        assert!(directory.list_patients(list).await.unwrap().into_inner().patients.is_empty());

        let most: Vec<_> = (0..500).map(|n| patient(&format!("p-{n}"), "", "")).collect();
        let counts = directory.batch_put_patients(request(most.clone())).await.unwrap().into_inner();
        assert_eq!((counts.created_count, counts.updated_count), (500, 0));
        let changed = Patient { last_name: "Roe".into(), ..patient("p-7", "", "") };
        let mixed = vec![most[0].clone(), changed, patient("new", "", "")];
        let counts = directory.batch_put_patients(request(mixed)).await.unwrap().into_inner();
        assert_eq!((counts.created_count, counts.updated_count), (1, 1));
    }

    async fn settings_with_a_fault_are_not_stored(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut admin = t.caller(Role::PracticeAdmin).preferences;
        let request = |settings, paths: &[&str]| UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings,
            update_mask: Some(mask(paths)),
        };
        let none = || Some(PracticeSettings::default());
        refused_for(admin.update_practice_settings(request(None, &["sms"])).await, &["settings"], "no settings");
        let no_mask = UpdatePracticeSettingsRequest { update_mask: None, ..request(none(), &[]) };
        refused_for(admin.update_practice_settings(no_mask).await, &["update_mask"], "no mask");
        for bad in [
            "",
            "canary",
            "sms.canary",
            "sms.auth_token.canary",
            "*",
            "email.smtp.canary",
            "sms.auth_token_set",
            "etag",
            "channel_statuses",
            "update_time",
            "sms.inbound_webhook_url",
            "Sms",
            "sms ",
            "link_hosts.0",
        ] {
            // A good path beside a bad one is not stored either.
            let settings = PracticeSettings { link_hosts: vec!["a.example".into()], ..Default::default() };
            let answer = admin.update_practice_settings(request(Some(settings), &["link_hosts", bad])).await;
            refused_for(answer, &["update_mask"], bad);
        }
        refused_for(admin.update_practice_settings(request(none(), &[])).await, &["update_mask"], "an empty mask");
        for (path, field, settings) in settings_faults() {
            refused_for(admin.update_practice_settings(request(Some(settings), &[path])).await, &[field], path);
        }
        let get = GetPracticeSettingsRequest { practice_id: ACME.into() };
        let stored = admin.get_practice_settings(get).await.unwrap().into_inner().settings.unwrap();
        assert_eq!(stored.etag, "0", "nothing was ever stored");
        assert!(stored.link_hosts.is_empty());
    }

    async fn lists_and_watches_refuse_filters_that_make_no_sense(t: &mut TestApp) {
        practice(t).await;
        let list = ListDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        let watch = WatchDeliveriesRequest { practice_id: ACME.into(), ..Default::default() };
        for (field, filter) in filter_faults() {
            let faulty = ListDeliveriesRequest { filter: Some(filter.clone()), ..list.clone() };
            refused_for(t.staff().list_deliveries(faulty).await, &[field], field);
            let faulty = WatchDeliveriesRequest { filter: Some(filter), ..watch.clone() };
            refused_for(t.staff().watch_deliveries(faulty).await, &[field], field);
        }
        for (field, faulty) in [
            ("start_time", ListDeliveriesRequest { start_time: no_time(), ..list.clone() }),
            ("end_time", ListDeliveriesRequest { end_time: no_time(), ..list }),
        ] {
            refused_for(t.staff().list_deliveries(faulty).await, &[field], field);
        }
        let begin = |time| WatchDeliveriesRequest { start: Some(Start::StartTime(time)), ..watch.clone() };
        for (field, faulty) in [
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(4), ..watch.clone() }),
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(61), ..watch.clone() }),
            ("heartbeat_interval", WatchDeliveriesRequest { heartbeat_interval: seconds(-5), ..watch.clone() }),
            ("start_time", begin(no_time().unwrap())),
            ("start_time", begin(t.after(TimeDelta::days(-8)))),
        ] {
            refused_for(t.staff().watch_deliveries(faulty).await, &[field], field);
        }
    }

    async fn reads_refuse_what_makes_no_sense(t: &mut TestApp) {
        practice(t).await;
        let mut directory = t.caller(Role::Staff).directory;
        let list = |query: &str, tags: &[&str], page_token: &str| ListPatientsRequest {
            practice_id: ACME.into(),
            query: query.into(),
            tags: tags.iter().map(|&tag| tag.into()).collect(),
            page_size: 1,
            page_token: page_token.into(),
        };
        refused_for(directory.list_patients(list(&control("\n"), &[], "")).await, &["query"], "query");
        refused_for(directory.list_patients(list(&long(255), &[], "")).await, &["query"], "query");
        refused_for(directory.list_patients(list("", &["new", ""], "")).await, &["tags[1]"], "tags");
        let status =
            refused(directory.list_patients(list("", &[], CANARY)).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        tells_nothing(&status);

        let get = |id: &str| GetPatientRequest { practice_id: ACME.into(), patient_id: id.into() };
        refused_for(directory.get_patient(get("")).await, &["patient_id"], "none");
        refused_for(directory.get_patient(get("canary canary")).await, &["patient_id"], "no id");
        let absent = refused(directory.get_patient(get("nobody")).await, Code::NotFound, "NOT_FOUND");
        let resource = absent.get_details_resource_info().unwrap();
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("patient", "nobody"));

        let get =
            |id: &str, view| GetNotificationRequest { practice_id: ACME.into(), notification_id: id.into(), view };
        refused_for(t.staff().get_notification(get("", 0)).await, &["notification_id"], "none");
        refused_for(
            t.staff().get_notification(get("01980000-0000-7000-8000-000000000000", 9)).await,
            &["view"],
            "view",
        );
        refused(
            t.staff().get_notification(get("01980000-0000-7000-8000-000000000000", 0)).await,
            Code::NotFound,
            "NOT_FOUND",
        );
    }

    async fn cancels_and_retries_refuse_what_makes_no_sense(t: &mut TestApp) {
        practice(t).await;
        let cancel = |id: &str| CancelNotificationRequest { practice_id: ACME.into(), notification_id: id.into() };
        refused_for(t.sender().cancel_notification(cancel("")).await, &["notification_id"], "none");
        let retry = |key: &str, id: &str| RetryDeliveryRequest {
            practice_id: ACME.into(),
            request_id: key.into(),
            delivery_id: id.into(),
        };
        const NOTHING: &str = "01980000-0000-7000-8000-000000000000";
        refused_for(t.staff().retry_delivery(retry("", "")).await, &["delivery_id", "request_id"], "none");
        refused_for(t.staff().retry_delivery(retry("key", "")).await, &["delivery_id"], "no delivery");
        for key in [String::new(), long(65), control("\n"), control("é")] {
            refused_for(t.staff().retry_delivery(retry(&key, NOTHING)).await, &["request_id"], &key);
        }
        let answers = [
            t.sender().cancel_notification(cancel(NOTHING)).await.err(),
            t.staff().retry_delivery(retry(&new_key(), NOTHING)).await.err(),
        ];
        for (answer, resource) in answers.into_iter().zip(["notification", "delivery"]) {
            let status = refused::<()>(Err(answer.unwrap()), Code::NotFound, "NOT_FOUND");
            assert_eq!(status.get_details_resource_info().unwrap().resource_type, resource);
        }
    }

    async fn a_message_too_large_is_refused_and_the_server_goes_on(t: &mut TestApp) {
        practice(t).await;
        let body = "x".repeat(5 * 1024 * 1024);
        let input = NotificationInput { custom_content: body, ..reminder(t, "pat", &[]) };
        let request =
            SendNotificationRequest { practice_id: ACME.into(), request_id: new_key(), notification: Some(input) };
        let answer = t.sender().send_notification(request).await;
        refused(answer, Code::InvalidArgument, "FIELD_INVALID");
        assert!(everything(t).await.is_empty());
    }

    async fn an_address_is_kept_as_it_is_dialled(t: &mut TestApp) {
        bare_practice(t, ACME).await;
        let mut directory = t.caller(Role::Directory).directory;
        let patients = vec![patient("pat", "Pat.Doe@Example.COM", "(202) 555-0142")];
        directory.batch_put_patients(BatchPutPatientsRequest { practice_id: ACME.into(), patients }).await.unwrap();
        for query in ["pat", "pat.doe@example.com", "+12025550142", "202-555-0142", "PA", "do"] {
            let list = ListPatientsRequest { practice_id: ACME.into(), query: query.into(), ..Default::default() };
            let found = directory.list_patients(list).await.unwrap().into_inner().patients;
            assert_eq!(found.len(), 1, "{query}");
            assert_eq!(
                (found[0].mobile_phone.as_str(), found[0].email.as_str()),
                ("+12025550142", "Pat.Doe@example.com")
            );
        }
        let list = ListPatientsRequest { practice_id: ACME.into(), query: "oe".into(), ..Default::default() };
        assert!(directory.list_patients(list).await.unwrap().into_inner().patients.is_empty());
    }
}
