//! One practice with far more to send than the others, or with a provider that fails, costs the others nothing. What is
//! checked is who comes before whom, and how often a provider is called.

use std::time::Duration;

use chrono::TimeDelta;
use futures::FutureExt;
use heedwell::{
    domain::Role,
    grpc::proto::{
        BatchSendNotificationsRequest, Channel, Delivery, DeliveryFilter, NotificationInput, PutPracticeRequest,
        SendNotificationRequest, UpdatePracticeSettingsRequest, batch_send_notifications_request::BatchItem,
        email_settings::Provider, notification_input::Priority,
    },
    sandbox::Entry,
};
use sea_orm::{ConnectionTrait, Statement, Value};
use tokio::{net::TcpListener, time::timeout};

use super::{
    given::{
        AUTH_TOKEN, all_settings, home, mask, new_key, patient, practice, put_patient, reminder, request, send,
        send_over, somebody_with_mailbox, token,
    },
    seen::{list, mails, state, texts, until_state},
};
use crate::support::app::{ACME, LIMIT, TestApp, on_a_server};

const HOG: &str = "hog";
const HOG_PHONE: &str = "+12025550171";
const HOG_ACCOUNT: &str = "AC000000000000000000000000000000ff";
/// How many deliveries of others may leave between an accept and its call: those that had their slots already, and those
/// whose claim was under way.
const AHEAD: usize = 256;
/// Connections that a relay gets from one practice.
const CONNECTIONS: usize = 32;
/// Calls to one account of Twilio that are under way at once, at most.
const CALLS: usize = 64;

/// A practice with an account of its own, and a patient.
async fn furnish(t: &TestApp, id: &str, account: &str, phone: &str) {
    let request = PutPracticeRequest { practice_id: id.into(), practice: Some(home()) };
    t.caller_with(&token(t, Role::Operator, id)).directory.put_practice(request).await.unwrap();
    put_patient(t, id, patient("pat", "pat@example.com", phone)).await;
    let mut settings = all_settings(t);
    settings.sms.as_mut().unwrap().account_sid = account.into();
    let request = UpdatePracticeSettingsRequest {
        practice_id: id.into(),
        settings: Some(settings),
        update_mask: Some(mask(&["sms", "email", "kind_channels", "link_hosts"])),
    };
    t.caller_with(&token(t, Role::PracticeAdmin, id)).preferences.update_practice_settings(request).await.unwrap();
}

/// The hog's backlog, all of it due at the same moment, which is now.
async fn hog(t: &TestApp, backlog: usize) {
    furnish(t, HOG, HOG_ACCOUNT, HOG_PHONE).await;
    let schedule_time = Some(t.after(TimeDelta::hours(1)));
    let mut notify = t.caller_with(&token(t, Role::Sender, HOG)).notify;
    for _ in 0..backlog / 500 {
        let item = || BatchItem {
            request_id: new_key(),
            notification: Some(NotificationInput { schedule_time, ..reminder(t, "pat", &[Channel::Sms]) }),
        };
        let request = BatchSendNotificationsRequest {
            practice_id: HOG.into(),
            items: std::iter::repeat_with(item).take(500).collect(),
        };
        notify.batch_send_notifications(request).await.unwrap();
    }
    t.advance(TimeDelta::hours(1));
}

/// The quiet practices, each with a phone of its own.
async fn quiet(t: &TestApp) -> Vec<(String, String)> {
    let practices: Vec<_> = (0..5).map(|n| (format!("quiet-{n}"), format!("+1202555018{n}"))).collect();
    for (n, (id, phone)) in practices.iter().enumerate() {
        furnish(t, id, &format!("AC0000000000000000000000000000001{n}"), phone).await;
    }
    practices
}

async fn text(t: &TestApp, practice: &str, priority: Priority) {
    let request = SendNotificationRequest {
        practice_id: practice.into(),
        request_id: new_key(),
        notification: Some(NotificationInput { priority: priority.into(), ..reminder(t, "pat", &[Channel::Sms]) }),
    };
    t.caller_with(&token(t, Role::Sender, practice)).notify.send_notification(request).await.unwrap();
}

/// Waits for something that only the stand-ins or the database tell. It may take long on a busy machine: whole backlogs are put
/// aside, a few deliveries a transaction.
pub(super) async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let met = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while !condition().await {
            tick.tick().await;
        }
    };
    tokio::time::timeout(4 * LIMIT, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

pub(super) async fn count(t: &TestApp, query: &str, values: Vec<Value>) -> i64 {
    let raw = t.home.raw().await;
    let statement = Statement::from_sql_and_values(raw.get_database_backend(), query, values);
    let row = raw.query_one_raw(statement).await.unwrap().unwrap();
    raw.close().await.unwrap();
    row.try_get_by_index(0).unwrap()
}

/// Waits until nothing is due, and nothing under way.
async fn quiescence(t: &TestApp) {
    let query = "SELECT count(*) FROM delivery WHERE phase = 1 OR \
                 (phase = 0 AND not_before <= $1 AND (parked_until IS NULL OR parked_until <= $1))";
    wait_for("nothing is due", async || count(t, query, vec![t.now().into()]).await == 0).await;
}

/// Texts that Twilio took for an account so far.
fn taken(t: &TestApp, account: &str) -> usize {
    let of = |entry: &Entry| matches!(entry, Entry::TwilioCreate { account: its, .. } if its == account);
    t.sandbox.journal().entries().iter().filter(|entry| of(entry)).count()
}

/// Calls for an account that Twilio refused so far.
fn refused(t: &TestApp, account: &str) -> usize {
    let of = |entry: &Entry| matches!(entry, Entry::TwilioRefused { account: its, .. } if its == account);
    t.sandbox.journal().entries().iter().filter(|entry| of(entry)).count()
}

/// How many of the hog's texts Twilio took before that one.
fn taken_before(t: &TestApp, phone: &str, nth: usize) -> usize {
    let (mut hogs, mut seen) = (0, 0);
    for entry in t.sandbox.journal().entries() {
        match entry {
            Entry::TwilioCreate { to, .. } if to == phone => {
                if seen == nth {
                    return hogs;
                }
                seen += 1;
            }
            Entry::TwilioCreate { account, .. } if account == HOG_ACCOUNT => hogs += 1,
            _ => {}
        }
    }
    panic!("it was not taken");
}

on_a_server! {
    async fn a_relay_gets_no_more_connections_than_it_can_take(t: &mut TestApp) {
        practice(t).await;
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = all_settings(t);
        let Some(Provider::Smtp(smtp)) = settings.email.as_mut().unwrap().provider.as_mut() else { unreachable!() };
        smtp.port = relay.local_addr().unwrap().port().into();
        let request = UpdatePracticeSettingsRequest {
            practice_id: ACME.into(),
            settings: Some(settings),
            update_mask: Some(mask(&["email"])),
        };
        t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
        somebody_with_mailbox(t, "lee", "lee@example.com").await;
        for _ in 0..CONNECTIONS + 8 {
            send_over(t, "lee", Channel::Email).await;
        }
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(timeout(LIMIT, relay.accept()).await.expect("a connection for each").unwrap());
        }
        let claimed = "SELECT count(*) FROM delivery WHERE phase = 1";
        wait_for("the others are claimed", async || count(t, claimed, vec![]).await == CONNECTIONS as i64 + 8).await;
        assert!(relay.accept().now_or_never().is_none(), "one more than it can take");
        // The next one comes when one is gone.
        drop(open.pop());
        timeout(LIMIT, relay.accept()).await.expect("its turn").unwrap();
    }

    async fn quiet_practices_do_not_wait_for_a_backlog_of_another(t: &mut TestApp) {
        let quiet = quiet(t).await;
        hog(t, 2_000).await;
        wait_for("the hog is at it", async || taken(t, HOG_ACCOUNT) > 0).await;
        for (nth, priority) in [Priority::Urgent, Priority::Normal].into_iter().enumerate() {
            for (id, phone) in &quiet {
                text(t, id, priority).await;
                let before = taken(t, HOG_ACCOUNT);
                wait_for("it is taken", async || texts(t, phone).len() > nth).await;
                let between = taken_before(t, phone, nth) - before.min(taken_before(t, phone, nth));
                assert!(between <= AHEAD, "{between} of the hog's went before");
            }
        }
        let last = taken_before(t, &quiet[4].1, 1);
        assert!(last < 2_000, "the hog had nothing left to be overtaken");
    }

    async fn an_account_that_fails_stops_itself_and_costs_few_calls(t: &mut TestApp) {
        let quiet = quiet(t).await;
        // The hog's password is wrong.
        t.sandbox.rules().set_account(HOG_ACCOUNT, "another-token");
        hog(t, 500).await;
        for (id, phone) in &quiet {
            text(t, id, Priority::Urgent).await;
            text(t, id, Priority::Normal).await;
            wait_for("both are taken", async || texts(t, phone).len() == 2).await;
        }
        quiescence(t).await;
        let first = refused(t, HOG_ACCOUNT);
        // Five in a row, and those that were under way by then: as the fifth ends, all but one of the calls that an account gets.
        assert!((5..=5 + CALLS - 1).contains(&first), "{first} calls before it was left alone");
        for minute in 1..=5 {
            t.advance(TimeDelta::seconds(61));
            quiescence(t).await;
            while refused(t, HOG_ACCOUNT) == first {
                // A claim that was under way as the clock jumped begins nothing, and gives back whom it took.
                t.advance(TimeDelta::seconds(1));
                quiescence(t).await;
            }
            let calls = refused(t, HOG_ACCOUNT) - first;
            assert!((1..=minute).contains(&calls), "{calls} calls in {minute} minutes");
            let (id, phone) = &quiet[0];
            text(t, id, Priority::Normal).await;
            wait_for("others are served", async || texts(t, phone).len() == 2 + minute).await;
        }
        let tried = "SELECT count(*) FROM delivery WHERE practice_id = 'hog' AND attempts > 0";
        assert!(count(t, tried, Vec::new()).await <= i64::try_from(first).unwrap() + 5);
        assert_eq!(count(t, "SELECT max(seq) FROM feed WHERE practice_id = 'hog'", Vec::new()).await,
            i64::try_from(500 + refused(t, HOG_ACCOUNT)).unwrap(), "who waits shows nothing");

        t.sandbox.rules().set_account(HOG_ACCOUNT, AUTH_TOKEN);
        let open = "SELECT count(*) FROM delivery WHERE practice_id = 'hog' AND phase = 0";
        while count(t, open, Vec::new()).await > 0 {
            t.advance(TimeDelta::seconds(20));
            quiescence(t).await;
        }
        assert_eq!(taken(t, HOG_ACCOUNT), 500);
    }

    async fn a_sender_without_tokens_holds_nothing_up(t: &mut TestApp) {
        t.stop().await;
        let mut env = t.env();
        env.set("HEEDWELL_SMS_RATE", "auto");
        t.start_with(&env).await;
        practice(t).await;
        let mut sender = t.sender();
        for _ in 0..40 {
            let input = reminder(t, "pat", &[Channel::Email, Channel::Sms]);
            sender.send_notification(request(&new_key(), input)).await.unwrap();
        }
        // The mails of the same practice and class overtake the texts, which wait for their sender.
        wait_for("the mails are sent", async || mails(t, "pat@example.com").len() == 40).await;
        quiescence(t).await;
        let all = list(t, DeliveryFilter { channels: vec![Channel::Sms.into()], ..Default::default() }).await.deliveries;
        let (waiting, left): (Vec<Delivery>, Vec<Delivery>) = all.into_iter().partition(|it| state(it) == "PENDING");
        let segments = |deliveries: &[Delivery]| deliveries.iter().map(|it| it.sms_segments).sum::<i32>();
        let longest = left.iter().map(|it| it.sms_segments).max().unwrap();
        assert!((11 - longest..=10).contains(&segments(&left)), "ten seconds' worth leaves at once: {}", segments(&left));
        assert!(waiting.iter().all(|it| it.attempts == 0 && it.revision == 1 && it.next_action_time == it.create_time));

        put_patient(t, "acme", patient("kim", "", HOG_PHONE)).await;
        let urgent = NotificationInput { priority: Priority::Urgent.into(), ..reminder(t, "kim", &[Channel::Sms]) };
        sender.send_notification(request(&new_key(), urgent)).await.unwrap();
        quiescence(t).await;
        let before = t.sandbox.journal().entries().len();
        t.advance(TimeDelta::seconds(10));
        wait_for("the urgent one leaves", async || texts(t, HOG_PHONE).len() == 1).await;
        quiescence(t).await;
        let next = t.sandbox.journal().entries().into_iter().skip(before).find_map(|entry| match entry {
            Entry::TwilioCreate { to, .. } => Some(to),
            _ => None,
        });
        assert_eq!(next.as_deref(), Some(HOG_PHONE), "it goes before those that waited longer");
    }

    async fn what_lies_below_the_mark_is_found_all_the_same(t: &mut TestApp) {
        practice(t).await;
        let later = NotificationInput {
            schedule_time: Some(t.after(TimeDelta::hours(1))),
            ..reminder(t, "pat", &[Channel::Sms])
        };
        let straggler = send(t, later).await.deliveries.remove(0);
        for _ in 0..2 {
            let id = send_over(t, "pat", Channel::Sms).await;
            until_state(t, &id, "DELIVERED").await;
        }
        // As if a writer had begun long ago and were through only now.
        t.execute("UPDATE delivery SET not_before = '2026-03-02T14:00:00+00:00' WHERE phase = 0").await;
        until_state(t, &straggler.delivery_id, "DELIVERED").await;
    }
}
