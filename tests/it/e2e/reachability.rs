//! Who could be reached how: what a screen for composing shows beside each name.

use std::collections::BTreeMap;

use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchGetReachabilityRequest, BatchGetReachabilityResponse, BatchPutPatientsRequest, Channel, ConsentSource,
        ConsentState, NotificationKind, Patient, PracticeSettings, RecordConsentRequest,
        batch_get_reachability_response::{ChannelReachability, PatientReachability},
    },
};
use tonic::{Code, Status};

use super::{
    given::{new_key, patient, practice, practice_named, put_patient, send_over, somebody_with_phone},
    preferences::{choose, set},
    seen::{everything, fields, refused, skipped, until_state},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const REMINDER: i32 = NotificationKind::AppointmentReminder as i32;

fn request(ids: &[&str], kind: i32) -> BatchGetReachabilityRequest {
    BatchGetReachabilityRequest {
        practice_id: ACME.into(),
        patient_ids: ids.iter().map(|&id| id.to_owned()).collect(),
        kind,
    }
}

async fn ask(t: &TestApp, request: BatchGetReachabilityRequest) -> Result<BatchGetReachabilityResponse, Status> {
    Ok(t.caller(Role::Staff).preferences.batch_get_reachability(request).await?.into_inner())
}

/// Why each channel of a patient could not be used, in the order of the channels.
fn reasons(patient: &PatientReachability) -> Vec<&'static str> {
    assert_eq!(patient.channels.iter().map(|it| it.channel).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let word = |it: &ChannelReachability| it.skip_reason().as_str_name().trim_start_matches("SKIP_REASON_");
    patient.channels.iter().map(word).collect()
}

async fn reasons_of(t: &TestApp, id: &str, kind: i32) -> Vec<&'static str> {
    let answer = ask(t, request(&[id], kind)).await.unwrap();
    reasons(&answer.patients[0])
}

on_a_server! {
    async fn each_patient_is_answered_for_in_order_with_the_reason_that_a_send_would_give(t: &mut TestApp) {
        practice(t).await;
        let people = [
            Patient { portal_enabled: false, ..patient("none", "", "") },
            Patient { inactive: true, ..patient("gone", "gone@example.com", "+12025550143") },
            patient("abroad", "", "+18765550142"),
            patient("chooser", "chooser@example.com", "+12025550145"),
        ];
        for one in people {
            put_patient(t, ACME, one).await;
        }
        choose(t, "chooser", REMINDER, Some(&[Channel::Sms])).await;
        let ids = ["chooser", "nobody", "none", "gone", "pat", "abroad", "no-one", "pat"];
        let answer = ask(t, request(&ids, REMINDER)).await.unwrap();
        assert_eq!(answer.missing_patient_ids, ["nobody", "no-one"]);
        let found: Vec<_> = answer.patients.iter().map(|it| (it.patient_id.as_str(), reasons(it))).collect();
        const GOOD: &str = "UNSPECIFIED";
        let expected = [
            ("chooser", vec!["NOT_PREFERRED", "NOT_PREFERRED", GOOD, "NOT_PREFERRED"]),
            ("none", vec!["NO_ADDRESS", "NO_ADDRESS", "NO_ADDRESS", "CHANNEL_OFF_FOR_KIND"]),
            ("gone", vec!["PATIENT_INACTIVE"; 4]),
            ("pat", vec![GOOD, GOOD, GOOD, "CHANNEL_OFF_FOR_KIND"]),
            ("abroad", vec![GOOD, "NO_ADDRESS", "ADDRESS_NOT_ALLOWED", "CHANNEL_OFF_FOR_KIND"]),
        ];
        assert_eq!(found, expected);
        let hints: Vec<_> = answer.patients[3].channels.iter().map(|it| it.address_hint.as_str()).collect();
        assert_eq!(hints, ["", "p•••@example.com", "(•••) •••-0142", ""]);
        // An announcement goes over whatever its broadcast names, so that none is off.
        let answer = reasons_of(t, "pat", NotificationKind::Announcement as i32).await;
        assert_eq!(answer, [GOOD, GOOD, GOOD, "NO_ADDRESS"]);
        assert!(everything(t).await.is_empty());
    }

    async fn an_opt_out_and_a_demanded_opt_in_are_shown(t: &mut TestApp) {
        practice(t).await;
        set(t, PracticeSettings { opt_in_channels: vec![2], ..Default::default() }, &["opt_in_channels"]).await;
        let opt_out = RecordConsentRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            patient_id: "pat".into(),
            channel: Channel::Sms.into(),
            state: ConsentState::OptedOut.into(),
            source: ConsentSource::Staff.into(),
            effective_time: None,
            evidence: "said so at the desk".into(),
        };
        t.caller(Role::Staff).preferences.record_consent(opt_out).await.unwrap();
        let answer = ask(t, request(&["pat"], REMINDER)).await.unwrap();
        assert_eq!(reasons(&answer.patients[0]), ["UNSPECIFIED", "NO_CONSENT", "OPTED_OUT", "CHANNEL_OFF_FOR_KIND"]);
        assert_eq!(answer.patients[0].channels.iter().map(|it| it.consent).collect::<Vec<_>>(), [1, 1, 3, 1]);
    }

    async fn an_address_that_failed_for_good_is_shown_until_another_is_entered(t: &mut TestApp) {
        practice(t).await;
        // The stand-in refuses it as no number at all; a relative has the same.
        somebody_with_phone(t, "lee", "+12025550112").await;
        somebody_with_phone(t, "kin", "+12025550112").await;
        assert_eq!(reasons_of(t, "lee", REMINDER).await[2], "UNSPECIFIED");
        until_state(t, &send_over(t, "lee", Channel::Sms).await, "FAILED").await;
        for id in ["lee", "kin"] {
            assert_eq!(reasons_of(t, id, REMINDER).await[2], "ADDRESS_SUPPRESSED");
        }
        // The same number again is no news.
        somebody_with_phone(t, "lee", "+1 (202) 555-0112").await;
        let again = until_state(t, &send_over(t, "lee", Channel::Sms).await, "SKIPPED").await;
        assert_eq!(skipped(&again), "ADDRESS_SUPPRESSED");
        somebody_with_phone(t, "lee", "+12025550146").await;
        assert_eq!(reasons_of(t, "lee", REMINDER).await[2], "UNSPECIFIED");
        assert_eq!(reasons_of(t, "kin", REMINDER).await[2], "ADDRESS_SUPPRESSED", "hers is still the dead one");
        until_state(t, &send_over(t, "lee", Channel::Sms).await, "DELIVERED").await;
    }
}

on_a_server! {
    sqlite:
    async fn five_hundred_are_answered_for_and_no_more(t: &mut TestApp) {
        practice(t).await;
        let ids: Vec<_> = (0..500).map(|n| format!("p-{n}")).collect();
        let patients = ids.iter().map(|id| patient(id, &format!("{id}@example.com"), "")).collect();
        let put = BatchPutPatientsRequest { practice_id: ACME.into(), patients };
        t.caller(Role::Directory).directory.batch_put_patients(put).await.unwrap();
        let mut ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let answer = ask(t, request(&ids, REMINDER)).await.unwrap();
        let by_id: BTreeMap<_, _> = answer.patients.iter().map(|it| (it.patient_id.as_str(), reasons(it))).collect();
        assert_eq!((by_id.len(), answer.missing_patient_ids.len()), (500, 0));
        assert!(by_id.values().all(|it| it[1] == "UNSPECIFIED" && it[2] == "NO_ADDRESS"));
        ids.push("pat");
        let status = refused(ask(t, request(&ids, REMINDER)).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["patient_ids"]);
    }

    async fn a_question_with_a_fault_is_refused_with_all_of_them(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        put_patient(t, "beta", patient("theirs", "", "")).await;
        let cases: [(BatchGetReachabilityRequest, &[&str]); 4] = [
            (request(&[], 0), &["kind", "patient_ids"]),
            (request(&["pat"], 12), &["kind"]),
            (request(&["pat", "", "not an id", "pat"], -1), &["kind", "patient_ids[1]", "patient_ids[2]"]),
            (request(&["x".repeat(129).as_str()], REMINDER), &["patient_ids[0]"]),
        ];
        for (request, expected) in cases {
            let status = refused(ask(t, request).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), expected);
        }
        let answer = ask(t, request(&["theirs"], REMINDER)).await.unwrap();
        assert!(answer.patients.is_empty() && answer.missing_patient_ids == ["theirs"]);
        t.caller(Role::Sender).preferences.batch_get_reachability(request(&["pat"], REMINDER)).await.unwrap();
        for role in [Role::Patient, Role::Portal, Role::Auditor, Role::Directory] {
            let pass = crate::support::app::Pass {
                patient: Some("pat".into()),
                ..crate::support::app::Pass::new(&[role], &[ACME])
            };
            let mut caller = t.caller_with(&t.token_of(&pass)).preferences;
            let answer = caller.batch_get_reachability(request(&["pat"], REMINDER)).await;
            refused(answer, Code::PermissionDenied, "ROLE_REQUIRED");
        }
    }
}
