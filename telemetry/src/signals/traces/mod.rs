//! Spans: from `tracing` to OTLP.
mod fields;
mod processor;

use std::sync::Arc;

use opentelemetry::Context;
use opentelemetry::trace::{SpanBuilder, Status, TraceContextExt, Tracer as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider,
    TracerProviderBuilder,
};
use tracing::span::{Attributes, Record};

use self::fields::Fields;
pub(crate) use self::processor::FLUSH_TIMEOUT;
use self::processor::Processor;
use super::Telemetry;
use crate::Error;
use crate::base::settings::{Exporter, Otlp, Sampler, Traces};
use crate::extensions::Extensions;
use crate::pipeline::buffers::Buffers;
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::exporter::{self, Unsent};
use crate::pipeline::health::{Admission, Counted, Health};
use crate::pipeline::queue::Queue;
use crate::pipeline::transport::Transport;

/// A provider that exports, or, without an exporter, one that still gives every span its ids but samples none: an
/// exemplar or a header must not name a trace that nobody exported. With it what our own exporter has not sent.
pub(crate) fn provider(
    settings: &Traces,
    resource: &Resource,
    health: &Health,
    extensions: &mut Extensions,
) -> Result<(SdkTracerProvider, Option<Unsent>), Error> {
    let mut builder = builder(settings, resource);
    if settings.otlp.is_none() {
        builder = builder.with_sampler(SdkSampler::AlwaysOff);
    }
    // Before our processor, so that it sends what others change.
    let builder = extensions.extend_traces(builder);
    let mut unsent = None;
    let builder = match (&settings.otlp, settings.exporter) {
        (None, _) => builder,
        (Some(otlp), Exporter::Direct) => {
            let (processor, of_it) = direct(settings, otlp, resource, health)?;
            unsent = Some(of_it);
            builder.with_span_processor(processor)
        }
        // What most programs have: the SDK's batch processor and the exporter of `opentelemetry-otlp`.
        (Some(otlp), Exporter::Stock) => stock(builder, settings, health, exporter(otlp, health)?),
    };
    Ok((builder.build(), unsent))
}

/// The processor that encodes spans as they end, with the thread that sends them.
fn direct(
    settings: &Traces,
    otlp: &Otlp,
    resource: &Resource,
    health: &Health,
) -> Result<(Processor, Unsent), Error> {
    let queue = Queue::new(settings.batch, |_| true, &health.spans);
    let buffers = Arc::new(Buffers::new(vec![Arc::clone(&queue)]));
    let transport = Transport::new(otlp)?;
    let unsent = exporter::start("traces", &buffers, &queue, transport, resource)?;
    let processor = Processor {
        buffers,
        queue,
        attribute_length: settings.attribute_length,
    };
    Ok((processor, unsent))
}

/// A provider that exports to `exporter`.
pub(crate) fn provider_with(
    settings: &Traces,
    resource: &Resource,
    health: &Health,
    extensions: &mut Extensions,
    exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static,
) -> SdkTracerProvider {
    let builder = extensions.extend_traces(builder(settings, resource));
    stock(builder, settings, health, exporter).build()
}

/// Adds the SDK's batch processor with `exporter`.
fn stock(
    builder: TracerProviderBuilder,
    settings: &Traces,
    health: &Health,
    exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static,
) -> TracerProviderBuilder {
    let batch = settings.batch;
    let exporter = Counted {
        inner: exporter,
        signal: Arc::clone(&health.spans),
        attribute_length: settings.attribute_length,
    };
    let inner = BatchSpanProcessor::builder(exporter)
        .with_batch_config(
            BatchConfigBuilder::default()
                .with_max_queue_size(batch.stock_queue())
                .with_max_export_batch_size(batch.size)
                .with_scheduled_delay(batch.delay)
                .build(),
        )
        .build();
    builder.with_span_processor(Admission {
        inner,
        signal: Arc::clone(&health.spans),
        capacity: batch.stock_queue(),
    })
}

fn builder(settings: &Traces, resource: &Resource) -> TracerProviderBuilder {
    SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(sampler(settings))
        .with_max_attributes_per_span(settings.attribute_count)
        .with_max_events_per_span(settings.event_count)
        .with_max_links_per_span(settings.link_count)
        .with_max_attributes_per_event(settings.event_attribute_count)
        .with_max_attributes_per_link(settings.link_attribute_count)
}

fn exporter(otlp: &Otlp, health: &Health) -> Result<SpanExporter, Error> {
    let transport = StockTransport::new(otlp, &health.spans, None)?;
    over_http(SpanExporter::builder().with_http(), otlp, transport)
        .build()
        .map_err(|error| Error(format!("span exporter: {error}")))
}

fn sampler(settings: &Traces) -> SdkSampler {
    let ratio = SdkSampler::TraceIdRatioBased(settings.sampler_ratio);
    let by_parent = |root| SdkSampler::ParentBased(Box::new(root));
    match settings.sampler {
        Sampler::AlwaysOn => SdkSampler::AlwaysOn,
        Sampler::AlwaysOff => SdkSampler::AlwaysOff,
        Sampler::TraceIdRatio => ratio,
        Sampler::ParentBasedAlwaysOn => by_parent(SdkSampler::AlwaysOn),
        Sampler::ParentBasedAlwaysOff => by_parent(SdkSampler::AlwaysOff),
        Sampler::ParentBasedTraceIdRatio => by_parent(ratio),
    }
}

/// Starts the span that a `tracing` span with these `attributes` stands for. When telemetry is disabled there is none.
pub(super) fn start(
    telemetry: &Telemetry,
    attributes: &Attributes<'_>,
    parent: Context,
) -> Context {
    let Some(tracer) = &telemetry.tracer else {
        return parent;
    };
    let metadata = attributes.metadata();
    let mut fields = Fields::with_capacity(metadata.fields().len());
    attributes.record(&mut fields);
    let name = fields.name.unwrap_or(metadata.name().into());
    let mut builder = SpanBuilder::from_name(name).with_kind(fields.kind);
    builder.attributes = Some(fields.attributes);
    // Its status is set where it is then, because a span is half a kilobyte to move.
    let context = parent.with_span(tracer.build_with_context(builder, &parent));
    if fields.status != Status::Unset {
        context.span().set_status(fields.status);
    }
    context
}

/// Adds what was recorded on a `tracing` span to the span of `context`.
pub(super) fn record(context: &Context, values: &Record<'_>) {
    let mut fields = Fields::with_capacity(values.len());
    values.record(&mut fields);
    let span = context.span();
    if let Some(name) = fields.name {
        span.update_name(name);
    }
    if fields.status != Status::Unset {
        span.set_status(fields.status);
    }
    span.set_attributes(fields.attributes);
}
