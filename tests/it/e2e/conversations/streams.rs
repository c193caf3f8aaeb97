//! Watches of conversations: each message once, in order, to whoever may see it, on whichever server.

use heedwell::{
    domain::Role,
    grpc::proto::{
        ConversationFilter, LinkConversationRequest, MessageRoute, WatchConversationsRequest,
        WatchConversationsResponse, conversation_filter::Subset, watch_conversations_response::ConversationChange,
    },
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::{STRANGER, messages, of, only, own, say, to_conversation, to_patient, try_list, try_say, view, writes};
use crate::{
    e2e::{
        given::{PHONE, bare_practice, patient, practice, put_patient, send_over, token},
        seen::{metadata, refused, until_state},
    },
    support::app::{ACME, Caller, LIMIT, on_a_server},
};

/// An open watch.
struct Watcher {
    steps: Streaming<WatchConversationsResponse>,
    cursor: String,
}

impl Watcher {
    async fn open(caller: &Caller, conversation: &str, cursor: &str) -> Result<Self, Status> {
        let request = WatchConversationsRequest {
            practice_id: ACME.into(),
            conversation_id: conversation.into(),
            cursor: cursor.into(),
            heartbeat_interval: None,
        };
        let steps = caller.clone().conversations.watch_conversations(request).await?.into_inner();
        let mut watcher = Self { steps, cursor: String::new() };
        assert!(watcher.step().await?.changes.is_empty(), "the first response is a checkpoint");
        Ok(watcher)
    }

    async fn step(&mut self) -> Result<WatchConversationsResponse, Status> {
        let step = timeout(LIMIT, self.steps.message()).await.expect("a response in time")?.expect("it goes on");
        assert!(!step.cursor.is_empty());
        self.cursor.clone_from(&step.cursor);
        Ok(step)
    }

    /// All changes up to and with the first that `wanted` holds for.
    async fn until(&mut self, wanted: impl Fn(&ConversationChange) -> bool) -> Vec<ConversationChange> {
        let mut seen = Vec::new();
        while !seen.iter().any(&wanted) {
            seen.extend(self.step().await.unwrap().changes);
        }
        seen
    }

    /// The texts of new messages up to and with one that says `last`.
    async fn texts_until(&mut self, last: &str) -> Vec<String> {
        let says = |change: &ConversationChange| change.message.as_ref().is_some_and(|it| it.body == last);
        let changes = self.until(says).await;
        new_texts(&changes)
    }
}

/// What is new, and not told for the sake of its delivery.
fn new_texts(changes: &[ConversationChange]) -> Vec<String> {
    let messages = changes.iter().filter_map(|change| change.message.as_ref());
    let new = messages.filter(|message| message.delivery_id.is_empty() || message.delivery_state == 1);
    new.map(|message| message.body.clone()).collect()
}

fn states_of(changes: &[ConversationChange], body: &str) -> Vec<i32> {
    let messages = changes.iter().filter_map(|change| change.message.as_ref()).filter(|message| message.body == body);
    messages.map(|message| message.delivery_state).collect()
}

on_a_server! {
    async fn what_changes_is_seen_by_whoever_it_is_for(t: &mut TestApp) {
        practice(t).await;
        put_patient(t, ACME, patient("ann", "", "+12025550143")).await;
        let (staff, pat, portal) = (t.caller(Role::Staff), own(t, "pat"), t.caller(Role::Portal));
        let mut desk = Watcher::open(&staff, "", "").await.unwrap();
        let mut phone = Watcher::open(&pat, "", "").await.unwrap();
        let mut backend = Watcher::open(&portal, "", "").await.unwrap();
        writes(t, "+12025550143", "Ann here.").await;
        writes(t, STRANGER, "Who am I?").await;
        writes(t, PHONE, "Pat here.").await;
        let (sent, _) = say(t, to_patient("pat", MessageRoute::Sms, "Hello Pat.")).await;
        until_state(t, &sent.delivery_id, "DELIVERED").await;
        say(t, to_patient("pat", MessageRoute::Portal, "See the portal.")).await;
        try_say(&pat, to_patient("pat", MessageRoute::Portal, "That is all.")).await.unwrap();
        let last = |change: &ConversationChange| change.message.as_ref().is_some_and(|it| it.body == "That is all.");
        let seen = desk.until(last).await;
        let pats = ["Pat here.", "Hello Pat.", "See the portal.", "That is all."];
        assert_eq!(new_texts(&seen), [&["Ann here.", "Who am I?"][..], &pats].concat());
        assert_eq!(states_of(&seen, "Hello Pat."), [1, 3, 4], "pending, sent, delivered");
        let seen = phone.until(last).await;
        assert_eq!(new_texts(&seen), pats);
        assert!(seen.iter().all(|change| change.conversation.as_ref().unwrap().patient_id == "pat"));
        assert_eq!(seen.last().unwrap().conversation.as_ref().unwrap().unread_count, 1, "as the patient counts");
        let seen = backend.until(last).await;
        assert_eq!(new_texts(&seen), [&["Ann here."][..], &pats].concat(), "none of a number that is nobody's");
    }

    async fn one_conversation_is_followed_to_where_it_goes(t: &mut TestApp) {
        practice(t).await;
        writes(t, STRANGER, "one").await;
        let stranger = only(t).await.conversation_id;
        let staff = t.caller(Role::Staff);
        let mut one = Watcher::open(&staff, &stranger, "").await.unwrap();
        let mut pats = Watcher::open(&own(t, "pat"), "", "").await.unwrap();
        writes(t, PHONE, "elsewhere").await;
        writes(t, STRANGER, "two").await;
        assert_eq!(one.texts_until("two").await, ["two"]);
        let request = LinkConversationRequest {
            practice_id: ACME.into(),
            conversation_id: stranger.clone(),
            patient_id: "pat".into(),
            store_number: true,
        };
        t.caller(Role::Staff).conversations.link_conversation(request).await.unwrap();
        writes(t, STRANGER, "three").await;
        let seen = one.until(|change| change.message.as_ref().is_some_and(|it| it.body == "three")).await;
        let home = of(t, "pat").await.unwrap().conversation_id;
        assert_eq!(seen[0].conversation.as_ref().unwrap().conversation_id, stranger);
        assert_eq!(seen[0].conversation.as_ref().unwrap().patient_id, "pat", "it is nobody's no more");
        assert!(seen[1..].iter().all(|it| it.conversation.as_ref().unwrap().conversation_id == home));
        assert_eq!(new_texts(&seen), ["one", "two", "three"]);
        assert_eq!(pats.texts_until("three").await, ["elsewhere", "one", "two", "three"]);
        // Whoever asks for the old one later is led there too.
        let mut late = Watcher::open(&staff, &stranger, "").await.unwrap();
        writes(t, STRANGER, "four").await;
        assert_eq!(late.texts_until("four").await, ["four"]);
    }

    async fn after_a_break_nothing_is_missing(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let listed = try_list(&staff, ACME, ConversationFilter::default()).await.unwrap();
        let mut cursor = listed.watch_cursor;
        let mut seen = Vec::new();
        for n in 0..100 {
            writes(t, PHONE, &n.to_string()).await;
            if n % 10 == 9 {
                let mut watcher = Watcher::open(&staff, "", &cursor).await.unwrap();
                seen.extend(watcher.texts_until(&n.to_string()).await);
                cursor = watcher.cursor;
                // Of other streams much happens meanwhile.
                send_over(t, "pat", heedwell::grpc::proto::Channel::InApp).await;
            }
        }
        assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(messages(t, &only(t).await.conversation_id).await.len(), 100);
    }

    async fn a_cursor_is_for_its_practice_and_its_stream(t: &mut TestApp) {
        practice(t).await;
        bare_practice(t, "beta").await;
        let beta = t.caller_with(&token(t, Role::Staff, "beta"));
        let foreign = try_list(&beta, "beta", ConversationFilter::default()).await.unwrap().watch_cursor;
        let staff = t.caller(Role::Staff);
        let of_deliveries = crate::e2e::seen::list(t, Default::default()).await.watch_cursor;
        for cursor in [foreign.as_str(), of_deliveries.as_str(), "x"] {
            refused(Watcher::open(&staff, "", cursor).await.map(drop), Code::InvalidArgument, "CURSOR_INVALID");
        }
        let nowhere = "00000000-0000-7000-8000-000000000000";
        refused(Watcher::open(&staff, nowhere, "").await.map(drop), Code::NotFound, "NOT_FOUND");
        writes(t, STRANGER, "one").await;
        let stranger = view(t, Subset::Unlinked).await.remove(0);
        refused(Watcher::open(&own(t, "pat"), &stranger, "").await.map(drop), Code::NotFound, "NOT_FOUND");
    }
}

on_a_server! {
    sqlite:
    async fn a_hundred_watches_of_one_subject_go_over_one_connection_and_no_more(t: &mut TestApp) {
        practice(t).await;
        let staff = t.caller(Role::Staff);
        let mut open = Vec::new();
        for _ in 0..100 {
            // Each has begun, and is no call that waits for its answer any more.
            open.push(Watcher::open(&staff, "", "").await.unwrap());
        }
        let one_more = Watcher::open(&staff, "", "").await.map(drop);
        let status = refused(one_more, Code::ResourceExhausted, "TOO_MANY_WATCHES");
        assert_eq!(metadata(&status, "limit"), "100");
        writes(t, PHONE, "Hello?").await;
        for watcher in &mut open {
            assert_eq!(watcher.texts_until("Hello?").await, ["Hello?"]);
        }
    }
}

on_a_server! {
    postgres:
    async fn watchers_on_two_servers_see_each_message_once_and_in_order(t: &mut TestApp) {
        practice(t).await;
        let other = t.replica(|_| {}).await;
        let elsewhere = |token: &str| Caller::new(other.channel.clone(), token);
        let (here, there) = (t.caller(Role::Staff), elsewhere(&t.token(Role::Staff)));
        let mut watchers = [
            Watcher::open(&here, "", "").await.unwrap(),
            Watcher::open(&there, "", "").await.unwrap(),
            Watcher::open(&elsewhere(&t.token(Role::Portal)), "", "").await.unwrap(),
        ];
        writes(t, PHONE, "first").await;
        let home = only(t).await.conversation_id;
        // Texts, answers of two people and the patient's own words, all at once and over both servers.
        let t = &*t;
        let texts = (0..20).map(|n| async move { writes(t, PHONE, &format!("text {n}")).await });
        let answers = (0..20).map(|n| {
            let caller = if n % 2 == 0 { here.clone() } else { there.clone() };
            let request = to_conversation(&home, MessageRoute::Portal, &format!("answer {n}"));
            async move { drop(try_say(&caller, request).await.unwrap()) }
        });
        let own = elsewhere(&t.token(Role::Portal));
        let words = (0..20).map(|n| {
            let (caller, request) = (own.clone(), to_conversation(&home, MessageRoute::Portal, &format!("word {n}")));
            async move { drop(try_say(&caller, request).await.unwrap()) }
        });
        futures::join!(
            futures::future::join_all(texts),
            futures::future::join_all(answers),
            futures::future::join_all(words)
        );
        writes(t, PHONE, "last").await;
        let listed: Vec<String> = messages(t, &home).await.into_iter().map(|message| message.body).collect();
        assert_eq!(listed.len(), 62);
        for watcher in &mut watchers {
            assert_eq!(watcher.texts_until("last").await, listed, "each once, in the order in which they are listed");
        }
        other.app.stop().await;
    }
}
