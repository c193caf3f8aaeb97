//! `NotifyService`: scope, parse, call, show.

use futures::{StreamExt, stream::Map};
use tonic::{Request, Response, Status};

use super::{
    auth, convert, deadline,
    proto::{
        BatchSendNotificationsRequest, BatchSendNotificationsResponse, CancelNotificationRequest,
        CancelNotificationResponse, GetDeliveryStatsRequest, GetDeliveryStatsResponse, GetNotificationRequest,
        GetNotificationResponse, ListDeliveriesRequest, ListDeliveriesResponse, NotificationView,
        PreviewNotificationRequest, PreviewNotificationResponse, RetryDeliveryRequest, RetryDeliveryResponse,
        SendNotificationRequest, SendNotificationResponse, WatchDeliveriesRequest, WatchDeliveriesResponse,
        notify_service_server::NotifyService,
    },
    status,
};
use crate::{
    domain::Role,
    ports::Connection,
    service::{
        Error,
        notify::Notify,
        refusals::Refusals,
        watch::{Request as Wanted, Step, Steps, Watch},
    },
};

const SENDERS: &[Role] = &[Role::Sender, Role::Staff];
const READERS: &[Role] = &[Role::Sender, Role::Staff, Role::Auditor];

/// The handlers.
pub(super) struct Handlers {
    pub(super) notify: Notify,
    pub(super) watch: Watch,
    pub(super) refusals: Refusals,
}

#[tonic::async_trait]
impl NotifyService for Handlers {
    async fn send_notification(
        &self,
        request: Request<SendNotificationRequest>,
    ) -> Result<Response<SendNotificationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, SENDERS)?;
        let order = convert::notification::order(request.into_inner())?;
        Ok(Response::new(convert::notification::sent(self.notify.send(&scope, order).await?)))
    }

    async fn batch_send_notifications(
        &self,
        request: Request<BatchSendNotificationsRequest>,
    ) -> Result<Response<BatchSendNotificationsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, SENDERS)?;
        let orders = convert::notification::orders(request.into_inner())?;
        let results = self.notify.send_all(&scope, orders).await;
        let refused = results.iter().filter_map(|result| status::refusal_of_item(result.as_ref().err()?));
        let refused = refused.filter_map(|(code, resource)| scope.refused(resource, code));
        refused.for_each(|refusal| self.refusals.take(refusal));
        Ok(Response::new(convert::notification::all_sent(results)))
    }

    async fn preview_notification(
        &self,
        request: Request<PreviewNotificationRequest>,
    ) -> Result<Response<PreviewNotificationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, SENDERS)?;
        let input = convert::notification::to_preview(request.into_inner())?;
        Ok(Response::new(convert::notification::previewed(self.notify.preview(&scope, input).await?)))
    }

    async fn get_notification(
        &self,
        request: Request<GetNotificationRequest>,
    ) -> Result<Response<GetNotificationResponse>, Status> {
        // Text is for staff alone.
        let full = request.get_ref().view == NotificationView::Full as i32;
        let roles = if full { &[Role::Staff] } else { READERS };
        let scope = auth::scope(&request, &request.get_ref().practice_id, roles)?;
        let id = convert::notification::wanted(request.get_ref())?;
        Ok(Response::new(convert::notification::detailed(self.notify.get(&scope, id, full).await?)))
    }

    async fn cancel_notification(
        &self,
        request: Request<CancelNotificationRequest>,
    ) -> Result<Response<CancelNotificationResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, SENDERS)?;
        let id = convert::notification::to_cancel(request.get_ref())?;
        Ok(Response::new(convert::notification::cancelled(self.notify.cancel(&scope, id).await?)))
    }

    async fn retry_delivery(
        &self,
        request: Request<RetryDeliveryRequest>,
    ) -> Result<Response<RetryDeliveryResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff])?;
        let order = convert::delivery::to_retry(request.into_inner())?;
        Ok(Response::new(convert::delivery::resent(self.notify.retry(&scope, order).await?)))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        let query = convert::delivery::list(request.into_inner())?;
        Ok(Response::new(convert::delivery::page(self.notify.list(&scope, query).await?)))
    }

    type WatchDeliveriesStream = Map<Steps, fn(Result<Step, Error>) -> Result<WatchDeliveriesResponse, Status>>;

    async fn watch_deliveries(
        &self,
        request: Request<WatchDeliveriesRequest>,
    ) -> Result<Response<Self::WatchDeliveriesStream>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, READERS)?;
        // The portal's backend stands for all its patients, so that the limit of one subject is not its own.
        let exempt = auth::actor(&request)?.holds(Role::Portal);
        let deadline = deadline::of(&request);
        let cut = request.extensions().get::<Connection>().map(|connection| connection.cut().clone());
        let wanted = Wanted { cut, ..convert::delivery::watch(request.into_inner(), deadline)? };
        Ok(Response::new(self.watch.start(scope, exempt, wanted).await?.map(answer)))
    }

    async fn get_delivery_stats(
        &self,
        request: Request<GetDeliveryStatsRequest>,
    ) -> Result<Response<GetDeliveryStatsResponse>, Status> {
        let scope = auth::scope(&request, &request.get_ref().practice_id, &[Role::Staff, Role::Auditor])?;
        let query = convert::delivery::stats_wanted(request.into_inner())?;
        Ok(Response::new(convert::delivery::stats_shown(self.notify.stats(&scope, query).await?)))
    }
}

fn answer(step: Result<Step, Error>) -> Result<WatchDeliveriesResponse, Status> {
    Ok(convert::delivery::step(&step?))
}
