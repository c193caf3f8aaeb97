//! `BroadcastService`: scope, parse, call, show.

use futures::{StreamExt, stream::Map};
use tonic::{Request, Response, Status};

use super::{
    auth,
    convert::{self, broadcasts::View},
    deadline,
    proto::{
        CancelBroadcastRequest, CancelBroadcastResponse, CreateBroadcastRequest, CreateBroadcastResponse,
        GetBroadcastRequest, GetBroadcastResponse, ListBroadcastsRequest, ListBroadcastsResponse,
        PreviewBroadcastRequest, PreviewBroadcastResponse, WatchBroadcastRequest, WatchBroadcastResponse,
        broadcast_service_server::BroadcastService,
    },
};
use crate::{
    domain::Role,
    ports::Connection,
    service::{
        Error,
        broadcasts::Broadcasts,
        watch::{BroadcastRequest, BroadcastStep, Steps, Watch},
    },
};

const READERS: &[Role] = &[Role::Staff, Role::Auditor];

/// The handlers.
pub(super) struct Handlers {
    pub(super) broadcasts: Broadcasts,
    pub(super) watch: Watch,
}

/// What the caller may see: text is for staff.
fn view<T>(request: &Request<T>) -> Result<View, Error> {
    Ok(if auth::actor(request)?.holds(Role::Staff) { View::Whole } else { View::Unworded })
}

#[tonic::async_trait]
impl BroadcastService for Handlers {
    async fn preview_broadcast(
        &self,
        request: Request<PreviewBroadcastRequest>,
    ) -> Result<Response<PreviewBroadcastResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let (input, sample) = convert::broadcasts::to_preview(request.into_inner())?;
        let preview = self.broadcasts.preview(&scope, input, sample).await?;
        Ok(Response::new(convert::broadcasts::previewed(preview)))
    }

    async fn create_broadcast(
        &self,
        request: Request<CreateBroadcastRequest>,
    ) -> Result<Response<CreateBroadcastResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let order = convert::broadcasts::order(request.into_inner())?;
        Ok(Response::new(convert::broadcasts::made(self.broadcasts.create(&scope, order).await?)))
    }

    async fn get_broadcast(
        &self,
        request: Request<GetBroadcastRequest>,
    ) -> Result<Response<GetBroadcastResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let (view, id) = (view(&request)?, convert::broadcasts::wanted(&request.get_ref().broadcast_id)?);
        let broadcast = Some(convert::broadcasts::shown(self.broadcasts.get(&scope, id).await?, view));
        Ok(Response::new(GetBroadcastResponse { broadcast }))
    }

    async fn list_broadcasts(
        &self,
        request: Request<ListBroadcastsRequest>,
    ) -> Result<Response<ListBroadcastsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let view = view(&request)?;
        let query = convert::broadcasts::list(request.into_inner())?;
        Ok(Response::new(convert::broadcasts::page(self.broadcasts.list(&scope, query).await?, view)))
    }

    async fn cancel_broadcast(
        &self,
        request: Request<CancelBroadcastRequest>,
    ) -> Result<Response<CancelBroadcastResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::PracticeAdmin])?;
        let id = convert::broadcasts::wanted(&request.get_ref().broadcast_id)?;
        let broadcast = Some(convert::broadcasts::shown(self.broadcasts.cancel(&scope, id).await?, View::Whole));
        Ok(Response::new(CancelBroadcastResponse { broadcast }))
    }

    type WatchBroadcastStream =
        Map<Steps<BroadcastStep>, fn(Result<BroadcastStep, Error>) -> Result<WatchBroadcastResponse, Status>>;

    async fn watch_broadcast(
        &self,
        request: Request<WatchBroadcastRequest>,
    ) -> Result<Response<Self::WatchBroadcastStream>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let answer: fn(Result<BroadcastStep, Error>) -> _ = match view(&request)? {
            View::Whole => worded,
            View::Unworded => unworded,
        };
        let deadline = deadline::of(&request);
        let cut = request.extensions().get::<Connection>().map(|connection| connection.cut().clone());
        let id = convert::broadcasts::wanted(&request.get_ref().broadcast_id)?;
        let steps = self.watch.start_broadcast(scope, BroadcastRequest { id, deadline, cut }).await?;
        Ok(Response::new(steps.map(answer)))
    }
}

fn worded(step: Result<BroadcastStep, Error>) -> Result<WatchBroadcastResponse, Status> {
    Ok(convert::broadcasts::step(step?, View::Whole))
}

fn unworded(step: Result<BroadcastStep, Error>) -> Result<WatchBroadcastResponse, Status> {
    Ok(convert::broadcasts::step(step?, View::Unworded))
}
