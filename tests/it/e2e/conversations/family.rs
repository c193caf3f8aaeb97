//! Families: parents and children, shared numbers and changed ones, numbers that nobody has, and one patient of two practices.
//! Nobody's text lands in somebody else's conversation.

use heedwell::{
    domain::Role,
    grpc::proto::{
        Channel, Conversation, ConversationFilter, LinkConversationRequest, MessageRoute, Patient, SendMessageRequest,
        conversation_filter::Subset,
    },
};
use reqwest::StatusCode;
use tonic::{Code, Status};

use super::{
    STRANGER, all, bodies, messages, of, only, own, staff_of, texts_in, to_conversation, to_patient, try_get, try_list,
    try_say, view, writes,
};
use crate::{
    e2e::{
        consent::all_said,
        given::{PHONE, patient, practice, practice_named, put_patient, send_over},
        seen::{metadata, refused, skipped, until_state},
    },
    support::app::{ACME, TestApp, on_a_server},
};

const ANNS: &str = "+12025550143";
const BENS: &str = "+12025550144";

async fn has(t: &TestApp, id: &str, phone: &str) {
    put_patient(t, ACME, patient(id, "", phone)).await;
}

async fn try_link(t: &TestApp, id: &str, patient: &str, store_number: bool) -> Result<Conversation, Status> {
    let request = LinkConversationRequest {
        practice_id: ACME.into(),
        conversation_id: id.into(),
        patient_id: patient.into(),
        store_number,
    };
    let answer = t.caller(Role::Staff).conversations.link_conversation(request).await?;
    Ok(answer.into_inner().conversation.unwrap())
}

/// Of which patient the conversation is, and what is in it.
async fn told(t: &TestApp, conversation: &Conversation) -> (String, Vec<String>) {
    let messages = messages(t, &conversation.conversation_id).await;
    (conversation.patient_id.clone(), bodies(&messages).into_iter().map(str::to_owned).collect())
}

on_a_server! {
    async fn a_text_is_in_the_conversation_of_the_patient_who_has_the_number(t: &mut TestApp) {
        practice(t).await;
        has(t, "ann", ANNS).await;
        writes(t, ANNS, "May I come earlier?").await;
        writes(t, PHONE, "Thank you!").await;
        t.advance(chrono::TimeDelta::seconds(1));
        writes(t, ANNS, "At eight, I mean.").await;
        let conversations = all(t).await;
        assert_eq!(conversations.len(), 2);
        assert_eq!(told(t, &conversations[0]).await, ("ann".into(), vec!["May I come earlier?".into(), "At eight, I mean.".into()]));
        assert_eq!(told(t, &conversations[1]).await, ("pat".into(), vec!["Thank you!".into()]));
        let ann = &conversations[0];
        assert_eq!((ann.unread_count, ann.phone_hint.as_str()), (2, "(•••) •••-0143"));
        assert!(ann.candidate_patient_ids.is_empty() && ann.waiting_time.is_some());
        let first = &messages(t, &ann.conversation_id).await[0];
        assert_eq!((first.direction, first.route), (1, 1));
        assert_eq!(first.author.as_ref().map(|it| (it.r#type, it.id.as_str())), Some((3, "ann")));
    }

    async fn however_the_practice_wrote_the_number_it_is_found(t: &mut TestApp) {
        practice(t).await;
        for (id, spelling, number) in [
            ("ann", "(202) 555-0143", ANNS),
            ("ben", "1-202-555-0144", BENS),
            ("cleo", "+1 202 555 0145", "+12025550145"),
        ] {
            put_patient(t, ACME, Patient { mobile_phone: spelling.into(), ..patient(id, "", "") }).await;
            writes(t, number, id).await;
            let own = of(t, id).await.expect("their own");
            assert_eq!(told(t, &own).await, (id.into(), vec![id.into()]), "{spelling}");
        }
    }

    async fn a_number_of_several_waits_for_staff_and_names_the_last_written_to_first(t: &mut TestApp) {
        practice(t).await;
        for id in ["ann", "kid-1", "kid-2"] {
            has(t, id, ANNS).await;
        }
        writes(t, ANNS, "She has a fever.").await;
        let shared = only(t).await;
        assert_eq!((shared.patient_id.as_str(), shared.phone_hint.as_str()), ("", ANNS));
        assert_eq!(shared.candidate_patient_ids, ["ann", "kid-1", "kid-2"], "nobody was written to");
        assert_eq!(view(t, Subset::Unlinked).await, std::slice::from_ref(&shared.conversation_id));
        until_state(t, &send_over(t, "kid-2", Channel::Sms).await, "DELIVERED").await;
        until_state(t, &send_over(t, "kid-1", Channel::Sms).await, "DELIVERED").await;
        assert_eq!(only(t).await.candidate_patient_ids, ["kid-1", "kid-2", "ann"]);
        // The next text waits in the same place, and no patient has any of it.
        writes(t, ANNS, "And a rash.").await;
        assert_eq!(told(t, &only(t).await).await.1, ["She has a fever.", "And a rash."]);
        for id in ["ann", "kid-1", "kid-2"] {
            assert!(of(t, id).await.is_none());
            assert!(try_list(&own(t, id), ACME, ConversationFilter::default()).await.unwrap().conversations.is_empty());
            refused(try_get(&own(t, id), &shared.conversation_id).await, Code::NotFound, "NOT_FOUND");
        }
        refused(try_get(&t.caller(Role::Portal), &shared.conversation_id).await, Code::NotFound, "NOT_FOUND");
    }

    async fn a_number_that_changes_hands_leaves_what_was_said_where_it_was(t: &mut TestApp) {
        practice(t).await;
        has(t, "ann", ANNS).await;
        writes(t, ANNS, "Ann here.").await;
        has(t, "ann", BENS).await;
        writes(t, ANNS, "Nobody has it now.").await;
        has(t, "ben", ANNS).await;
        writes(t, ANNS, "Ben here.").await;
        writes(t, BENS, "Ann again.").await;
        let conversations = all(t).await;
        assert_eq!(conversations.len(), 3);
        assert_eq!(told(t, &of(t, "ann").await.unwrap()).await.1, ["Ann here.", "Ann again."]);
        assert_eq!(told(t, &of(t, "ben").await.unwrap()).await.1, ["Ben here."]);
        let [between] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
        assert_eq!(bodies(&messages(t, between).await), ["Nobody has it now."]);
        assert_eq!(try_get(&t.caller(Role::Staff), between).await.unwrap().candidate_patient_ids, ["ben"]);
    }

    async fn an_unknown_number_is_given_to_a_patient_with_all_that_it_said(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "It is Pat, from my new phone.").await;
        let stranger = only(t).await;
        assert_eq!((stranger.phone_hint.as_str(), stranger.candidate_patient_ids.len()), (STRANGER, 0));
        writes(t, PHONE, "Is anybody there?").await;
        writes(t, STRANGER, "Hello?").await;
        let before = of(t, "pat").await.unwrap();
        let linked = try_link(t, &stranger.conversation_id, "pat", true).await.unwrap();
        assert_eq!((&linked.conversation_id, linked.patient_id.as_str()), (&before.conversation_id, "pat"));
        assert_eq!((linked.unread_count, linked.waiting_time), (3, stranger.waiting_time));
        let said = ["It is Pat, from my new phone.", "Is anybody there?", "Hello?"];
        assert_eq!(told(t, &only(t).await).await, ("pat".into(), said.map(str::to_owned).into()));
        // The old id leads there, and a repeat changes nothing.
        let old = try_get(&t.caller(Role::Staff), &stranger.conversation_id).await.unwrap();
        assert!(old == linked);
        assert!(try_link(t, &stranger.conversation_id, "pat", true).await.unwrap() == linked);
        assert_eq!(bodies(&messages(t, &stranger.conversation_id).await), said);
        // The number is the patient's now.
        writes(t, STRANGER, "Good.").await;
        assert_eq!(only(t).await.conversation_id, linked.conversation_id);
        writes(t, PHONE, "Not mine any more.").await;
        assert_eq!(view(t, Subset::Unlinked).await.len(), 1);
    }

    async fn a_number_that_is_not_stored_begins_anew(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "one").await;
        let stranger = only(t).await;
        let linked = try_link(t, &stranger.conversation_id, "pat", false).await.unwrap();
        assert_eq!(linked.patient_id, "pat");
        writes(t, STRANGER, "two").await;
        let [again] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
        assert_ne!(*again, stranger.conversation_id);
        assert_eq!(bodies(&messages(t, again).await), ["two"]);
        assert_eq!(bodies(&messages(t, &stranger.conversation_id).await), ["one"]);
    }

    async fn what_is_somebodys_is_given_to_nobody_else(t: &mut TestApp) {
        practice(t).await;
        has(t, "ann", ANNS).await;
        writes(t, STRANGER, "one").await;
        let stranger = only(t).await.conversation_id;
        refused(try_link(t, &stranger, "nobody", false).await, Code::NotFound, "NOT_FOUND");
        assert_eq!(only(t).await.patient_id, "", "nothing was done");
        let pats = try_link(t, &stranger, "pat", false).await.unwrap().conversation_id;
        for id in [&stranger, &pats] {
            let status = refused(try_link(t, id, "ann", false).await, Code::FailedPrecondition, "STATE_FORBIDS");
            assert_eq!(metadata(&status, "state"), "LINKED");
        }
        let status = refused(try_link(t, &pats, "pat", true).await, Code::FailedPrecondition, "STATE_FORBIDS");
        assert_eq!(metadata(&status, "state"), "NO_NUMBER");
        let nowhere = "00000000-0000-7000-8000-000000000000";
        refused(try_link(t, nowhere, "pat", false).await, Code::NotFound, "NOT_FOUND");
        // Whoever writes from no phone has no number to store.
        writes(t, "12345", "Your code is 1.").await;
        let [short] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the code") };
        assert_eq!(try_get(&t.caller(Role::Staff), short).await.unwrap().phone_hint, "12345");
        refused(try_link(t, short, "pat", true).await, Code::FailedPrecondition, "STATE_FORBIDS");
        assert_eq!(try_link(t, short, "pat", false).await.unwrap().conversation_id, pats);
    }

    async fn a_number_brings_its_opt_out_along(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "STOP").await;
        let stranger = only(t).await;
        assert_eq!((stranger.unread_count, stranger.waiting_time), (0, None), "Twilio answers it");
        try_link(t, &stranger.conversation_id, "pat", true).await.unwrap();
        assert_eq!(all_said(t).await, [("OPTED_OUT", "SMS_KEYWORD"), ("OPTED_OUT", "SMS_KEYWORD")]);
        assert_eq!(skipped(&until_state(t, &send_over(t, "pat", Channel::Sms).await, "SKIPPED").await), "OPTED_OUT");
    }

    async fn stop_from_a_shared_number_binds_all_who_have_it(t: &mut TestApp) {
        practice(t).await;
        for id in ["ann", "kid"] {
            has(t, id, ANNS).await;
        }
        writes(t, ANNS, "please stop texting me").await;
        let shared = only(t).await;
        assert_eq!((shared.unread_count, shared.candidate_patient_ids.len()), (1, 2));
        assert_eq!(view(t, Subset::StopRequested).await, std::slice::from_ref(&shared.conversation_id));
        for id in ["ann", "kid"] {
            let delivery = until_state(t, &send_over(t, id, Channel::Sms).await, "SKIPPED").await;
            assert_eq!(skipped(&delivery), "OPTED_OUT");
        }
        // Given to one of them, it is theirs to look after.
        let anns = try_link(t, &shared.conversation_id, "ann", false).await.unwrap();
        assert_eq!(view(t, Subset::StopRequested).await, [anns.conversation_id]);
    }

    async fn two_practices_with_one_patient_share_nothing(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        assert_eq!(texts_in(t, ACME, PHONE, "To Acme.").await, StatusCode::OK);
        assert_eq!(texts_in(t, "beta", PHONE, "To Beta.").await, StatusCode::OK);
        assert_eq!(texts_in(t, "beta", STRANGER, "Who are you?").await, StatusCode::OK);
        let acme = only(t).await;
        assert_eq!(told(t, &acme).await.1, ["To Acme."]);
        let betas = try_list(&staff_of(t, "beta"), "beta", ConversationFilter::default()).await.unwrap();
        assert_eq!(betas.conversations.len(), 2);
        for foreign in &betas.conversations {
            let id = &foreign.conversation_id;
            refused(try_get(&t.caller(Role::Staff), id).await, Code::NotFound, "NOT_FOUND");
            refused(try_link(t, id, "pat", true).await, Code::NotFound, "NOT_FOUND");
        }
        // Nobody of one practice is given what was said in the other.
        put_patient(t, "beta", patient("bea", "", BENS)).await;
        assert_eq!(texts_in(t, ACME, STRANGER, "And you?").await, StatusCode::OK);
        let strangers = view(t, Subset::Unlinked).await.remove(0);
        refused(try_link(t, &strangers, "bea", true).await, Code::NotFound, "NOT_FOUND");
        let both = staff_of(t, "beta");
        refused(try_list(&both, ACME, ConversationFilter::default()).await, Code::PermissionDenied, "SCOPE_FORBIDDEN");
    }

    async fn a_number_that_is_shared_for_a_while_is_one_patients_again(t: &mut TestApp) {
        practice(t).await;
        has(t, "ann", ANNS).await;
        writes(t, ANNS, "Ann here.").await;
        has(t, "kid", ANNS).await;
        writes(t, ANNS, "One of us.").await;
        let [shared] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
        assert_eq!(try_get(&t.caller(Role::Staff), shared).await.unwrap().candidate_patient_ids, ["ann", "kid"]);
        has(t, "kid", BENS).await;
        writes(t, ANNS, "Ann again.").await;
        writes(t, BENS, "The kid.").await;
        assert_eq!(told(t, &of(t, "ann").await.unwrap()).await.1, ["Ann here.", "Ann again."]);
        assert_eq!(told(t, &of(t, "kid").await.unwrap()).await.1, ["The kid."]);
        assert_eq!(bodies(&messages(t, shared).await), ["One of us."], "it is still for staff to say whose");
        assert_eq!(try_get(&t.caller(Role::Staff), shared).await.unwrap().candidate_patient_ids, ["ann"]);
    }

    async fn of_a_shared_number_each_text_is_given_to_whom_staff_say(t: &mut TestApp) {
        practice(t).await;
        for id in ["ann", "kid"] {
            has(t, id, ANNS).await;
        }
        let mut given = Vec::new();
        for (id, body) in [("kid", "My tooth hurts."), ("ann", "My back hurts."), ("kid", "It is better.")] {
            writes(t, ANNS, body).await;
            let [shared] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
            // Whether or not it is stored: they have it already.
            try_link(t, shared, id, given.is_empty()).await.unwrap();
            given.push((shared.clone(), id));
        }
        assert!(view(t, Subset::Unlinked).await.is_empty());
        assert_eq!(told(t, &of(t, "kid").await.unwrap()).await.1, ["My tooth hurts.", "It is better."]);
        assert_eq!(told(t, &of(t, "ann").await.unwrap()).await.1, ["My back hurts."]);
        for (shared, id) in given {
            assert_eq!(try_get(&t.caller(Role::Staff), &shared).await.unwrap().patient_id, id, "it leads there");
        }
    }

    async fn a_number_that_is_stored_for_a_second_patient_is_shared_from_then_on(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "I am the mother.").await;
        let stranger = only(t).await.conversation_id;
        has(t, "ann", STRANGER).await;
        put_patient(t, ACME, patient("kid", "kid@example.com", "")).await;
        try_link(t, &stranger, "kid", true).await.unwrap();
        writes(t, STRANGER, "Which one?").await;
        let [shared] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
        assert_eq!(try_get(&t.caller(Role::Staff), shared).await.unwrap().candidate_patient_ids, ["ann", "kid"]);
        assert_eq!(told(t, &of(t, "kid").await.unwrap()).await.1, ["I am the mother."]);
        assert!(of(t, "ann").await.is_none());
    }

    async fn whoever_left_the_practice_still_has_their_number(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, Patient { inactive: true, ..patient("ann", "", ANNS) }).await;
        writes(t, ANNS, "May I come back?").await;
        let anns = only(t).await;
        assert_eq!(anns.patient_id, "ann");
        let answer = try_say(&t.caller(Role::Staff), to_conversation(&anns.conversation_id, MessageRoute::Sms, "Yes.")).await;
        assert_eq!(metadata(&refused(answer, Code::FailedPrecondition, "UNREACHABLE"), "skip_reason"), "PATIENT_INACTIVE");
        // A child who has stayed does not get what the mother says.
        has(t, "kid", ANNS).await;
        writes(t, ANNS, "Or the little one?").await;
        assert_eq!(told(t, &of(t, "ann").await.unwrap()).await.1, ["May I come back?"]);
        assert!(of(t, "kid").await.is_none() && view(t, Subset::Unlinked).await.len() == 1);
    }

    async fn start_from_a_shared_number_frees_all_who_have_it_in_this_practice_alone(t: &mut TestApp) {
        practice(t).await;
        practice_named(t, "beta").await;
        for id in ["ann", "kid"] {
            has(t, id, ANNS).await;
        }
        put_patient(t, "beta", patient("ann", "", ANNS)).await;
        let beta = staff_of(t, "beta");
        let to_beta = || SendMessageRequest {
            practice_id: "beta".into(),
            ..to_patient("ann", MessageRoute::Sms, "Hello from Beta.")
        };
        for (word, fate) in [("STOP", "SKIPPED"), ("START", "DELIVERED")] {
            writes(t, ANNS, word).await;
            for id in ["ann", "kid"] {
                until_state(t, &send_over(t, id, Channel::Sms).await, fate).await;
            }
            try_say(&beta, to_beta()).await.expect("it was said to Acme");
        }
        assert_eq!(texts_in(t, "beta", ANNS, "STOP").await, StatusCode::OK);
        refused(try_say(&beta, to_beta()).await, Code::FailedPrecondition, "OPTED_OUT");
        until_state(t, &send_over(t, "ann", Channel::Sms).await, "DELIVERED").await;
    }

    async fn of_two_who_give_it_away_at_once_one_does(t: &mut TestApp) {
        practice(t).await;
        has(t, "ann", ANNS).await;
        for round in 0..5 {
            writes(t, STRANGER, &format!("round {round}")).await;
            let [stranger] = &view(t, Subset::Unlinked).await[..] else { panic!("one of the number") };
            let links = ["ann", "pat", "ann", "pat"].map(|id| try_link(t, stranger, id, false));
            let mut given = Vec::new();
            for link in futures::future::join_all(links).await {
                match link {
                    Ok(linked) => given.push(linked.patient_id),
                    Err(status) => drop(refused::<()>(Err(status), Code::FailedPrecondition, "STATE_FORBIDS")),
                }
            }
            assert_eq!(given.len(), 2, "both who say the same");
            assert_eq!(given[0], given[1]);
            assert_eq!(try_get(&t.caller(Role::Staff), stranger).await.unwrap().patient_id, given[0]);
        }
        let mut all_of_it = Vec::new();
        for conversation in all(t).await {
            all_of_it.extend(told(t, &conversation).await.1);
        }
        all_of_it.sort();
        assert_eq!(all_of_it, (0..5).map(|round| format!("round {round}")).collect::<Vec<_>>());
    }

    async fn texts_that_come_while_it_is_given_away_are_all_kept(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "first").await;
        let stranger = only(t).await.conversation_id;
        let wanted: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
        let texts = wanted.iter().map(|body| writes(t, STRANGER, body));
        let (_, linked) = tokio::join!(futures::future::join_all(texts), try_link(t, &stranger, "pat", true));
        assert_eq!(linked.unwrap().patient_id, "pat");
        let mut kept = Vec::new();
        for conversation in all(t).await {
            kept.extend(told(t, &conversation).await.1);
        }
        kept.retain(|body| body != "first");
        kept.sort();
        assert_eq!(kept, wanted);
        // From now on it is Pat's number.
        writes(t, STRANGER, "last").await;
        assert_eq!(told(t, &of(t, "pat").await.unwrap()).await.1.last().unwrap(), "last");
    }
}
