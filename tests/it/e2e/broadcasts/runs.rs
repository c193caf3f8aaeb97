//! What a broadcast does from its beginning to its end.

use chrono::TimeDelta;
use heedwell::grpc::proto::{
    Broadcast, BroadcastInput, Channel, ConsentState, NotificationView, RecordConsentRequest, broadcast::State,
};

use super::{
    BOTH, all, cancel, counts, create, crowd, family, fates, get, input, is, named, over, preview, report, settled,
    tagged, texts_of, try_preview, until,
};
use crate::{
    e2e::{
        consent::{decision, record},
        given::{PHONE, practice, send_over},
        quiet::quiet,
        seen::{mails, notification_id, read, skipped, state, texts, time, until_state},
    },
    support::app::on_a_server,
};

on_a_server! {
    async fn each_has_their_own_words_once_and_the_report_says_who_has_none(t: &mut TestApp) {
        family(t).await;
        let said = preview(t, input(all(), &BOTH)).await;
        let made = create(t, input(all(), &BOTH)).await;
        assert!(is(&made, State::Running));
        assert_eq!((made.recipient_count, said.recipient_count), (7, 7));
        // Two texts arrive, and three mails at a relay that tells no more.
        let now = settled(t, &made.broadcast_id, 2).await;
        assert_eq!(counts(&over(t, &made.broadcast_id).await), [0, 0, 5, 2, 0, 7, 0]);
        assert!(is(&now, State::Completed) || is(&get(t, &made.broadcast_id).await, State::Completed));

        let by_text = fates(t, &made.broadcast_id, Channel::Sms).await;
        let wanted = [
            ("ann", "DELIVERED"),
            ("ben", "DUPLICATE_ADDRESS"),
            ("cat", "OPTED_OUT"),
            ("dan", "NO_ADDRESS"),
            ("fay", "NOT_PREFERRED"),
            ("gus", "ADDRESS_NOT_ALLOWED"),
            ("pat", "DELIVERED"),
        ];
        assert_eq!(by_text, wanted.map(|(id, fate)| (id.to_owned(), fate)).into());
        let by_mail = fates(t, &made.broadcast_id, Channel::Email).await;
        let sent = by_mail.values().filter(|fate| **fate == "SENT").count();
        assert_eq!((sent, by_mail["dan"], by_mail["gus"]), (5, "NO_ADDRESS", "NO_ADDRESS"));

        // What the preview said is what became of it.
        for reach in &said.reaches {
            let fates = fates(t, &made.broadcast_id, reach.channel()).await;
            let reason = |number: i32| {
                let reason = heedwell::grpc::proto::SkipReason::try_from(number).unwrap();
                reason.as_str_name().trim_start_matches("SKIP_REASON_")
            };
            for skip in &reach.skips {
                let count = fates.values().filter(|fate| **fate == reason(skip.reason)).count();
                assert_eq!(count as i64, skip.count, "{}", reason(skip.reason));
            }
            let skipped: i64 = reach.skips.iter().map(|skip| skip.count).sum();
            assert_eq!(reach.would_send + skipped, 7);
        }

        let anns = texts(t, "+12025550150");
        assert_eq!(anns.len(), 1);
        assert_eq!(
            anns[0].body,
            "Acme Primary Care: Dear Ann,\n\nwe are closed on Friday. Questions: (202) 555-0100"
        );
        let bens = mails(t, "ben@example.com");
        assert_eq!(bens.len(), 1);
        assert_eq!(bens[0].headers["subject"], "Acme Primary Care is closed on Friday");
        assert!(bens[0].text.starts_with("Dear Ben,\n\nwe are closed on Friday."), "{}", bens[0].text);
        assert!(bens[0].html.contains("Dear Ben,") && !bens[0].html.contains("Ann"));
        assert!(bens[0].text.contains("/u/"), "each mail has the way out");
        assert!(texts(t, "+12025550152").is_empty() && mails(t, "eve@example.com").is_empty(), "eve is inactive");

        // A share is a notification, and its decisions are on record.
        let one = report(t, &made.broadcast_id).await.into_iter().find(|it| it.patient_id == "cat").unwrap();
        let full = read(t, notification_id(&one), NotificationView::Full).await;
        assert_eq!(full.notification.unwrap().broadcast_id, made.broadcast_id);
        assert_eq!(full.decisions.len(), 4);
    }

    async fn a_sample_is_what_somebody_would_read(t: &mut TestApp) {
        family(t).await;
        let every = [Channel::InApp, Channel::Email, Channel::Sms, Channel::Push];
        let said = try_preview(t, input(all(), &every), "ann").await.unwrap();
        let sample = |channel: Channel| {
            said.reaches.iter().find(|it| it.channel() == channel).unwrap().sample.clone().unwrap()
        };
        assert!(sample(Channel::InApp).text.starts_with("Dear Ann,"));
        assert_eq!(sample(Channel::Push).subject, "Acme Primary Care is closed on Friday");
        let text = sample(Channel::Sms);
        assert_eq!((text.subject.as_str(), text.sms_segments, text.sms_gsm7), ("", 1, true));
        assert!(sample(Channel::Email).html.contains("Dear Ann,"));
        let invented = preview(t, input(all(), &[Channel::Sms])).await;
        let invented = invented.reaches[0].sample.clone().unwrap();
        assert!(!invented.text.contains("Ann") && invented.text.contains("Dear "));
        // Nobody keeps what should not be in a text; whoever composes it hears of it.
        let odd = BroadcastInput { body: "New: cancer screening. See example.com".into(), ..input(all(), &[Channel::Sms]) };
        let warned = preview(t, odd).await;
        assert_eq!(warned.reaches[0].warnings.len(), 2, "{:?}", warned.reaches[0].warnings);
    }

    async fn whoever_is_named_and_not_there_is_left_out_and_a_preview_says_so(t: &mut TestApp) {
        family(t).await;
        // Eve is inactive.
        let some = input(named(&["ann", "eve", "stranger"]), &BOTH);
        let said = preview(t, some.clone()).await;
        assert_eq!(said.recipient_count, 1);
        let left_out = "2 of the 3 patients named are not there or inactive, and are left out.";
        assert!(said.reaches.iter().all(|reach| reach.warnings == [left_out]));
        let done = over(t, &create(t, some).await.broadcast_id).await;
        assert_eq!((done.recipient_count, counts(&done).iter().sum::<i64>()), (1, 2));
        let whole = preview(t, input(named(&["ann", "ben"]), &BOTH)).await;
        assert!(whole.reaches.iter().all(|reach| reach.warnings.is_empty()));
    }

    async fn one_that_is_scheduled_goes_in_its_time(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(2)));
        let made = create(t, BroadcastInput { schedule_time, ..input(all(), &[Channel::Sms]) }).await;
        assert!(is(&made, State::Scheduled));
        assert_eq!((made.recipient_count, counts(&made), made.start_time.is_none()), (0, [0; 7], true));
        crowd(t, 2).await;
        t.advance(TimeDelta::hours(2));
        let done = settled(t, &made.broadcast_id, 3).await;
        assert_eq!((done.recipient_count, time(done.start_time)), (3, Some(t.now())));
    }

    async fn what_was_due_during_an_outage_is_not_sent_days_later(t: &mut TestApp) {
        practice(t).await;
        let schedule_time = Some(t.after(TimeDelta::hours(2)));
        let made = create(t, BroadcastInput { schedule_time, ..input(all(), &BOTH) }).await;
        t.stop().await;
        t.advance(TimeDelta::hours(26));
        t.start().await;
        assert_eq!(counts(&over(t, &made.broadcast_id).await), [0, 0, 0, 0, 0, 2, 0]);
        let all = report(t, &made.broadcast_id).await;
        assert!(all.iter().all(|it| skipped(it) == "EXPIRED"));
        assert!(texts(t, PHONE).is_empty());
    }

    async fn a_crowd_gets_it_over_several_pages_and_a_restart(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 130).await;
        // Nothing goes while the server is away, so that no report of it is lost.
        quiet(t, (9, 30), (10, 30)).await;
        let made = create(t, input(tagged(&["crowd"]), &[Channel::Sms])).await;
        t.stop().await;
        t.start().await;
        t.advance(TimeDelta::hours(1));
        // A report that is turned away in the rush is asked for hours later.
        let left = |it: &Broadcast| counts(it)[2] + counts(it)[3];
        let done = until(t, &made.broadcast_id, |it| left(it) == 130).await;
        assert_eq!((done.recipient_count, counts(&done).iter().sum::<i64>()), (130, 130));
        assert_eq!(texts_of(t, 130), 130);
        assert_eq!(texts(t, "+12025552129").len(), 1);
    }

    async fn whoever_opts_out_while_it_waits_is_not_written_to(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 40).await;
        quiet(t, (9, 30), (10, 30)).await;
        let made = create(t, input(tagged(&["crowd"]), &[Channel::Sms])).await;
        until(t, &made.broadcast_id, |it| it.recipient_count == 40).await;
        for n in (0..40).step_by(2) {
            let request = RecordConsentRequest {
                patient_id: format!("p{n:03}"),
                ..decision(Channel::Sms, ConsentState::OptedOut)
            };
            record(&mut t.caller(heedwell::domain::Role::Staff), request).await.unwrap();
        }
        t.advance(TimeDelta::hours(1));
        let done = settled(t, &made.broadcast_id, 20).await;
        assert_eq!(counts(&done), [0, 0, 0, 20, 0, 20, 0]);
        for n in 0..40 {
            assert_eq!(texts(t, &format!("+1202555{:04}", 2000 + n)).len(), n % 2, "{n}");
        }
        let skips = fates(t, &made.broadcast_id, Channel::Sms).await;
        assert_eq!(skips.values().filter(|fate| **fate == "OPTED_OUT").count(), 20);
    }

    async fn after_a_cancel_nothing_begins_and_the_report_says_so(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 150).await;
        quiet(t, (9, 30), (10, 30)).await;
        let made = create(t, input(tagged(&["crowd"]), &[Channel::Sms])).await;
        let stopped = cancel(t, &made.broadcast_id).await;
        // Nothing was under way: the answer says so, however little of it had been made by then.
        assert!(is(&stopped, State::Cancelled));
        assert_eq!(counts(&stopped), [0, 0, 0, 0, 0, 0, 150]);
        let done = over(t, &made.broadcast_id).await;
        assert_eq!(counts(&done), [0, 0, 0, 0, 0, 0, 150]);
        t.advance(TimeDelta::hours(1));
        until_state(t, &send_over(t, "pat", Channel::Sms).await, "DELIVERED").await;
        assert_eq!(texts_of(t, 150), 0);
        let again = cancel(t, &made.broadcast_id).await;
        assert!(again == get(t, &made.broadcast_id).await);
        let all = report(t, &made.broadcast_id).await;
        assert!(all.len() == 150 && all.iter().all(|it| state(it) == "CANCELLED"));
    }

    async fn what_was_claimed_before_a_cancel_goes_its_way_and_no_more(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 60).await;
        let made = create(t, input(tagged(&["crowd"]), &[Channel::Sms])).await;
        until(t, &made.broadcast_id, |it| counts(it)[2] + counts(it)[3] > 0).await;
        let _ = cancel(t, &made.broadcast_id).await;
        let done = until(t, &made.broadcast_id, |it| {
            let [pending, unconfirmed, ..] = counts(it);
            it.complete_time.is_some() && pending + unconfirmed == 0
        })
        .await;
        // Of what has left, the last reports may still be on their way.
        let [.., sent, delivered, failed, skipped, cancelled] = counts(&done);
        assert_eq!((sent + delivered + cancelled, failed, skipped), (60, 0, 0));
        assert_eq!(texts_of(t, 60) as i64, sent + delivered);
    }

    async fn one_bad_number_fails_alone(t: &mut TestApp) {
        practice(t).await;
        crowd(t, 5).await;
        // Its phone is off; see the stand-ins' table.
        crate::e2e::given::somebody_with_phone(t, "off", "+12025550110").await;
        let made = create(t, input(all(), &[Channel::Sms])).await;
        let done = settled(t, &made.broadcast_id, 6).await;
        let done = until(t, &done.broadcast_id, |it| counts(it)[4] == 1).await;
        assert_eq!(counts(&done), [0, 0, 0, 6, 1, 0, 0]);
    }

    async fn in_the_inbox_it_is_at_once(t: &mut TestApp) {
        family(t).await;
        let made = create(t, input(named(&["ann", "dan", "pat"]), &[Channel::InApp])).await;
        let done = over(t, &made.broadcast_id).await;
        assert_eq!(counts(&done), [0, 0, 0, 2, 0, 1, 0]);
        let request = heedwell::grpc::proto::ListInboxItemsRequest {
            practice_id: crate::support::app::ACME.into(),
            patient_id: "ann".into(),
            ..Default::default()
        };
        let inbox = t.caller(heedwell::domain::Role::Portal).inbox.list_inbox_items(request).await.unwrap();
        let items = inbox.into_inner().items;
        assert_eq!((items.len(), items[0].title.as_str()), (1, "Acme Primary Care is closed on Friday"));
    }
}
