//! Conversations: what is asked for, and how they and their messages are shown to either side.

use std::time::Duration;

use prost::Message;

use super::{
    attachments, author,
    check::{Check, page_size, request_id},
    delivery::{failure, heartbeat},
    etag, revision, timestamp,
};
use crate::{
    domain::{
        ActorType, AttachmentId, Conversation, ConversationFilter, ConversationId, ConversationMessage,
        ConversationState, DeliveryState, MOST_ATTACHMENTS, MessageId, MessageRoute, PatientId, Phi, Side, Subset, sms,
    },
    grpc::proto::{self, send_message_request::Target as Asked},
    service::{
        Error, Labels, Target,
        conversations::{ListPage, ListQuery, MessageOrder, MessagesQuery, SentMessage},
        watch::{ConversationChange, Start, Step},
    },
};

/// The longest subject of a token that conversations are given to.
const LONGEST_SUBJECT: usize = 256;
/// The longest message in the portal, in characters.
const LONGEST_IN_PORTAL: usize = 20_000;
/// Most paths in a mask; there are two.
const MOST_PATHS: usize = 20;
/// Most members of staff that one filter names.
const MOST_ASSIGNEES: usize = 100;

/// What a list of conversations is asked for.
pub(crate) fn list(mut request: proto::ListConversationsRequest) -> Result<ListQuery, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 50, 200);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let filter = check.at("filter", |check| filter(check, request.filter.unwrap_or_default()));
    check.finish(Some(ListQuery { filter, page_size, page_token, canonical }))
}

fn filter(check: &mut Check, filter: proto::ConversationFilter) -> ConversationFilter {
    check.count("assignee_ids", filter.assignee_ids.len(), 0..=MOST_ASSIGNEES);
    let assignees = filter.assignee_ids.into_iter().take(MOST_ASSIGNEES).enumerate();
    let assignees = assignees.map(|(place, id)| check.line(&format!("assignee_ids[{place}]"), id, LONGEST_SUBJECT));
    ConversationFilter {
        assignees: assignees.collect(),
        states: check.choices("states", filter.states, ConversationState::from_number),
        patient: check.parsed_if_set("patient_id", &filter.patient_id, str::parse::<PatientId>),
        subset: match filter.subset {
            0 => None,
            subset => check.choice("subset", subset, Subset::from_number),
        },
    }
}

/// Which conversation is asked for.
pub(crate) fn wanted(id: &str) -> Result<ConversationId, Error> {
    let mut check = Check::default();
    let id = check.id("conversation_id", id);
    check.finish(id)
}

/// What a list of messages is asked for.
pub(crate) fn messages(mut request: proto::ListMessagesRequest) -> Result<MessagesQuery, Error> {
    let page_token = std::mem::take(&mut request.page_token);
    let page_size = page_size(std::mem::take(&mut request.page_size), 50, 200);
    // Without size and token: what a page token is bound to.
    let canonical = Phi::new(request.encode_to_vec());
    let mut check = Check::default();
    let conversation = check.id("conversation_id", &request.conversation_id);
    check.finish(conversation.map(|conversation| MessagesQuery { conversation, page_size, page_token, canonical }))
}

/// A message to add, of that side.
pub(crate) fn order(side: Side, mut request: proto::SendMessageRequest) -> Result<MessageOrder, Error> {
    let mut check = Check::default();
    let request_id = request_id(&mut check, std::mem::take(&mut request.request_id));
    // Without the key: equal requests give equal bytes.
    let canonical = Phi::new(request.encode_to_vec());
    let route = check.choice("route", request.route, MessageRoute::from_number);
    let may_go = side == Side::Staff || route != Some(MessageRoute::Sms);
    check.expect("route", may_go, "must be PORTAL: patients write in the portal");
    let target = match &request.target {
        None => check.required("target", None::<()>, |_, ()| None),
        Some(Asked::ConversationId(id)) => check.id("conversation_id", id).map(Target::Conversation),
        Some(Asked::PatientId(id)) => check.parsed("patient_id", id, str::parse).map(Target::Patient),
    };
    let longest = if route == Some(MessageRoute::Sms) { sms::LONGEST_MESSAGE } else { LONGEST_IN_PORTAL };
    let attachments = files(&mut check, &request.attachment_ids);
    let body = Phi::new(match request.attachment_ids.is_empty() {
        true => check.required_lines("body", request.body, longest),
        false => check.lines("body", request.body, longest),
    });
    let all = target.zip(route);
    check.finish(all.map(|(target, route)| MessageOrder { request_id, canonical, target, route, body, attachments }))
}

/// The files of a message: each goes along once.
fn files(check: &mut Check, ids: &[String]) -> Vec<AttachmentId> {
    check.count("attachment_ids", ids.len(), 0..=MOST_ATTACHMENTS);
    let mut known = Vec::new();
    for (place, id) in ids.iter().take(MOST_ATTACHMENTS).enumerate() {
        let field = format!("attachment_ids[{place}]");
        let Some(id) = check.id(&field, id) else { continue };
        check.expect(&field, !known.contains(&id), "is there twice");
        known.push(id);
    }
    known
}

/// Which labels of which conversation are to be changed, and the revision that they must have; unset: any.
pub(crate) fn to_update(
    request: proto::UpdateConversationRequest,
) -> Result<(ConversationId, Option<i64>, Labels), Error> {
    let mut check = Check::default();
    let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
    check.expect("update_mask", !paths.is_empty(), "is required and must not be empty");
    check.count("update_mask", paths.len(), 0..=MOST_PATHS);
    let (mut assigns, mut marks) = (false, false);
    for path in paths.iter().take(MOST_PATHS) {
        match path.as_str() {
            "assignee_id" => assigns = true,
            "state" => marks = true,
            _ => check.expect("update_mask", false, "must name assignee_id and state only"),
        }
    }
    let update = check.required("conversation", request.conversation, |check, conversation| {
        let id = check.id("conversation_id", &conversation.conversation_id);
        let assignee = assigns.then(|| check.line("assignee_id", conversation.assignee_id, LONGEST_SUBJECT));
        let state = match marks {
            true => Some(check.choice("state", conversation.state, ConversationState::from_number)?),
            false => None,
        };
        Some((id?, revision(&conversation.etag), Labels { assignee, state }))
    });
    check.finish(update)
}

/// Which conversation is to be given to which patient.
pub(crate) fn to_link(request: &proto::LinkConversationRequest) -> Result<(ConversationId, PatientId), Error> {
    let mut check = Check::default();
    let id = check.id("conversation_id", &request.conversation_id);
    let patient = check.parsed("patient_id", &request.patient_id, str::parse);
    check.finish(id.zip(patient))
}

/// How far which conversation was read.
pub(crate) fn to_mark(request: &proto::MarkConversationReadRequest) -> Result<(ConversationId, MessageId), Error> {
    let mut check = Check::default();
    let id = check.id("conversation_id", &request.conversation_id);
    let message = check.id("message_id", &request.message_id);
    check.finish(id.zip(message))
}

/// What a watch is asked for.
pub(crate) struct AskedWatch {
    /// Unset: every conversation that the caller may see.
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) start: Start,
    pub(crate) heartbeat: Duration,
}

/// What a watch is asked for.
pub(crate) fn watch(request: proto::WatchConversationsRequest) -> Result<AskedWatch, Error> {
    let mut check = Check::default();
    let conversation = check.id_if_set("conversation_id", &request.conversation_id);
    let start = if request.cursor.is_empty() { Start::Now } else { Start::Cursor(request.cursor) };
    let heartbeat = heartbeat(&mut check, request.heartbeat_interval);
    check.finish(Some(AskedWatch { conversation, start, heartbeat }))
}

/// A page of conversations.
pub(crate) fn page(side: Side, page: ListPage) -> proto::ListConversationsResponse {
    proto::ListConversationsResponse {
        conversations: page.conversations.into_iter().map(|it| shown(side, it)).collect(),
        next_page_token: page.next_page_token,
        watch_cursor: page.watch_cursor,
    }
}

/// What a send answers.
pub(crate) fn sent(side: Side, sent: SentMessage) -> proto::SendMessageResponse {
    proto::SendMessageResponse {
        message: Some(said(side, sent.message)),
        conversation: Some(shown(side, sent.conversation)),
        replayed: sent.replayed,
    }
}

/// A step of a watch.
pub(crate) fn step(step: &Step) -> proto::WatchConversationsResponse {
    let (side, changes) = step.talk();
    let change = |change: &ConversationChange| proto::watch_conversations_response::ConversationChange {
        conversation: Some(shown(side, change.conversation.clone())),
        message: change.message.clone().map(|message| said(side, message)),
    };
    proto::WatchConversationsResponse { cursor: step.cursor.clone(), changes: changes.iter().map(change).collect() }
}

/// A conversation as one side sees it. Who of the staff takes care of it is not for patients.
pub(crate) fn shown(side: Side, conversation: Conversation) -> proto::Conversation {
    let unread_count = i32::try_from(conversation.unread(side)).unwrap_or(i32::MAX);
    proto::Conversation {
        conversation_id: conversation.id.to_string(),
        patient_id: text(conversation.patient),
        candidate_patient_ids: conversation.candidates.iter().map(|id| id.as_str().to_owned()).collect(),
        phone_hint: conversation.phone_hint.into_inner(),
        state: conversation.state.number().into(),
        assignee_id: if side == Side::Staff { conversation.assignee } else { String::new() },
        unread_count,
        last_message_time: Some(timestamp(conversation.last_message_time)),
        waiting_time: conversation.waiting_time.map(timestamp),
        staff_read_message_id: text(conversation.staff_read),
        patient_read_message_id: text(conversation.patient_read),
        create_time: Some(timestamp(conversation.create_time)),
        etag: etag(conversation.labels),
    }
}

/// A message as one side sees it. Patients see who of the staff wrote as that person is called, and not which account it was: its
/// id may be a log-in or a mailbox.
pub(crate) fn said(side: Side, mut message: ConversationMessage) -> proto::ConversationMessage {
    let automatic = message.author.kind == ActorType::System;
    if side == Side::Patient && message.author.kind == ActorType::Staff {
        message.author.id.clear();
    }
    let delivery = message.delivery;
    let (delivery_id, state) = delivery.as_ref().map_or((String::new(), 0), |it| (it.id.to_string(), number(it.state)));
    proto::ConversationMessage {
        message_id: message.id.to_string(),
        conversation_id: message.conversation.to_string(),
        direction: message.direction.number().into(),
        route: message.route.number().into(),
        body: message.body.into_inner(),
        attachments: message.attachments.into_iter().map(attachments::shown).collect(),
        author: Some(author(message.author)),
        create_time: Some(timestamp(message.create_time)),
        delivery_id,
        delivery_state: state,
        failure: delivery.and_then(|it| it.failure).map(failure),
        automatic,
        consent_source: message.consent_source.map_or(0, |source| source.number().into()),
    }
}

fn number(state: DeliveryState) -> i32 {
    state.number().into()
}

/// An id, or nothing.
fn text(id: Option<impl ToString>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}
