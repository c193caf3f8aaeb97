//! Bare tonic: takes a notification, commits the rows that the product would write together with those of other callers, and
//! answers. Given a provider, it has them sent as well; whoever watches is told.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::post,
};
use futures::future::BoxFuture;
use heedwell::grpc::proto::{SendNotificationRequest, SendNotificationResponse};
use tokio::sync::{Mutex, Notify, broadcast, mpsc, oneshot};
use tonic::{
    Status,
    server::{Grpc, UnaryService},
    service::Routes,
};
use tonic_prost::ProstCodec;

use super::{copies::Writer, road, watch};
use crate::product::PRACTICES;

/// Most notifications in one commit.
const GROUP: usize = 256;

type Waiting = mpsc::Sender<oneshot::Sender<()>>;

#[derive(Clone)]
struct Send(Waiting);

impl UnaryService<SendNotificationRequest> for Send {
    type Response = SendNotificationResponse;
    type Future = BoxFuture<'static, Result<tonic::Response<SendNotificationResponse>, Status>>;

    fn call(&mut self, _: tonic::Request<SendNotificationRequest>) -> Self::Future {
        let waiting = self.0.clone();
        Box::pin(async move {
            let (reply, done) = oneshot::channel();
            waiting.send(reply).await.map_err(|_| Status::internal("writer"))?;
            done.await.map_err(|_| Status::internal("commit"))?;
            Ok(tonic::Response::new(SendNotificationResponse::default()))
        })
    }
}

async fn handle(State(send): State<Send>, request: Request) -> Response {
    let codec = ProstCodec::<SendNotificationResponse, SendNotificationRequest>::default();
    Grpc::new(codec).unary(send, request).await.map(axum::body::Body::new)
}

pub(super) async fn serve(url: &str, addr: SocketAddr, provider: Option<SocketAddr>) {
    let (waiting, queue) = mpsc::channel::<oneshot::Sender<()>>(4_096);
    let changes = broadcast::Sender::new(4_096);
    let queue = Arc::new(Mutex::new(queue));
    // As many as the product has lanes, each with a practice to itself; SQLite has room for one.
    let writers = if url.starts_with("sqlite") { 1 } else { PRACTICES };
    for number in 0..writers {
        let (queue, mut writer) = (Arc::clone(&queue), Writer::open(url, number).await);
        let (committed, changes) = (Arc::new(Notify::new()), changes.clone());
        if let Some(provider) = provider {
            tokio::spawn(road::walk(Writer::open(url, number).await, provider, Arc::clone(&committed)));
        }
        tokio::spawn(async move {
            let mut group = Vec::new();
            while queue.lock().await.recv_many(&mut group, GROUP).await > 0 {
                writer.commit(group.len()).await;
                committed.notify_one();
                for reply in group.drain(..) {
                    // Nobody may be watching, and nobody may be waiting any more.
                    let _ = (changes.send(watch::change()), reply.send(()));
                }
            }
        });
    }
    let router = Router::new()
        .route("/heedwell.v1.NotifyService/SendNotification", post(handle))
        .with_state(Send(waiting))
        .route("/heedwell.v1.NotifyService/WatchDeliveries", post(watch::handle))
        .with_state(changes);
    tonic::transport::Server::builder().add_routes(Routes::from(router)).serve(addr).await.unwrap();
}
