//! What can become of a mail at its relay. The name of a mailbox says how the relay treats it.

use chrono::TimeDelta;
use heedwell::grpc::proto::{Channel, Delivery, NotificationInput};

use super::{
    given::{practice, reminder, send, send_over, somebody_with_mailbox},
    seen::{failed, mails, skipped, state, states, time, until, until_state},
};
use crate::support::app::{TestApp, on_a_server};

async fn mail(t: &TestApp, patient: &str) -> String {
    send_over(t, patient, Channel::Email).await
}

/// Stores a patient with that mailbox and writes to it.
async fn mail_to(t: &TestApp, mailbox: &str) -> String {
    practice(t).await;
    somebody_with_mailbox(t, "lee", mailbox).await;
    mail(t, "lee").await
}

/// Lets the times of both looks come, which cannot find a mail: no relay has a list.
pub(super) async fn second_look(t: &TestApp, doubt: &Delivery) {
    let stored = t.sandbox.journal().entries().len();
    let first = time(doubt.next_action_time).unwrap();
    assert!((15..=18).contains(&(first - t.now()).num_seconds()));
    t.advance(first - t.now());
    let waiting = until(t, &doubt.delivery_id, |delivery| delivery.revision > doubt.revision).await;
    assert_eq!((state(&waiting), waiting.possible_duplicate), ("UNCONFIRMED", false));
    assert_eq!(t.sandbox.journal().entries().len(), stored, "it is too early to send it again");
    let second = time(waiting.next_action_time).unwrap();
    assert!((120..=145).contains(&(second - time(waiting.create_time).unwrap()).num_seconds()));
    t.advance(second - t.now());
}

on_a_server! {
    async fn a_mailbox_that_does_not_exist_is_not_written_to_again(t: &mut TestApp) {
        let id = mail_to(t, "nouser@example.com").await;
        assert_eq!(failed(&until_state(t, &id, "FAILED").await), ("INVALID_ADDRESS", "550 5.1.1"));
        assert_eq!(skipped(&until_state(t, &mail(t, "lee").await, "SKIPPED").await), "ADDRESS_SUPPRESSED");
        somebody_with_mailbox(t, "lee", "lee@example.com").await;
        until_state(t, &mail(t, "lee").await, "SENT").await;
        assert_eq!(mails(t, "lee@example.com").len(), 1);
    }

    async fn a_relay_that_wants_to_wait_gets_the_mail_later(t: &mut TestApp) {
        let id = mail_to(t, "greylist@example.com").await;
        let waiting = until(t, &id, |delivery| delivery.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        assert_eq!(time(waiting.next_action_time), Some(t.now() + TimeDelta::minutes(5)));
        t.advance(TimeDelta::minutes(5));
        let delivery = until_state(t, &id, "SENT").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (2, false));
        assert_eq!(mails(t, "greylist@example.com").len(), 1);
    }

    async fn a_full_mailbox_is_tried_until_it_is_too_late(t: &mut TestApp) {
        practice(t).await;
        somebody_with_mailbox(t, "lee", "full@example.com").await;
        let expire_time = Some(t.after(TimeDelta::minutes(1)));
        let sent = send(t, NotificationInput { expire_time, ..reminder(t, "lee", &[Channel::Email]) }).await;
        let id = &sent.deliveries[0].delivery_id;
        let waiting = until(t, id, |delivery| delivery.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        t.advance(TimeDelta::seconds(61));
        let delivery = until_state(t, id, "FAILED").await;
        assert_eq!((failed(&delivery), delivery.attempts), (("EXPIRED", "452 4.2.2"), 1));
        assert!(mails(t, "full@example.com").is_empty());
    }

    async fn mail_refused_for_what_it_says_fails_as_blocked(t: &mut TestApp) {
        let id = mail_to(t, "spam@example.com").await;
        assert_eq!(failed(&until_state(t, &id, "FAILED").await), ("BLOCKED", "554 5.7.1"));
        assert_eq!(failed(&until_state(t, &mail(t, "lee").await, "FAILED").await), ("BLOCKED", "554 5.7.1"));
    }

    async fn mail_in_doubt_is_sent_once_more_after_the_second_look_and_marked(t: &mut TestApp) {
        let id = mail_to(t, "drop-after-dot@example.com").await;
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        assert_eq!((doubt.attempts, doubt.possible_duplicate), (1, false));
        second_look(t, &doubt).await;
        let delivery = until_state(t, &id, "SENT").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (2, true));
        let stored = mails(t, "drop-after-dot@example.com");
        assert_eq!(stored.len(), 2);
        assert_eq!(stored[0].message_id, stored[1].message_id, "receivers can fold the two");
        assert_eq!(states(t, &id).await, ["PENDING", "UNCONFIRMED", "SENT"]);
    }

    async fn mail_cut_off_before_its_end_is_in_doubt_too_and_arrives_once(t: &mut TestApp) {
        // All of it was written when the line broke, so that how much the relay had read is for nobody here to know.
        let id = mail_to(t, "drop-before-dot@example.com").await;
        let doubt = until_state(t, &id, "UNCONFIRMED").await;
        assert!(mails(t, "drop-before-dot@example.com").is_empty());
        second_look(t, &doubt).await;
        let delivery = until_state(t, &id, "SENT").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (2, true));
        assert_eq!(mails(t, "drop-before-dot@example.com").len(), 1);
    }
}
