//! The calls as they are served: on a port of their own, and as gRPC-Web for browsers, beside whatever else is served there.

use axum::routing::any;
use futures::FutureExt;
use tonic::{server::NamedService, service::Routes};
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

/// Calls that are only served on the port of gRPC: nothing in a browser needs them.
const NOT_FOR_BROWSERS: [&str; 3] = ["PutPractice", "BatchPutPatients", "ErasePatient"];

/// The built-in contract cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the contract cannot be shown by reflection")]
pub struct ContractError(#[from] tonic_reflection::server::Error);

/// All calls of the contract, ready to be served.
#[derive(Debug)]
pub struct Server {
    routes: Routes,
    health: HealthReporter,
    reflection: bool,
}

impl Server {
    /// Over `services`. The health that comes with it says "not serving" until it is told otherwise.
    pub fn new(services: Services) -> (Health, Self) {
        let health = Health::new();
        let reporter = health.reporter.clone();
        (health, Self { routes: routes(services), health: reporter, reflection: true })
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

    /// The calls, health checks and reflection, for a port of their own.
    ///
    /// # Errors
    /// [`ContractError`]; not in a binary that was built whole.
    pub fn native(self) -> Result<axum::Router, ContractError> {
        // Added outside of the layers of the calls, since neither of the two needs a token.
        let health = HealthServer::new(HealthService::from_health_reporter(self.health));
        let mut routes = self.routes.add_service(health);
        if self.reflection {
            // Older clients know only v1alpha.
            routes = routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
        }
        Ok(routes.prepare().into_axum_router())
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
