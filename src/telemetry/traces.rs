//! Spans, for OpenTelemetry. What they say is listed where each is made: ids, channels, providers, codes. Nothing that is logged
//! gets into them by itself.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceState, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};

use crate::domain::TraceContext;

/// Makes spans, where they are exported.
#[derive(Clone, Default)]
pub struct Traces(Option<SdkTracer>);

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

/// A span under way. Dropped, it has ended.
pub struct Span(Option<SdkSpan>);

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.context()).finish()
    }
}

impl Traces {
    pub(super) const fn new(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// Begins the span of something that somebody asked for, within their trace if they have one.
    #[must_use]
    pub fn serve(&self, name: String, parent: Option<TraceContext>) -> Span {
        Span(self.0.as_ref().map(|tracer| {
            let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
            tracer.build_with_context(builder, &within(parent))
        }))
    }

    /// Writes down a step that has just ended and took so long, within a trace that is recorded. Of any other nothing is written.
    pub fn step(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<TraceContext>,
        took: Duration,
        says: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let (Some(tracer), Some(parent)) = (&self.0, parent) else { return };
        let now = SystemTime::now();
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(now.checked_sub(took).unwrap_or(now))
            .with_attributes(says());
        tracer.build_with_context(builder, &within(Some(parent))).end_with_timestamp(now);
    }
}

impl Span {
    /// Its place, if it is recorded.
    #[must_use]
    pub fn context(&self) -> Option<TraceContext> {
        let context = self.0.as_ref()?.span_context();
        context.is_sampled().then(|| TraceContext {
            trace_id: context.trace_id().to_bytes(),
            span_id: context.span_id().to_bytes(),
            flags: context.trace_flags().to_u8(),
        })
    }

    /// Adds something to it.
    pub fn set(&mut self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(span) = &mut self.0 {
            span.set_attribute(KeyValue::new(key, value));
        }
    }

    /// It went wrong, through a fault of the server's.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.0 {
            span.set_status(Status::error(""));
        }
    }
}

fn within(parent: Option<TraceContext>) -> Context {
    let Some(TraceContext { trace_id, span_id, flags }) = parent else { return Context::new() };
    let parent = SpanContext::new(
        TraceId::from_bytes(trace_id),
        SpanId::from_bytes(span_id),
        TraceFlags::new(flags),
        true,
        TraceState::NONE,
    );
    Context::new().with_remote_span_context(parent)
}
