//! The services that this server does not offer yet. Their calls are checked for token, practice and role like all others,
//! so that a stranger learns nothing, and then say so.

use futures::stream::Empty;
use tonic::{Request, Response, Status};

#[allow(clippy::wildcard_imports, reason = "every message of a service, each named once below")]
use super::proto::*;
use super::{auth, proto::broadcast_service_server::BroadcastService};
use crate::domain::Role::{Auditor, PracticeAdmin, Staff};

/// A service as a table: each call with its messages and the roles that may make it.
macro_rules! not_offered {
    (
        $(#[$doc:meta])* $handlers:ident for $service:ident {
            $($call:ident($request:ty) -> $answer:ty: [$($role:ident),+];)*
        }
        $(streams { $($stream:ident = $stream_call:ident($stream_request:ty) -> $part:ty: [$($stream_role:ident),+];)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $handlers;

        #[tonic::async_trait]
        impl $service for $handlers {
            $(async fn $call(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                auth::not_offered(&request, &request.get_ref().practice_id, &[$($role),+])
            })*
            $($(
                type $stream = Empty<Result<$part, Status>>;

                async fn $stream_call(
                    &self,
                    request: Request<$stream_request>,
                ) -> Result<Response<Self::$stream>, Status> {
                    auth::not_offered(&request, &request.get_ref().practice_id, &[$($stream_role),+])
                }
            )*)?
        }
    };
}

not_offered! {
    /// Broadcasts.
    Broadcasts for BroadcastService {
        preview_broadcast(PreviewBroadcastRequest) -> PreviewBroadcastResponse: [Staff];
        create_broadcast(CreateBroadcastRequest) -> CreateBroadcastResponse: [PracticeAdmin];
        get_broadcast(GetBroadcastRequest) -> GetBroadcastResponse: [Staff, Auditor];
        list_broadcasts(ListBroadcastsRequest) -> ListBroadcastsResponse: [Staff, Auditor];
        cancel_broadcast(CancelBroadcastRequest) -> CancelBroadcastResponse: [PracticeAdmin];
    }
    streams {
        WatchBroadcastStream = watch_broadcast(WatchBroadcastRequest) -> WatchBroadcastResponse: [Staff, Auditor];
    }
}
