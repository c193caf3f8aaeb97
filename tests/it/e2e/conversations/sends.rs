//! What staff write: as a text from the number that was written to, or in the portal; and why it may not go.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchPutPatientsRequest, Channel, ConsentSource, ConsentState, DeliveryFilter, MessageRoute, Patient,
        PracticeSettings, QuietHours, RecordConsentRequest, RetryDeliveryRequest, SendMessageRequest, SmsSettings,
        TimeOfDay, conversation_filter::Subset, delivery::Source, sms_settings::Sender,
    },
    sandbox::Entry,
};
use reqwest::StatusCode;
use tonic::Code;

use super::{
    STRANGER, bodies, messages, next_sid, of, only, own, say, staff_of, to_conversation, to_patient, try_messages,
    try_say, view, writes,
};
use crate::{
    e2e::{
        callbacks::{FORM, form, post, signature},
        given::{AUTH_TOKEN, PHONE, bare_practice, new_key, patient, practice, put_patient},
        inbound::{OURS, text, url},
        preferences::set,
        seen::{everything, failed, fields, list, mails, metadata, refused, skipped, state, texts, until, until_state},
        texts::in_doubt,
    },
    support::app::{ACME, TestApp, on_a_server},
};

/// The parts that the texts to a number went from, oldest first.
fn senders(t: &TestApp, phone: &str) -> Vec<(Option<String>, Option<String>)> {
    let taken = t.sandbox.journal().entries().into_iter().filter_map(|entry| match entry {
        Entry::TwilioCreate { to, from, service, .. } if to == phone => Some((from, service)),
        _ => None,
    });
    taken.collect()
}

async fn put(t: &TestApp, patient: Patient) {
    let request = BatchPutPatientsRequest { practice_id: ACME.into(), patients: vec![patient] };
    t.caller(Role::Directory).directory.batch_put_patients(request).await.unwrap();
}

async fn consents(t: &TestApp, channel: Channel, state: ConsentState) {
    let request = RecordConsentRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        patient_id: "pat".into(),
        channel: channel.into(),
        state: state.into(),
        source: ConsentSource::Staff.into(),
        effective_time: None,
        evidence: "at the desk".into(),
    };
    t.caller(Role::Staff).preferences.record_consent(request).await.unwrap();
}

on_a_server! {
    async fn an_answer_goes_out_as_a_text_and_its_fate_is_shown(t: &mut TestApp) {
        practice(t).await;
        writes(t, PHONE, "May I come at 3?").await;
        let asked = only(t).await;
        assert_eq!(view(t, Subset::Waiting).await, std::slice::from_ref(&asked.conversation_id));
        let (sent, answered) = say(t, to_conversation(&asked.conversation_id, MessageRoute::Sms, "Yes, 3 is fine.")).await;
        assert_eq!((sent.direction, sent.route, sent.body.as_str()), (2, 1, "Yes, 3 is fine."));
        assert_eq!(sent.author.as_ref().unwrap().display_name, "Robin");
        assert_eq!((answered.waiting_time, answered.unread_count), (None, 1));
        assert!(view(t, Subset::Waiting).await.is_empty());
        until_state(t, &sent.delivery_id, "DELIVERED").await;
        let [one] = &texts(t, PHONE)[..] else { panic!("one text") };
        assert_eq!(one.body, "Acme Primary Care: Yes, 3 is fine.");
        assert_eq!(senders(t, PHONE), [(Some(OURS.into()), None)]);
        let shown = messages(t, &asked.conversation_id).await;
        assert_eq!(bodies(&shown), ["May I come at 3?", "Yes, 3 is fine."]);
        assert_eq!((shown[1].delivery_id.as_str(), shown[1].delivery_state), (sent.delivery_id.as_str(), 4));
        // A delivery like others: listed, with its source and without a kind.
        let [delivery] = &everything(t).await[..] else { panic!("one delivery") };
        assert!(matches!(&delivery.source, Some(Source::ConversationMessageId(id)) if *id == sent.message_id));
        assert_eq!((delivery.patient_id.as_str(), delivery.kind, delivery.sms_segments), ("pat", 0, 1));
        assert!(delivery.address_hint.ends_with("0142"));
    }

    async fn an_answer_comes_from_the_number_of_the_service_that_was_written_to(t: &mut TestApp) {
        practice(t).await;
        const SERVICE: &str = "MG00000000000000000000000000000001";
        const POOLED: &str = "+12025550111";
        let settings = PracticeSettings {
            sms: Some(SmsSettings { sender: Some(Sender::MessagingServiceSid(SERVICE.into())), ..Default::default() }),
            ..Default::default()
        };
        set(t, settings, &["sms.messaging_service_sid"]).await;
        let (url, sid) = (url(t, ACME), next_sid());
        let mut posted = text(&sid, PHONE, "Hello?");
        posted.iter_mut().filter(|(name, _)| *name == "To").for_each(|(_, to)| *to = POOLED);
        posted.push(("MessagingServiceSid", SERVICE));
        let answer = post(&url, Some(&signature(AUTH_TOKEN, &url, &posted)), FORM, form(&posted)).await;
        assert_eq!(answer, StatusCode::OK);
        let (sent, _) = say(t, to_patient("pat", MessageRoute::Sms, "Hello.")).await;
        until_state(t, &sent.delivery_id, "DELIVERED").await;
        assert_eq!(senders(t, PHONE), [(Some(POOLED.into()), Some(SERVICE.into()))]);
    }

    async fn a_number_that_is_nobodys_is_answered_too(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "Who is this?").await;
        let stranger = only(t).await.conversation_id;
        let (sent, _) = say(t, to_conversation(&stranger, MessageRoute::Sms, "Your doctor.")).await;
        let delivery = until_state(t, &sent.delivery_id, "DELIVERED").await;
        assert_eq!((delivery.patient_id.as_str(), texts(t, STRANGER).len()), ("", 1));
        let status = refused(
            try_say(&t.caller(Role::Staff), to_conversation(&stranger, MessageRoute::Portal, "x")).await,
            Code::FailedPrecondition,
            "UNREACHABLE",
        );
        assert_eq!((metadata(&status, "channel"), metadata(&status, "skip_reason")), ("IN_APP".into(), "NO_ADDRESS".into()));
        assert!(status.message().contains("not linked to a patient"), "{}", status.message());
        assert_eq!(bodies(&messages(t, &stranger).await), ["Who is this?", "Your doctor."], "and nothing was said");
        writes(t, STRANGER, "STOP").await;
        let answer = try_say(&t.caller(Role::Staff), to_conversation(&stranger, MessageRoute::Sms, "Sorry.")).await;
        refused(answer, Code::FailedPrecondition, "OPTED_OUT");
        assert_eq!(bodies(&messages(t, &stranger).await), ["Who is this?", "Your doctor.", "STOP"]);
        // Whoever has no phone is not answered.
        writes(t, "12345", "Your code is 1.").await;
        let code = view(t, Subset::Unlinked).await.into_iter().find(|id| *id != stranger).unwrap();
        let answer = try_say(&t.caller(Role::Staff), to_conversation(&code, MessageRoute::Sms, "Thanks.")).await;
        assert_eq!(metadata(&refused(answer, Code::FailedPrecondition, "UNREACHABLE"), "skip_reason"), "NO_ADDRESS");
    }

    async fn a_message_in_the_portal_is_told_of_and_read_there(t: &mut TestApp) {
        practice(t).await;
        let (sent, begun) = say(t, to_patient("pat", MessageRoute::Portal, "Your results are in.")).await;
        assert_eq!((begun.patient_id.as_str(), sent.route, sent.delivery_id.as_str()), ("pat", 2, ""));
        let told = list(t, DeliveryFilter { kinds: vec![7], ..Default::default() }).await.deliveries;
        assert_eq!(told.len(), 3, "over every channel that the practice has for it");
        for delivery in &told {
            let reached = if delivery.channel() == Channel::Email { "SENT" } else { "DELIVERED" };
            until_state(t, &delivery.delivery_id, reached).await;
        }
        let mail = &mails(t, "pat@example.com")[0];
        assert!(!mail.text.contains("results") && !texts(t, PHONE)[0].body.contains("results"), "what it says stays here");
        let seen = try_messages(&own(t, "pat"), &begun.conversation_id).await.unwrap();
        assert_eq!(bodies(&seen), ["Your results are in."]);
        // Whoever has no portal account cannot read it there.
        put(t, Patient { portal_enabled: false, ..patient("off", "off@example.com", "") }).await;
        let answer = try_say(&t.caller(Role::Staff), to_patient("off", MessageRoute::Portal, "x")).await;
        assert_eq!(metadata(&refused(answer, Code::FailedPrecondition, "UNREACHABLE"), "skip_reason"), "NO_ADDRESS");
        assert!(of(t, "off").await.is_none());
    }

    async fn what_may_not_go_fails_at_once_and_leaves_nothing(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        put(t, patient("mute", "mute@example.com", "")).await;
        put(t, Patient { inactive: true, ..patient("gone", "", "+12025550145") }).await;
        put(t, patient("far", "", "+18765550142")).await;
        for (id, reason) in [("mute", "NO_ADDRESS"), ("gone", "PATIENT_INACTIVE"), ("far", "ADDRESS_NOT_ALLOWED")] {
            let answer = try_say(&staff, to_patient(id, MessageRoute::Sms, "Hello.")).await;
            let status = refused(answer, Code::FailedPrecondition, "UNREACHABLE");
            assert_eq!((metadata(&status, "channel"), metadata(&status, "skip_reason")), ("SMS".into(), reason.into()));
            assert!(of(t, id).await.is_none());
        }
        refused(try_say(&staff, to_patient("nobody", MessageRoute::Sms, "x")).await, Code::NotFound, "NOT_FOUND");
        let nowhere = "00000000-0000-7000-8000-000000000000";
        let answer = try_say(&staff, to_conversation(nowhere, MessageRoute::Sms, "x")).await;
        refused(answer, Code::NotFound, "NOT_FOUND");
        consents(t, Channel::Sms, ConsentState::OptedOut).await;
        let answer = try_say(&staff, to_patient("pat", MessageRoute::Sms, "Hello.")).await;
        assert_eq!(metadata(&refused(answer, Code::FailedPrecondition, "OPTED_OUT"), "channel"), "SMS");
        bare_practice(t, "beta").await;
        put_patient(t, "beta", patient("pat", "", PHONE)).await;
        let beta = staff_of(t, "beta");
        let request = SendMessageRequest {
            practice_id: "beta".into(),
            ..to_patient("pat", MessageRoute::Sms, "x")
        };
        let status = refused(try_say(&beta, request).await, Code::FailedPrecondition, "CHANNEL_NOT_CONFIGURED");
        assert_eq!(metadata(&status, "channel"), "SMS");
        assert!(everything(t).await.is_empty() && texts(t, PHONE).is_empty());
    }

    async fn quiet_hours_and_choices_do_not_hold_an_answer(t: &mut TestApp) {
        practice(t).await;
        let time = |hours| Some(TimeOfDay { hours, minutes: 0 });
        let quiet_hours = Some(QuietHours { start: time(8), end: time(20) });
        set(t, PracticeSettings { quiet_hours, ..Default::default() }, &["quiet_hours"]).await;
        let (sent, _) = say(t, to_patient("pat", MessageRoute::Sms, "Come in now.")).await;
        until_state(t, &sent.delivery_id, "DELIVERED").await;
    }

    async fn a_key_sends_once(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let request = to_patient("pat", MessageRoute::Sms, "Once.");
        let twins = (0..8).map(|_| try_say(&staff, request.clone()));
        let twins: Vec<_> = futures::future::join_all(twins).await.into_iter().map(Result::unwrap).collect();
        let ids: std::collections::BTreeSet<_> =
            twins.iter().map(|it| it.message.as_ref().unwrap().message_id.clone()).collect();
        assert_eq!((ids.len(), twins.iter().filter(|it| !it.replayed).count()), (1, 1));
        let other = SendMessageRequest { body: "Twice.".into(), ..request.clone() };
        refused(try_say(&staff, other).await, Code::AlreadyExists, "REQUEST_ID_REUSED");
        until_state(t, &twins[0].message.as_ref().unwrap().delivery_id, "DELIVERED").await;
        // Also when by now it would be refused.
        writes(t, PHONE, "STOP").await;
        let again = try_say(&staff, request).await.unwrap();
        assert!(again.replayed && again.message.unwrap().delivery_state == 4);
        assert_eq!(texts(t, PHONE).len(), 1);
    }

    async fn a_failed_answer_is_sent_again_and_its_message_shows_the_latest(t: &mut TestApp) {
        practice(t).await;
        put(t, patient("lee", "", "+12025550110")).await;
        let (sent, home) = say(t, to_patient("lee", MessageRoute::Sms, "Hello.")).await;
        let first = until_state(t, &sent.delivery_id, "FAILED").await;
        assert_eq!(failed(&first), ("UNREACHABLE", "30003"));
        let shown = messages(t, &home.conversation_id).await;
        assert_eq!(shown[0].failure.as_ref().unwrap().provider_code, "30003");
        let retry = RetryDeliveryRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            delivery_id: sent.delivery_id.clone(),
        };
        let again = t.staff().retry_delivery(retry).await.unwrap().into_inner().delivery.unwrap();
        assert_eq!(again.retry_of_delivery_id, sent.delivery_id);
        until_state(t, &again.delivery_id, "FAILED").await;
        let shown = messages(t, &home.conversation_id).await;
        assert_eq!((shown.len(), shown[0].delivery_id.as_str()), (1, again.delivery_id.as_str()));
        assert_eq!(texts(t, "+12025550110").len(), 2);
    }

    async fn an_answer_of_unknown_fate_is_looked_for_like_any_text(t: &mut TestApp) {
        practice(t).await;
        // Taken, and only the list shows it; see the stand-ins' table.
        put(t, patient("lee", "", "+12025550117")).await;
        let (sent, home) = say(t, to_patient("lee", MessageRoute::Sms, "Hello.")).await;
        in_doubt(t, &sent.delivery_id).await;
        until(t, &sent.delivery_id, |it| ["SENT", "DELIVERED"].contains(&state(it))).await;
        assert_eq!((texts(t, "+12025550117").len(), messages(t, &home.conversation_id).await.len()), (1, 1));
    }

    async fn words_that_cannot_be_sent_are_named(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let name = "Acme Primary Care: ".chars().count();
        for (route, body) in [
            (MessageRoute::Sms, String::new()),
            (MessageRoute::Sms, " \n ".into()),
            (MessageRoute::Sms, "x".repeat(1_601)),
            (MessageRoute::Sms, "x".repeat(1_601 - name)),
            (MessageRoute::Sms, "a\u{0}b".into()),
            (MessageRoute::Portal, "a\u{7}b".into()),
            (MessageRoute::Portal, "x".repeat(20_001)),
        ] {
            let answer = try_say(&staff, to_patient("pat", route, &body)).await;
            assert_eq!(fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")), ["body"]);
        }
        // What only a look at the files and the practice's name can tell is told at once, too.
        let missing = "01980000-0000-7000-8000-000000000000".to_owned();
        let wrong = SendMessageRequest {
            attachment_ids: vec![missing],
            ..to_patient("pat", MessageRoute::Sms, &"x".repeat(1_600))
        };
        let status = refused(try_say(&staff, wrong).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids[0]", "body"]);
        let wrong = SendMessageRequest {
            request_id: String::new(),
            target: None,
            route: 9,
            attachment_ids: vec![String::new()],
            ..to_patient("pat", MessageRoute::Sms, "a\u{0}b")
        };
        let status = refused(try_say(&staff, wrong).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["attachment_ids[0]", "body", "request_id", "route", "target"]);
        let longest = "x".repeat(1_600 - name);
        let (sent, _) = say(t, to_patient("pat", MessageRoute::Sms, &longest)).await;
        until_state(t, &sent.delivery_id, "DELIVERED").await;
        let portal = "é".repeat(20_000);
        let (said, _) = say(t, to_patient("pat", MessageRoute::Portal, &portal)).await;
        assert_eq!(said.body, portal);
    }

    async fn an_answer_that_waits_to_be_tried_again_ends_with_a_stop(t: &mut TestApp) {
        practice(t).await;
        for (id, phone) in [("lee", "+12025550114"), ("", "+12015550114")] {
            let home = if id.is_empty() {
                writes(t, phone, "Hello?").await;
                view(t, Subset::Unlinked).await.remove(0)
            } else {
                put(t, patient(id, "", phone)).await;
                writes(t, phone, "Hello?").await;
                of(t, id).await.unwrap().conversation_id
            };
            // Twilio is too busy for the first try.
            let (sent, _) = say(t, to_conversation(&home, MessageRoute::Sms, "Hello.")).await;
            until(t, &sent.delivery_id, |it| it.attempts == 1).await;
            writes(t, phone, "STOP").await;
            t.advance(TimeDelta::minutes(1));
            let end = until(t, &sent.delivery_id, |it| state(it) != "PENDING").await;
            assert_eq!((state(&end), skipped(&end)), ("SKIPPED", "OPTED_OUT"), "{phone}");
            assert_eq!(texts(t, phone).len(), 0);
        }
    }
}
