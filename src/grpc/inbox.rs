//! `InboxService`: scope, parse, call, show. A patient sees what is their own, the portal's backend what is any patient's.

use futures::{StreamExt, stream::Map};
use tonic::{Request, Response, Status};

use super::{
    auth, convert, deadline,
    proto::{
        DeletePushDeviceRequest, DeletePushDeviceResponse, ListInboxItemsRequest, ListInboxItemsResponse,
        MarkInboxItemsRequest, MarkInboxItemsResponse, RegisterPushDeviceRequest, RegisterPushDeviceResponse,
        WatchInboxRequest, WatchInboxResponse, inbox_service_server::InboxService,
    },
};
use crate::{
    domain::Role,
    ports::Connection,
    service::{
        Error,
        inbox::Inbox,
        watch::{Request as Wanted, Step, Steps, Watch},
    },
};

const READERS: &[Role] = &[Role::Patient, Role::Portal];

/// The handlers.
pub(super) struct Handlers {
    pub(super) inbox: Inbox,
    pub(super) watch: Watch,
}

#[tonic::async_trait]
impl InboxService for Handlers {
    async fn list_inbox_items(
        &self,
        request: Request<ListInboxItemsRequest>,
    ) -> Result<Response<ListInboxItemsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let query = convert::inbox::list(request.into_inner())?;
        Ok(Response::new(convert::inbox::page(self.inbox.list(&scope, query).await?)))
    }

    async fn mark_inbox_items(
        &self,
        request: Request<MarkInboxItemsRequest>,
    ) -> Result<Response<MarkInboxItemsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let (patient, selection, state) = convert::inbox::to_mark(request.into_inner())?;
        let unread_count = self.inbox.mark(&scope, &patient, &selection, state).await?;
        Ok(Response::new(MarkInboxItemsResponse { unread_count }))
    }

    type WatchInboxStream = Map<Steps, fn(Result<Step, Error>) -> Result<WatchInboxResponse, Status>>;

    async fn watch_inbox(
        &self,
        request: Request<WatchInboxRequest>,
    ) -> Result<Response<Self::WatchInboxStream>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        // The portal's backend stands for all its patients, so that the limit of one subject is not its own.
        let exempt = auth::actor(&request)?.holds(Role::Portal);
        let deadline = deadline::of(&request);
        let cut = request.extensions().get::<Connection>().map(|connection| connection.cut().clone());
        let wanted = Wanted { cut, ..convert::inbox::watch(request.into_inner(), deadline)? };
        Ok(Response::new(self.watch.start(scope, exempt, wanted).await?.map(answer)))
    }

    async fn register_push_device(
        &self,
        request: Request<RegisterPushDeviceRequest>,
    ) -> Result<Response<RegisterPushDeviceResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let device = convert::inbox::to_register(request.into_inner())?;
        let device_id = self.inbox.register(&scope, &device).await?.to_string();
        Ok(Response::new(RegisterPushDeviceResponse { device_id }))
    }

    async fn delete_push_device(
        &self,
        request: Request<DeletePushDeviceRequest>,
    ) -> Result<Response<DeletePushDeviceResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let (patient, device) = convert::inbox::to_delete(&request.into_inner())?;
        self.inbox.forget(&scope, &patient, device).await?;
        Ok(Response::new(DeletePushDeviceResponse {}))
    }
}

fn answer(step: Result<Step, Error>) -> Result<WatchInboxResponse, Status> {
    Ok(convert::inbox::step(&step?))
}
