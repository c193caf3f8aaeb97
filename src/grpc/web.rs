//! gRPC-Web for browsers, on the sidecar's port, so that a page and the API share one origin.

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use tonic::{Status, service::Routes};
use tonic_web::GrpcWebLayer;

/// Calls of machines, which are served on the native port only.
const NATIVE_ONLY: [&str; 3] = [
    "/heedwell.v1.DirectoryService/PutPractice",
    "/heedwell.v1.DirectoryService/BatchPutPatients",
    "/heedwell.v1.DirectoryService/ErasePatient",
];

/// `routes` as gRPC-Web. Paths that are no calls are left to others.
pub fn web(routes: Routes) -> Router {
    routes.into_axum_router().reset_fallback().layer(from_fn(refuse)).layer(GrpcWebLayer::new())
}

async fn refuse(request: Request, next: Next) -> Response {
    if NATIVE_ONLY.contains(&request.uri().path()) {
        return Status::unimplemented("this call is served on the gRPC port only").into_http::<axum::body::Body>().into_response();
    }
    next.run(request).await
}
