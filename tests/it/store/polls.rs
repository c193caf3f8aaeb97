//! Messages of which the provider has not said more: when they are asked about, by whom, and what the answer does.

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use heedwell::{
    domain::{Channel, DeliveryState, Facts, FailureReason, Look, PracticeSettings, SkipReason},
    store::{Answer, Applied, Claimed, Poll, Receipt},
};

use super::{
    given::{NORTH, Order, accepted, claimed, delivery, look_twice, ready_practice, settings, settle, unknown},
    *,
};

async fn one_poll(t: &TestStore) -> Poll {
    let mut polls = t.store.polls_due(&t.engine, 10).await.unwrap();
    assert_eq!(polls.len(), 1);
    polls.remove(0)
}

async fn poll_at(t: &TestStore) -> Option<DateTime<Utc>> {
    t.rows("SELECT poll_at FROM delivery").await[0].try_get_by_index(0).unwrap()
}

fn answer(facts: Facts, status: &str) -> Answer {
    Answer { facts, status: status.into(), code: String::new(), failure: None }
}

fn report(claimed: &Claimed, facts: Facts, status: &str) -> Receipt {
    Receipt {
        token: claimed.token,
        provider_ref: "SM1".into(),
        facts,
        status: status.into(),
        code: String::new(),
        failure: None,
    }
}

on_both! {
    async fn a_silent_message_is_asked_about_five_times_and_then_no_more(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        let (sent, before) = (t.now(), delivery(t, &scope, claimed.id).await);
        for minutes in [30, 60, 240, 1_440, 4_320] {
            let due = sent + TimeDelta::minutes(minutes);
            assert_eq!(poll_at(t).await, Some(due));
            t.advance(u64::try_from((due - t.now()).num_seconds() - 1).unwrap());
            assert!(t.store.polls_due(&t.engine, 10).await.unwrap().is_empty());
            t.advance(1);
            let poll = one_poll(t).await;
            assert_eq!((poll.id, poll.attempt, poll.provider_ref.as_str()), (claimed.id, 1, "SM1"));
            assert!(poll.account.is_some());
            // Taken: not again before its next time, and nothing is shown of it.
            assert!(t.store.polls_due(&t.engine, 10).await.unwrap().is_empty());
        }
        assert_eq!(poll_at(t).await, None);
        t.advance(30 * 24 * 3_600);
        assert!(t.store.polls_due(&t.engine, 10).await.unwrap().is_empty());
        assert_eq!(delivery(t, &scope, claimed.id).await, before);
    }

    async fn replicas_do_not_ask_twice(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        for n in 0..20 {
            let claimed = claimed(t, &scope, &format!("r{n}"), Channel::Sms).await;
            settle(t, &claimed, accepted(&format!("SM{n}"))).await;
        }
        t.advance(31 * 60);
        let taken = join_all((0..4).map(|_| t.store.polls_due(&t.engine, 7))).await;
        let mut ids: Vec<_> = taken.into_iter().flat_map(|polls| polls.unwrap()).map(|poll| poll.id).collect();
        ids.extend(t.store.polls_due(&t.engine, 20).await.unwrap().into_iter().map(|poll| poll.id));
        assert_eq!(ids.len(), 20);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    }

    async fn the_answer_is_evidence_like_any_other(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        t.advance(31 * 60);
        let poll = one_poll(t).await;
        let head = t.store.feed_head(&scope).await.unwrap();
        // Nothing new, but for a line; and then not even that.
        for _ in 0..2 {
            t.store.poll_settle(&t.engine, &poll, answer(Facts::SENT_TO_CARRIER, "sent")).await.unwrap();
            assert_eq!(t.number("SELECT count(*) FROM delivery_event").await, 4);
        }
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
        t.store.poll_settle(&t.engine, &poll, answer(Facts::DELIVERED, "delivered")).await.unwrap();
        let delivered = delivery(t, &scope, claimed.id).await;
        assert_eq!((delivered.state, delivered.deliver_time), (DeliveryState::Delivered, Some(t.now())));
        assert_eq!(poll_at(t).await, None);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head + 1);
        // The report itself, should it come after all, tells nothing new.
        let late = t.store.receipt_apply(&scope, report(&claimed, Facts::DELIVERED, "delivered")).await.unwrap();
        assert_eq!(late, Applied::Repeat);
        assert_eq!(delivery(t, &scope, claimed.id).await, delivered);
    }

    async fn an_answer_that_it_failed_explains_and_closes_the_address(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        t.advance(31 * 60);
        let failed = Answer {
            code: "30005".into(),
            failure: Some(FailureReason::InvalidAddress),
            ..answer(Facts::UNDELIVERED, "undelivered")
        };
        t.store.poll_settle(&t.engine, &one_poll(t).await, failed).await.unwrap();
        let failure = delivery(t, &scope, claimed.id).await.failure.unwrap();
        assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::InvalidAddress, "30005"));
        let next = Order::new("r2", &[Channel::Sms]).accept(t, &scope).await;
        assert_eq!(next.deliveries[0].skip_reason, Some(SkipReason::AddressSuppressed));
    }

    async fn whoever_was_proved_late_is_asked_about_as_well(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, unknown()).await;
        look_twice(t, &Look::Several).await;
        assert_eq!((delivery(t, &scope, claimed.id).await.state, poll_at(t).await), (DeliveryState::Unconfirmed, None));
        t.store.receipt_apply(&scope, report(&claimed, Facts::SENT_TO_CARRIER, "sent")).await.unwrap();
        assert_eq!(delivery(t, &scope, claimed.id).await.state, DeliveryState::Sent);
        assert_eq!(poll_at(t).await, Some(t.now() + TimeDelta::minutes(30)));
        // Another report before that does not put it off.
        t.advance(60);
        t.store.receipt_apply(&scope, report(&claimed, Facts::QUEUED, "queued")).await.unwrap();
        assert_eq!(poll_at(t).await, Some(t.now() + TimeDelta::minutes(29)));
    }

    async fn an_account_that_is_not_the_senders_is_not_asked(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        let mut other = settings();
        other.sms.account_sid = "AC00000000000000000000000000000002".into();
        t.store.settings_put(&scope, other, 1).await.unwrap();
        t.advance(31 * 60);
        assert!(one_poll(t).await.account.is_none());
        t.store.settings_put(&scope, PracticeSettings { sms: Default::default(), ..settings() }, 2).await.unwrap();
        t.advance(31 * 60);
        assert!(one_poll(t).await.account.is_none());
    }

    async fn what_was_missed_is_not_made_up_for(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        let sent = t.now();
        t.advance(5 * 3_600);
        one_poll(t).await;
        assert_eq!(poll_at(t).await, Some(sent + TimeDelta::hours(24)));
    }
}
