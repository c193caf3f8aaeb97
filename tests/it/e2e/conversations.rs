//! Talking with patients: where a text belongs, what either side sees and does, and what nobody may.

mod family;
mod hostile;
mod scale;
mod sends;
mod sides;
mod streams;

use std::sync::atomic::{AtomicU32, Ordering};

use heedwell::{
    domain::Role,
    grpc::proto::{
        Conversation, ConversationFilter, ConversationMessage, GetConversationRequest, ListConversationsRequest,
        ListConversationsResponse, ListMessagesRequest, MessageRoute, SendMessageRequest, SendMessageResponse,
        conversation_filter::Subset, send_message_request::Target,
    },
};
use reqwest::StatusCode;
use tonic::Status;

use super::{
    callbacks::{FORM, form, post, signature},
    given::{AUTH_TOKEN, new_key, token},
    inbound::{sid, text, url},
};
use crate::support::app::{ACME, Caller, Pass, TestApp};

/// A number that nobody has unless the test says so.
const STRANGER: &str = "+12025550147";

fn next_sid() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0x00c0_0000);
    sid(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Somebody texts a practice.
pub(super) async fn texts_in(t: &TestApp, practice: &str, from: &str, body: &str) -> StatusCode {
    let (url, sid) = (url(t, practice), next_sid());
    let fields = text(&sid, from, body);
    post(&url, Some(&signature(AUTH_TOKEN, &url, &fields)), FORM, form(&fields)).await
}

/// Somebody texts Acme.
async fn writes(t: &TestApp, from: &str, body: &str) {
    assert_eq!(texts_in(t, ACME, from, body).await, StatusCode::OK);
}

fn staff_of(t: &TestApp, practice: &str) -> Caller {
    t.caller_with(&token(t, Role::Staff, practice))
}

fn own(t: &TestApp, patient: &str) -> Caller {
    t.caller_with(&t.token_of(&Pass { patient: Some(patient.into()), ..Pass::new(&[Role::Patient], &[ACME]) }))
}

async fn try_list(
    caller: &Caller,
    practice: &str,
    filter: ConversationFilter,
) -> Result<ListConversationsResponse, Status> {
    let request = ListConversationsRequest {
        practice_id: practice.into(),
        filter: Some(filter),
        page_size: 200,
        ..Default::default()
    };
    Ok(caller.clone().conversations.list_conversations(request).await?.into_inner())
}

/// All of Acme's conversations, as staff see them.
async fn all(t: &TestApp) -> Vec<Conversation> {
    try_list(&t.caller(Role::Staff), ACME, ConversationFilter::default()).await.unwrap().conversations
}

/// Those of a view, by id.
async fn view(t: &TestApp, subset: Subset) -> Vec<String> {
    let filter = ConversationFilter { subset: subset.into(), ..Default::default() };
    let listed = try_list(&t.caller(Role::Staff), ACME, filter).await.unwrap().conversations;
    listed.into_iter().map(|it| it.conversation_id).collect()
}

/// The only one that there is.
async fn only(t: &TestApp) -> Conversation {
    let mut all = all(t).await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn try_get(caller: &Caller, id: &str) -> Result<Conversation, Status> {
    let request = GetConversationRequest { practice_id: ACME.into(), conversation_id: id.into() };
    Ok(caller.clone().conversations.get_conversation(request).await?.into_inner().conversation.unwrap())
}

/// That of a patient of Acme.
async fn of(t: &TestApp, patient: &str) -> Option<Conversation> {
    let filter = ConversationFilter { patient_id: patient.into(), ..Default::default() };
    try_list(&t.caller(Role::Staff), ACME, filter).await.unwrap().conversations.pop()
}

async fn try_messages(caller: &Caller, id: &str) -> Result<Vec<ConversationMessage>, Status> {
    let request = ListMessagesRequest {
        practice_id: ACME.into(),
        conversation_id: id.into(),
        page_size: 200,
        ..Default::default()
    };
    let mut messages = caller.clone().conversations.list_messages(request).await?.into_inner().messages;
    messages.reverse();
    Ok(messages)
}

/// The messages of one of Acme's conversations, oldest first.
async fn messages(t: &TestApp, id: &str) -> Vec<ConversationMessage> {
    try_messages(&t.caller(Role::Staff), id).await.unwrap()
}

fn bodies(messages: &[ConversationMessage]) -> Vec<&str> {
    messages.iter().map(|message| message.body.as_str()).collect()
}

fn to_conversation(id: &str, route: MessageRoute, body: &str) -> SendMessageRequest {
    SendMessageRequest {
        practice_id: ACME.into(),
        request_id: new_key(),
        target: Some(Target::ConversationId(id.into())),
        route: route.into(),
        body: body.into(),
        attachment_ids: Vec::new(),
    }
}

fn to_patient(patient: &str, route: MessageRoute, body: &str) -> SendMessageRequest {
    SendMessageRequest { target: Some(Target::PatientId(patient.into())), ..to_conversation("", route, body) }
}

async fn try_say(caller: &Caller, request: SendMessageRequest) -> Result<SendMessageResponse, Status> {
    Ok(caller.clone().conversations.send_message(request).await?.into_inner())
}

/// Staff say something, for the first time.
async fn say(t: &TestApp, request: SendMessageRequest) -> (ConversationMessage, Conversation) {
    let said = try_say(&t.caller(Role::Staff), request).await.unwrap();
    assert!(!said.replayed);
    (said.message.unwrap(), said.conversation.unwrap())
}
