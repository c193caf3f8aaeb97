//! What can become of a text message at Twilio, and what is made of it. The last digits of a number say how Twilio
//! treats it.

use chrono::TimeDelta;
use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ChannelStatus, Delivery, GetPracticeSettingsRequest, NotificationView, channel_status::State,
    },
};

use super::{
    callbacks::report,
    given::{PHONE, practice, send_over, somebody_with_phone},
    seen::{
        delivery, failed, history, notification_id, read, refused_texts, skipped, state, states, texts, time, until,
        until_state,
    },
};
use crate::support::app::{ACME, TestApp, on_a_server};

async fn text(t: &TestApp, patient: &str) -> String {
    send_over(t, patient, Channel::Sms).await
}

/// Stores a patient with that phone and sends them a text message.
pub(super) async fn text_to(t: &TestApp, phone: &str) -> String {
    practice(t).await;
    somebody_with_phone(t, "lee", phone).await;
    text(t, "lee").await
}

/// Checks what an unanswered request looks like, and lets the time of that look come.
pub(super) async fn in_doubt(t: &TestApp, id: &str) -> Delivery {
    let doubt = until_state(t, id, "UNCONFIRMED").await;
    assert_eq!((doubt.attempts, doubt.possible_duplicate), (1, false));
    let look = time(doubt.next_action_time).unwrap() - t.now();
    assert!((15..=18).contains(&look.num_seconds()), "the first look comes after {look}");
    t.advance(look + TimeDelta::seconds(1));
    doubt
}

/// Waits until the first look was in vain, and lets the time of the second come.
pub(super) async fn absent_once(t: &TestApp, doubt: &Delivery) {
    let waiting = until(t, &doubt.delivery_id, |it| it.revision > doubt.revision).await;
    assert_eq!(state(&waiting), "UNCONFIRMED");
    let since = time(waiting.next_action_time).unwrap() - time(waiting.create_time).unwrap();
    assert!((120..=145).contains(&since.num_seconds()), "the second look comes after {since}");
    t.advance(time(waiting.next_action_time).unwrap() - t.now() + TimeDelta::seconds(1));
}

async fn sms_status(t: &TestApp) -> ChannelStatus {
    let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
    let answer = t.caller(Role::Staff).preferences.get_practice_settings(request).await.unwrap();
    let statuses = answer.into_inner().settings.unwrap().channel_statuses;
    statuses.into_iter().find(|status| status.channel() == Channel::Sms).unwrap()
}

on_a_server! {
    async fn a_phone_that_is_off_fails_without_suppressing_the_number(t: &mut TestApp) {
        let id = text_to(t, "+12025550110").await;
        assert_eq!(failed(&until_state(t, &id, "FAILED").await), ("UNREACHABLE", "30003"));
        assert_eq!(states(t, &id).await, ["PENDING", "SENT", "FAILED"]);
        let again = text(t, "lee").await;
        assert_eq!(failed(&until_state(t, &again, "FAILED").await), ("UNREACHABLE", "30003"));
    }

    async fn a_handset_that_does_not_exist_is_not_written_to_again(t: &mut TestApp) {
        let id = text_to(t, "+12025550111").await;
        let delivery = until_state(t, &id, "FAILED").await;
        assert_eq!(failed(&delivery), ("INVALID_ADDRESS", "30005"));
        assert!(delivery.failure.is_some_and(|failure| failure.message.contains("does not exist")));
        let again = until_state(t, &text(t, "lee").await, "SKIPPED").await;
        assert_eq!((skipped(&again), again.attempts), ("ADDRESS_SUPPRESSED", 0));
        assert_eq!(texts(t, "+12025550111").len(), 1);
    }

    async fn a_refused_number_is_suppressed_until_another_is_entered(t: &mut TestApp) {
        let id = text_to(t, "+12025550112").await;
        let delivery = until_state(t, &id, "FAILED").await;
        assert_eq!((failed(&delivery), delivery.attempts), (("INVALID_ADDRESS", "21211"), 1));

        let again = until_state(t, &text(t, "lee").await, "SKIPPED").await;
        assert_eq!(skipped(&again), "ADDRESS_SUPPRESSED");
        let why = read(t, notification_id(&again), NotificationView::Full).await.decisions;
        let last = why[2].steps.last().unwrap();
        assert_eq!((last.rule, last.outcome, why[2].considered), (8, 3, true));
        assert_eq!(refused_texts(t, "+12025550112"), 1);

        somebody_with_phone(t, "lee", PHONE).await;
        until_state(t, &text(t, "lee").await, "DELIVERED").await;
        // Entered anew it is tried anew.
        somebody_with_phone(t, "lee", "+12025550112").await;
        assert_eq!(failed(&until_state(t, &text(t, "lee").await, "FAILED").await), ("INVALID_ADDRESS", "21211"));
        assert_eq!(refused_texts(t, "+12025550112"), 2);
    }

    async fn an_opt_out_known_only_to_twilio_fails_by_its_name(t: &mut TestApp) {
        let id = text_to(t, "+12025550113").await;
        let delivery = until_state(t, &id, "FAILED").await;
        assert_eq!(failed(&delivery), ("OPTED_OUT_AT_PROVIDER", "21610"));
        assert_eq!((states(t, &id).await, delivery.attempts), (vec!["PENDING", "FAILED"], 1));
    }

    async fn too_many_requests_are_tried_again_when_twilio_says(t: &mut TestApp) {
        let id = text_to(t, "+12025550114").await;
        let waiting = until(t, &id, |delivery| delivery.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        let wait = time(waiting.next_action_time).unwrap() - t.now();
        assert!((1..=2).contains(&wait.num_seconds()), "it waits for {wait}");
        assert!(texts(t, "+12025550114").is_empty());
        t.advance(TimeDelta::seconds(3));
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (2, false));
        assert_eq!((refused_texts(t, "+12025550114"), texts(t, "+12025550114").len()), (1, 1));
    }

    async fn refused_credentials_hold_messages_back_and_show_in_the_setup_check(t: &mut TestApp) {
        let id = text_to(t, "+12025550115").await;
        let waiting = until(t, &id, |delivery| delivery.attempts == 1).await;
        assert_eq!(state(&waiting), "PENDING");
        assert!(waiting.next_action_time.is_some());
        let status = sms_status(t).await;
        assert!(status.state() == State::Failing && status.last_success_time.is_none());
        let finding = status.findings.iter().find(|finding| finding.message.contains("20003")).unwrap();
        assert_eq!(finding.field, "sms.auth_token");

        t.sandbox.rules().set("+12025550115", "delivered").unwrap();
        t.advance(TimeDelta::minutes(16));
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!(delivery.attempts, 2);
        let status = sms_status(t).await;
        assert!(status.state() == State::Ready && status.findings.is_empty());
        assert_eq!(time(status.last_success_time), Some(t.now()));
    }

    async fn a_lost_answer_is_found_out_by_the_callbacks(t: &mut TestApp) {
        let id = text_to(t, "+12025550116").await;
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (1, false));
        let taken = texts(t, "+12025550116");
        assert_eq!((taken.len(), taken[0].token_uses), (1, 1));
        assert_eq!(delivery.provider_message_id, taken[0].sid);
        history(t, &id).await;
    }

    async fn a_callback_settles_an_outcome_that_was_in_doubt(t: &mut TestApp) {
        let id = text_to(t, "+12025550125").await;
        until_state(t, &id, "UNCONFIRMED").await;
        let [taken] = &texts(t, "+12025550125")[..] else { panic!("one was taken") };
        assert_eq!(report(t, taken, "delivered").await, 204);
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!(delivery.provider_message_id, taken.sid);
        assert!(delivery.next_action_time.is_none() && delivery.attempts == 1);
        assert_eq!(states(t, &id).await, ["PENDING", "UNCONFIRMED", "DELIVERED"]);
    }

    async fn a_message_that_was_taken_in_spite_of_an_error_is_found_by_the_first_look(t: &mut TestApp) {
        let id = text_to(t, "+12025550117").await;
        in_doubt(t, &id).await;
        let delivery = until_state(t, &id, "DELIVERED").await;
        let [taken] = &texts(t, "+12025550117")[..] else { panic!("it was sent once") };
        assert_eq!((delivery.attempts, &delivery.provider_message_id), (1, &taken.sid));
        assert!(!delivery.possible_duplicate && delivery.next_action_time.is_none());
        assert_eq!(states(t, &id).await, ["PENDING", "UNCONFIRMED", "DELIVERED"]);
    }

    async fn a_message_that_twilio_lists_late_is_found_by_the_second_look(t: &mut TestApp) {
        t.sandbox.rules().set_list_lag(std::time::Duration::from_secs(3_600));
        let id = text_to(t, "+12025550117").await;
        let doubt = in_doubt(t, &id).await;
        absent_once(t, &doubt).await;
        t.sandbox.rules().set_list_lag(std::time::Duration::ZERO);
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!((delivery.attempts, texts(t, "+12025550117").len()), (1, 1));
    }

    async fn a_message_that_two_looks_did_not_find_is_sent_again_under_a_new_token(t: &mut TestApp) {
        let id = text_to(t, "+12025550118").await;
        let doubt = in_doubt(t, &id).await;
        t.sandbox.rules().set("+12025550118", "delivered").unwrap();
        absent_once(t, &doubt).await;
        let delivery = until_state(t, &id, "DELIVERED").await;
        assert_eq!((delivery.attempts, delivery.possible_duplicate), (2, false));
        let [taken] = &texts(t, "+12025550118")[..] else { panic!("one was taken") };
        assert_eq!((taken.token_uses, refused_texts(t, "+12025550118")), (1, 1));
        assert_eq!(states(t, &id).await.first(), Some(&"PENDING"));
        assert_eq!(states(t, &id).await.get(1), Some(&"UNCONFIRMED"));
    }

    async fn a_late_callback_of_an_attempt_that_was_given_up_marks_a_possible_duplicate(t: &mut TestApp) {
        t.sandbox.rules().set_list_lag(std::time::Duration::from_secs(3_600));
        let id = text_to(t, "+12025550125").await;
        let doubt = in_doubt(t, &id).await;
        t.sandbox.rules().set("+12025550125", "delivered").unwrap();
        absent_once(t, &doubt).await;
        let again = until_state(t, &id, "DELIVERED").await;
        assert_eq!((again.attempts, again.possible_duplicate), (2, false));
        let [first, second] = &texts(t, "+12025550125")[..] else { panic!("both were taken") };
        assert_eq!((first.token_uses, second.token_uses), (1, 1));
        assert_ne!(first.callback, second.callback);
        assert_eq!(report(t, first, "delivered").await, 204);
        let known = until(t, &id, |delivery| delivery.possible_duplicate).await;
        assert_eq!((state(&known), &known.provider_message_id), ("DELIVERED", &second.sid));
    }

    async fn reports_in_any_order_and_number_end_in_the_same_state(t: &mut TestApp) {
        practice(t).await;
        for (patient, phone) in [("re", "+12025550119"), ("five", "+12025550120"), ("early", "+12025550121")] {
            somebody_with_phone(t, patient, phone).await;
            let id = text(t, patient).await;
            until_state(t, &id, "DELIVERED").await;
            let taken = texts(t, phone);
            let sid = taken[0].sid.clone();
            let each = if patient == "five" { 5 } else { 1 };
            let reported = t.sandbox.journal().wait_for(crate::support::app::LIMIT, |entries| {
                reports(entries, &sid).filter(|status| *status == Some(204)).count() == 2 * each
            });
            let entries = reported.await.expect("every report is answered");
            assert_eq!(reports(&entries, &sid).count(), 2 * each, "each is answered at its first try");
            // `history` checks that no state is lower than one before.
            let history = history(t, &id).await;
            let now = delivery(t, &id).await;
            assert_eq!((state(&now), now.attempts, history.len() as i64), ("DELIVERED", 1, now.revision));
            assert!(history.len() <= 4, "a repeat changes nothing");
            assert_eq!((taken.len(), taken[0].token_uses), (1, 1));
        }
    }

    async fn a_carrier_that_says_no_more_leaves_it_sent(t: &mut TestApp) {
        let id = text_to(t, "+12025550124").await;
        let sent = |entries: &[heedwell::sandbox::Entry]| {
            entries
                .iter()
                .any(|entry| matches!(entry, heedwell::sandbox::Entry::CallbackSent { status, .. } if status == "sent"))
        };
        t.sandbox.journal().wait_for(crate::support::app::LIMIT, sent).await.expect("it is reported");
        let delivery = until_state(t, &id, "SENT").await;
        assert!(delivery.next_action_time.is_none() && delivery.deliver_time.is_none());
        assert_eq!(states(t, &id).await, ["PENDING", "SENT"]);
    }
}

/// How this server answered the reports on a message.
fn reports<'a>(
    entries: &'a [heedwell::sandbox::Entry],
    message: &'a str,
) -> impl Iterator<Item = Option<u16>> + use<'a> {
    entries.iter().filter_map(move |entry| match entry {
        heedwell::sandbox::Entry::CallbackSent { sid, http_status, .. } if sid == message => Some(*http_status),
        _ => None,
    })
}
