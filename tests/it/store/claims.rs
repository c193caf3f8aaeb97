//! Claiming: what is due, in order, by one worker only, after deciding anew.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{
        Account, Channel, DeliveryState, FailureReason, Kind, KindChannels, Patient, PracticeSettings, Provider,
        SkipReason, Verdict,
    },
    store::Destination,
};
use uuid::Uuid;

use super::{
    given::{
        NORTH, Order, SOUTH, changes, claim, claim_as, claim_one, claimed, delivery, email, patient, phone,
        practices_due, ready_practice, settings, settle,
    },
    *,
};

fn busy() -> Verdict {
    Verdict::NotTaken { retry_after: None, code: "20429".into() }
}

/// Refuses the claim of the one message that is due, and says how.
async fn refused(t: &TestStore, scope: &heedwell::domain::Scope) -> (DeliveryState, Option<SkipReason>) {
    let (claimed, seen) = claim_as(t, scope, Uuid::from_u128(1), 10).await;
    assert_eq!((claimed.len(), seen), (0, 1));
    let last = changes(t, scope, 0).await.pop().unwrap();
    assert_eq!(last.next_action_time, None);
    (last.state, last.skip_reason)
}

on_both! {
    async fn a_claim_has_all_that_the_call_needs(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        t.advance(1);
        let worker = Uuid::from_u128(99);
        let (claimed, seen) = claim_as(t, &scope, worker, 10).await;
        assert_eq!((claimed.len(), seen), (2, 2));
        let sms = claimed.iter().find(|claimed| claimed.channel == Channel::Sms).unwrap();
        assert_eq!((&sms.practice, sms.epoch, sms.attempt), (scope.practice(), 1, 1));
        assert_eq!((sms.claimed_at, sms.expires_at), (t.now(), record.expire_time));
        assert!(matches!(&sms.destination, Destination::Phone(to) if *to == phone("+12025550142")));
        assert_eq!(sms.content.text.expose(), "Your visit is tomorrow at 9.");
        assert!(matches!(&sms.account, Account::Twilio(account) if account.account_sid.starts_with("AC")));
        let mail = claimed.iter().find(|claimed| claimed.channel == Channel::Email).unwrap();
        let Destination::Mailbox(to, name) = &mail.destination else { panic!("not a mailbox") };
        assert_eq!((to, name.expose().as_str()), (&email("maria@example.com"), "Maria Lopez"));
        assert!(matches!(&mail.account, Account::Smtp(account) if account.from_name == "north Primary Care"));
        assert_ne!(sms.token, mail.token);
        assert_eq!(t.store.lease().as_secs(), 60);
        let lease = t.rows("SELECT lease_until FROM delivery").await;
        let until: chrono::DateTime<chrono::Utc> = lease[0].try_get_by_index(0).unwrap();
        assert_eq!(until, t.now() + TimeDelta::seconds(60));
        let query = "SELECT count(*) FROM attempt WHERE n = 1 AND epoch = 1 AND verdict IS NULL AND ended_at IS NULL";
        assert_eq!(t.number(query).await, 2);
    }

    async fn a_claim_by_itself_shows_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        claim_one(t, &scope).await;
        assert_eq!(t.store.notification_get(&scope, record.id).await.unwrap(), record);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), 1);
        let events = t.store.notification_detail(&scope, record.id, false).await.unwrap().details.remove(0).0;
        let last = events.last().unwrap();
        assert_eq!((last.detail.as_str(), last.attempt), ("Handing over to the provider.", 1));
    }

    async fn only_what_is_due_is_claimed_urgent_first_then_the_oldest(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let in_minutes = |minutes| Some(t.now() + TimeDelta::minutes(minutes));
        for (request_id, minutes, urgent) in
            [("later", 9, false), ("third", 3, false), ("first", 4, true), ("second", 2, false), ("fourth", 5, false)]
        {
            let order = Order { schedule_time: in_minutes(minutes), urgent, ..Order::new(request_id, &[Channel::Sms]) };
            Order { reference: request_id.into(), ..order }.accept(t, &scope).await;
        }
        assert!(claim(t, &scope, 10).await.is_empty());
        assert!(practices_due(t).await.is_empty());
        t.advance(5 * 60);
        assert_eq!(practices_due(t).await, [scope.practice().clone()]);
        let mut order = Vec::new();
        for limit in [1, 2, 10] {
            for claimed in claim(t, &scope, limit).await {
                order.push(delivery(t, &scope, claimed.id).await.reference);
            }
        }
        assert_eq!(order, ["first", "second", "third", "fourth"]);
        assert!(practices_due(t).await.is_empty());
        t.advance(4 * 60);
        assert_eq!(practices_due(t).await, [scope.practice().clone()]);
    }

    async fn no_two_workers_get_the_same_delivery(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        for n in 0..40 {
            let scope = if n % 4 == 0 { &south } else { &north };
            Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, scope).await;
        }
        let (mut ids, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        let mut claims = 0;
        loop {
            let practices = [&north, &south, &north, &south, &north];
            let workers = (1..).map(Uuid::from_u128).zip(practices);
            let round = join_all(workers.map(|(worker, practice)| claim_as(t, practice, worker, 3))).await;
            let round: Vec<_> = round.into_iter().flat_map(|(claimed, _)| claimed).collect();
            if round.is_empty() {
                break;
            }
            claims += round.len();
            ids.extend(round.iter().map(|claimed| claimed.id));
            tokens.extend(round.iter().map(|claimed| claimed.token));
        }
        assert_eq!((claims, ids.len(), tokens.len()), (40, 40, 40));
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 40);
    }

    async fn a_patient_who_became_inactive_gets_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        t.store.patients_put(&scope, vec![Patient { inactive: true, ..patient("maria") }]).await.unwrap();
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::PatientInactive)));
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn an_opt_out_after_the_accept_is_respected(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for subject_kind in [1, 2] {
            Order::new(&format!("r{subject_kind}"), &[Channel::Sms]).accept(t, &scope).await;
            let gate = format!("channel = 3 AND subject_kind = {subject_kind}");
            t.execute(&format!("UPDATE recipient_gate SET consent = 2 WHERE {gate}")).await;
            assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::OptedOut)));
            t.execute(&format!("UPDATE recipient_gate SET consent = 0 WHERE {gate}")).await;
        }
    }

    async fn an_address_that_failed_for_good_gets_nothing_until_it_is_entered_anew(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        let dead = Verdict::Refused { reason: FailureReason::InvalidAddress, code: "21211".into() };
        settle(t, &first, dead).await;
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::AddressSuppressed)));
        let record = Order::new("r3", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(record.deliveries[0].skip_reason, Some(SkipReason::AddressSuppressed));

        // The same number again changes nothing; another one and back is an address entered anew.
        t.store.patients_put(&scope, vec![Patient { inactive: false, ..patient("maria") }]).await.unwrap();
        let record = Order::new("r4", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(record.deliveries[0].state, DeliveryState::Skipped);
        let other = Patient { mobile_phone: Some(phone("+12025550143")), ..patient("maria") };
        t.store.patients_put(&scope, vec![other]).await.unwrap();
        t.store.patients_put(&scope, vec![patient("maria")]).await.unwrap();
        claimed(t, &scope, "r5", Channel::Sms).await;
    }

    async fn a_channel_taken_away_after_the_accept_is_not_used(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let without = PracticeSettings { sms: Default::default(), ..settings() };
        t.store.settings_put(&scope, without, 1).await.unwrap();
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::ChannelNotConfigured)));

        t.store.settings_put(&scope, settings(), 2).await.unwrap();
        Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        let mut off = settings();
        let email = [Channel::Email].into_iter().collect();
        off.kind_channels.insert(Kind::AppointmentReminder, KindChannels { channels: email, offered: None });
        t.store.settings_put(&scope, off, 3).await.unwrap();
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::ChannelOffForKind)));
    }

    async fn too_late_before_any_try_is_skipped(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::minutes(1), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        t.advance(60);
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::Expired)));
    }

    async fn too_late_after_a_try_in_vain_is_failed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::minutes(1), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, busy()).await;
        t.advance(60);
        assert_eq!(refused(t, &scope).await, (DeliveryState::Failed, None));
        let failed = delivery(t, &scope, claimed.id).await;
        let failure = failed.failure.unwrap();
        assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::Expired, "20429"));
        assert_eq!((failure.fail_time, failed.attempts), (t.now(), 1));
    }

    async fn a_delivery_given_back_and_then_too_late_was_never_tried(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order { lasts: TimeDelta::minutes(1), ..Order::new("r1", &[Channel::Sms]) }.accept(t, &scope).await;
        let claimed = claim_one(t, &scope).await;
        settle(t, &claimed, Verdict::NotStarted).await;
        t.advance(60);
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::Expired)));
    }

    async fn the_address_of_the_moment_is_used_and_its_gate_is_asked(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let moved = Patient {
            mobile_phone: Some(phone("+12025550143")),
            email: Some(email("new@example.org")),
            ..patient("maria")
        };
        Order::new("r1", &[Channel::Sms, Channel::Email]).accept(t, &scope).await;
        t.store.patients_put(&scope, vec![moved.clone()]).await.unwrap();
        for claimed in claim(t, &scope, 10).await {
            match &claimed.destination {
                Destination::Phone(to) => assert_eq!(Some(to), moved.mobile_phone.as_ref()),
                Destination::Mailbox(to, _) => assert_eq!(Some(to), moved.email.as_ref()),
                Destination::Devices(_) => panic!("nobody here has a device"),
            }
            let hint = delivery(t, &scope, claimed.id).await.address_hint;
            assert!(["(•••) •••-0143", "n•••@example.org"].contains(&hint.as_str()), "{hint}");
            settle(t, &claimed, given::accepted(&claimed.id.to_string())).await;
        }
        // The new number's own gate stops the next one.
        Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        let opt_out = "UPDATE recipient_gate SET consent = 2 WHERE channel = 3 AND subject_kind = 2 AND subject = \
                       (SELECT address_bi FROM attempt WHERE provider = 2)";
        t.execute(opt_out).await;
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::OptedOut)));
    }

    async fn an_address_removed_after_the_accept_leaves_nowhere_to_send_to(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        t.store.patients_put(&scope, vec![Patient { mobile_phone: None, ..patient("maria") }]).await.unwrap();
        assert_eq!(refused(t, &scope).await, (DeliveryState::Skipped, Some(SkipReason::NoAddress)));
    }

    async fn practices_with_something_due_are_named_once(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        ready_practice(t, "west").await;
        for n in 0..3 {
            Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, &north).await;
            Order { urgent: true, ..Order::new(&format!("r{n}"), &[Channel::Sms]) }.accept(t, &south).await;
        }
        let mut due = practices_due(t).await;
        due.sort();
        assert_eq!(due, [north.practice().clone(), south.practice().clone()]);
        claim(t, &north, 10).await;
        assert_eq!(practices_due(t).await, [south.practice().clone()]);
    }

    async fn the_provider_is_shown_once_an_attempt_has_ended(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.provider, None);
        settle(t, &claimed, busy()).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.provider, Some(Provider::Twilio));
    }
}
