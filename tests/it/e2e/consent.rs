//! Decisions on consent over the API: who may bring which, what is refused, and what is on record.

use std::time::Duration;

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ConsentRecord, ConsentSource, ConsentState, GetPatientPreferencesRequest, ListConsentRecordsRequest,
        ListConsentRecordsResponse, RecordConsentRequest, RecordConsentResponse,
    },
    sandbox::Entry,
};
use tonic::{Code, Status};

use super::{
    given::{
        new_key, patient, practice, practice_named, put_patient, reminder, send, send_over, somebody_with_mailbox,
    },
    seen::{delivery, fields, metadata, refused, skipped, state, until_state},
};
use crate::support::app::{ACME, Caller, LIMIT, Pass, TestApp, on_a_server};

/// A decision of `pat`, as staff bring it.
pub(super) fn decision(channel: Channel, state: ConsentState) -> RecordConsentRequest {
    RecordConsentRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        patient_id: "pat".into(),
        channel: channel.into(),
        state: state.into(),
        source: ConsentSource::Staff.into(),
        effective_time: None,
        evidence: "said so at the desk".into(),
    }
}

/// Staff record that `pat` wants no more of it.
pub(super) async fn opts_out(t: &TestApp, channel: Channel) {
    record(&mut t.caller(Role::Staff), decision(channel, ConsentState::OptedOut)).await.unwrap();
}

pub(super) async fn record(
    caller: &mut Caller,
    request: RecordConsentRequest,
) -> Result<RecordConsentResponse, Status> {
    Ok(caller.preferences.record_consent(request).await?.into_inner())
}

async fn list(caller: &mut Caller, request: ListConsentRecordsRequest) -> Result<ListConsentRecordsResponse, Status> {
    Ok(caller.preferences.list_consent_records(request).await?.into_inner())
}

fn word(state: ConsentState) -> &'static str {
    state.as_str_name().trim_start_matches("CONSENT_STATE_")
}

/// What an entry says, and how it got there, as words.
pub(super) fn said(record: &ConsentRecord) -> (&'static str, &'static str) {
    (word(record.state()), record.source().as_str_name().trim_start_matches("CONSENT_SOURCE_"))
}

/// What the ledger says, oldest first.
pub(super) async fn all_said(t: &TestApp) -> Vec<(&'static str, &'static str)> {
    ledger(t).await.iter().rev().map(said).collect()
}

/// The whole ledger, newest first.
pub(super) async fn ledger(t: &TestApp) -> Vec<ConsentRecord> {
    let request = ListConsentRecordsRequest { practice_id: ACME.into(), page_size: 500, ..Default::default() };
    list(&mut t.caller(Role::Auditor), request).await.unwrap().records
}

fn own(t: &TestApp, patient: &str) -> Caller {
    t.caller_with(&t.token_of(&Pass { patient: Some(patient.into()), ..Pass::new(&[Role::Patient], &[ACME]) }))
}

on_a_server! {
    async fn an_opt_out_stops_its_channel_and_is_on_record(t: &mut TestApp) {
        practice(t).await;
        let mut input = reminder(t, "pat", &[Channel::Sms, Channel::Email]);
        input.schedule_time = Some(t.after(TimeDelta::hours(1)));
        let waiting = send(t, input).await;
        let mut staff = t.caller(Role::Staff);
        let request = decision(Channel::Sms, ConsentState::OptedOut);
        let answer = record(&mut staff, request.clone()).await.unwrap();
        assert_eq!((answer.skipped_deliveries, answer.in_flight_attempts, answer.replayed), (1, 0, false));
        let [one, consent] = [answer.record.clone().unwrap(), answer.consent.clone().unwrap().record.unwrap()];
        assert!(one == consent, "what is in force rests on it");
        assert_eq!((one.position, one.patient_id.as_str(), said(&one)), (1, "pat", ("OPTED_OUT", "STAFF")));
        assert_eq!((one.evidence.as_str(), one.hash.len()), ("said so at the desk", 32));
        assert_eq!(one.actor.as_ref().unwrap().display_name, "Robin");
        assert!(one.address_hint.ends_with("42") && !one.address_hint.contains("202555"));
        assert_eq!(one.effective_time, one.record_time);

        let sms = waiting.deliveries.iter().find(|it| it.channel() == Channel::Sms).unwrap();
        let sms = delivery(t, &sms.delivery_id).await;
        assert_eq!((state(&sms), skipped(&sms)), ("SKIPPED", "OPTED_OUT"));
        assert_eq!(skipped(&delivery(t, &send_over(t, "pat", Channel::Sms).await).await), "OPTED_OUT");
        until_state(t, &send_over(t, "pat", Channel::Email).await, "SENT").await;

        let asked = GetPatientPreferencesRequest { practice_id: ACME.into(), patient_id: "pat".into() };
        let read = staff.preferences.get_patient_preferences(asked).await.unwrap().into_inner().preferences.unwrap();
        let [_, mail, text, _] = &read.consents[..] else { panic!("one per channel") };
        assert!(text.record.as_ref() == Some(&one) && text.state() == ConsentState::OptedOut);
        assert!(mail.record.is_none() && mail.state() == ConsentState::Unknown);

        let again = record(&mut staff, request.clone()).await.unwrap();
        assert_eq!((again.replayed, again.skipped_deliveries), (true, 0));
        assert!(again.record == answer.record);
        let other = RecordConsentRequest { state: ConsentState::OptedIn.into(), ..request };
        refused(record(&mut staff, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");

        let back = record(&mut staff, decision(Channel::Sms, ConsentState::OptedIn)).await.unwrap();
        assert_eq!(word(back.consent.unwrap().state()), "OPTED_IN");
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!(ledger(t).await.iter().map(|record| record.position).collect::<Vec<_>>(), [2, 1]);
    }

    async fn every_fault_of_a_decision_is_named_and_nothing_is_recorded(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        put_patient(t, "beta", patient("bee", "bee@example.com", "+12025550143")).await;
        let mut staff = t.caller(Role::Staff);
        let all_wrong = RecordConsentRequest {
            request_id: String::new(),
            patient_id: "no patient".into(),
            channel: 9,
            state: ConsentState::Unknown.into(),
            source: ConsentSource::Portal.into(),
            effective_time: Some(t.after(TimeDelta::seconds(1))),
            ..decision(Channel::Sms, ConsentState::OptedOut)
        };
        let status = refused(record(&mut staff, all_wrong).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["channel", "effective_time", "patient_id", "request_id", "source", "state"]);
        assert!(!status.message().contains("no patient"));
        let good = || decision(Channel::Sms, ConsentState::OptedOut);
        for source in [ConsentSource::Staff, ConsentSource::Import, ConsentSource::Form] {
            let bare = RecordConsentRequest { source: source.into(), evidence: " ".into(), ..good() };
            let status = refused(record(&mut staff, bare).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), ["evidence"], "{}", source.as_str_name());
        }
        for (field, request) in [
            ("evidence", RecordConsentRequest { evidence: "x".repeat(501), ..good() }),
            ("evidence", RecordConsentRequest { evidence: "a\0b".into(), ..good() }),
            ("source", RecordConsentRequest { source: ConsentSource::SmsKeyword.into(), ..good() }),
            ("source", RecordConsentRequest { source: 0, ..good() }),
            ("channel", RecordConsentRequest { channel: 0, ..good() }),
        ] {
            let status = refused(record(&mut staff, request).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), [field]);
        }
        let theirs = RecordConsentRequest { patient_id: "bee".into(), ..good() };
        refused(record(&mut staff, theirs).await, Code::NotFound, "NOT_FOUND");
        let foreign = RecordConsentRequest { practice_id: "beta".into(), ..good() };
        refused(record(&mut staff, foreign).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        assert!(ledger(t).await.is_empty());
        assert_eq!(state(&until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await), "DELIVERED");
    }

    async fn patients_decide_for_themselves_and_the_portal_for_each(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("lee", "lee@example.com", "+12025550143")).await;
        let from_portal = |patient: &str| RecordConsentRequest {
            source: ConsentSource::Portal.into(),
            patient_id: patient.into(),
            evidence: String::new(),
            ..decision(Channel::Email, ConsentState::OptedOut)
        };
        let mut pat = own(t, "pat");
        record(&mut pat, from_portal("pat")).await.unwrap();
        for patient in ["lee", "nobody"] {
            refused(record(&mut pat, from_portal(patient)).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        }
        refused(record(&mut own(t, "nobody"), from_portal("nobody")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        // Whoever guesses the key that somebody else will use takes nothing from them.
        let guessed = RecordConsentRequest { request_id: "visit-1".into(), ..from_portal("pat") };
        record(&mut pat, guessed.clone()).await.unwrap();
        let same_key = RecordConsentRequest { patient_id: "lee".into(), ..guessed };
        record(&mut own(t, "lee"), same_key.clone()).await.unwrap();
        record(&mut t.caller(Role::Portal), same_key).await.unwrap();
        let by_staff = decision(Channel::Email, ConsentState::OptedOut);
        let status = refused(record(&mut pat, by_staff).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["source"]);
        let mut portal = t.caller(Role::Portal);
        record(&mut portal, from_portal("lee")).await.unwrap();
        refused(record(&mut portal, from_portal("nobody")).await, Code::NotFound, "NOT_FOUND");
        for role in [Role::Sender, Role::Auditor, Role::Directory, Role::Operator] {
            let status = record(&mut t.caller(role), from_portal("pat")).await;
            refused(status, Code::PermissionDenied, "ROLE_REQUIRED");
        }

        let of = |patient: &str| ListConsentRecordsRequest {
            practice_id: ACME.into(),
            patient_id: patient.into(),
            ..Default::default()
        };
        assert_eq!(list(&mut pat, of("pat")).await.unwrap().records.len(), 2);
        refused(list(&mut pat, of("lee")).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let status = refused(list(&mut pat, of("")).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["patient_id"]);
        for role in [Role::Staff, Role::Auditor, Role::Portal] {
            assert_eq!(list(&mut t.caller(role), of("")).await.unwrap().records.len(), 5, "{role:?}");
        }
        refused(list(&mut t.caller(Role::Sender), of("")).await, Code::PermissionDenied, "ROLE_REQUIRED");
    }

    async fn the_ledger_is_read_page_by_page(t: &mut TestApp) {
        practice(t).await;
        let mut staff = t.caller(Role::Staff);
        for n in 0..5 {
            let channel = if n % 2 == 0 { Channel::Email } else { Channel::Push };
            record(&mut staff, decision(channel, ConsentState::OptedOut)).await.unwrap();
        }
        let first = ListConsentRecordsRequest { practice_id: ACME.into(), page_size: 2, ..Default::default() };
        let (mut request, mut seen) = (first.clone(), Vec::new());
        loop {
            let page = list(&mut staff, request.clone()).await.unwrap();
            seen.extend(page.records.iter().map(|record| record.position));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, [5, 4, 3, 2, 1]);
        let token = list(&mut staff, first.clone()).await.unwrap().next_page_token;
        let other = ListConsentRecordsRequest {
            page_token: token.clone(), channels: vec![Channel::Email.into()], ..first.clone()
        };
        refused(list(&mut staff, other).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        let edited = ListConsentRecordsRequest { page_token: token.replace(&token[..4], "AAAA"), ..first.clone() };
        refused(list(&mut staff, edited).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        let odd = ListConsentRecordsRequest { patient_id: "no id".into(), channels: vec![7], ..first };
        let status = refused(list(&mut staff, odd).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["channels[0]", "patient_id"]);
    }

    async fn an_opt_out_waits_for_what_is_under_way(t: &mut TestApp) {
        practice(t).await;
        somebody_with_mailbox(t, "slow", "slow@example.com").await;
        t.sandbox.rules().set_slow_reply(Duration::from_millis(700));
        let id = send_over(t, "slow", Channel::Email).await;
        under_way(t).await;
        let opt_out =
            RecordConsentRequest { patient_id: "slow".into(), ..decision(Channel::Email, ConsentState::OptedOut) };
        let answer = record(&mut t.caller(Role::Staff), opt_out).await.unwrap();
        assert_eq!((answer.in_flight_attempts, answer.skipped_deliveries), (0, 0));
        assert_eq!(state(&delivery(t, &id).await), "SENT", "it had begun before, and has ended");
    }

    async fn what_is_still_under_way_after_the_wait_is_counted(t: &mut TestApp) {
        t.restart_with(|config| config.consent.longest_wait = Duration::from_millis(50)).await;
        practice(t).await;
        somebody_with_mailbox(t, "slow", "slow@example.com").await;
        t.sandbox.rules().set_slow_reply(Duration::from_secs(3));
        let id = send_over(t, "slow", Channel::Email).await;
        under_way(t).await;
        let opt_out =
            RecordConsentRequest { patient_id: "slow".into(), ..decision(Channel::Email, ConsentState::OptedOut) };
        let answer = record(&mut t.caller(Role::Staff), opt_out.clone()).await.unwrap();
        assert_eq!((answer.in_flight_attempts, answer.replayed), (1, false));
        let again = record(&mut t.caller(Role::Staff), opt_out).await.unwrap();
        assert_eq!((again.in_flight_attempts, again.replayed), (0, true));
        until_state(t, &id, "SENT").await;
    }
}

/// Waits until the relay has stored a mail that it has not answered yet.
async fn under_way(t: &TestApp) {
    let stored = |entries: &[Entry]| entries.iter().any(|entry| matches!(entry, Entry::SmtpMessage { .. }));
    t.sandbox.journal().wait_for(LIMIT, stored).await.expect("the mail is under way");
}

on_a_server! {
    sqlite:
    async fn a_refusal_after_stop_says_why(t: &mut TestApp) {
        practice(t).await;
        super::inbound::says(t, "STOP").await;
        let mut staff = t.caller(Role::Staff);
        let status = record(&mut staff, decision(Channel::Sms, ConsentState::OptedIn)).await;
        let status = refused(status, Code::FailedPrecondition, "STATE_FORBIDS");
        assert_eq!(metadata(&status, "state"), "OPTED_OUT_BY_TEXT");
        assert_eq!(ledger(t).await.len(), 1);
        // The portal's word is taken, and says itself that it is not enough.
        let request = RecordConsentRequest {
            source: ConsentSource::Portal.into(),
            ..decision(Channel::Sms, ConsentState::OptedIn)
        };
        let answer = record(&mut own(t, "pat"), request).await.unwrap();
        let consent = answer.consent.unwrap();
        assert_eq!((said(&answer.record.unwrap()), word(consent.state())), (("OPTED_IN", "PORTAL"), "OPTED_OUT"));
        assert_eq!(said(&consent.record.unwrap()), ("OPTED_OUT", "SMS_KEYWORD"));
    }
}
