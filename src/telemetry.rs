//! Logs, metrics and traces, and how errors are written into logs. It must never see an address, a name, a body or a token: whoever
//! logs, measures or traces names ids, channels, providers and codes, and of metrics not even ids.

mod metrics;
mod traces;

use std::{backtrace::Backtrace, error::Error, fmt, io::IsTerminal, panic, time::Duration};

use opentelemetry::{InstrumentationScope, metrics::MeterProvider, trace::TracerProvider};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use prometheus::{Registry, TextEncoder};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// Crates that write what they work on into their logs, a mail's text among it: nothing of theirs is ever shown.
const SILENT: [&str; 5] = ["html5ever", "markup5ever", "selectors", "cssparser", "tendril"];
/// It warns once for each connection that an attack costs: whoever floods the port would fill the disk with it.
const NOISY: &str = "h2";
/// Who may say more than `info`, if `RUST_LOG` asks for it. Every other crate tells there what it works on: h2 and hyper headers with
/// tokens in them, reqwest addresses with numbers and links, rustls and lettre what is agreed and said, sqlx statements. And a crate
/// that does not today may tomorrow.
const TALKATIVE: &str = env!("CARGO_CRATE_NAME");

/// How logs are written.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `RUST_LOG`; empty: `info`.
    pub filter: String,
    /// One JSON object a line.
    pub json: bool,
    /// By which name OpenTelemetry knows it (`OTEL_SERVICE_NAME`); unset: heedwell.
    pub service: Option<String>,
    /// Where OpenTelemetry's traces are sent (OTLP over gRPC).
    pub traces_url: Option<String>,
    /// Where OpenTelemetry's metrics are sent (OTLP over gRPC).
    pub metrics_url: Option<String>,
}

/// Starts logging to standard error, panics too. Later calls change nothing.
pub fn start(settings: &Settings) {
    let filter = match settings.filter.as_str() {
        "" => EnvFilter::new("info"),
        filter => EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info")),
    };
    let quiet = format!("{NOISY}=error").parse().ok().filter(|_| !settings.filter.contains(NOISY));
    let filter = quiet.into_iter().fold(filter, EnvFilter::add_directive);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = if settings.json { lines.json().boxed() } else { lines.boxed() };
    let kept = filter_fn(is_harmless).with_max_level_hint(LevelFilter::TRACE);
    // Only the first call in a process counts; tests start several servers in one.
    if tracing_subscriber::registry().with(filter).with(kept).with(lines).try_init().is_ok() {
        panic::set_hook(Box::new(tell_panic));
    }
}

/// Whether it may be shown, whatever `RUST_LOG` asks for.
fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let said_by =
        |name: &str| metadata.target().strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    (*metadata.level() <= Level::INFO || said_by(TALKATIVE)) && !SILENT.into_iter().any(said_by)
}

/// Tells where a panic was. What it says is shown only where it is a literal of the program's: the standard library puts the text
/// that is cut in the wrong place into its own words, and `expect` the error, so that it may be anything.
fn tell_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let said = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("[hidden]");
    tracing::error!(place, said, backtrace = %Backtrace::capture(), "a panic");
}

pub use metrics::{AttemptOutcome, Metrics, QUIET, QueueState};
pub use opentelemetry::{KeyValue, trace::SpanKind};
pub use traces::{Span, Traces};

/// What a collector has to take what is left, at a stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How often metrics are sent to a collector.
const EXPORT_EVERY: Duration = Duration::from_secs(30);

/// What a server measures, and its traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// What is measured.
    pub metrics: Metrics,
    /// What is traced; nothing, unless it is sent somewhere.
    pub traces: Traces,
    registry: Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
}

impl Default for Telemetry {
    /// Measures, and sends nothing anywhere.
    fn default() -> Self {
        let (registry, meters) = (Registry::new(), SdkMeterProvider::default());
        Self { metrics: Metrics::new(&meters.meter(SCOPE)), traces: Traces::default(), registry, meters, tracers: None }
    }
}

/// What metrics and traces are of.
const SCOPE: &str = "heedwell";

/// An exporter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Of OTLP.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT")]
    Otlp(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Of Prometheus.
    #[error("metrics cannot be shown")]
    Prometheus(#[from] opentelemetry_sdk::error::OTelSdkError),
}

impl Telemetry {
    /// Measures, and sends what the settings say. Wants a runtime, on which a collector is connected to once there is something to
    /// send.
    ///
    /// # Errors
    /// [`ExportError`] when an address cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, ExportError> {
        // Reads OTEL_RESOURCE_ATTRIBUTES.
        let resource = Resource::builder()
            .with_service_name(settings.service.clone().unwrap_or_else(|| SCOPE.to_owned()))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false);
        let mut meters = SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus.build()?);
        if let Some(url) = &settings.metrics_url {
            let exporter = MetricExporter::builder().with_tonic().with_endpoint(url).build()?;
            meters = meters.with_reader(PeriodicReader::builder(exporter).with_interval(EXPORT_EVERY).build());
        }
        let meters = meters.build();
        let tracers = match &settings.traces_url {
            None => None,
            Some(url) => {
                let exporter = SpanExporter::builder().with_tonic().with_endpoint(url).build()?;
                // The sampler is that of OTEL_TRACES_SAMPLER.
                Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
            }
        };
        let scope = InstrumentationScope::builder(SCOPE).with_version(env!("CARGO_PKG_VERSION")).build();
        let traces = tracers.as_ref().map(|tracers| Traces::new(tracers.tracer_with_scope(scope.clone())));
        Ok(Self {
            metrics: Metrics::new(&meters.meter_with_scope(scope)),
            traces: traces.unwrap_or_default(),
            registry,
            meters,
            tracers,
        })
    }

    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// Sends what is left, for a moment at most: whatever a collector that is away makes it wait for goes on without us.
    pub async fn stop(self) {
        // It waits for threads of its own, and by itself for metrics longer than it is told.
        let stopped = tokio::task::spawn_blocking(move || {
            if let Some(tracers) = &self.tracers {
                drop(tracers.shutdown_with_timeout(FLUSH_LIMIT));
            }
            drop(self.meters.shutdown_with_timeout(FLUSH_LIMIT));
        });
        let _ = tokio::time::timeout(FLUSH_LIMIT, stopped).await;
    }
}

/// An error with its causes, each once.
#[derive(Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// Writes `error` and its causes on one line.
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
