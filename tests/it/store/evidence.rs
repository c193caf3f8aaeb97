//! Evidence from every side: the same end in every order, repeats that write nothing, duplicates that are proved, and ids
//! that a look gave to the wrong attempt.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use heedwell::{
    domain::{
        Author, Channel, DeliveryEvent, DeliveryId, DeliveryState, Facts, FailureReason, Look, Scope, Source, Verdict,
    },
    store::{Applied, Claimed, Counts, Receipt},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    given::{
        NORTH, accepted, changes, claim, claim_one, claimed, delivery, doubted_again, look_twice, ready_practice,
        receipt as report_of, settle, unknown,
    },
    *,
};
use crate::support::Backend;

/// What Twilio says, with its code.
fn receipt(claimed: &Claimed, sid: &str, status: &str, code: &str) -> Receipt {
    let facts = match status {
        "accepted" => Facts::ACCEPTED,
        "queued" => Facts::QUEUED,
        "sending" | "sent" => Facts::SENT_TO_CARRIER,
        "delivered" => Facts::DELIVERED,
        "read" => Facts::READ.and(Facts::DELIVERED),
        "undelivered" | "failed" => Facts::UNDELIVERED,
        other => panic!("no such status: {other}"),
    };
    let failure = facts.any(Facts::UNDELIVERED).then_some(match code {
        "30005" => FailureReason::InvalidAddress,
        "30003" => FailureReason::Unreachable,
        "30007" => FailureReason::Blocked,
        _ => FailureReason::Other,
    });
    Receipt { token: claimed.token, provider_ref: sid.into(), facts, status: status.into(), code: code.into(), failure }
}

async fn apply(t: &TestStore, scope: &Scope, receipt: Receipt) -> Applied {
    let scope = t.engine.scope(scope.practice().clone(), Author::provider("twilio"));
    t.store.receipt_apply(&scope, receipt).await.unwrap()
}

/// The timeline of a delivery.
async fn timeline(t: &TestStore, scope: &Scope, id: DeliveryId) -> Vec<DeliveryEvent> {
    let Source::Notification(notification) = delivery(t, scope, id).await.source else { panic!("no notification") };
    t.store.notification_detail(scope, notification, false).await.unwrap().details.remove(0).0
}

async fn lines(t: &TestStore, scope: &Scope, id: DeliveryId) -> usize {
    timeline(t, scope, id).await.len()
}

/// What the rows of a delivery and its attempts say, without when and after how many steps.
async fn rows(t: &TestStore, id: DeliveryId) -> Vec<String> {
    let all = t
        .rows(
            "SELECT d.id, d.facts, d.state, d.flags, d.phase, d.attempts, d.provider_ref, d.failure_reason, \
             d.failure_code, d.poll_at IS NULL, a.n, a.verdict, a.facts, a.provider_ref, a.code \
             FROM delivery d JOIN attempt a ON a.delivery_id = d.id ORDER BY a.n",
        )
        .await;
    let number = |row: &sea_orm::QueryResult, column| -> String {
        let (long, short): (Result<i32, _>, Result<Option<i16>, _>) =
            (row.try_get_by_index(column), row.try_get_by_index(column));
        long.map_or_else(|_| format!("{:?}", short.unwrap()), |number| number.to_string())
    };
    let text = |row: &sea_orm::QueryResult, column| row.try_get_by_index::<String>(column).unwrap();
    all.iter()
        .filter(|row| row.try_get_by_index::<uuid::Uuid>(0).unwrap() == id.0)
        .map(|row| {
            let numbers: Vec<_> = [1, 2, 3, 4, 5, 7, 10, 11, 12].map(|column| number(row, column)).to_vec();
            let texts: Vec<_> = [6, 8, 13, 14].map(|column| text(row, column)).to_vec();
            let asked_no_more: bool = row.try_get_by_index(9).unwrap();
            format!("{numbers:?} {texts:?} {asked_no_more}")
        })
        .collect()
}

/// A position in the order in which states may follow each other.
fn rank(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Unconfirmed => 1,
        DeliveryState::Sent => 2,
        DeliveryState::Failed => 3,
        DeliveryState::Delivered => 4,
        other => panic!("{other:?}"),
    }
}

/// What may come in about one attempt: reports, and how the call itself ended.
#[derive(Clone, Debug)]
enum News {
    Report(&'static str, &'static str),
    End(Verdict),
}

async fn hear(t: &TestStore, scope: &Scope, claimed: &Claimed, news: &News) {
    match news {
        News::Report(status, code) => {
            let applied = apply(t, scope, receipt(claimed, "SM", status, code)).await;
            assert_ne!(applied, Applied::UnknownToken);
        }
        News::End(verdict) => settle(t, claimed, verdict.clone()).await,
    }
}

on_both! {
    async fn reports_in_any_order_and_number_end_in_the_same_rows(t: &TestStore) {
        let reports = [
            ("queued", ""), ("sending", ""), ("sent", ""), ("delivered", ""), ("undelivered", "30003"),
            ("failed", "30999"), ("undelivered", "30007"), ("failed", ""), ("read", ""),
        ];
        let (sets, orders) = if t.home.backend == Backend::Sqlite { (40, 8) } else { (8, 5) };
        let scope = ready_practice(t, NORTH).await;
        let mut random = StdRng::seed_from_u64(0x5eed);
        let mut ends = BTreeSet::new();
        for set in 0..sets {
            let chosen: Vec<_> = reports.iter().filter(|_| random.random_range(0..100) < 45).collect();
            let end = if random.random_range(0..2) == 0 { accepted("SM") } else { unknown() };
            // Without a report an unknown end stays in doubt, which is no end.
            let end = if chosen.is_empty() { accepted("SM") } else { end };
            let mut expected: Option<(Vec<String>, Option<_>)> = None;
            for order in 0..orders {
                let mut news: Vec<_> = chosen.iter().map(|(status, code)| News::Report(status, code)).collect();
                news.push(News::End(end.clone()));
                for _ in 0..random.random_range(0..12) {
                    news.push(news[random.random_range(0..news.len())].clone());
                }
                for n in (1..news.len()).rev() {
                    news.swap(n, random.random_range(0..=n));
                }
                let claimed = claimed(t, &scope, &format!("r{set}-{order}"), Channel::Sms).await;
                let start = t.store.feed_head(&scope).await.unwrap();
                let mut known = lines(t, &scope, claimed.id).await;
                for one in &news {
                    hear(t, &scope, &claimed, one).await;
                    let now = lines(t, &scope, claimed.id).await;
                    assert!(now <= known + 1, "{one:?}");
                    known = now;
                }
                // A line for each thing that came in, and none for its repeats.
                let different: BTreeSet<_> = news.iter().map(|one| format!("{one:?}")).collect();
                assert_eq!(known, 2 + different.len(), "{news:?}");
                let shown = changes(t, &scope, start).await;
                assert!(shown.is_sorted_by_key(|delivery| rank(delivery.state)), "{news:?}");
                let failure = delivery(t, &scope, claimed.id).await.failure.map(|it| (it.reason, it.provider_code));
                let end = (rows(t, claimed.id).await, failure);
                let same = expected.get_or_insert_with(|| end.clone());
                assert_eq!(*same, end, "{news:?}");
                // Frees the id for the next one, as if it were another's.
                t.execute("UPDATE attempt SET provider_ref = '' WHERE provider_ref = 'SM'").await;
            }
            ends.insert(format!("{expected:?}"));
        }
        assert!(ends.len() > sets / 4, "the sets differ");
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn what_adds_no_fact_is_on_record_all_the_same_and_once(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        for (status, code) in [("sent", ""), ("undelivered", "30003")] {
            apply(t, &scope, receipt(&claimed, "SM1", status, code)).await;
        }
        let (before, head) = (delivery(t, &scope, claimed.id).await, t.store.feed_head(&scope).await.unwrap());
        let known = lines(t, &scope, claimed.id).await;
        t.advance(5);
        for (n, (status, code)) in [("sending", ""), ("failed", "30003"), ("undelivered", "30008")].into_iter().enumerate() {
            assert_eq!(apply(t, &scope, receipt(&claimed, "SM1", status, code)).await, Applied::New);
            assert_eq!(apply(t, &scope, receipt(&claimed, "SM1", status, code)).await, Applied::Repeat);
            assert_eq!(lines(t, &scope, claimed.id).await, known + n + 1);
        }
        // No difference is shown: neither a change nor a revision.
        assert_eq!(delivery(t, &scope, claimed.id).await, before);
        assert_eq!(t.store.feed_head(&scope).await.unwrap(), head);
    }

    async fn the_explanation_that_tells_most_is_kept(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let codes = ["", "30003", "30007", "30999"];
        for (n, order) in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]].into_iter().enumerate() {
            let claimed = claimed(t, &scope, &format!("r{n}"), Channel::Sms).await;
            settle(t, &claimed, accepted(&format!("SM{n}"))).await;
            let failed_at = t.now();
            for code in order {
                apply(t, &scope, receipt(&claimed, &format!("SM{n}"), "undelivered", codes[code])).await;
                t.advance(1);
            }
            let failure = delivery(t, &scope, claimed.id).await.failure.unwrap();
            assert_eq!((failure.reason, failure.provider_code.as_str()), (FailureReason::Unreachable, "30003"));
            assert_eq!(failure.fail_time, failed_at, "when it became known that it failed");
        }
    }

    async fn a_late_answer_is_on_record_once_and_changes_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let lost = claimed(t, &scope, "r1", Channel::Sms).await;
        t.advance(61);
        t.store.rescue(&t.engine, false).await.unwrap();
        let (before, known) = (delivery(t, &scope, lost.id).await, lines(t, &scope, lost.id).await);
        let busy = Verdict::NotTaken { retry_after: None, code: "503".into() };
        for _ in 0..2 {
            settle(t, &lost, busy.clone()).await;
            assert_eq!(lines(t, &scope, lost.id).await, known + 1);
        }
        assert_eq!(delivery(t, &scope, lost.id).await, before);
        let line = timeline(t, &scope, lost.id).await.pop().unwrap();
        assert_eq!((line.attempt, line.provider_code.as_str()), (1, "503"));
    }

    async fn a_duplicate_is_proved_once_and_named(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let first = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &first, unknown()).await;
        look_twice(t, &Look::Absent).await;
        let second = claim_one(t, &scope).await;
        settle(t, &second, accepted("SM2")).await;
        assert_eq!(t.store.counts(), Counts::default());
        for status in ["sent", "delivered", "sent"] {
            apply(t, &scope, receipt(&first, "SM1", status, "")).await;
        }
        let twice = delivery(t, &scope, first.id).await;
        assert!(twice.possible_duplicate);
        assert_eq!(twice.provider_message_id, "SM2", "that of the latest attempt");
        assert_eq!(t.store.counts(), Counts { duplicates_proven: 1, ..Counts::default() });
        let told = timeline(t, &scope, first.id).await;
        let told = told.iter().filter(|line| line.detail.starts_with("Two attempts reached the provider")).count();
        assert_eq!(told, 1);
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 4 AND n = 1").await, 1);
    }

    async fn whether_it_is_a_duplicate_depends_on_how_the_resend_ends(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let busy = Verdict::NotTaken { retry_after: None, code: "503".into() };
        let mut proven = 0;
        for (n, (end, duplicate, proof)) in
            [(busy, false, 0), (unknown(), true, 0), (accepted("SM-second"), true, 1)].into_iter().enumerate()
        {
            for late in [false, true] {
                let first = claimed(t, &scope, &format!("r{n}-{late}"), Channel::Sms).await;
                settle(t, &first, unknown()).await;
                look_twice(t, &Look::Absent).await;
                let second = claim_one(t, &scope).await;
                let report = receipt(&first, &format!("SM{n}-{late}"), "delivered", "");
                if late {
                    settle(t, &second, end.clone()).await;
                    apply(t, &scope, report).await;
                } else {
                    apply(t, &scope, report).await;
                    assert!(!delivery(t, &scope, first.id).await.possible_duplicate, "the resend is under way");
                    settle(t, &second, end.clone()).await;
                }
                let end = delivery(t, &scope, first.id).await;
                assert_eq!((end.state, end.possible_duplicate), (DeliveryState::Delivered, duplicate), "{n} {late}");
                assert_eq!(end.next_action_time, None);
                proven += proof;
                assert_eq!(t.store.counts().duplicates_proven, proven);
                t.execute("UPDATE attempt SET provider_ref = '' WHERE provider_ref = 'SM-second'").await;
            }
        }
        assert!(claim(t, &scope, 10).await.is_empty());
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
    }

    async fn two_messages_of_one_attempt_are_named(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let claimed = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &claimed, accepted("SM1")).await;
        apply(t, &scope, receipt(&claimed, "SM1", "sent", "")).await;
        let known = lines(t, &scope, claimed.id).await;
        assert_eq!(apply(t, &scope, receipt(&claimed, "SM2", "sent", "")).await, Applied::New);
        assert_eq!(apply(t, &scope, receipt(&claimed, "SM2", "sent", "")).await, Applied::Repeat);
        let twice = delivery(t, &scope, claimed.id).await;
        assert_eq!((twice.provider_message_id.as_str(), twice.possible_duplicate), ("SM1", true));
        assert_eq!(lines(t, &scope, claimed.id).await, known + 1);
        assert_eq!(t.store.counts().evidence_contradicts, 1);
    }

    async fn a_provider_that_contradicts_itself_is_counted(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let refused = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &refused, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }).await;
        apply(t, &scope, receipt(&refused, "SM1", "delivered", "")).await;
        assert_eq!(t.store.counts().evidence_contradicts, 1);
        // Its answer contradicts what its report said before.
        let reported = claimed(t, &scope, "r2", Channel::Sms).await;
        apply(t, &scope, receipt(&reported, "SM2", "sent", "")).await;
        settle(t, &reported, Verdict::Refused { reason: FailureReason::Blocked, code: "30004".into() }).await;
        assert_eq!(delivery(t, &scope, reported.id).await.state, DeliveryState::Sent);
        assert_eq!(t.store.counts().evidence_contradicts, 2);
        // Two last words about one message.
        for status in ["delivered", "undelivered", "undelivered"] {
            apply(t, &scope, receipt(&reported, "SM2", status, "")).await;
        }
        assert_eq!(delivery(t, &scope, reported.id).await.state, DeliveryState::Delivered);
        assert_eq!(t.store.counts().evidence_contradicts, 3);
        // A mail that was delivered, and came back.
        let mail = claimed(t, &scope, "r3", Channel::Email).await;
        settle(t, &mail, accepted("")).await;
        for (facts, code) in [(Facts::DELIVERED, ""), (Facts::BOUNCED, "5.1.1"), (Facts::BOUNCED, "5.2.1")] {
            let failure = facts.any(Facts::BOUNCED).then_some(FailureReason::Blocked);
            apply(t, &scope, Receipt { failure, code: code.into(), ..report_of(&mail, facts) }).await;
        }
        assert_eq!(delivery(t, &scope, mail.id).await.state, DeliveryState::Failed);
        assert_eq!(t.store.counts().evidence_contradicts, 4);
    }

    async fn reports_without_end_fill_no_timeline_and_the_last_word_counts_all_the_same(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let mail = claimed(t, &scope, "r1", Channel::Email).await;
        settle(t, &mail, accepted("")).await;
        let before = lines(t, &scope, mail.id).await;
        let report = |facts, status: &str, code: String, failure| Receipt {
            token: mail.token, provider_ref: String::new(), facts, status: status.into(), code, failure,
        };
        let delayed = |n: i32| report(Facts::DEFERRED, "delayed", format!("450 4.4.{n}"), None);
        for n in 0..60 {
            let expected = if n < 24 { Applied::New } else { Applied::Repeat };
            assert_eq!(apply(t, &scope, delayed(n)).await, expected, "{n}");
        }
        let told = timeline(t, &scope, mail.id).await;
        assert_eq!(told.len(), before + 24);
        assert_eq!(told.iter().filter(|line| line.detail.contains("not told from here on")).count(), 1);
        let last = told.last().unwrap();
        assert_eq!((last.provider_code.as_str(), last.detail.contains("not told")), ("450 4.4.23", true));

        // What tells something new is told: that it did not arrive, and a reason that counts for more.
        let failed = |code: &str, reason| report(Facts::BOUNCED, "failed", code.into(), Some(reason));
        assert_eq!(apply(t, &scope, failed("5.4.1", FailureReason::Unreachable)).await, Applied::New);
        assert_eq!(delivery(t, &scope, mail.id).await.state, DeliveryState::Failed);
        for n in 2..60 {
            assert_eq!(apply(t, &scope, failed(&format!("5.4.{n}"), FailureReason::Unreachable)).await, Applied::Repeat);
        }
        assert_eq!(apply(t, &scope, failed("5.7.1", FailureReason::Blocked)).await, Applied::Repeat, "counts for less");
        assert_eq!(apply(t, &scope, failed("5.1.1", FailureReason::InvalidAddress)).await, Applied::New);
        assert_eq!(apply(t, &scope, failed("5.1.2", FailureReason::InvalidAddress)).await, Applied::Repeat);
        assert_eq!(apply(t, &scope, failed("unsubscribed", FailureReason::OptedOutAtProvider)).await, Applied::New);
        let end = delivery(t, &scope, mail.id).await;
        assert_eq!(end.failure.unwrap().reason, FailureReason::InvalidAddress);
        assert_eq!(lines(t, &scope, mail.id).await, before + 24 + 3);
        assert_eq!(t.number("SELECT count(*) FROM consent_ledger").await, 1);

        // Each attempt has its own, and so has whatever comes in one transaction.
        let other = claimed(t, &scope, "r2", Channel::Sms).await;
        settle(t, &other, accepted("SM2")).await;
        let before = lines(t, &scope, other.id).await;
        let all = (0..60).map(|n| Receipt { code: format!("{n}"), ..receipt(&other, "SM2", "sent", "") });
        futures::future::join_all(all.map(|receipt| apply(t, &scope, receipt))).await;
        assert_eq!(lines(t, &scope, other.id).await, before + 24);
    }

    async fn proof_takes_an_id_from_whoever_has_it_by_a_look_alone(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        // By an answer and by a report, from an older and from a younger delivery: both are locked in the order of their ids.
        for (n, (answer, first_is_wrong)) in
            [(true, true), (true, false), (false, true), (false, false)].into_iter().enumerate()
        {
            let sid = format!("SM{n}");
            let one = claimed(t, &scope, &format!("a{n}"), Channel::Sms).await;
            let two = claimed(t, &scope, &format!("b{n}"), Channel::Sms).await;
            let (wrong, right) = if first_is_wrong { (one, two) } else { (two, one) };
            settle(t, &wrong, unknown()).await;
            t.advance(20);
            let doubt = t.store.doubts_due(&t.engine, 10).await.unwrap().remove(0);
            let found = Look::Found {
                provider_ref: sid.clone(),
                status: "sent".into(),
                code: String::new(),
                failure: None,
            };
            t.store.doubt_settle(&t.engine, &doubt, found, Facts::SENT_TO_CARRIER, 0.0).await.unwrap();
            assert_eq!(delivery(t, &scope, wrong.id).await.provider_message_id, sid);

            if answer {
                settle(t, &right, accepted(&sid)).await;
            } else {
                apply(t, &scope, receipt(&right, &sid, "sent", "")).await;
                settle(t, &right, unknown()).await;
            }
            let proved = delivery(t, &scope, right.id).await;
            assert_eq!((proved.state, proved.provider_message_id.as_str()), (DeliveryState::Sent, sid.as_str()));
            let loser = delivery(t, &scope, wrong.id).await;
            // What was shown cannot be taken back; it is named, and its own report still finds it.
            assert_eq!((loser.state, loser.provider_message_id.as_str()), (DeliveryState::Sent, ""));
            let line = timeline(t, &scope, wrong.id).await.pop().unwrap();
            assert!(line.detail.starts_with("The message found for it was another attempt's"), "{}", line.detail);
            assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict = 3 AND provider_ref = ''").await, 1);
            apply(t, &scope, receipt(&wrong, &format!("{sid}-own"), "delivered", "")).await;
            let own = delivery(t, &scope, wrong.id).await;
            assert_eq!((own.state, own.provider_message_id), (DeliveryState::Delivered, format!("{sid}-own")));
            // Nobody takes from whoever has proof.
            apply(t, &scope, receipt(&wrong, &sid, "read", "")).await;
            assert_eq!(delivery(t, &scope, right.id).await.provider_message_id, sid);
        }
        assert_eq!(t.store.open_deliveries(&t.engine).await.unwrap(), 0);
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE verdict IS NULL").await, 0);
    }

    async fn an_id_that_passes_between_attempts_of_one_delivery_contradicts_nothing(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let (first, doubt) = doubted_again(t, &scope).await;
        let found = Look::Found { provider_ref: "SM1".into(), status: "sent".into(), code: String::new(), failure: None };
        t.store.doubt_settle(&t.engine, &doubt, found, Facts::SENT_TO_CARRIER, 0.0).await.unwrap();
        let seen = delivery(t, &scope, first.id).await;
        assert_eq!((seen.state, seen.provider_message_id.as_str()), (DeliveryState::Sent, "SM1"));
        assert!(!seen.possible_duplicate, "the list had one message of the two attempts");

        apply(t, &scope, receipt(&first, "SM1", "delivered", "")).await;
        let told = delivery(t, &scope, first.id).await;
        assert_eq!((told.state, told.provider_message_id.as_str()), (DeliveryState::Delivered, "SM1"));
        assert!(told.possible_duplicate, "what the second attempt made was seen by nobody");
        assert_eq!(t.number("SELECT count(*) FROM attempt WHERE provider_ref = 'SM1' AND n = 1").await, 1);
        let counts = t.store.counts();
        assert_eq!((counts.evidence_contradicts, counts.duplicates_proven), (0, 0));
    }

    async fn what_a_look_found_and_another_got_meanwhile_is_left_to_that_one(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let doubtful = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &doubtful, unknown()).await;
        let other = claimed(t, &scope, "r2", Channel::Sms).await;
        t.advance(20);
        let doubt = t.store.doubts_due(&t.engine, 10).await.unwrap().remove(0);
        settle(t, &other, accepted("SM1")).await;
        let found = Look::Found { provider_ref: "SM1".into(), status: "sent".into(), code: String::new(), failure: None };
        t.store.doubt_settle(&t.engine, &doubt, found, Facts::SENT_TO_CARRIER, 0.0).await.unwrap();
        let still = delivery(t, &scope, doubtful.id).await;
        assert_eq!((still.state, still.provider_message_id.as_str()), (DeliveryState::Unconfirmed, ""));
        assert_eq!(still.next_action_time, Some(t.now() + TimeDelta::seconds(100)));
        assert_eq!(delivery(t, &scope, other.id).await.provider_message_id, "SM1");
    }

    async fn the_token_of_an_attempt_that_was_never_begun_is_not_that_of_the_next(t: &TestStore) {
        let scope = ready_practice(t, NORTH).await;
        let given_back = claimed(t, &scope, "r1", Channel::Sms).await;
        settle(t, &given_back, Verdict::NotStarted).await;
        let begun = claim_one(t, &scope).await;
        assert_eq!((begun.attempt, given_back.attempt), (1, 1));
        assert_eq!(apply(t, &scope, receipt(&given_back, "SM1", "sent", "")).await, Applied::UnknownToken);
        assert_eq!(delivery(t, &scope, begun.id).await.state, DeliveryState::Pending);
    }
}
