//! Rescue and reconciliation: claims of dead workers, unknown outcomes, and what each look leads to.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::{
        Channel, DeliveryState, Facts, FailureReason, Look, Patient, PracticeSettings, Provider, SkipReason, Verdict,
    },
    store::{Destination, Doubt, Receipt},
};

use super::{
    given::{
        NORTH, Order, SOUTH, accepted, claim, claim_one, claimed, delivery, doubted_again, look_twice, patient, phone,
        ready_practice, settings, settle, unknown,
    },
    *,
};

fn found(status: &str) -> Look {
    Look::Found { provider_ref: "SM1".into(), status: status.into(), code: String::new(), failure: None }
}

async fn one_doubt(t: &TestStore) -> Doubt {
    let mut doubts = t.store.doubts_due(&t.engine, 10).await.unwrap();
    assert_eq!(doubts.len(), 1);
    doubts.remove(0)
}

async fn look(t: &TestStore, doubt: &Doubt, look: Look, facts: Facts) {
    t.store.doubt_settle(&t.engine, doubt, look, facts, 0.0).await.unwrap();
}

on_both! {
    async fn a_live_lease_is_nobody_elses(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(60);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 0);
        settle(t, &claimed, accepted("SM1")).await;
        t.advance(60);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 0);
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Sent);
    }

    async fn a_dead_workers_claim_becomes_a_doubt_that_is_looked_into(t: &TestStore) {
        let (north, south) = (ready_practice(t, NORTH).await, ready_practice(t, SOUTH).await);
        let lost = claimed(t, &north, "r1", Channel::Sms).await;
        claimed(t, &south, "r1", Channel::Sms).await;
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 2);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 0);
        let doubtful = delivery(t, &north, lost.id).await;
        assert_eq!((doubtful.state, doubtful.attempts), (DeliveryState::Unconfirmed, 1));
        let next = doubtful.next_action_time.unwrap() - t.now();
        assert!(next >= TimeDelta::seconds(15) && next <= TimeDelta::seconds(18), "{next}");
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 3 AND ended_at IS NOT NULL").await, 2);
        t.advance(14);
        assert!(t.store.doubts_due(&t.engine, 10).await.unwrap().is_empty());
        t.advance(4);
        assert_eq!(t.store.doubts_due(&t.engine, 10).await.unwrap().len(), 2);
    }

    async fn the_looks_after_a_rescue_count_from_the_latest_time_at_which_the_call_can_have_ended(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let lost = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(65);
        t.store.rescue(&t.engine, false).await.unwrap();
        let rescued = t.now();
        t.advance(20);
        let doubt = one_doubt(t).await;
        assert_eq!((doubt.intent_at, doubt.ended_at), (rescued - TimeDelta::seconds(65), rescued));
        look(t, &doubt, Look::Absent, Facts::NONE).await;
        let next = delivery(t, &scope, lost.id).await.next_action_time;
        assert_eq!(next, Some(rescued + TimeDelta::seconds(120)), "a list that lags by two minutes shows it then");
    }

    async fn the_only_process_takes_over_every_claim_at_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        claimed(t, &scope, "r1", Channel::Sms).await;
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 0);
        assert_eq!(t.store.rescue(&t.engine, true).await.unwrap(), 1);
        assert_eq!(t.store.rescue(&t.engine, true).await.unwrap(), 0);
    }

    async fn rescuers_at_once_take_each_claim_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..20 {
            Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, &scope).await;
        }
        assert_eq!(claim(t, &scope, 20).await.len(), 20);
        t.advance(61);
        let rescued = join_all((0..4).map(|_| t.store.rescue(&t.engine, false))).await;
        assert_eq!(rescued.into_iter().map(Result::unwrap).sum::<usize>(), 20);
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE epoch = 2 AND crashes = 1").await, 20);
    }

    async fn a_claim_with_evidence_is_closed_by_its_rescue(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let lost = claimed(t, &scope, "r1", Channel::Sms).await;
        let receipt = Receipt {
            token: lost.token,
            provider_ref: "SM1".into(),
            facts: Facts::SENT_TO_CARRIER,
            status: "sent".into(),
            code: String::new(),
            failure: None,
        };
        t.store.receipt_apply(&scope, receipt).await.unwrap();
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
        let sent = delivery(t, &scope, lost.id).await;
        assert_eq!((sent.state, sent.attempts, sent.next_action_time), (DeliveryState::Sent, 1, None));
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 4 AND ended_at IS NOT NULL").await, 1);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_delivery_that_kills_its_workers_is_not_tried_for_ever(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        for crash in 1..=5 {
            claim_one(t, &scope).await;
            t.advance(61);
            assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
            assert_eq!(t.number(&format!("SELECT count(*) FROM delivery WHERE crashes = {crash}")).await, 1);
            look_twice(t, &Look::Absent).await;
        }
        assert!(claim(t, &scope, 10).await.is_empty());
        let page = t.store.deliveries_list(&scope, &Default::default(), (None, None), None, 1).await.unwrap();
        // Every attempt proved absent: nothing of it left.
        let failed = &page.deliveries[0];
        assert_eq!((failed.state, failed.next_action_time, failed.attempts), (DeliveryState::Failed, None, 5));
        assert_eq!(failed.failure.as_ref().map(|failure| failure.reason), Some(FailureReason::Internal));
        assert_eq!(t.number("SELECT count(*) FROM delivery WHERE flags = 4").await, 1);
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 5").await, 5);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_quarantined_delivery_that_may_have_left_stays_unconfirmed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (n, answer) in [Look::Several, Look::Contested, Look::Unreadable].into_iter().enumerate() {
            let record = Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, &scope).await;
            t.execute("UPDATE delivery SET crashes = 4").await;
            claim_one(t, &scope).await;
            t.advance(61);
            t.store.rescue(&t.engine, false).await.unwrap();
            for _ in 0..5 {
                t.advance(8 * 3600);
                for doubt in t.store.doubts_due(&t.engine, 10).await.unwrap() {
                    look(t, &doubt, answer.clone(), Facts::NONE).await;
                }
            }
            let closed = delivery(t, &scope, record.deliveries[0].id).await;
            assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None), "{answer:?}");
        }
        assert!(claim(t, &scope, 10).await.is_empty());
    }

    async fn a_quarantined_delivery_that_is_found_is_sent(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let record = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        t.execute("UPDATE delivery SET crashes = 4").await;
        claim_one(t, &scope).await;
        t.advance(61);
        t.store.rescue(&t.engine, false).await.unwrap();
        t.advance(20);
        look(t, &one_doubt(t).await, found("sent"), Facts::SENT_TO_CARRIER).await;
        assert_eq!(delivery(t, &scope, record.deliveries[0].id).await.state, DeliveryState::Sent);
    }

    async fn a_doubt_has_all_that_the_look_needs(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(30);
        settle(t, &claimed, unknown()).await;
        t.advance(20);
        let doubt = one_doubt(t).await;
        assert_eq!((&doubt.practice, doubt.id, doubt.attempt), (scope.practice(), claimed.id, 1));
        assert_eq!((doubt.inquiry.channel, doubt.inquiry.looks, doubt.inquiry.resent), (Channel::Sms, 0, false));
        assert_eq!(doubt.inquiry.since, t.now() - TimeDelta::seconds(20));
        assert_eq!(doubt.intent_at, t.now() - TimeDelta::seconds(50));
        assert_eq!(doubt.ended_at, t.now() - TimeDelta::seconds(20));
        assert_eq!(doubt.account.as_ref().unwrap().provider(), Provider::Twilio);
        assert!(matches!(&doubt.destination, Some(Destination::Phone(to)) if *to == phone("+12025550142")));
        assert_eq!(doubt.content.as_ref().unwrap().text.expose(), "Your visit is tomorrow at 9.");
    }

    async fn without_account_or_with_another_number_there_is_nothing_to_ask(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        let moved = Patient { mobile_phone: Some(phone("+12025550143")), ..patient("maria") };
        t.store.patients_put(&scope, vec![moved]).await.unwrap();
        t.store.settings_put(&scope, PracticeSettings { sms: Default::default(), ..settings() }, 1).await.unwrap();
        t.advance(20);
        let doubt = one_doubt(t).await;
        assert!(doubt.account.is_none() && doubt.destination.is_none());
    }

    async fn a_look_is_taken_by_one_and_by_another_if_that_one_dies(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        t.advance(20);
        let before = delivery(t, &scope, claimed.id).await;
        let taken = join_all((0..4).map(|_| t.store.doubts_due(&t.engine, 10))).await;
        assert_eq!(taken.into_iter().map(|doubts| doubts.unwrap().len()).sum::<usize>(), 1);
        // To be looked at shows nothing by itself.
        assert_eq!(delivery(t, &scope, claimed.id).await, before);
        t.advance(44);
        assert!(t.store.doubts_due(&t.engine, 10).await.unwrap().is_empty());
        t.advance(1);
        assert_eq!(one_doubt(t).await.inquiry.looks, 0);
    }

    async fn found_is_sent_and_bound(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        t.advance(20);
        look(t, &one_doubt(t).await, found("sent"), Facts::SENT_TO_CARRIER).await;
        let sent = delivery(t, &scope, claimed.id).await;
        assert_eq!((sent.state, sent.provider_message_id.as_str()), (DeliveryState::Sent, "SM1"));
        assert_eq!((sent.send_time, sent.next_action_time), (Some(t.now()), None));
        let refs = ["SM1".to_owned()];
        assert_eq!(t.store.refs_bound(&t.engine, scope.practice(), Provider::Twilio, &refs).await.unwrap().len(), 1);
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 4").await, 1);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn found_but_undelivered_is_failed_with_the_code(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        t.advance(20);
        let answer = Look::Found {
            provider_ref: "SM1".into(),
            status: "undelivered".into(),
            code: "30005".into(),
            failure: Some(FailureReason::InvalidAddress),
        };
        look(t, &one_doubt(t).await, answer, Facts::UNDELIVERED).await;
        let failed = delivery(t, &scope, claimed.id).await;
        let failure = failed.failure.unwrap();
        assert_eq!((failed.state, failure.provider_code.as_str()), (DeliveryState::Failed, "30005"));
        assert_eq!((failure.reason, failure.fail_time), (FailureReason::InvalidAddress, t.now()));
        let next = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(next.deliveries[0].skip_reason, Some(SkipReason::AddressSuppressed));
    }

    async fn absent_once_is_asked_again_and_twice_is_sent_again(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, unknown()).await;
        let since = t.now();
        t.advance(20);
        look(t, &one_doubt(t).await, Look::Absent, Facts::NONE).await;
        let again = delivery(t, &scope, first.id).await;
        assert_eq!(again.state, DeliveryState::Unconfirmed);
        assert_eq!(again.next_action_time, Some(since + TimeDelta::seconds(120)));
        assert!(claim(t, &scope, 10).await.is_empty());
        t.advance(100);
        let doubt = one_doubt(t).await;
        assert_eq!(doubt.inquiry.looks, 1);
        look(t, &doubt, Look::Absent, Facts::NONE).await;
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 5").await, 1);
        let second = claim_one(t, &scope).await;
        assert_eq!((second.attempt, second.epoch), (2, 2));
        settle(t, &second, accepted("SM2")).await;
        let sent = delivery(t, &scope, first.id).await;
        assert_eq!((sent.state, sent.attempts, sent.possible_duplicate), (DeliveryState::Sent, 2, false));
    }

    async fn a_second_doubt_is_looked_into_from_the_start(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (_, doubt) = doubted_again(t, &scope).await;
        assert_eq!((doubt.attempt, doubt.inquiry.looks, doubt.inquiry.resent), (2, 0, false));
    }

    async fn an_earlier_attempt_of_its_own_is_no_rival(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (_, doubt) = doubted_again(t, &scope).await;
        assert!(t.store.rivals(&t.engine, &doubt).await.unwrap().is_empty());
        claimed(t, &scope, "r2", Channel::Sms).await;
        assert_eq!(t.store.rivals(&t.engine, &doubt).await.unwrap().len(), 1, "to the same number");
    }

    async fn several_candidates_are_closed_unconfirmed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        look_twice(t, &Look::Several).await;
        let closed = delivery(t, &scope, claimed.id).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn an_unreadable_list_is_asked_at_growing_distances_then_closed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        let since = t.now();
        for next in [120, 600, 3600, 6 * 3600] {
            let due = delivery(t, &scope, claimed.id).await.next_action_time.unwrap();
            t.advance(u64::try_from((due - t.now()).num_seconds() + 1).unwrap());
            look(t, &one_doubt(t).await, Look::Unreadable, Facts::NONE).await;
            let due = delivery(t, &scope, claimed.id).await.next_action_time;
            assert_eq!(due, Some(since + TimeDelta::seconds(next)));
        }
        t.advance(7 * 3600);
        look(t, &one_doubt(t).await, Look::Unreadable, Facts::NONE).await;
        let closed = delivery(t, &scope, claimed.id).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn mail_in_doubt_is_sent_once_more_and_flagged(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Email).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::NoList).await;
        let again = delivery(t, &scope, first.id).await;
        assert_eq!((again.state, again.possible_duplicate), (DeliveryState::Unconfirmed, true));
        let second = claim_one(t, &scope).await;
        settle(t, &second, unknown()).await;
        look_twice(t, &Look::NoList).await;
        let closed = delivery(t, &scope, first.id).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        assert!(claim(t, &scope, 10).await.is_empty());
    }

    async fn a_callback_during_the_look_wins(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (n, answer) in [Look::Absent, Look::Several, Look::Unreadable, found("sent")].into_iter().enumerate() {
            let claimed = claimed(t, &scope, &format!("r{n}"), Channel::Sms).await;
            settle(t, &claimed, unknown()).await;
            t.advance(20);
            let doubt = one_doubt(t).await;
            let receipt = Receipt {
                token: claimed.token,
                provider_ref: format!("SMcallback{n}"),
                facts: Facts::DELIVERED,
                status: "delivered".into(),
                code: String::new(),
                failure: None,
            };
            t.store.receipt_apply(&scope, receipt).await.unwrap();
            let delivered = delivery(t, &scope, claimed.id).await;
            look(t, &doubt, answer, Facts::SENT_TO_CARRIER).await;
            assert_eq!(delivery(t, &scope, claimed.id).await, delivered);
            assert_eq!(delivered.state, DeliveryState::Delivered);
            assert_eq!(delivered.provider_message_id, format!("SMcallback{n}"));
        }
    }

    async fn a_look_at_an_attempt_that_is_past_changes_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, unknown()).await;
        t.advance(20);
        let stale = one_doubt(t).await;
        look_twice(t, &Look::Absent).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, unknown()).await;
        let before = delivery(t, &scope, first.id).await;
        look(t, &stale, Look::Several, Facts::NONE).await;
        assert_eq!(delivery(t, &scope, first.id).await, before);
    }

    async fn a_resend_that_may_not_go_leaves_it_unconfirmed(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        look_twice(t, &Look::Absent).await;
        t.execute("UPDATE recipient_gate SET consent = 2 WHERE channel = 3 AND subject_kind = 1").await;
        assert!(claim(t, &scope, 10).await.is_empty());
        let closed = delivery(t, &scope, claimed.id).await;
        assert_eq!((closed.state, closed.next_action_time), (DeliveryState::Unconfirmed, None));
        assert_eq!(closed.skip_reason, None::<SkipReason>);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_resend_that_comes_too_late_is_failed_if_the_first_was_absent(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for (request_id, channel, answer, state) in [
            ("r1", Channel::Sms, Look::Absent, DeliveryState::Failed),
            ("r2", Channel::Email, Look::NoList, DeliveryState::Unconfirmed),
        ] {
            Order { lasts: TimeDelta::minutes(10), ..Order::new(request_id, &[channel]) }.accept(t, &scope).await;
            let claimed = claim_one(t, &scope).await;
            settle(t, &claimed, unknown()).await;
            look_twice(t, &answer).await;
            t.advance(600);
            assert!(claim(t, &scope, 10).await.is_empty());
            let late = delivery(t, &scope, claimed.id).await;
            assert_eq!((late.state, late.next_action_time), (state, None));
            assert_eq!(
                late.failure.map(|failure| failure.reason),
                (state == DeliveryState::Failed).then_some(FailureReason::Expired)
            );
        }
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn a_definite_no_after_an_absent_first_is_a_failure(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::Absent).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }).await;
        let failed = delivery(t, &scope, first.id).await;
        assert_eq!(failed.state, DeliveryState::Failed);
        assert_eq!(failed.failure.map(|failure| failure.reason), Some(FailureReason::Blocked));
    }
}
