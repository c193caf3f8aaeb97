//! Settling: what each verdict does, and what a verdict that comes too late still does.

use chrono::{DateTime, TimeDelta, Utc};
use heedwell::{
    domain::{Channel, Delivery, DeliveryId, DeliveryState, FailureReason, Look, Provider, Scope, Verdict},
    store::Settlement,
};
use std::time::Duration;

use super::{
    given::{
        NORTH, Order, accepted, changes, claim, claim_one, claimed, delivery, look_twice, ready_practice, settle,
        settle_all, settlement, unknown,
    },
    *,
};

fn refusal(reason: FailureReason) -> Verdict {
    Verdict::Refused { reason, code: "21610".into() }
}

/// The timeline of the only delivery of a notification, as attempt and sentence.
async fn timeline(t: &TestStore, scope: &Scope, delivery: &Delivery) -> Vec<(i32, String)> {
    let heedwell::domain::Source::Notification(id) = delivery.source else { panic!("no notification") };
    let detail = t.store.notification_detail(scope, id, false).await.unwrap();
    detail.details[0].0.iter().map(|event| (event.attempt, event.detail.clone())).collect()
}

async fn attempt_verdict(t: &TestStore, id: DeliveryId, n: i32) -> Option<i16> {
    let rows = t.rows(&format!("SELECT delivery_id, verdict FROM attempt WHERE n = {n}")).await;
    let row = rows.iter().find(|row| row.try_get_by_index::<uuid::Uuid>(0).unwrap() == id.0).unwrap();
    row.try_get_by_index(1).unwrap()
}

async fn poll_at(t: &TestStore) -> Option<DateTime<Utc>> {
    t.rows("SELECT poll_at FROM delivery").await[0].try_get_by_index(0).unwrap()
}

on_both! {
    async fn accepted_is_sent_and_bound_to_the_id_of_the_provider(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(2);
        let verdict =
            Verdict::Accepted { provider_ref: Some("SM1".into()), status: "accepted".into(), sms_segments: Some(3) };
        settle(t, &claimed, verdict).await;
        let sent = delivery(t, &scope, claimed.id).await;
        assert_eq!((sent.state, sent.attempts, sent.revision), (DeliveryState::Sent, 1, 2));
        assert_eq!((sent.provider, sent.provider_message_id.as_str()), (Some(Provider::Twilio), "SM1"));
        assert_eq!((sent.send_time, sent.deliver_time, sent.next_action_time), (Some(t.now()), None, None));
        assert_eq!((sent.sms_segments, sent.update_time), (3, t.now()));
        assert_eq!(attempt_verdict(t, claimed.id, 1).await, Some(1));
        assert_eq!(poll_at(t).await, Some(t.now() + TimeDelta::minutes(30)));
        let refs = ["SM1".to_owned(), "SM2".to_owned()];
        let bound = t.store.refs_bound(&t.engine, scope.practice(), Provider::Twilio, &refs).await.unwrap();
        assert_eq!(bound.into_iter().collect::<Vec<_>>(), ["SM1"]);
        let lines = timeline(t, &scope, &sent).await;
        let sentences: Vec<_> = lines.iter().map(|(attempt, detail)| (*attempt, detail.as_str())).collect();
        let expected =
            [(0, "Accepted for sending."), (1, "Handing over to the provider."), (1, "The provider accepted it.")];
        assert_eq!(sentences, expected);
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn mail_that_was_accepted_has_no_id_and_nobody_to_ask(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Email).await;
        settle(t, &claimed, Verdict::Accepted { provider_ref: None, status: "250".into(), sms_segments: None }).await;
        let sent = delivery(t, &scope, claimed.id).await;
        assert_eq!((sent.state, sent.provider_message_id.as_str()), (DeliveryState::Sent, ""));
        assert_eq!(poll_at(t).await, None);
    }

    async fn refused_is_failed_for_good_with_its_reason(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, refusal(FailureReason::OptedOutAtProvider)).await;
        let failed = delivery(t, &scope, claimed.id).await;
        assert_eq!((failed.state, failed.attempts, failed.next_action_time), (DeliveryState::Failed, 1, None));
        let failure = failed.failure.unwrap();
        assert_eq!((failure.reason, failure.fail_time), (FailureReason::OptedOutAtProvider, t.now()));
        assert_eq!((failure.provider_code.as_str(), failed.send_time), ("21610", None));
        assert_eq!(attempt_verdict(t, claimed.id, 1).await, Some(2));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        t.advance(3600);
        assert!(claim(t, &scope, 10).await.is_empty());
    }

    async fn not_taken_is_tried_again_after_a_while(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        let busy = Verdict::NotTaken { retry_after: Some(Duration::from_secs(40)), code: "20429".into() };
        settle(t, &first, busy).await;
        let waiting = delivery(t, &scope, first.id).await;
        assert_eq!((waiting.state, waiting.attempts, waiting.failure), (DeliveryState::Pending, 1, None));
        assert_eq!(waiting.next_action_time, Some(t.now() + TimeDelta::seconds(40)));
        assert!(claim(t, &scope, 10).await.is_empty());
        t.advance(40);
        let second = claim_one(t, &scope).await;
        assert_eq!((second.attempt, second.epoch), (2, 2));
        assert_ne!(second.token, first.token);
        assert_eq!(delivery(t, &scope, first.id).await.attempts, 1);
        settle(t, &second, accepted("SM1")).await;
        let sent = delivery(t, &scope, first.id).await;
        assert_eq!((sent.state, sent.attempts, sent.possible_duplicate), (DeliveryState::Sent, 2, false));
    }

    async fn a_misconfigured_account_is_shown_and_tried_until_retries_run_out(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let order = Order { lasts: TimeDelta::hours(48), ..Order::new("r1", &[Channel::Sms]) };
        order.accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, Verdict::Misconfigured { code: "20003".into(), account: true }).await;
        let health = t.store.channel_health(&scope).await.unwrap();
        assert_eq!((health[0].channel, health[0].failing.as_deref()), (Channel::Sms, Some("20003")));
        assert_eq!(delivery(t, &scope, first.id).await.state, DeliveryState::Pending);
        t.advance(24 * 3600);
        let second = claim_one(t, &scope).await;
        settle(t, &second, Verdict::Misconfigured { code: "20003".into(), account: true }).await;
        let failed = delivery(t, &scope, first.id).await;
        let failure = failed.failure.unwrap();
        assert_eq!((failed.state, failure.reason), (DeliveryState::Failed, FailureReason::ProviderConfig));
    }

    async fn a_recipient_whom_the_account_may_not_write_to_says_nothing_of_the_channel(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, Verdict::Misconfigured { code: "21408".into(), account: false }).await;
        assert!(t.store.channel_health(&scope).await.unwrap().is_empty());
        assert_eq!(delivery(t, &scope, first.id).await.state, DeliveryState::Pending);
    }

    async fn not_started_is_given_back_uncounted(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let before = Order::new("r1", &[Channel::Sms]).accept(t, &scope).await;
        let first = claim_one(t, &scope).await;
        settle(t, &first, Verdict::NotStarted).await;
        assert_eq!(t.store.notification_get(&scope, before.id).await.unwrap(), before);
        assert_eq!(t.number("SELECT count(*) FROM attempt").await, 0);
        let second = claim_one(t, &scope).await;
        assert_eq!((second.attempt, second.epoch), (1, 2));
        // The one who gave it back has no say in the new claim.
        settle(t, &first, Verdict::NotStarted).await;
        assert!(claim(t, &scope, 10).await.is_empty());
        settle(t, &second, accepted("SM1")).await;
        assert_eq!(delivery(t, &scope, first.id).await.attempts, 1);
    }

    async fn unknown_is_named_at_once_and_looked_into(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        let doubtful = delivery(t, &scope, claimed.id).await;
        assert_eq!((doubtful.state, doubtful.attempts), (DeliveryState::Unconfirmed, 1));
        assert_eq!(doubtful.next_action_time, Some(t.now() + TimeDelta::milliseconds(16_500)));
        assert_eq!((doubtful.send_time, doubtful.failure), (None, None));
        assert_eq!(attempt_verdict(t, claimed.id, 1).await, Some(3));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 1);
        t.advance(3600);
        assert!(claim(t, &scope, 10).await.is_empty());
    }

    async fn an_old_epoch_changes_no_schedule_but_its_acceptance_counts(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let lost = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(61);
        assert_eq!(t.store.rescue(&t.engine, false).await.unwrap(), 1);
        let rescued = delivery(t, &scope, lost.id).await;
        for verdict in [
            Verdict::NotStarted,
            unknown(),
            refusal(FailureReason::Blocked),
            Verdict::NotTaken { retry_after: None, code: "503".into() },
        ] {
            settle(t, &lost, verdict).await;
            assert_eq!(delivery(t, &scope, lost.id).await, rescued);
        }
        settle(t, &lost, accepted("SM1")).await;
        let sent = delivery(t, &scope, lost.id).await;
        assert_eq!((sent.state, sent.provider_message_id.as_str()), (DeliveryState::Sent, "SM1"));
        assert_eq!((sent.next_action_time, sent.possible_duplicate), (None, false));
        assert_eq!(attempt_verdict(t, lost.id, 1).await, Some(4));
        assert_eq!(poll_at(t).await, Some(t.now() + TimeDelta::minutes(30)));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        assert!(t.store.doubts_due(&t.engine, 10).await.unwrap().is_empty());
    }

    async fn an_acceptance_that_comes_after_a_resend_shows_the_duplicate(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let lost = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(61);
        t.store.rescue(&t.engine, false).await.unwrap();
        look_twice(t, &Look::Absent).await;
        let resent = claim_one(t, &scope).await;
        assert_eq!((resent.attempt, resent.epoch), (2, 3));
        settle(t, &lost, accepted("SM1")).await;
        let proved = delivery(t, &scope, lost.id).await;
        assert_eq!((proved.state, proved.possible_duplicate), (DeliveryState::Sent, false));
        // The second call is still under way: its own verdict closes the delivery.
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 1);
        settle(t, &resent, unknown()).await;
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        let twice = delivery(t, &scope, lost.id).await;
        assert_eq!((twice.state, twice.possible_duplicate), (DeliveryState::Sent, true));
    }

    async fn a_settlement_that_is_repeated_changes_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let busy = Verdict::NotTaken { retry_after: None, code: "503".into() };
        let verdicts = [accepted("SM1"), refusal(FailureReason::Blocked), busy, unknown(), Verdict::NotStarted];
        for (n, verdict) in verdicts.into_iter().enumerate() {
            let record = Order::new(&format!("r{n}"), &[Channel::Sms]).accept(t, &scope).await;
            let claimed =
                claim(t, &scope, 10).await.into_iter().find(|claimed| claimed.id == record.deliveries[0].id).unwrap();
            settle(t, &claimed, verdict.clone()).await;
            let once = t.store.notification_detail(&scope, record.id, false).await.unwrap();
            let head = t.store.feed_head(&scope).await.unwrap();
            t.advance(1);
            settle(t, &claimed, verdict).await;
            let twice = t.store.notification_detail(&scope, record.id, false).await.unwrap();
            assert_eq!((twice.record, twice.details), (once.record, once.details));
            assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
            t.store.rescue(&t.engine, true).await.unwrap();
        }
    }

    async fn a_verdict_for_an_attempt_that_there_is_not_is_ignored(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        let wrong = [
            Settlement { attempt: 7, ..settlement(&claimed, accepted("SM1")) },
            Settlement { id: DeliveryId(uuid::Uuid::nil()), ..settlement(&claimed, accepted("SM2")) },
        ];
        settle_all(t, wrong.to_vec()).await;
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Pending);
    }

    async fn many_verdicts_are_settled_at_once_with_dense_positions(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..50 {
            Order { urgent: n % 2 == 0, ..Order::new(&format!("r{n}"), &[Channel::Sms]) }.accept(t, &scope).await;
        }
        let all = claim(t, &scope, 50).await;
        assert_eq!((all.len(), t.store.feed_head(&scope).await.unwrap()), (50, 50));
        let ended: Vec<_> = all
            .iter()
            .zip(0..)
            .map(|(claimed, n)| match n % 5 {
                0 => settlement(claimed, accepted(&format!("SM{n}"))),
                1 => settlement(claimed, refusal(FailureReason::Blocked)),
                2 => settlement(claimed, Verdict::NotTaken { retry_after: None, code: "503".into() }),
                3 => settlement(claimed, unknown()),
                _ => settlement(claimed, Verdict::NotStarted),
            })
            .collect();
        settle_all(t, ended).await;
        let news = changes(t, &scope, 50).await;
        assert_eq!(news.len(), 40);
        for (state, count) in [
            (DeliveryState::Sent, 10),
            (DeliveryState::Failed, 10),
            (DeliveryState::Pending, 10),
            (DeliveryState::Unconfirmed, 10),
        ] {
            assert_eq!(news.iter().filter(|delivery| delivery.state == state).count(), count, "{state:?}");
        }
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 30);
    }

    async fn a_refusal_after_an_unknown_outcome_is_no_failure(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Email).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::NoList).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, refusal(FailureReason::Blocked)).await;
        let closed = delivery(t, &scope, first.id).await;
        assert_eq!((closed.state, closed.failure, closed.next_action_time), (DeliveryState::Unconfirmed, None, None));
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn the_health_of_a_channel_follows_the_answers(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        assert!(t.store.channel_health(&scope).await.unwrap().is_empty());
        let start = t.now();
        let mut next = 0;
        let mut answer = async |verdict: Verdict| {
            next += 1;
            let claimed = claimed(t, &scope, &format!("r{next}"), Channel::Sms).await;
            settle(t, &claimed, verdict).await;
            let health = t.store.channel_health(&scope).await.unwrap();
            assert_eq!((health.len(), health[0].channel), (1, Channel::Sms));
            (health[0].last_success_time, health[0].failing.clone())
        };
        assert_eq!(answer(accepted("SM1")).await, (Some(start), None));
        t.advance(30);
        // Noted once a minute.
        assert_eq!(answer(accepted("SM2")).await, (Some(start), None));
        let code = || Some("21610".to_owned());
        assert_eq!(answer(refusal(FailureReason::ProviderConfig)).await, (Some(start), code()));
        // An answer about the recipient says nothing about the account.
        assert_eq!(answer(refusal(FailureReason::Blocked)).await, (Some(start), code()));
        assert_eq!(answer(accepted("SM3")).await, (Some(t.now()), None));
        t.advance(61);
        assert_eq!(answer(accepted("SM4")).await, (Some(t.now()), None));
    }
}
