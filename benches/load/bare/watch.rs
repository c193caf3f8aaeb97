//! Bare fan-out: what was committed goes to every stream there is, each encoding it for itself.

use std::time::SystemTime;

use axum::{
    extract::{Request, State},
    response::Response,
};
use futures::{
    StreamExt,
    future::{Ready, ready},
    stream::{BoxStream, once},
};
use heedwell::grpc::proto::{
    Delivery, DeliveryChange, WatchDeliveriesRequest, WatchDeliveriesResponse, delivery::Source,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{
    Status,
    server::{Grpc, ServerStreamingService},
};
use tonic_prost::ProstCodec;
use uuid::Uuid;

/// To all watchers.
pub(super) type Changes = broadcast::Sender<WatchDeliveriesResponse>;

struct Watch(Changes);

impl ServerStreamingService<WatchDeliveriesRequest> for Watch {
    type Response = WatchDeliveriesResponse;
    type ResponseStream = BoxStream<'static, Result<WatchDeliveriesResponse, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: tonic::Request<WatchDeliveriesRequest>) -> Self::Future {
        let changes = BroadcastStream::new(self.0.subscribe());
        let changes = changes.map(|change| change.map_err(|_| Status::data_loss("too slow")));
        let checkpoint = once(ready(Ok(WatchDeliveriesResponse::default())));
        ready(Ok(tonic::Response::new(checkpoint.chain(changes).boxed())))
    }
}

pub(super) async fn handle(State(changes): State<Changes>, request: Request) -> Response {
    let codec = ProstCodec::<WatchDeliveriesResponse, WatchDeliveriesRequest>::default();
    Grpc::new(codec).server_streaming(Watch(changes), request).await.map(axum::body::Body::new)
}

/// A change like one of the product's.
pub(super) fn change() -> WatchDeliveriesResponse {
    let now = || Some(prost_types::Timestamp::from(SystemTime::now()));
    let delivery = Delivery {
        delivery_id: Uuid::now_v7().to_string(),
        patient_id: "patient-100".into(),
        revision: 1,
        kind: 9,
        channel: 3,
        state: 1,
        address_hint: "+1 *** *** **00".into(),
        next_action_time: now(),
        create_time: now(),
        update_time: now(),
        sms_segments: 1,
        source: Some(Source::NotificationId(Uuid::now_v7().to_string())),
        reference: "reference-1000".into(),
        ..Default::default()
    };
    let change = DeliveryChange { delivery: Some(delivery), ..Default::default() };
    WatchDeliveriesResponse {
        // As long as the product's, which nobody can make up.
        cursor: "0123456789012345678901234567890123456789012345678901234".into(),
        changes: vec![change],
        server_time: now(),
    }
}
