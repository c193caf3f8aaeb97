//! A collector of OpenTelemetry: it takes what is exported by OTLP over gRPC, reads all of it, and keeps it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, service::Routes};

/// What came in.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    spans: Vec<Span>,
    metrics: Vec<String>,
    bytes: Vec<u8>,
}

impl Collector {
    /// Listens. Yields where.
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let (collector, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addr = listener.local_addr().unwrap();
        let routes = Routes::new(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .into_axum_router();
        drop(tokio::spawn(async move { axum::serve(listener, routes).await }));
        (collector, addr)
    }

    /// The spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().spans.clone()
    }

    /// The names of the metrics so far.
    pub(crate) fn metrics(&self) -> Vec<String> {
        self.0.lock().unwrap().metrics.clone()
    }

    /// All of it as it came, but for what the protocol of its transport adds.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().bytes.clone()
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.0.lock().unwrap();
        taken.bytes.extend(request.encode_to_vec());
        let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        taken.spans.extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut taken = self.0.lock().unwrap();
        taken.bytes.extend(request.encode_to_vec());
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        taken.metrics.extend(scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

/// What a span says under a name.
pub(crate) fn said(span: &Span, key: &str) -> String {
    let said = span.attributes.iter().find(|attribute| attribute.key == key);
    match said.and_then(|said| said.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} of {}: {other:?}", span.name),
    }
}
