//! Decisions on consent: what they close, what opens it again, and what is on record of them.

use heedwell::{
    domain::{
        Channel, ConsentSource, ConsentState, DeliveryState, Facts, FailureReason, Meaning, Patient, Phi, Scope,
        SkipReason, Verdict,
    },
    store::{Anchored, ConsentChange, ConsentPage, ConsentQuery, Heard, InboundText, NewConsent, Recorded, StoreError},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, claim, claim_one, claimed, delivery, email, patient, phone, ready_practice,
        settle, unknown,
    },
    *,
};

use ConsentSource::{Form, Portal, Provider, SmsKeyword, Staff, Unsubscribe};
use ConsentState::{OptedIn, OptedOut, Unknown};

/// A decision of `maria`, under a key of its own.
pub(super) fn decision(key: &str, channel: Channel, state: ConsentState, source: ConsentSource) -> NewConsent {
    NewConsent {
        request_id: key.into(),
        fingerprint: [1; 32],
        patient: "maria".parse().unwrap(),
        channel,
        state,
        source,
        effective_time: None,
        evidence: Phi::new("said so at the desk".into()),
    }
}

pub(super) async fn record(t: &TestStore, scope: &Scope, new: NewConsent) -> ConsentChange {
    match t.store.consent_record(scope, new).await.unwrap() {
        Recorded::New(change) => *change,
        other => panic!("not recorded anew: {other:?}"),
    }
}

/// A text from a number, which came in under that id.
pub(super) async fn text(t: &TestStore, scope: &Scope, sid: u32, from: &str, meaning: Meaning) -> Heard {
    let text = InboundText {
        sid: format!("SM{sid:032}"),
        from: Some(phone(from)),
        from_text: Phi::new(from.into()),
        to: "+12025550199".into(),
        reached_at: String::new(),
        body: Phi::new("as the test says".into()),
        media: Vec::new(),
        meaning,
    };
    t.store.text_take(scope, text).await.unwrap()
}

/// The whole ledger, oldest first.
pub(super) async fn ledger(t: &TestStore, scope: &Scope) -> Vec<(String, ConsentState, ConsentSource)> {
    let query = ConsentQuery { limit: 500, ..Default::default() };
    let ConsentPage { records, next } = t.store.consent_list(scope, &query).await.unwrap();
    assert_eq!(next, None);
    let entries = records.into_iter().rev().map(|record| record.entry);
    let patient = |id: Option<heedwell::domain::PatientId>| id.map(|id| id.as_str().to_owned()).unwrap_or_default();
    entries.map(|entry| (patient(entry.patient), entry.state, entry.source)).collect()
}

/// Why a text to the patient would be skipped at this moment; unset: it would go.
async fn refusal(t: &TestStore, scope: &Scope, id: &str) -> Option<SkipReason> {
    let row = t.store.grounds(scope, &id.parse().unwrap()).await.unwrap();
    let gates = row.gates[&Channel::Sms];
    (gates.patient == OptedOut || gates.address == OptedOut).then_some(SkipReason::OptedOut)
}

/// Checks that the ledger is as it was written, and that gates and attempts agree with it.
pub(super) async fn proves(t: &TestStore) {
    for practice in t.practices().await {
        assert_eq!(
            t.store.ledger_prove(&t.engine, &practice, &Anchored::default()).await.unwrap().findings,
            vec![],
            "{practice}"
        );
    }
}

const NUMBER: &str = "+12025550142";

fn key(name: &str, state: ConsentState, source: ConsentSource) -> NewConsent {
    decision(name, Channel::Sms, state, source)
}

on_both! {
    async fn an_opt_out_is_on_record_and_skips_what_waits_on_its_channel(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let order = Order::new("r1", &[Channel::Email, Channel::Sms]).accept(t, &scope).await;
        let south = Order::new("r1", &[Channel::Sms]).accept(t, &t.scope(SOUTH)).await;
        let change = record(t, &scope, key("c1", OptedOut, Staff)).await;
        assert_eq!((change.state, change.skipped), (OptedOut, 1));
        let entry = &change.record.entry;
        assert_eq!((entry.position, entry.state, entry.source), (1, OptedOut, Staff));
        assert_eq!((entry.effective_time, change.record.record_time), (t.now(), t.now()));
        assert_eq!(change.record.author, *scope.author());
        assert_eq!(change.record.evidence.expose(), "said so at the desk");
        assert!(change.record.address_hint.ends_with("42") && !change.record.address_hint.contains("202555"));
        assert_eq!(change.rests_on.as_ref(), Some(&change.record));

        let text = delivery(t, &scope, order.deliveries[1].id).await;
        assert_eq!((text.state, text.skip_reason), (DeliveryState::Skipped, Some(SkipReason::OptedOut)));
        let claimed = claim(t, &scope, 10).await;
        assert_eq!(claimed.iter().map(|claimed| claimed.channel).collect::<Vec<_>>(), [Channel::Email]);
        assert_eq!(delivery(t, &t.scope(SOUTH), south.deliveries[0].id).await.state, DeliveryState::Pending);
        let later = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(later.deliveries[0].skip_reason, Some(SkipReason::OptedOut));

        // The position that was consulted stands with the attempt.
        assert_eq!(t.number("SELECT consent_seq FROM attempt").await, 1);
        let open = record(t, &scope, key("c2", OptedIn, Portal)).await;
        assert_eq!((open.state, open.skipped, open.record.entry.position), (OptedIn, 0, 2));
        assert_eq!(refusal(t, &scope, "maria").await, None);
        proves(t).await;
    }

    async fn a_request_is_recorded_once_and_its_key_serves_no_other(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = record(t, &scope, key("c1", OptedOut, Staff)).await;
        t.advance(60);
        match t.store.consent_record(&scope, key("c1", OptedOut, Staff)).await.unwrap() {
            Recorded::Replayed(again) => assert_eq!(*again, ConsentChange { skipped: 0, ..first }),
            other => panic!("{other:?}"),
        }
        let other = NewConsent { fingerprint: [2; 32], ..key("c1", OptedIn, Staff) };
        assert_eq!(t.store.consent_record(&scope, other).await.unwrap(), Recorded::KeyReused(1));
        // Twins at the same moment.
        let twins = [key("c2", OptedIn, Portal), key("c2", OptedIn, Portal)].map(|new| t.store.consent_record(&scope, new));
        let done = futures::future::join_all(twins).await;
        let anew = done.iter().filter(|done| matches!(done, Ok(Recorded::New(_)))).count();
        assert_eq!((anew, done.len()), (1, 2), "{done:?}");
        assert_eq!(ledger(t, &scope).await.len(), 2);
        let nobody = NewConsent { patient: "nobody".parse().unwrap(), ..key("c3", OptedOut, Staff) };
        assert!(matches!(t.store.consent_record(&scope, nobody).await, Err(StoreError::NotFound("patient"))));
        // The key of what was refused is free.
        record(t, &scope, key("c3", OptedOut, Staff)).await;
        proves(t).await;
    }

    async fn the_newest_decision_is_in_force_whenever_it_is_written(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let start = t.now();
        t.advance(3_600);
        let yes = record(t, &scope, key("c1", OptedIn, Portal)).await;
        let order = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let before = NewConsent { effective_time: Some(start), ..key("c2", OptedOut, Staff) };
        let change = record(t, &scope, before).await;
        assert_eq!((change.state, change.rests_on.as_ref(), change.skipped), (OptedIn, Some(&yes.record), 0));
        assert_eq!(delivery(t, &scope, order.deliveries[0].id).await.state, DeliveryState::Pending);
        let tie = NewConsent { effective_time: Some(t.now()), ..key("c3", OptedOut, Form) };
        let change = record(t, &scope, tie).await;
        assert_eq!((change.state, change.skipped), (OptedOut, 1));
        assert_eq!(refusal(t, &scope, "maria").await, Some(SkipReason::OptedOut));
        // What is decided at this moment counts, though the clock has not moved on.
        assert_eq!(record(t, &scope, key("c4", OptedIn, Portal)).await.state, OptedIn);
        proves(t).await;
    }

    async fn stop_binds_the_number_and_start_opens_it(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        ready_practice(t, SOUTH).await;
        let other = Patient { mobile_phone: Some(phone("+12025550143")), ..patient("otto") };
        t.store.patients_put(&scope, vec![patient("anna"), other.clone()]).await.unwrap();
        for (id, key) in [("maria", "r1"), ("anna", "r2"), ("otto", "r3")] {
            Order { patient: id, ..Order::new(key, &[Channel::Sms]) }.accept(t, &scope).await;
        }
        assert_eq!(text(t, &scope, 1, NUMBER, Meaning::Stop).await, Heard::New { entries: 2 });
        assert_eq!(text(t, &scope, 1, NUMBER, Meaning::Stop).await, Heard::Repeat);
        // The same wish once more is the same wish.
        assert_eq!(text(t, &scope, 2, NUMBER, Meaning::Stop).await, Heard::New { entries: 0 });
        let claimed = claim(t, &scope, 10).await;
        assert_eq!(claimed.len(), 1, "otto has another number");
        assert_eq!(refusal(t, &t.scope(SOUTH), "maria").await, None);

        // Whoever gets the number gets what was said from it.
        t.store.patients_put(&scope, vec![Patient { mobile_phone: Some(phone(NUMBER)), ..other }]).await.unwrap();
        t.store.patients_put(&scope, vec![patient("nora")]).await.unwrap();
        for id in ["maria", "anna", "otto", "nora"] {
            assert_eq!(refusal(t, &scope, id).await, Some(SkipReason::OptedOut), "{id}");
        }
        let stopped = |id: &str| (id.to_owned(), OptedOut, SmsKeyword);
        assert_eq!(ledger(t, &scope).await, ["anna", "maria", "otto", "nora"].map(stopped));

        // The portal's word is on record, and the number stays closed.
        let portal = record(t, &scope, key("c1", OptedIn, Portal)).await;
        assert_eq!((portal.state, portal.rests_on.unwrap().entry.source), (OptedOut, SmsKeyword));
        assert_eq!(refusal(t, &scope, "maria").await, Some(SkipReason::OptedOut));

        assert_eq!(text(t, &scope, 3, NUMBER, Meaning::Start).await, Heard::New { entries: 3 });
        for id in ["maria", "anna", "otto", "nora"] {
            assert_eq!(refusal(t, &scope, id).await, None, "{id}");
        }
        assert_eq!(text(t, &scope, 4, NUMBER, Meaning::Start).await, Heard::New { entries: 0 }, "an ordinary text");
        proves(t).await;
    }

    async fn a_number_of_nobody_is_bound_as_well(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        assert_eq!(text(t, &scope, 1, "+12025550155", Meaning::Stop).await, Heard::New { entries: 1 });
        assert_eq!(ledger(t, &scope).await, [(String::new(), OptedOut, SmsKeyword)]);
        let new = Patient { mobile_phone: Some(phone("+12025550155")), ..patient("newcomer") };
        t.store.patients_put(&scope, vec![new.clone()]).await.unwrap();
        assert_eq!(refusal(t, &scope, "newcomer").await, Some(SkipReason::OptedOut));
        // The same write again, and another one that keeps the number, add nothing.
        t.store.patients_put(&scope, vec![new.clone()]).await.unwrap();
        t.store.patients_put(&scope, vec![Patient { portal_enabled: false, ..new }]).await.unwrap();
        assert_eq!(ledger(t, &scope).await.len(), 2);
        proves(t).await;
    }

    async fn staff_opt_nobody_in_after_stop(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let before = t.now();
        t.advance(60);
        text(t, &scope, 1, NUMBER, Meaning::Stop).await;
        t.advance(60);
        for source in [Staff, Form, ConsentSource::Import] {
            let refused = t.store.consent_record(&scope, key("c1", OptedIn, source)).await;
            assert!(matches!(refused, Err(StoreError::StateForbids { state: "opted_out_by_text", .. })), "{refused:?}");
        }
        assert_eq!(ledger(t, &scope).await.len(), 1, "what was refused left nothing");
        // Another number does not help: nobody but the patient takes the word back.
        let moved = Patient { mobile_phone: Some(phone("+12025550143")), ..patient("maria") };
        t.store.patients_put(&scope, vec![moved]).await.unwrap();
        let refused = t.store.consent_record(&scope, key("c1", OptedIn, Staff)).await;
        assert!(matches!(refused, Err(StoreError::StateForbids { .. })), "{refused:?}");
        // What was decided before is history, and changes nothing.
        let old = NewConsent { effective_time: Some(before), ..key("c2", OptedIn, Form) };
        assert_eq!(record(t, &scope, old).await.state, OptedOut);
        // An opt-out is always taken. It does not make room for what was refused.
        assert_eq!(record(t, &scope, key("c3", OptedOut, Staff)).await.state, OptedOut);
        let refused = t.store.consent_record(&scope, key("c1", OptedIn, Staff)).await;
        assert!(matches!(refused, Err(StoreError::StateForbids { .. })), "{refused:?}");
        // The patient's own word is taken too.
        assert_eq!(record(t, &scope, key("c4", OptedIn, Portal)).await.state, OptedIn);
        assert_eq!(refusal(t, &scope, "maria").await, None);
        proves(t).await;
    }

    async fn start_leaves_what_did_not_come_by_text(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        record(t, &scope, key("c1", OptedOut, Portal)).await;
        t.store.patients_put(&scope, vec![patient("anna")]).await.unwrap();
        text(t, &scope, 1, NUMBER, Meaning::Stop).await;
        assert_eq!(text(t, &scope, 2, NUMBER, Meaning::Start).await, Heard::New { entries: 1 });
        assert_eq!(refusal(t, &scope, "anna").await, None);
        assert_eq!(refusal(t, &scope, "maria").await, Some(SkipReason::OptedOut), "the portal's word stays");
        // The number is open, so that staff may act on the patient's word again.
        assert_eq!(record(t, &scope, key("c2", OptedIn, Staff)).await.state, OptedIn);
        proves(t).await;
    }

    async fn a_request_in_other_words_may_be_lifted_by_staff(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("anna")]).await.unwrap();
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(text(t, &scope, 1, NUMBER, Meaning::StopRequest).await, Heard::New { entries: 2 });
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(record(t, &scope, key("c0", OptedIn, Portal)).await.state, OptedOut, "the portal opens no number");
        assert_eq!(record(t, &scope, key("c1", OptedIn, Staff)).await.state, OptedIn);
        assert_eq!(refusal(t, &scope, "maria").await, None);
        assert_eq!(refusal(t, &scope, "anna").await, Some(SkipReason::OptedOut), "nobody spoke for her");
        // STOP after that is STOP.
        assert_eq!(text(t, &scope, 2, NUMBER, Meaning::Stop).await, Heard::New { entries: 2 });
        let refused = t.store.consent_record(&scope, key("c2", OptedIn, Staff)).await;
        assert!(matches!(refused, Err(StoreError::StateForbids { .. })), "{refused:?}");
        assert_eq!(text(t, &scope, 3, NUMBER, Meaning::StopRequest).await, Heard::New { entries: 0 }, "it is stopped");
        proves(t).await;
    }

    async fn other_texts_change_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (sid, meaning) in [(1, Meaning::Help), (2, Meaning::Other), (3, Meaning::Start)] {
            assert_eq!(text(t, &scope, sid, NUMBER, meaning).await, Heard::New { entries: 0 });
        }
        assert_eq!(refusal(t, &scope, "maria").await, None);
        assert_eq!(t.number("SELECT count(*) FROM inbound_message").await, 3, "each is kept");
        text(t, &scope, 4, NUMBER, Meaning::Stop).await;
        text(t, &scope, 5, NUMBER, Meaning::Help).await;
        assert_eq!(refusal(t, &scope, "maria").await, Some(SkipReason::OptedOut));
        assert_eq!(ledger(t, &scope).await.len(), 1);
        proves(t).await;
    }

    async fn a_text_is_acted_on_once_however_often_it_comes(t: &TestStore) {
        let scope = &ready_practice(t, NORTH).await;
        let other = t.home.open(heedwell::store::Time::Injected(t.clock.clone())).await;
        let replicas = [Some(t.store.clone()), other.ok()];
        let posts = (0..100).map(|n| {
            let store = replicas[n % 2].clone().unwrap_or_else(|| t.store.clone());
            let text = InboundText {
                sid: format!("SM{:032}", 1),
                from: Some(phone(NUMBER)),
                from_text: Phi::new(NUMBER.into()),
                to: "+12025550199".into(),
                reached_at: String::new(),
                body: Phi::new("STOP".into()),
                media: Vec::new(),
                meaning: Meaning::Stop,
            };
            async move { store.text_take(scope, text).await.unwrap() }
        });
        let heard = futures::future::join_all(posts).await;
        assert_eq!(heard.iter().filter(|heard| **heard == Heard::New { entries: 1 }).count(), 1);
        assert_eq!(heard.iter().filter(|heard| **heard == Heard::Repeat).count(), 99);
        assert_eq!(ledger(t, scope).await.len(), 1);
        assert_eq!(t.number("SELECT count(*) FROM conversation_message").await, 1);
        if let Some(other) = &replicas[1] {
            other.close().await;
        }
    }

    async fn what_the_provider_knows_is_an_opt_out_here_too(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("anna")]).await.unwrap();
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        let waiting = Order { patient: "anna", ..Order::new("r2", &[Channel::Sms]) }.accept(t, &scope).await;
        let refused = Verdict::Refused { reason: FailureReason::OptedOutAtProvider, code: "21610".into() };
        settle(t, &first, refused.clone()).await;
        let failed = delivery(t, &scope, first.id).await;
        assert_eq!((failed.state, failed.failure.unwrap().provider_code.as_str()), (DeliveryState::Failed, "21610"));
        let skipped = delivery(t, &scope, waiting.deliveries[0].id).await;
        assert_eq!(skipped.skip_reason, Some(SkipReason::OptedOut));
        let entries = [("anna".to_owned(), OptedOut, Provider), ("maria".to_owned(), OptedOut, Provider)];
        assert_eq!(ledger(t, &scope).await, entries);
        let query = ConsentQuery { limit: 1, ..Default::default() };
        let newest = t.store.consent_list(&scope, &query).await.unwrap();
        assert_eq!(newest.records[0].author.id, "twilio");
        assert_eq!(newest.records[0].evidence.expose(), &format!("error 21610 of delivery {}", first.id));
        // The provider blocks the number until START, and so do we.
        let by_staff = t.store.consent_record(&scope, key("c1", OptedIn, Staff)).await;
        assert!(matches!(by_staff, Err(StoreError::StateForbids { .. })), "{by_staff:?}");
        assert_eq!(text(t, &scope, 1, NUMBER, Meaning::Start).await, Heard::New { entries: 2 });
        assert_eq!(refusal(t, &scope, "maria").await, None);
        proves(t).await;
    }

    async fn a_report_of_21610_is_an_opt_out_too(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let sent = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &sent, accepted(&sent.callback_token())).await;
        let report = heedwell::store::Receipt {
            code: "21610".into(),
            failure: Some(FailureReason::OptedOutAtProvider),
            ..super::given::receipt(&sent, Facts::UNDELIVERED)
        };
        t.store.receipt_apply(&scope, report.clone()).await.unwrap();
        t.store.receipt_apply(&scope, report).await.unwrap();
        assert_eq!(ledger(t, &scope).await, [("maria".to_owned(), OptedOut, Provider)]);
        proves(t).await;
    }

    async fn a_complaint_about_mail_opts_out_everybody_with_the_mailbox(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let shared = Patient { email: Some(email("maria@example.com")), ..patient("anna") };
        t.store.patients_put(&scope, vec![shared]).await.unwrap();
        let mail = Order::new("r1", &[Channel::Email, Channel::Sms]).accept(t, &scope).await;
        let mailbox = email("MARIA@example.com");
        for entries in [2, 0] {
            let report = t.store.mailbox_opted_out(&scope, &mailbox, t.now(), "spam report 1".into()).await;
            assert_eq!(report.unwrap(), entries);
        }
        assert_eq!(delivery(t, &scope, mail.deliveries[0].id).await.skip_reason, Some(SkipReason::OptedOut));
        assert_eq!(claim_one(t, &scope).await.channel, Channel::Sms);
        let nobody = t.store.mailbox_opted_out(&scope, &email("no@example.com"), t.now(), "x".into()).await;
        assert_eq!(nobody.unwrap(), 0);
        // The link in a mail takes back what it did itself, and no complaint.
        let token = t.store.unsubscribe_token(mail.deliveries[0].id);
        t.store.unsubscribe(&t.engine, &token).await.unwrap();
        assert!(t.store.resubscribe(&t.engine, &token).await.unwrap().unwrap().opted_out);
        // No number is bound by it: the patient's own word opens it again.
        let yes = record(t, &scope, decision("c1", Channel::Email, OptedIn, Portal)).await;
        assert_eq!(yes.state, OptedIn);
        // Nor does it take back a complaint that came after it.
        t.advance(60);
        t.store.unsubscribe(&t.engine, &token).await.unwrap();
        let report = t.store.mailbox_opted_out(&scope, &mailbox, t.now(), "spam report 2".into()).await;
        assert_eq!(report.unwrap(), 1, "anna complained before");
        assert!(t.store.resubscribe(&t.engine, &token).await.unwrap().unwrap().opted_out);
        proves(t).await;
    }

    async fn a_complaint_that_comes_again_does_not_undo_what_was_decided_since(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (mailbox, complained) = (email("maria@example.com"), t.now());
        let report = async || t.store.mailbox_opted_out(&scope, &mailbox, complained, "spam report".into()).await;
        t.advance(30);
        assert_eq!(report().await.unwrap(), 1);
        t.advance(30);
        assert_eq!(record(t, &scope, decision("c1", Channel::Email, OptedIn, Portal)).await.state, OptedIn);
        let mail = Order::new("r1", &[Channel::Email]).accept(t, &scope).await;
        assert_eq!(report().await.unwrap(), 0);
        assert_eq!(claim_one(t, &scope).await.id, mail.deliveries[0].id);
        let entries = ledger(t, &scope).await;
        assert_eq!(entries.iter().map(|entry| entry.1).collect::<Vec<_>>(), [OptedOut, OptedIn]);
        // What the mailbox complains of after that is news. A provider whose clock is ahead decides nothing for later.
        t.advance(30);
        let ahead = t.now() + chrono::TimeDelta::hours(1);
        assert_eq!(t.store.mailbox_opted_out(&scope, &mailbox, ahead, "another".into()).await.unwrap(), 1);
        t.advance(1);
        assert_eq!(record(t, &scope, decision("c2", Channel::Email, OptedIn, Portal)).await.state, OptedIn);
        proves(t).await;
    }

    async fn what_may_have_left_is_not_called_skipped(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let doubtful = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &doubtful, unknown()).await;
        super::given::look_twice(t, &heedwell::domain::Look::Absent).await;
        assert_eq!(delivery(t, &scope, doubtful.id).await.state, DeliveryState::Unconfirmed);
        let change = record(t, &scope, key("c1", OptedOut, Portal)).await;
        assert_eq!(change.skipped, 0);
        let closed = delivery(t, &scope, doubtful.id).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        proves(t).await;
    }

    async fn attempts_under_way_are_counted_until_they_end(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = "maria".parse().unwrap();
        let under_way = async |channel| t.store.attempts_under_way(&scope, &maria, channel).await.unwrap();
        let call = claimed(t, &scope, "r1", Channel::Sms).await;
        assert_eq!((under_way(Channel::Sms).await, under_way(Channel::Email).await), (1, 0));
        // It is passed by, not waited for.
        assert_eq!(record(t, &scope, key("c1", OptedOut, Portal)).await.skipped, 0);
        settle(t, &call, Verdict::NotTaken { retry_after: None, code: "20429".into() }).await;
        assert_eq!(under_way(Channel::Sms).await, 0);
        t.advance(3_600);
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(delivery(t, &scope, call.id).await.skip_reason, Some(SkipReason::OptedOut));
        proves(t).await;
    }

    async fn the_link_in_a_mail_opts_out_and_takes_it_back(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mail = Order::new("r1", &[Channel::Email]).accept(t, &scope).await.deliveries[0].id;
        let other = Order::new("r2", &[Channel::Email, Channel::Sms]).accept(t, &scope).await;
        let (token, others) = (t.store.unsubscribe_token(mail), t.store.unsubscribe_token(other.deliveries[0].id));
        let seen = async |token: &str| t.store.subscription(&t.engine, token).await.unwrap().unwrap();
        assert!(!seen(&token).await.opted_out);
        assert_eq!(seen(&token).await.practice_name, "north Primary Care");
        for _ in 0..2 {
            let done = t.store.unsubscribe(&t.engine, &token).await.unwrap().unwrap();
            assert!(done.opted_out && done.by_this_link);
        }
        assert_eq!(ledger(t, &scope).await, [("maria".to_owned(), OptedOut, Unsubscribe)]);
        assert_eq!(delivery(t, &scope, mail).await.skip_reason, Some(SkipReason::OptedOut));
        assert_eq!(claim_one(t, &scope).await.channel, Channel::Sms);
        // Another mail's link finds it done, and takes back nothing that it did not do.
        assert!(seen(&others).await.opted_out && !seen(&others).await.by_this_link);
        assert!(t.store.resubscribe(&t.engine, &others).await.unwrap().unwrap().opted_out);
        assert!(!t.store.resubscribe(&t.engine, &token).await.unwrap().unwrap().opted_out);
        assert_eq!(ledger(t, &scope).await.last().unwrap().1, OptedIn);
        // What the portal says is not the link's to take back.
        record(t, &scope, decision("c1", Channel::Email, OptedOut, Portal)).await;
        assert!(t.store.resubscribe(&t.engine, &token).await.unwrap().unwrap().opted_out);
        assert_eq!(ledger(t, &scope).await.len(), 3);
        proves(t).await;
    }

    async fn a_click_that_is_taken_back_leaves_what_was_there(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mails = Order::new("r1", &[Channel::Email]).accept(t, &scope).await.deliveries[0].id;
        let more = Order::new("r2", &[Channel::Email]).accept(t, &scope).await.deliveries[0].id;
        let (token, others) = (t.store.unsubscribe_token(mails), t.store.unsubscribe_token(more));
        let state = async || {
            let row = t.store.grounds(&scope, &"maria".parse().unwrap()).await.unwrap();
            row.gates.get(&Channel::Email).copied().unwrap_or_default().consent()
        };
        let click = async |token: &str| t.store.unsubscribe(&t.engine, token).await.unwrap().unwrap().opted_out;
        let back = async |token: &str| t.store.resubscribe(&t.engine, token).await.unwrap().unwrap().opted_out;
        assert!(click(&token).await && !back(&token).await);
        assert_eq!(state().await, ConsentState::Unknown, "nobody ever opted in");
        // A second mail's click is on record beside the first, once, and is not taken back by it.
        assert!(click(&token).await && click(&others).await && click(&others).await);
        assert_eq!(ledger(t, &scope).await.len(), 4);
        assert!(back(&token).await);
        assert!(back(&others).await, "the first one stands");
        assert!(!back(&token).await);
        // Written after the click, decided before it.
        assert!(click(&token).await);
        let before = Some(t.now() - chrono::TimeDelta::seconds(30));
        let staff = NewConsent { effective_time: before, ..decision("c1", Channel::Email, OptedOut, Staff) };
        record(t, &scope, staff).await;
        assert!(back(&token).await, "what staff put on record stands");
        assert_eq!(state().await, OptedOut);
        proves(t).await;
    }

    async fn what_a_link_says_is_on_record_for_the_mailbox_that_it_went_to(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mail = claimed(t, &scope, "r1", Channel::Email).await;
        settle(t, &mail, accepted("250")).await;
        let moved = Patient { email: Some(email("new@example.org")), ..patient("maria") };
        t.store.patients_put(&scope, vec![moved]).await.unwrap();
        let token = t.store.unsubscribe_token(mail.id);
        assert!(t.store.unsubscribe(&t.engine, &token).await.unwrap().unwrap().opted_out);
        let query = ConsentQuery { limit: 1, ..ConsentQuery::default() };
        let record = t.store.consent_list(&scope, &query).await.unwrap().records.remove(0);
        assert_eq!(record.address_hint, email("maria@example.com").mask());
        proves(t).await;
    }

    async fn no_other_token_opens_an_unsubscribe_link(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mixed = Order::new("r1", &[Channel::Email, Channel::Sms]).accept(t, &scope).await;
        let (mail, text) = (mixed.deliveries[0].id, mixed.deliveries[1].id);
        let good = t.store.unsubscribe_token(mail);
        let keys = t.home.keys().tokens();
        let as_another = keys.mint(heedwell::crypto::Purpose::SecureLink, "", mail.0.as_bytes());
        let of_practice = keys.mint(heedwell::crypto::Purpose::Unsubscribe, NORTH, mail.0.as_bytes());
        let nobody = t.store.unsubscribe_token(heedwell::domain::DeliveryId(uuid::Uuid::from_u128(7)));
        let mut edited = good.clone().into_bytes();
        edited[5] = if edited[5] == b'A' { b'B' } else { b'A' };
        let edited = String::from_utf8(edited).unwrap();
        let of_text = t.store.unsubscribe_token(text);
        for token in ["", "x", &edited, &as_another, &of_practice, &nobody, &of_text, &good[1..]] {
            assert_eq!(t.store.subscription(&t.engine, token).await.unwrap(), None, "{token}");
            assert_eq!(t.store.unsubscribe(&t.engine, token).await.unwrap(), None, "{token}");
            assert_eq!(t.store.resubscribe(&t.engine, token).await.unwrap(), None, "{token}");
        }
        assert_eq!(ledger(t, &scope).await, []);
        t.advance(729 * 24 * 3_600);
        assert!(t.store.subscription(&t.engine, &good).await.unwrap().is_some());
        t.advance(2 * 24 * 3_600);
        assert_eq!(t.store.unsubscribe(&t.engine, &good).await.unwrap(), None, "two years are enough");
        assert_eq!(ledger(t, &scope).await, []);
        // The token gives nobody away.
        let payload = heedwell::crypto::from_base64url(&good).unwrap();
        assert!(!payload.windows(5).any(|part| part == b"maria" || part == b"north"));
    }

    async fn the_ledger_is_listed_page_by_page(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        t.store.patients_put(&scope, vec![patient("anna")]).await.unwrap();
        for n in 0..7 {
            let channel = if n % 2 == 0 { Channel::Email } else { Channel::InApp };
            let who = if n < 3 { "anna" } else { "maria" };
            let new = decision(&format!("c{n}"), channel, if n % 3 == 0 { OptedIn } else { OptedOut }, Portal);
            record(t, &scope, NewConsent { patient: who.parse().unwrap(), ..new }).await;
        }
        let positions = async |query: ConsentQuery| {
            let (mut seen, mut query) = (Vec::new(), ConsentQuery { limit: 2, ..query });
            loop {
                let page = t.store.consent_list(&scope, &query).await.unwrap();
                assert!(page.records.len() <= 2);
                seen.extend(page.records.iter().map(|record| record.entry.position));
                match page.next {
                    Some(next) => query.before = Some(next),
                    None => return seen,
                }
            }
        };
        assert_eq!(positions(ConsentQuery::default()).await, [7, 6, 5, 4, 3, 2, 1]);
        let maria = || Some("maria".parse().unwrap());
        assert_eq!(positions(ConsentQuery { patient: maria(), ..Default::default() }).await, [7, 6, 5, 4]);
        let mail = vec![Channel::Email];
        assert_eq!(positions(ConsentQuery { patient: maria(), channels: mail, ..Default::default() }).await, [7, 5]);
        let south = t.scope(SOUTH);
        let nowhere = t.store.consent_list(&south, &ConsentQuery { limit: 5, ..Default::default() }).await;
        assert!(matches!(nowhere, Err(StoreError::NotFound("practice"))));
        assert_eq!(t.store.grounds(&scope, &"anna".parse().unwrap()).await.unwrap().gates[&Channel::Push].patient, Unknown);
        proves(t).await;
    }
}
