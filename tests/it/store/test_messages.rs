//! Tests of a practice: deliveries without a patient, which go the way of all others and are shown nowhere.

use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};
use futures::future::join;
use heedwell::{
    domain::{
        Channel, ChannelSet, Class, ConsentSource, ConsentState, Content, Delivery, DeliveryFilter, DeliveryId,
        DeliveryState, Facts, FailureReason, Kind, KindChannels, Look, Patient, PracticeSettings, QuietHours, Scope,
        SkipReason, TestContact, Verdict,
    },
    store::{Destination, Handover, Leave, NewConsent, NewRetry, NewTestMessage, StoreError, TestAccepted, Turn},
};

use super::{
    consent::{decision, record},
    given::{NORTH, accepted, claim, claim_one, email, patient, phone, ready_practice, receipt, settings, settle},
    parking::{refused, turn},
    *,
};

const STAFF: &str = "+12025550160";
const MAILBOX: &str = "front@acme.example";

fn new(request_id: &str, to: &str) -> NewTestMessage {
    let text = "[Test] North: your visit is tomorrow.".to_owned();
    NewTestMessage {
        request_id: request_id.into(),
        fingerprint: [7; 32],
        kind: Kind::AppointmentReminder,
        contact: TestContact::parse(to).unwrap(),
        content: Content { text: text.into(), sms_segments: 1, ..Content::default() },
    }
}

async fn accept(t: &TestStore, scope: &Scope, new: NewTestMessage) -> TestAccepted {
    t.store.test_message_accept(scope, new).await.unwrap()
}

/// Sends for the first time under that key.
async fn send(t: &TestStore, scope: &Scope, request_id: &str, to: &str) -> DeliveryId {
    match accept(t, scope, new(request_id, to)).await {
        TestAccepted::New(id) => id,
        other => panic!("not accepted anew: {other:?}"),
    }
}

async fn get(t: &TestStore, scope: &Scope, id: DeliveryId) -> Delivery {
    t.store.test_message_get(scope, id).await.unwrap()
}

on_both! {
    async fn a_test_goes_like_any_delivery_and_is_in_nobodys_history(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        let id = send(t, &scope, "r1", STAFF).await;
        let sent = claim_one(t, &scope).await;
        assert_eq!((sent.id, sent.channel, sent.attempt), (id, Channel::Sms, 1));
        assert_eq!(sent.expires_at, t.now() + TimeDelta::minutes(10));
        assert!(matches!(&sent.destination, Destination::Phone(to) if *to == phone(STAFF)));
        assert!(sent.content.text.expose().starts_with("[Test]"));
        settle(t, &sent, accepted(&sent.callback_token())).await;
        let known = get(t, &scope, id).await;
        assert_eq!((known.state, known.patient.is_none()), (DeliveryState::Sent, true));
        assert_eq!(known.provider_message_id, sent.callback_token());
        t.store.receipt_apply(&scope, receipt(&sent, Facts::DELIVERED)).await.unwrap();
        assert_eq!(get(t, &scope, id).await.state, DeliveryState::Delivered);

        let mail = send(t, &scope, "r2", MAILBOX).await;
        let sent = claim_one(t, &scope).await;
        assert!(matches!(&sent.destination, Destination::Mailbox(to, name) if *to == email(MAILBOX) && name.expose().is_empty()));
        settle(t, &sent, accepted("")).await;
        assert_eq!(get(t, &scope, mail).await.state, DeliveryState::Sent);

        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head, "the feed has nothing of it");
        let page = t.store.deliveries_list(&scope, &DeliveryFilter::default(), (None, None), None, 10).await.unwrap();
        assert!(page.deliveries.is_empty());
        let again = NewRetry { request_id: "r3".into(), fingerprint: [7; 32], delivery: id };
        assert!(matches!(t.store.delivery_retry(&scope, again).await, Err(StoreError::NotFound("delivery"))));
        let other = ready_practice(t, "south").await;
        assert!(matches!(t.store.test_message_get(&other, id).await, Err(StoreError::NotFound(_))));
    }

    async fn a_first_no_is_the_last_and_has_the_providers_code(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let later = Verdict::NotTaken { retry_after: Some(Duration::from_secs(60)), code: "20429".into() };
        let config = FailureReason::ProviderConfig;
        for (n, verdict, expected) in [
            (1, later, (FailureReason::ProviderUnavailable, "20429")),
            (2, Verdict::Misconfigured { code: "20003".into(), account: true }, (config, "20003")),
            (3, Verdict::Refused { reason: config, code: "21606".into() }, (config, "21606")),
            (4, Verdict::Unreachable { code: "452 4.2.2".into() }, (FailureReason::Unreachable, "452 4.2.2")),
        ] {
            let id = send(t, &scope, &format!("r{n}"), STAFF).await;
            settle(t, &claim_one(t, &scope).await, verdict).await;
            let failed = get(t, &scope, id).await;
            let failure = failed.failure.unwrap();
            assert_eq!((failed.state, failure.reason, &*failure.provider_code), (DeliveryState::Failed, expected.0, expected.1));
            t.advance(120);
            assert!(claim(t, &scope, 10).await.is_empty());
        }
    }

    async fn an_account_that_is_out_of_order_is_waited_for_as_long_as_a_caller_waits(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let id = send(t, &scope, "r1", STAFF).await;
        let in_an_hour = t.now() + TimeDelta::hours(1);
        let park = async || {
            let leave = move |_: &Handover<'_>| Leave::Later { at: in_an_hour, failing: refused() };
            let turn = Turn { class: Class::Urgent, ..turn(&scope) };
            t.store.claim(&t.engine, turn, leave).await.unwrap().seen
        };
        assert_eq!(park().await, 1);
        t.advance(19);
        assert_eq!(park().await, 0, "it is parked");
        assert_eq!(get(t, &scope, id).await.state, DeliveryState::Pending);
        t.advance(1);
        assert_eq!(park().await, 1);
        let failed = get(t, &scope, id).await;
        assert_eq!((failed.state, failed.failure.unwrap().reason), (DeliveryState::Failed, FailureReason::ProviderConfig));
    }

    async fn the_gates_of_its_address_hold_and_what_is_for_patients_does_not(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let kind_channels = Kind::ALL.map(|kind| (kind, KindChannels::default())).into();
        let night = QuietHours::new(NaiveTime::MIN, NaiveTime::from_hms_opt(23, 59, 59).unwrap());
        let strict = PracticeSettings { kind_channels, quiet_hours: night, opt_in_channels: ChannelSet::ALL, ..settings() };
        t.store.settings_put(&scope, strict, 1).await.unwrap();
        let id = send(t, &scope, "r1", STAFF).await;
        let sent = claim_one(t, &scope).await;
        assert_eq!(sent.id, id);
        settle(t, &sent, accepted("SM1")).await;

        for (n, change, reason) in [
            (2, "consent = 2", SkipReason::OptedOut),
            (3, "consent = 0, blocked_at = '2026-01-01 00:00:00+00:00', block_reason = 1", SkipReason::AddressSuppressed),
        ] {
            let id = send(t, &scope, &format!("r{n}"), STAFF).await;
            t.execute(&format!("UPDATE recipient_gate SET {change} WHERE subject_kind = 2")).await;
            assert!(claim(t, &scope, 10).await.is_empty());
            let refused = get(t, &scope, id).await;
            assert_eq!((refused.state, refused.skip_reason, refused.attempts), (DeliveryState::Skipped, Some(reason), 0));
        }
    }

    async fn who_opted_out_as_a_patient_gets_no_test_either(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let maria = Patient { mobile_phone: Some(phone(STAFF)), email: Some(email(MAILBOX)), ..patient("maria") };
        let other = Patient { email: Some(email(MAILBOX)), ..patient("other") };
        t.store.patients_put(&scope, vec![maria, other]).await.unwrap();
        for (to, channel) in [(STAFF, Channel::Sms), (MAILBOX, Channel::Email)] {
            let id = send(t, &scope, &format!("{to} before"), to).await;
            let sent = claim_one(t, &scope).await;
            assert_eq!(sent.id, id);
            settle(t, &sent, accepted(&sent.callback_token())).await;
            let no = decision(&format!("{to} no"), channel, ConsentState::OptedOut, ConsentSource::Staff);
            record(t, &scope, no).await;
            let id = send(t, &scope, &format!("{to} after"), to).await;
            assert!(claim(t, &scope, 10).await.is_empty());
            let refused = get(t, &scope, id).await;
            let expected = (DeliveryState::Skipped, Some(SkipReason::OptedOut), 0);
            assert_eq!((refused.state, refused.skip_reason, refused.attempts), expected);
        }
        // Of another address and another practice that says nothing.
        let south = ready_practice(t, "south").await;
        for (scope, key, to) in [(&scope, "back", "back@acme.example"), (&south, "south", MAILBOX)] {
            let id = send(t, scope, key, to).await;
            assert_eq!(claim_one(t, scope).await.id, id);
        }
    }

    async fn an_address_of_very_many_patients_is_looked_at_whole(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let crowd: Vec<_> =
            (0..2_500).map(|n| Patient { email: Some(email(MAILBOX)), ..patient(&format!("p{n}")) }).collect();
        for some in crowd.chunks(500) {
            t.store.patients_put(&scope, some.to_vec()).await.unwrap();
        }
        let id = send(t, &scope, "r1", MAILBOX).await;
        let sent = claim_one(t, &scope).await;
        assert_eq!(sent.id, id);
        settle(t, &sent, accepted("")).await;
        let last = NewConsent {
            patient: "p2499".parse().unwrap(),
            ..decision("c1", Channel::Email, ConsentState::OptedOut, ConsentSource::Staff)
        };
        record(t, &scope, last).await;
        let id = send(t, &scope, "r2", MAILBOX).await;
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(get(t, &scope, id).await.skip_reason, Some(SkipReason::OptedOut));
    }

    async fn a_key_makes_one_test(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        assert_eq!(t.store.test_message_prior(&scope, "r1", &[7; 32]).await.unwrap(), None);
        let twin = || accept(t, &scope, new("r1", STAFF));
        let first = match join(twin(), twin()).await {
            (TestAccepted::New(id), TestAccepted::Replayed(same))
            | (TestAccepted::Replayed(same), TestAccepted::New(id)) => {
                assert_eq!(id, same);
                id
            }
            other => panic!("twins made {other:?}"),
        };
        assert_eq!(t.number("SELECT count(*) FROM delivery").await, 1);
        assert_eq!(accept(t, &scope, new("r1", STAFF)).await, TestAccepted::Replayed(first));
        let another = NewTestMessage { fingerprint: [8; 32], ..new("r1", STAFF) };
        assert_eq!(accept(t, &scope, another).await, TestAccepted::KeyReused(first));
        assert_eq!(t.store.test_message_prior(&scope, "r1", &[8; 32]).await.unwrap(), Some(TestAccepted::KeyReused(first)));
    }

    async fn a_practice_sends_ten_in_a_minute(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = send(t, &scope, "r0", STAFF).await;
        t.advance(20);
        for n in 1..10 {
            send(t, &scope, &format!("r{n}"), STAFF).await;
        }
        let full = TestAccepted::Full(Duration::from_secs(40));
        assert_eq!(accept(t, &scope, new("r10", STAFF)).await, full);
        assert_eq!(accept(t, &scope, new("r0", STAFF)).await, TestAccepted::Replayed(first));
        let other = ready_practice(t, "south").await;
        send(t, &other, "r10", STAFF).await;
        t.advance(40);
        send(t, &scope, "r10", STAFF).await;
    }

    async fn a_test_whose_worker_died_is_looked_for_where_it_went(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let id = send(t, &scope, "r1", STAFF).await;
        claim_one(t, &scope).await;
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
        assert_eq!(get(t, &scope, id).await.state, DeliveryState::Unconfirmed);
        t.advance(19);
        let doubt = t.store.doubts_due(&t.engine, 10).await.unwrap().remove(0);
        assert!(matches!(&doubt.destination, Some(Destination::Phone(to)) if *to == phone(STAFF)));
        assert!(doubt.content.as_ref().is_some_and(|content| content.text.expose().starts_with("[Test]")));
        let found = Look::Found { provider_ref: "SM1".into(), status: "sent".into(), code: String::new(), failure: None };
        t.store.doubt_settle(&t.engine, &doubt, found, Facts::ACCEPTED, 0.0).await.unwrap();
        let sent = get(t, &scope, id).await;
        assert_eq!((sent.state, sent.provider_message_id.as_str()), (DeliveryState::Sent, "SM1"));
    }
}
