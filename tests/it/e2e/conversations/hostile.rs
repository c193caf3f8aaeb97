//! What strangers and broken phones send: forged and repeated calls, bodies of every kind, and what is for somebody else.

use std::collections::BTreeSet;

use heedwell::{
    domain::Role,
    grpc::proto::{ConversationFilter, MessageRoute, attachment},
};
use reqwest::StatusCode;
use sea_orm::ConnectionTrait;
use tonic::Code;

use super::{
    STRANGER, all, bodies, messages, next_sid, only, staff_of, texts_in, to_conversation, to_patient, try_list, try_say,
};
use crate::{
    e2e::{
        callbacks::{FORM, form, post, signature},
        consent::all_said,
        fairness::wait_for,
        given::{AUTH_TOKEN, PHONE, practice, practice_named},
        inbound::{posted, text, url},
        seen::refused,
    },
    support::app::{ACME, on_a_server},
};

on_a_server! {
    async fn a_text_that_comes_a_hundred_times_is_one_message(t: &mut TestApp) {
        practice(t).await;
        let sid = next_sid();
        let fields = text(&sid, PHONE, "Once.");
        for _ in 0..10 {
            let answers = futures::future::join_all((0..10).map(|_| posted(t, &fields))).await;
            assert!(answers.iter().all(|answer| *answer == StatusCode::OK));
        }
        let home = only(t).await;
        assert_eq!((home.unread_count, bodies(&messages(t, &home.conversation_id).await)), (1, vec!["Once."]));
        // A hundred forgeries are none.
        let (url, forged) = (url(t, ACME), text(&sid, PHONE, "Forged."));
        let signed = signature("another token", &url, &forged);
        for _ in 0..10 {
            let answers = (0..10).map(|_| post(&url, Some(&signed), FORM, form(&forged)));
            let answers = futures::future::join_all(answers).await;
            assert!(answers.iter().all(|answer| *answer == StatusCode::FORBIDDEN));
        }
        assert!(only(t).await == home);
    }

    async fn a_hundred_texts_of_one_number_begin_one_conversation(t: &mut TestApp) {
        practice(t).await;
        for batch in 0..10 {
            let bodies: Vec<String> = (0..10).map(|n| format!("{batch} {n}")).collect();
            let sent = bodies.iter().map(|body| texts_in(t, ACME, STRANGER, body));
            assert!(futures::future::join_all(sent).await.iter().all(|answer| *answer == StatusCode::OK));
        }
        let home = only(t).await;
        let said = messages(t, &home.conversation_id).await;
        assert_eq!((home.unread_count, said.len()), (100, 100));
        assert!(said.is_sorted_by(|one, other| one.message_id < other.message_id));
    }

    async fn odd_bodies_are_kept_as_they_came_but_for_what_no_screen_can_bear(t: &mut TestApp) {
        practice(t).await;
        let long = "x".repeat(30_000);
        let cut = "x".repeat(19_999) + "…";
        let odd = [
            ("", ""),
            (" ", " "),
            ("a\u{0}b\u{7}\u{1b}[2J", "a\u{fffd}b\u{fffd}\u{fffd}[2J"),
            ("\u{202e}olleH\u{feff}", "\u{fffd}olleH\u{feff}"),
            ("one\r\ntwo\tthree", "one\ntwo\tthree"),
            ("👨‍👩‍👧‍👦 Sí, mañana & más = ok", "👨‍👩‍👧‍👦 Sí, mañana & más = ok"),
            ("'; DROP TABLE conversation; --", "'; DROP TABLE conversation; --"),
            ("<script>alert(1)</script>{{ first_name }}", "<script>alert(1)</script>{{ first_name }}"),
            (&long, &cut),
        ];
        for (body, _) in odd {
            assert_eq!(texts_in(t, ACME, PHONE, body).await, StatusCode::OK);
        }
        let home = only(t).await;
        assert_eq!(bodies(&messages(t, &home.conversation_id).await), odd.map(|(_, kept)| kept));
        // More than the address takes.
        let huge = "x".repeat(70_000);
        assert_eq!(texts_in(t, ACME, PHONE, &huge).await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(messages(t, &home.conversation_id).await.len(), odd.len());
    }

    async fn what_is_no_text_at_all_is_kept_as_it_can_be_read(t: &mut TestApp) {
        practice(t).await;
        // Half of a pair of surrogates, in either encoding; bytes that begin nothing; an emoji cut short; a zero of two bytes; and
        // what looks like an escape and is none.
        let broken = [
            ("a%ED%A0%80b", "a\u{fffd}\u{fffd}\u{fffd}b"),
            ("%D8%00%00%3D", "\u{fffd}\0\0="),
            ("%FF%FE%80", "\u{fffd}\u{fffd}\u{fffd}"),
            ("%F0%9F%91", "\u{fffd}"),
            ("%C0%80", "\u{fffd}\u{fffd}"),
            ("%zz%4%", "%zz%4%"),
        ];
        let url = url(t, ACME);
        for (raw, read) in broken {
            let sid = next_sid();
            let body = form(&text(&sid, PHONE, "BODY")).replace("BODY", raw);
            // The bytes themselves are no text that anybody could have signed.
            let bytes = signature(AUTH_TOKEN, &url, &text(&sid, PHONE, raw));
            let signed = signature(AUTH_TOKEN, &url, &text(&sid, PHONE, read));
            if raw != read {
                assert_eq!(post(&url, Some(&bytes), FORM, body.clone()).await, StatusCode::FORBIDDEN, "{raw}");
            }
            assert_eq!(post(&url, Some(&signed), FORM, body).await, StatusCode::OK, "{raw}");
        }
        let kept = broken.map(|(_, read)| read.replace('\0', "\u{fffd}"));
        assert_eq!(bodies(&messages(t, &only(t).await.conversation_id).await), kept);
    }

    async fn whoever_is_no_phone_number_is_nobody_in_the_directory(t: &mut TestApp) {
        practice(t).await;
        let (long, cut) = ("1".repeat(3_000), "1".repeat(99) + "…");
        // The last ones look like Pat's number.
        let odd = [
            ("12345", "12345"),
            ("ACME-LAB", "ACME-LAB"),
            ("+", "+"),
            ("+1", "+1"),
            ("+1202555014x", "+1202555014x"),
            ("2025550142", "2025550142"),
            ("whatsapp:+12025550142", "whatsapp:+12025550142"),
            ("\u{7}\u{0}\u{202e}", "\u{fffd}\u{fffd}\u{fffd}"),
            ("'; DROP TABLE conversation; --", "'; DROP TABLE conversation; --"),
            (&long, &cut),
            ("\u{202e}+12025550142", "\u{fffd}+12025550142"),
            ("+12025550142\u{202e}", "+12025550142\u{fffd}"),
            ("+1202555\u{200b}0142", "+1202555\u{fffd}0142"),
            ("+1 (202) 555-0142", "+1 (202) 555-0142"),
            ("+１２０２５５５０１４２", "+１２０２５５５０１４２"),
        ];
        for (from, _) in odd {
            assert_eq!(texts_in(t, ACME, from, "Hello.").await, StatusCode::OK, "{from}");
        }
        assert_eq!(texts_in(t, ACME, "", "Hello.").await, StatusCode::BAD_REQUEST);
        let listed = all(t).await;
        let hints: BTreeSet<_> = listed.iter().map(|it| it.phone_hint.as_str()).collect();
        assert_eq!(hints, BTreeSet::from(odd.map(|(_, hint)| hint)));
        let staff = t.caller(Role::Staff);
        for it in &listed {
            assert!(it.patient_id.is_empty() && it.candidate_patient_ids.is_empty(), "{}", it.phone_hint);
            let answer = try_say(&staff, to_conversation(&it.conversation_id, MessageRoute::Sms, "Who are you?")).await;
            refused(answer, Code::FailedPrecondition, "UNREACHABLE");
        }
        assert_eq!(listed.len(), odd.len());
    }

    async fn pictures_that_are_said_to_be_elsewhere_are_shown_and_never_fetched(t: &mut TestApp) {
        practice(t).await;
        let sid = next_sid();
        let (urls, kinds): (Vec<String>, Vec<String>) =
            (0..12).map(|n| (format!("MediaUrl{n}"), format!("MediaContentType{n}"))).unzip();
        let mut fields = text(&sid, PHONE, "");
        fields.iter_mut().filter(|(name, _)| *name == "NumMedia").for_each(|(_, count)| *count = "12");
        for (url, kind) in urls.iter().zip(&kinds) {
            fields.push((url, "https://api.twilio.example/canary-of-media"));
            fields.push((kind, "image/jpeg"));
        }
        assert_eq!(posted(t, &fields).await, StatusCode::OK);
        let home = only(t).await.conversation_id;
        let message = messages(t, &home).await.remove(0);
        assert_eq!(message.attachments.len(), 10, "as many as a message may have");
        let ids: BTreeSet<_> = message.attachments.iter().map(|it| &it.attachment_id).collect();
        assert_eq!(ids.len(), 10);
        let states = [attachment::State::Pending, attachment::State::Failed];
        assert!(message.attachments.iter().all(|it| it.media_type == "image/jpeg" && states.contains(&it.state())));
        let again = messages(t, &home).await.remove(0);
        assert!(again.attachments.iter().map(|it| &it.attachment_id).eq(message.attachments.iter().map(|it| &it.attachment_id)));
        wait_for("all are refused", async || {
            let files = messages(t, &home).await.remove(0).attachments;
            files.iter().all(|it| it.state() == attachment::State::Failed)
        })
        .await;
    }

    async fn nothing_that_is_said_lies_open_at_rest(t: &mut TestApp) {
        practice(t).await;
        assert_eq!(texts_in(t, ACME, STRANGER, "canary-of-a-text").await, StatusCode::OK);
        try_say(&t.caller(Role::Staff), to_patient("pat", MessageRoute::Portal, "canary-of-a-reply")).await.unwrap();
        let raw = t.home.raw().await;
        for table in ["conversation", "conversation_message", "inbound_message", "feed", "delivery", "content"] {
            let query = match raw.get_database_backend() {
                sea_orm::DbBackend::Sqlite => format!("SELECT * FROM {table}"),
                _ => format!("SELECT row_to_json(r)::text FROM {table} r"),
            };
            let rows = raw.query_all_raw(sea_orm::Statement::from_string(raw.get_database_backend(), query)).await.unwrap();
            let shown = format!("{rows:?}");
            for secret in ["canary-of-a", "2025550147"] {
                let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
                assert!(!shown.contains(secret) && !shown.contains(&hex), "{secret} in {table}");
            }
        }
        raw.close().await.unwrap();
    }

    async fn a_text_for_another_practice_of_the_account_is_refused(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        // Signed with the token that both share, and posted to the wrong one.
        let (sid, there) = (next_sid(), url(t, "beta"));
        let fields: Vec<_> = text(&sid, PHONE, "About my results.")
            .into_iter()
            .map(|(name, value)| if name == "To" { (name, "+12025550198") } else { (name, value) })
            .collect();
        let answer = post(&there, Some(&signature(AUTH_TOKEN, &there, &fields)), FORM, form(&fields)).await;
        assert_eq!(answer, StatusCode::FORBIDDEN);
        assert!(all(t).await.is_empty() && all_said(t).await.is_empty());
        let betas = staff_of(t, "beta");
        assert!(try_list(&betas, "beta", ConversationFilter::default()).await.unwrap().conversations.is_empty());
        let nowhere = t.caller_with(&crate::e2e::given::token(t, Role::Staff, "nowhere"));
        let answer = try_list(&nowhere, "nowhere", ConversationFilter::default()).await;
        refused(answer, Code::PermissionDenied, "SCOPE_FORBIDDEN");
    }
}
