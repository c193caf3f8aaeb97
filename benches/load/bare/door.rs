//! A bare server for whoever comes: sends have an empty answer, everybody who asks for a patient is shown the same one, and callbacks are
//! refused once they are read.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    response::Response,
    routing::post,
};
use heedwell::grpc::proto::{GetPatientRequest, GetPatientResponse, SendNotificationRequest, SendNotificationResponse};
use tonic::{Status, server::Grpc};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::product::a_patient;

const BODY_LIMIT: usize = 64 * 1024;

pub(super) async fn serve(addr: SocketAddr) {
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    let router = Router::new()
        .route("/heedwell.v1.NotifyService/SendNotification", post(send))
        .route("/heedwell.v1.DirectoryService/GetPatient", post(get_patient))
        .fallback(async |_: Bytes| StatusCode::FORBIDDEN)
        .layer(DefaultBodyLimit::max(BODY_LIMIT));
    axum::serve(listener, router).await.unwrap();
}

async fn send(request: Request) -> Response {
    let codec = ProstCodec::<SendNotificationResponse, SendNotificationRequest>::default();
    let answer = service_fn(async |_: tonic::Request<SendNotificationRequest>| {
        Ok::<_, Status>(tonic::Response::new(SendNotificationResponse::default()))
    });
    Grpc::new(codec).unary(answer, request).await.map(axum::body::Body::new)
}

async fn get_patient(request: Request) -> Response {
    let codec = ProstCodec::<GetPatientResponse, GetPatientRequest>::default();
    let answer = service_fn(async |_: tonic::Request<GetPatientRequest>| {
        Ok::<_, Status>(tonic::Response::new(GetPatientResponse { patient: Some(a_patient(0)) }))
    });
    Grpc::new(codec).unary(answer, request).await.map(axum::body::Body::new)
}
