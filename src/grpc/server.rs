//! Serving the calls: on a port of their own, with the limits that keep one client from harming the others, and as
//! gRPC-Web for browsers, beside whatever else is served there.

use std::time::Duration;

use axum::routing::any;
use futures::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    server::NamedService,
    service::Routes,
    transport::{self, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tonic_web::GrpcWebLayer;
use tower::Layer;

use super::{
    SERVICES, Services, directory, proto, proto::directory_service_server::DirectoryServiceServer, routes, status,
};

/// A client that is silent for this long is pinged, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// How long a connection is silent before TCP probes it.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a connection may live before its client is asked to open another, so that load spreads.
const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// How long its calls may go on after that: longer than a watch lives, so that watches end by themselves.
const CONNECTION_GRACE: Duration = Duration::from_secs(35 * 60);
/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Open calls of one connection, watches included. tonic would lift hyper's limit if it were not set.
const STREAMS: u32 = 200;
/// Calls of one connection that wait for their answer; more are refused at once instead of queued.
const CALLS: usize = 64;
/// Most bytes of metadata.
const HEADERS: u32 = 16 * 1024;

/// Calls that are only served on the port of gRPC: nothing in a browser needs them.
const NOT_FOR_BROWSERS: [&str; 3] = ["PutPractice", "BatchPutPatients", "ErasePatient"];

/// Why gRPC is not served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener broke down.
    #[error("the gRPC port cannot be served")]
    Transport(#[from] transport::Error),
    /// The built-in contract cannot be read.
    #[error("the contract cannot be shown by reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// All calls of the contract, ready to be served.
#[derive(Debug)]
pub struct Server {
    transport: transport::Server,
    routes: Routes,
    health: HealthReporter,
    reflection: bool,
}

impl Server {
    /// Over `services`; without `tls`, the port is in the clear. The health that comes with it says "not serving" until it
    /// is told otherwise.
    ///
    /// # Errors
    /// If the certificate or its key is unusable.
    pub fn new(services: Services, tls: Option<ServerTlsConfig>) -> Result<(Health, Self), transport::Error> {
        let mut transport = transport::Server::builder()
            .max_concurrent_streams(STREAMS)
            .concurrency_limit_per_connection(CALLS)
            .load_shed(true)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(HEADERS)
            .max_connection_age(CONNECTION_AGE)
            .max_connection_age_grace(CONNECTION_GRACE);
        if let Some(tls) = tls {
            transport = transport.tls_config(tls.timeout(HANDSHAKE))?;
        }
        let health = Health::new();
        let reporter = health.reporter.clone();
        Ok((health, Self { transport, routes: routes(services), health: reporter, reflection: true }))
    }

    /// Keeps the contract to itself, though it is public.
    #[must_use]
    pub fn without_reflection(self) -> Self {
        Self { reflection: false, ..self }
    }

    /// The calls as gRPC-Web, to be merged into a router for HTTP/1.1 or HTTP/2. It answers to the paths of the contract
    /// and to no other.
    pub fn web(&self) -> axum::Router {
        let calls = GrpcWebLayer::new().layer(self.routes.clone());
        let refusal = GrpcWebLayer::new().layer(any(async || status::not_here().into_http::<axum::body::Body>()));
        let services = SERVICES.into_iter().filter(|service| !service.is_empty());
        let router = services.fold(axum::Router::new(), |router, service| {
            router.route_service(&format!("/{service}/{{*call}}"), calls.clone())
        });
        let directory = DirectoryServiceServer::<directory::Handlers>::NAME;
        NOT_FOR_BROWSERS
            .into_iter()
            .fold(router, |router, call| router.route_service(&format!("/{directory}/{call}"), refusal.clone()))
    }

    /// Serves the calls, health checks and reflection until `stop` is cancelled and the calls under way have ended. A
    /// connection that never spoke may keep it from returning (hyper #4170), so that the caller sets a limit of its own.
    ///
    /// # Errors
    /// If the listener breaks down.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        // Added outside of the layers of the calls, since neither of the two needs a token.
        let health = HealthServer::new(HealthService::from_health_reporter(self.health));
        let mut routes = self.routes.add_service(health);
        if self.reflection {
            // Older clients know only v1alpha.
            routes = routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
        }
        // The transport's own settings for TCP do not reach a listener that it was given.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(TCP_KEEPALIVE));
        let mut transport = self.transport;
        transport.add_routes(routes).serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        Ok(())
    }
}

fn reflection<'a>() -> tonic_reflection::server::Builder<'a> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// What `grpc.health.v1` says of each service, and of the server as a whole.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    fn new() -> Self {
        let health = Self { reporter: HealthReporter::new() };
        // Nobody else has the reporter yet, so that there is nothing to wait for.
        let _ = health.not_serving().now_or_never();
        health
    }

    /// Says that all services are serving.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Says that no service is serving, so that load balancers send no more calls here.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
