//! Both sides of a conversation: labels and marks of staff, what patients write and read, and what neither sees of the other.

use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, ConsentSource, ConsentState, Conversation, ConversationFilter, ConversationMessage,
        ListConversationsRequest, ListMessagesRequest, MarkConversationReadRequest, MessageRoute, RecordConsentRequest,
        SendMessageRequest, UpdateConversationRequest, WatchConversationsRequest, conversation::State,
        conversation_filter::Subset,
    },
};
use tonic::{Code, Status};

use super::{
    STRANGER, all, bodies, messages, of, only, own, say, staff_of, to_conversation, to_patient, try_get, try_list,
    try_messages, try_say, view, writes,
};
use crate::{
    e2e::{
        consent::all_said,
        given::{PHONE, bare_practice, mask, new_key, patient, practice, put_patient},
        seen::{fields, metadata, refused},
    },
    support::app::{ACME, Caller, TestApp, on_a_server},
};

async fn try_update(t: &TestApp, conversation: Conversation, paths: &[&str]) -> Result<Conversation, Status> {
    let request = UpdateConversationRequest {
        practice_id: ACME.into(),
        conversation: Some(conversation),
        update_mask: Some(mask(paths)),
    };
    let answer = t.caller(Role::Staff).conversations.update_conversation(request).await?;
    Ok(answer.into_inner().conversation.unwrap())
}

async fn try_mark(caller: &Caller, id: &str, message: &str) -> Result<Conversation, Status> {
    let request = MarkConversationReadRequest {
        practice_id: ACME.into(),
        conversation_id: id.into(),
        message_id: message.into(),
    };
    Ok(caller.clone().conversations.mark_conversation_read(request).await?.into_inner().conversation.unwrap())
}

async fn unread(caller: &Caller, id: &str, message: &ConversationMessage) -> i32 {
    try_mark(caller, id, &message.message_id).await.unwrap().unread_count
}

on_a_server! {
    async fn a_patient_writes_in_the_portal_and_reads_the_answer(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("ann", "", "")).await;
        let pat = own(t, "pat");
        let asked = try_say(&pat, to_patient("pat", MessageRoute::Portal, "May I see my results?")).await.unwrap();
        let (message, home) = (asked.message.unwrap(), asked.conversation.unwrap());
        assert_eq!((message.direction, message.route), (1, 2));
        assert_eq!((home.unread_count, home.patient_id.as_str()), (0, "pat"), "their own is not news to them");
        let seen = only(t).await;
        assert_eq!((seen.unread_count, seen.waiting_time.is_some()), (1, true));
        let (answer, _) = say(t, to_conversation(&home.conversation_id, MessageRoute::Portal, "They are in.")).await;
        assert_eq!(try_get(&pat, &home.conversation_id).await.unwrap().unread_count, 1);
        assert_eq!(only(t).await.unread_count, 1, "staff read what they read");
        assert_eq!(unread(&pat, &home.conversation_id, &answer).await, 0);
        let both = try_get(&pat, &home.conversation_id).await.unwrap();
        assert_eq!((both.patient_read_message_id, both.staff_read_message_id.as_str()), (answer.message_id, ""));
        // The portal's backend speaks for any of them.
        let portal = t.caller(Role::Portal);
        let on_behalf = try_say(&portal, to_patient("ann", MessageRoute::Portal, "From the app.")).await.unwrap();
        assert_eq!(on_behalf.conversation.unwrap().patient_id, "ann");
        assert_eq!(try_list(&portal, ACME, ConversationFilter::default()).await.unwrap().conversations.len(), 2);
        assert_eq!(bodies(&messages(t, &of(t, "ann").await.unwrap().conversation_id).await), ["From the app."]);
    }

    async fn patients_touch_nothing_but_what_is_theirs(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("ann", "", "+12025550143")).await;
        writes(t, "+12025550143", "Ann here.").await;
        writes(t, STRANGER, "Who am I?").await;
        let anns = of(t, "ann").await.unwrap().conversation_id;
        let strangers = view(t, Subset::Unlinked).await.remove(0);
        let first = messages(t, &anns).await.remove(0).message_id;
        let pat = own(t, "pat");
        for id in [&anns, &strangers] {
            refused(try_get(&pat, id).await, Code::NotFound, "NOT_FOUND");
            refused(try_messages(&pat, id).await, Code::NotFound, "NOT_FOUND");
            refused(try_mark(&pat, id, &first).await, Code::NotFound, "NOT_FOUND");
            refused(try_say(&pat, to_conversation(id, MessageRoute::Portal, "x")).await, Code::NotFound, "NOT_FOUND");
        }
        for id in ["ann", "nobody"] {
            let answer = try_say(&pat, to_patient(id, MessageRoute::Portal, "x")).await;
            refused(answer, Code::PermissionDenied, "SCOPE_FORBIDDEN");
            let filter = ConversationFilter { patient_id: id.into(), ..Default::default() };
            refused(try_list(&pat, ACME, filter).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        }
        let lost = own(t, "nobody");
        let answer = try_say(&lost, to_patient("nobody", MessageRoute::Portal, "x")).await;
        refused(answer, Code::PermissionDenied, "SCOPE_FORBIDDEN");
        let answer = try_say(&pat, to_patient("pat", MessageRoute::Sms, "x")).await;
        assert_eq!(fields(&refused(answer, Code::InvalidArgument, "FIELD_INVALID")), ["route"]);
        // Two patients' keys are two keys.
        let (one, other) = (to_patient("pat", MessageRoute::Portal, "x"), to_patient("ann", MessageRoute::Portal, "y"));
        try_say(&pat, one.clone()).await.unwrap();
        try_say(&own(t, "ann"), SendMessageRequest { request_id: one.request_id, ..other }).await.unwrap();
    }

    async fn patients_see_who_answered_by_name_and_not_by_account(t: &mut TestApp) {
        practice(t).await;
        let (said, home) = say(t, to_patient("pat", MessageRoute::Portal, "Hello Pat.")).await;
        let staff = said.author.unwrap();
        assert!(!staff.id.is_empty() && !staff.display_name.is_empty());
        let pat = own(t, "pat");
        try_say(&pat, to_conversation(&home.conversation_id, MessageRoute::Portal, "Hello.")).await.unwrap();
        let by = |messages: Vec<ConversationMessage>| -> Vec<(i32, String, String)> {
            messages.into_iter().filter_map(|it| it.author).map(|it| (it.r#type, it.id, it.display_name)).collect()
        };
        let of_staff = by(messages(t, &home.conversation_id).await);
        assert_eq!(of_staff[0], (staff.r#type, staff.id, staff.display_name.clone()));
        for caller in [&pat, &t.caller(Role::Portal)] {
            let mut seen = by(try_messages(caller, &home.conversation_id).await.unwrap());
            assert_eq!(seen.remove(0), (staff.r#type, String::new(), staff.display_name.clone()));
            assert_eq!(seen, of_staff[1..], "of their own they see all");
        }
        // A watch shows what a list does.
        let request = WatchConversationsRequest { practice_id: ACME.into(), ..Default::default() };
        let mut steps = pat.clone().conversations.watch_conversations(request).await.unwrap().into_inner();
        steps.message().await.unwrap();
        say(t, to_patient("pat", MessageRoute::Portal, "Anything else?")).await;
        let step = steps.message().await.unwrap().unwrap();
        let author = step.changes.into_iter().find_map(|change| change.message?.author).unwrap();
        assert_eq!((author.id, author.display_name), (String::new(), staff.display_name));
    }

    async fn who_takes_care_of_it_and_whether_it_is_done_are_for_staff(t: &mut TestApp) {
        practice(t).await;
        writes(t, PHONE, "Hello?").await;
        let home = only(t).await;
        assert_eq!(view(t, Subset::Unassigned).await, std::slice::from_ref(&home.conversation_id));
        let given = Conversation { assignee_id: "nurse-kim".into(), ..home.clone() };
        let given = try_update(t, given, &["assignee_id"]).await.unwrap();
        assert_eq!((given.assignee_id.as_str(), given.state), ("nurse-kim", 1));
        assert!(view(t, Subset::Unassigned).await.is_empty());
        assert_eq!(try_get(&own(t, "pat"), &home.conversation_id).await.unwrap().assignee_id, "");
        let closed = Conversation { state: State::Closed.into(), etag: String::new(), ..home.clone() };
        let closed = try_update(t, closed, &["state"]).await.unwrap();
        assert_eq!((closed.state, closed.assignee_id.as_str()), (2, "nurse-kim"));
        let open = ConversationFilter { states: vec![1], ..Default::default() };
        assert!(try_list(&t.caller(Role::Staff), ACME, open).await.unwrap().conversations.is_empty());
        let kims = ConversationFilter { assignee_ids: vec!["nurse-kim".into(), "x".into()], ..Default::default() };
        assert_eq!(try_list(&t.caller(Role::Staff), ACME, kims).await.unwrap().conversations.len(), 1);
        // A repeat changes nothing; what was read before is out of date.
        let again = try_update(t, Conversation { etag: String::new(), ..closed.clone() }, &["state"]).await.unwrap();
        assert_eq!(again.etag, closed.etag);
        let stale = refused(try_update(t, home, &["state"]).await, Code::Aborted, "ETAG_MISMATCH");
        assert_eq!(metadata(&stale, "current_etag"), closed.etag);
        // Whatever is to be read opens it; a keyword is not.
        writes(t, PHONE, "HELP").await;
        assert_eq!(only(t).await.state, 2);
        writes(t, PHONE, "Are you there?").await;
        let reopened = only(t).await;
        assert_eq!((reopened.state, reopened.assignee_id.as_str()), (1, "nurse-kim"));
        assert_ne!(reopened.etag, closed.etag);
        try_update(t, Conversation { state: 2, etag: String::new(), ..reopened.clone() }, &["state"]).await.unwrap();
        let (_, answered) = say(t, to_conversation(&reopened.conversation_id, MessageRoute::Sms, "Yes.")).await;
        assert_eq!(answered.state, 1);
        for (paths, at) in [
            (&["phone_hint"][..], &["update_mask"][..]),
            (&["phone_hint", "patient_id", "etag"], &["update_mask"]),
            (&["*"], &["update_mask"]),
            (&[], &["update_mask"]),
        ] {
            let status = refused(try_update(t, reopened.clone(), paths).await, Code::InvalidArgument, "FIELD_INVALID");
            assert_eq!(fields(&status), at);
        }
        let odd = Conversation { state: 7, assignee_id: "a\nb".into(), ..reopened };
        let status = refused(try_update(t, odd, &["state", "assignee_id"]).await, Code::InvalidArgument, "FIELD_INVALID");
        assert_eq!(fields(&status), ["conversation.assignee_id", "conversation.state"]);
    }

    async fn a_mark_only_goes_forward_and_counts_what_lies_after_it(t: &mut TestApp) {
        practice(t).await;
        for n in 1..=5 {
            writes(t, PHONE, &format!("message {n}")).await;
        }
        writes(t, PHONE, "START").await;
        let (home, staff) = (only(t).await.conversation_id, t.caller(Role::Staff));
        assert_eq!(only(t).await.unread_count, 6, "a START that opts nobody in is read like any text");
        let said = messages(t, &home).await;
        for (place, left) in [(1, 4), (3, 2), (0, 2), (3, 2), (4, 1), (5, 0), (2, 0)] {
            assert_eq!(unread(&staff, &home, &said[place]).await, left, "{place}");
        }
        assert!(view(t, Subset::Unread).await.is_empty());
        assert_eq!(only(t).await.staff_read_message_id, said[5].message_id);
        let nowhere = "00000000-0000-7000-8000-000000000000";
        refused(try_mark(&staff, &home, nowhere).await, Code::NotFound, "NOT_FOUND");
        writes(t, STRANGER, "elsewhere").await;
        let other = messages(t, &view(t, Subset::Unlinked).await[0]).await.remove(0).message_id;
        refused(try_mark(&staff, &home, &other).await, Code::NotFound, "NOT_FOUND");
        refused(try_mark(&staff, nowhere, &other).await, Code::NotFound, "NOT_FOUND");
    }

    async fn a_request_to_stop_is_looked_at_until_staff_say_what_it_was(t: &mut TestApp) {
        practice(t).await;
        writes(t, PHONE, "STOP").await;
        let quiet = only(t).await;
        assert_eq!((quiet.unread_count, quiet.waiting_time), (0, None));
        writes(t, PHONE, "start").await;
        writes(t, PHONE, "please stop texting me").await;
        let loud = only(t).await;
        assert_eq!((loud.unread_count, loud.waiting_time.is_some()), (1, true));
        let said = messages(t, &loud.conversation_id).await;
        let sources: Vec<_> = said.iter().map(ConversationMessage::consent_source).collect();
        let keyword = ConsentSource::SmsKeyword;
        assert!(sources == [keyword, keyword, ConsentSource::SmsFreeText]);
        assert_eq!(view(t, Subset::StopRequested).await, std::slice::from_ref(&loud.conversation_id));
        writes(t, PHONE, "I meant the reminders.").await;
        assert_eq!(view(t, Subset::StopRequested).await.len(), 1);
        let request = RecordConsentRequest {
            practice_id: ACME.into(),
            request_id: new_key(),
            patient_id: "pat".into(),
            channel: Channel::Sms.into(),
            state: ConsentState::OptedIn.into(),
            source: ConsentSource::Staff.into(),
            effective_time: None,
            evidence: "on the phone".into(),
        };
        t.caller(Role::Staff).preferences.record_consent(request).await.unwrap();
        assert!(view(t, Subset::StopRequested).await.is_empty());
        assert_eq!(all_said(t).await.len(), 4);
    }

    async fn lists_are_paged_in_the_order_of_the_latest_activity(t: &mut TestApp) {
        practice(t).await;
        let phones: Vec<String> = (0..7).map(|n| format!("+1202555016{n}")).collect();
        for phone in &phones {
            writes(t, phone, "one").await;
            t.advance(chrono::TimeDelta::seconds(1));
        }
        writes(t, &phones[2], "two").await;
        let expected: Vec<String> = [2, 6, 5, 4, 3, 1, 0].map(|n| phones[n].clone()).into();
        let hints = |conversations: &[Conversation]| conversations.iter().map(|it| it.phone_hint.clone()).collect::<Vec<_>>();
        assert_eq!(hints(&all(t).await), expected);
        let staff = t.caller(Role::Staff);
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let request = ListConversationsRequest { practice_id: ACME.into(), page_size: 3, page_token: token.clone(), filter: None };
            let page = staff.clone().conversations.list_conversations(request).await.unwrap().into_inner();
            assert_eq!(page.watch_cursor.is_empty(), !token.is_empty(), "on the first page only");
            listed.extend(hints(&page.conversations));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, expected);
        // A token is for the practice and the list that it came with. Messages are paged too.
        bare_practice(t, "beta").await;
        let request = ListConversationsRequest { practice_id: ACME.into(), page_size: 1, ..Default::default() };
        let token = staff.clone().conversations.list_conversations(request).await.unwrap().into_inner().next_page_token;
        let foreign = ListConversationsRequest {
            practice_id: "beta".into(),
            page_size: 1,
            page_token: token,
            ..Default::default()
        };
        let answer = staff_of(t, "beta").conversations.list_conversations(foreign).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        let home = all(t).await.remove(0).conversation_id;
        let request = |page_token: &str, id: &str| ListMessagesRequest {
            practice_id: ACME.into(),
            conversation_id: id.into(),
            page_size: 1,
            page_token: page_token.into(),
        };
        let first = staff.clone().conversations.list_messages(request("", &home)).await.unwrap().into_inner();
        assert_eq!(bodies(&first.messages), ["two"]);
        let token = first.next_page_token;
        let second = staff.clone().conversations.list_messages(request(&token, &home)).await.unwrap().into_inner();
        assert_eq!((bodies(&second.messages), second.next_page_token.as_str()), (vec!["one"], ""));
        let other = all(t).await.remove(1).conversation_id;
        let answer = staff.clone().conversations.list_messages(request(&token, &other)).await;
        refused(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        let answer = ListConversationsRequest { practice_id: ACME.into(), page_token: token, ..Default::default() };
        refused(staff.clone().conversations.list_conversations(answer).await, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        // However large the page that is asked for, an answer has a limit.
        for n in 0..60 {
            say(t, to_patient("pat", MessageRoute::Portal, &format!("{n:02}{}", "x".repeat(19_998)))).await;
        }
        let long = of(t, "pat").await.unwrap().conversation_id;
        let request = ListMessagesRequest { page_size: 200, ..request("", &long) };
        let page = staff.clone().conversations.list_messages(request).await.unwrap().into_inner();
        assert!((40..60).contains(&page.messages.len()) && !page.next_page_token.is_empty(), "{}", page.messages.len());
    }
}
