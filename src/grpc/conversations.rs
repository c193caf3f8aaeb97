//! `ConversationsService`: scope, parse, call, show. Staff see all of a practice, a patient what is their own, the portal's
//! backend what is any patient's.

use futures::{
    StreamExt,
    stream::{BoxStream, Map},
};
use tonic::{Request, Response, Status};

use super::{
    auth, convert, deadline,
    proto::{
        DownloadAttachmentRequest, DownloadAttachmentResponse, GetConversationRequest, GetConversationResponse,
        LinkConversationRequest, LinkConversationResponse, ListConversationsRequest, ListConversationsResponse,
        ListMessagesRequest, ListMessagesResponse, MarkConversationReadRequest, MarkConversationReadResponse,
        SendMessageRequest, SendMessageResponse, UpdateConversationRequest, UpdateConversationResponse,
        UploadAttachmentRequest, UploadAttachmentResponse, WatchConversationsRequest, WatchConversationsResponse,
        conversations_service_server::ConversationsService,
    },
};
use crate::{
    domain::{Role, Scope, Side},
    ports::Connection,
    service::{
        Error,
        conversations::Conversations,
        watch::{Request as Wanted, Step, Steps, Watch},
    },
};

const BOTH_SIDES: &[Role] = &[Role::Staff, Role::Patient, Role::Portal];

/// The handlers.
pub(super) struct Handlers {
    pub(super) conversations: Conversations,
    pub(super) watch: Watch,
}

fn side(scope: &Scope) -> Side {
    Side::of(scope.author())
}

#[tonic::async_trait]
impl ConversationsService for Handlers {
    async fn list_conversations(
        &self,
        request: Request<ListConversationsRequest>,
    ) -> Result<Response<ListConversationsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let query = convert::conversations::list(request.into_inner())?;
        let page = self.conversations.list(&scope, query).await?;
        Ok(Response::new(convert::conversations::page(side(&scope), page)))
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<GetConversationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let id = convert::conversations::wanted(&request.get_ref().conversation_id)?;
        let found = self.conversations.get(&scope, id).await?;
        let conversation = Some(convert::conversations::shown(side(&scope), found));
        Ok(Response::new(GetConversationResponse { conversation }))
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let query = convert::conversations::messages(request.into_inner())?;
        let (messages, next_page_token) = self.conversations.messages(&scope, query).await?;
        let messages = messages.into_iter().map(|it| convert::conversations::said(side(&scope), it)).collect();
        Ok(Response::new(ListMessagesResponse { messages, next_page_token }))
    }

    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let order = convert::conversations::order(side(&scope), request.into_inner())?;
        let sent = self.conversations.send(&scope, order).await?;
        Ok(Response::new(convert::conversations::sent(side(&scope), sent)))
    }

    async fn update_conversation(
        &self,
        request: Request<UpdateConversationRequest>,
    ) -> Result<Response<UpdateConversationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let (id, etag, labels) = convert::conversations::to_update(request.into_inner())?;
        let labelled = self.conversations.update(&scope, id, etag, labels).await?;
        let conversation = Some(convert::conversations::shown(side(&scope), labelled));
        Ok(Response::new(UpdateConversationResponse { conversation }))
    }

    async fn link_conversation(
        &self,
        request: Request<LinkConversationRequest>,
    ) -> Result<Response<LinkConversationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let (id, patient) = convert::conversations::to_link(request.get_ref())?;
        let linked = self.conversations.link(&scope, id, &patient, request.get_ref().store_number).await?;
        let conversation = Some(convert::conversations::shown(side(&scope), linked));
        Ok(Response::new(LinkConversationResponse { conversation }))
    }

    async fn mark_conversation_read(
        &self,
        request: Request<MarkConversationReadRequest>,
    ) -> Result<Response<MarkConversationReadResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let (id, message) = convert::conversations::to_mark(request.get_ref())?;
        let marked = self.conversations.read(&scope, id, message).await?;
        let conversation = Some(convert::conversations::shown(side(&scope), marked));
        Ok(Response::new(MarkConversationReadResponse { conversation }))
    }

    type WatchConversationsStream = Map<Steps, fn(Result<Step, Error>) -> Result<WatchConversationsResponse, Status>>;

    async fn watch_conversations(
        &self,
        request: Request<WatchConversationsRequest>,
    ) -> Result<Response<Self::WatchConversationsStream>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        // The portal's backend stands for all its patients, so that the limit of one subject is not its own.
        let exempt = auth::actor(&request)?.holds(Role::Portal);
        let deadline = deadline::of(&request);
        let cut = request.extensions().get::<Connection>().map(|connection| connection.cut().clone());
        let asked = convert::conversations::watch(request.into_inner())?;
        let subject = self.conversations.watched(&scope, asked.conversation).await?;
        let wanted = Wanted { subject, start: asked.start, heartbeat: asked.heartbeat, deadline, cut };
        Ok(Response::new(self.watch.start(scope, exempt, wanted).await?.map(answer)))
    }

    async fn upload_attachment(
        &self,
        request: Request<UploadAttachmentRequest>,
    ) -> Result<Response<UploadAttachmentResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let upload = convert::attachments::upload(request.into_inner())?;
        let attachment = Some(convert::attachments::shown(self.conversations.upload(&scope, upload).await?));
        Ok(Response::new(UploadAttachmentResponse { attachment }))
    }

    type DownloadAttachmentStream = BoxStream<'static, Result<DownloadAttachmentResponse, Status>>;

    async fn download_attachment(
        &self,
        request: Request<DownloadAttachmentRequest>,
    ) -> Result<Response<Self::DownloadAttachmentStream>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, BOTH_SIDES)?;
        let deadline = deadline::of(&request);
        let id = convert::attachments::wanted(&request.get_ref().attachment_id)?;
        let file = self.conversations.download(&scope, id).await?;
        Ok(Response::new(convert::attachments::parts(file, deadline).boxed()))
    }
}

fn answer(step: Result<Step, Error>) -> Result<WatchConversationsResponse, Status> {
    Ok(convert::conversations::step(&step?))
}
