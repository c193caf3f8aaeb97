//! Texts that come while the practice is closed: set by its staff, told by Twilio, answered by the server.

use chrono::TimeDelta;
use futures::future::join_all;
use heedwell::{
    domain::Role,
    grpc::proto::{
        AfterHoursReply, ConversationFilter, GetPracticeSettingsRequest, ListConversationsRequest, ListMessagesRequest,
        PracticeSettings, TimeOfDay, UpdatePracticeSettingsRequest, after_hours_reply::OpenSpan,
        conversation_message::Direction,
    },
};
use reqwest::StatusCode;
use tonic::Code;

use super::{
    callbacks::{FORM, form, post, signature},
    given::{AUTH_TOKEN, PHONE, mask, practice},
    inbound::{posted, sid, text},
    seen::{everything, fields, refused, texts, until_state},
};
use crate::support::app::{ACME, TestApp, on_a_server};

const CLOSED: &str = "We are closed until 9. In an emergency call 911.";

fn span(weekday: i32, start: i32, end: i32) -> OpenSpan {
    let time = |hours| Some(TimeOfDay { hours, minutes: 0 });
    OpenSpan { weekday, start: time(start), end: time(end) }
}

fn reply(open_spans: Vec<OpenSpan>) -> UpdatePracticeSettingsRequest {
    let reply = AfterHoursReply { text: CLOSED.into(), open_spans };
    UpdatePracticeSettingsRequest {
        practice_id: ACME.into(),
        settings: Some(PracticeSettings { after_hours_reply: Some(reply), ..Default::default() }),
        update_mask: Some(mask(&["after_hours_reply"])),
    }
}

/// Acme, open on weekdays. It is Monday, 10 o'clock there.
async fn with_hours(t: &TestApp) {
    practice(t).await;
    let request = reply((1..=5).map(|weekday| span(weekday, 9, 17)).collect());
    t.caller(Role::PracticeAdmin).preferences.update_practice_settings(request).await.unwrap();
}

on_a_server! {
    async fn whoever_writes_after_hours_gets_the_practices_words_once(t: &mut TestApp) {
        with_hours(t).await;
        assert_eq!(posted(t, &text(&sid(1), PHONE, "are you there?")).await, StatusCode::OK);
        t.advance(TimeDelta::hours(8));
        for (n, words) in [(2, "is anybody there?"), (2, "is anybody there?"), (3, "hello?")] {
            assert_eq!(posted(t, &text(&sid(n), PHONE, words)).await, StatusCode::OK);
        }
        let mut staff = t.caller(Role::Staff).conversations;
        let listed = staff.list_conversations(ListConversationsRequest {
            practice_id: ACME.into(),
            filter: Some(ConversationFilter::default()),
            ..Default::default()
        });
        let conversation = listed.await.unwrap().into_inner().conversations.remove(0);
        assert!(conversation.waiting_time.is_some() && conversation.unread_count == 3);
        let messages = staff.list_messages(ListMessagesRequest {
            practice_id: ACME.into(),
            conversation_id: conversation.conversation_id,
            ..Default::default()
        });
        let messages = messages.await.unwrap().into_inner().messages;
        let automatic: Vec<_> = messages.iter().filter(|message| message.automatic).collect();
        let [message] = &automatic[..] else { panic!("{} of {}", automatic.len(), messages.len()) };
        assert_eq!((message.direction, message.body.as_str()), (Direction::Outbound.into(), CLOSED));
        until_state(t, &message.delivery_id, "DELIVERED").await;
        let sent = texts(t, PHONE);
        assert_eq!(sent.iter().map(|text| text.body.as_str()).collect::<Vec<_>>(), [format!("Acme Primary Care: {CLOSED}")]);
    }

    async fn hours_that_make_no_sense_are_told_all_at_once_and_nothing_is_stored(t: &mut TestApp) {
        with_hours(t).await;
        let mut admin = t.caller(Role::PracticeAdmin).preferences;
        let nonsense = vec![span(0, 9, 17), span(1, 9, 8), span(2, 9, 17), span(2, 16, 18), span(3, 25, 26)];
        let status = refused(admin.update_practice_settings(reply(nonsense)).await, Code::InvalidArgument, "FIELD_INVALID");
        let at = |place: &str| format!("settings.after_hours_reply.open_spans{place}");
        assert_eq!(fields(&status), ["[0].weekday", "[1].end", "[3]", "[4].end.hours", "[4].start.hours"].map(at));
        let request = GetPracticeSettingsRequest { practice_id: ACME.into() };
        let kept = admin.get_practice_settings(request).await.unwrap().into_inner().settings.unwrap();
        assert_eq!(kept.after_hours_reply.unwrap().open_spans.len(), 5);
    }
}

on_a_server! {
    postgres:
    async fn a_text_that_is_told_to_two_replicas_at_once_is_answered_once(t: &mut TestApp) {
        with_hours(t).await;
        t.advance(TimeDelta::hours(8));
        // Signatures are checked over the address under which Twilio knows the server.
        let url = t.url("/webhooks/twilio/acme/inbound");
        let other = t.replica(|config| config.public_url = Some(t.url(""))).await;
        let second = format!("http://{}/webhooks/twilio/acme/inbound", other.app.http_addr);
        let sids: Vec<_> = (0..12).map(|n| sid(n / 2)).collect();
        let posts = sids.iter().zip([&url, &second].into_iter().cycle()).map(|(sid, to)| {
            let fields = text(sid, PHONE, "hello?");
            let signature = signature(AUTH_TOKEN, &url, &fields);
            async move { post(to, Some(&signature), FORM, form(&fields)).await }
        });
        let answers = join_all(posts).await;
        assert!(answers.iter().all(|answer| *answer == StatusCode::OK), "{answers:?}");
        let all = everything(t).await;
        let [reply] = &all[..] else { panic!("{} deliveries", all.len()) };
        until_state(t, &reply.delivery_id, "DELIVERED").await;
        assert_eq!(texts(t, PHONE).len(), 1);
        other.app.stop().await;
    }
}
