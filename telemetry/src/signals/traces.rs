//! Spans: from `tracing` to OTLP.
use std::any::TypeId;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _};
use opentelemetry::{Context, ContextGuard, KeyValue, Value};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler as SdkSampler, SdkTracerProvider,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as LayerContext;
use tracing_subscriber::registry::LookupSpan;

use crate::Error;
use crate::base::settings::{Exporter, Otlp, Sampler, Traces};
use crate::pipeline::buffers::Buffers;
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::exporter;
use crate::pipeline::health::{Admission, Counted, Health};
use crate::pipeline::queue::Queue;
use crate::pipeline::transport::Transport;
use crate::signals::Telemetry;
use crate::signals::logs::Filter;
use crate::signals::span_processor::EncodingSpanProcessor;

/// A provider that exports, or, without an exporter, one that still gives every span its ids but samples none: an
/// exemplar or a header must not name a trace that nobody exported.
pub(crate) fn provider(
    settings: &Traces,
    resource: &Resource,
    health: &Health,
) -> Result<SdkTracerProvider, Error> {
    let builder = builder(settings, resource);
    Ok(match (&settings.otlp, settings.exporter) {
        (None, _) => builder.with_sampler(SdkSampler::AlwaysOff).build(),
        (Some(otlp), Exporter::Direct) => builder
            .with_span_processor(direct(settings, otlp, resource, health)?)
            .build(),
        // What most programs have: the SDK's batch processor and the exporter of `opentelemetry-otlp`.
        (Some(otlp), Exporter::Stock) => {
            provider_with(settings, resource, health, exporter(otlp, health)?)
        }
    })
}

/// The processor that encodes spans as they end, with the thread that sends them.
fn direct(
    settings: &Traces,
    otlp: &Otlp,
    resource: &Resource,
    health: &Health,
) -> Result<EncodingSpanProcessor, Error> {
    let queue = Queue::new(settings.batch, |_| true, &health.spans);
    let buffers = Arc::new(Buffers::new(vec![Arc::clone(&queue)]));
    let transport = Transport::new(otlp)?;
    exporter::start("traces", &buffers, &queue, transport, resource)?;
    Ok(EncodingSpanProcessor {
        buffers,
        queue,
        attribute_length: settings.attribute_length,
    })
}

/// A provider that exports to `exporter`.
pub(crate) fn provider_with(
    settings: &Traces,
    resource: &Resource,
    health: &Health,
    exporter: impl opentelemetry_sdk::trace::SpanExporter + 'static,
) -> SdkTracerProvider {
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
    builder(settings, resource)
        .with_span_processor(Admission {
            inner,
            signal: Arc::clone(&health.spans),
            capacity: batch.stock_queue(),
        })
        .build()
}

fn builder(
    settings: &Traces,
    resource: &Resource,
) -> opentelemetry_sdk::trace::TracerProviderBuilder {
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

thread_local! {
    /// The span that the next `tracing` span stands for, already started by [`adopt`].
    static PREPARED: RefCell<Option<Context>> = const { RefCell::new(None) };
    /// The contexts of the `tracing` spans that this thread has entered, with what tells one subscriber's spans from
    /// another's.
    static ENTERED: RefCell<Vec<((usize, Id), ContextGuard)>> = const { RefCell::new(Vec::new()) };
}

/// Makes the `tracing` span that `make` creates stand for the span of `context`.
pub(crate) fn adopt(context: Context, make: impl FnOnce() -> tracing::Span) -> tracing::Span {
    PREPARED.set(Some(context));
    let span = make();
    PREPARED.take(); // still there if no layer was listening
    span
}

/// Runs `f` with the context of `span`, if the bridge knows it.
pub(crate) fn with_context<R>(span: &tracing::Span, f: impl FnOnce(&Context) -> R) -> Option<R> {
    let mut f = Some(f);
    let mut result = None;
    span.with_subscriber(|(id, dispatch)| {
        if let Some(lookup) = dispatch.downcast_ref::<ContextOf>() {
            (lookup.0)(dispatch, id, &mut |context| {
                result = f.take().map(|f| f(context))
            });
        }
    });
    result
}

/// Finds a span's context without knowing the subscriber's type.
struct ContextOf(fn(&Dispatch, &Id, With<'_>));

type With<'a> = &'a mut dyn FnMut(&Context);

/// The layer that makes spans of `tracing` spans, and their context the current one while they are entered, so that log
/// records, exemplars and outbound calls find it.
///
/// Not `tracing-opentelemetry`: a request then costs about 4 µs more, for what is switched off here (every event
/// written a second time as a span event, busy and idle time, code locations, a start put off until the first use).
pub(crate) struct Bridge<S> {
    telemetry: Arc<Telemetry>,
    /// Absent where another layer has filtered already.
    filter: Option<Filter>,
    context_of: ContextOf,
    _subscriber: PhantomData<fn(S)>,
}

pub(crate) fn bridge<S>(telemetry: &Arc<Telemetry>, filter: Option<Filter>) -> Bridge<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    Bridge {
        telemetry: Arc::clone(telemetry),
        filter,
        context_of: ContextOf(|dispatch, id, f| {
            let span = dispatch
                .downcast_ref::<S>()
                .and_then(|subscriber| subscriber.span(id));
            let context = span.and_then(|span| span.extensions().get::<Context>().cloned());
            if let Some(context) = context {
                f(&context);
            }
        }),
        _subscriber: PhantomData,
    }
}

impl<S> Layer<S> for Bridge<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, layers: LayerContext<'_, S>) {
        let filter = self.filter.as_ref();
        if filter.is_some_and(|filter| !filter.lets(attributes.metadata())) {
            return;
        }
        let Some(span) = layers.span(id) else {
            return;
        };
        let context = PREPARED
            .take()
            .unwrap_or_else(|| self.start(attributes, &layers));
        span.extensions_mut().insert(context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, layers: LayerContext<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        with_layer_context(id, &layers, |context| {
            let span = context.span();
            if let Some(name) = fields.name {
                span.update_name(name);
            }
            span.set_status(fields.status);
            span.set_attributes(fields.attributes);
        });
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, layers: LayerContext<'_, S>) {
        with_layer_context(follows, &layers, |cause| {
            let cause = cause.span().span_context().clone();
            with_layer_context(id, &layers, |context| {
                context.span().add_link(cause, Vec::new())
            });
        });
    }

    fn on_enter(&self, id: &Id, layers: LayerContext<'_, S>) {
        with_layer_context(id, &layers, |context| {
            let guard = context.clone().attach();
            ENTERED.with_borrow_mut(|entered| entered.push((self.key(id), guard)));
        });
    }

    fn on_exit(&self, id: &Id, _: LayerContext<'_, S>) {
        // Nearly always the last one; the guard is dropped after the borrow.
        let key = self.key(id);
        let _guard = ENTERED.with_borrow_mut(|entered| {
            let at = entered.iter().rposition(|(entered, _)| *entered == key)?;
            Some(entered.remove(at))
        });
    }

    fn on_close(&self, id: Id, layers: LayerContext<'_, S>) {
        let context = layers
            .span(&id)
            .and_then(|span| span.extensions_mut().remove::<Context>());
        if let Some(context) = context {
            context.span().end();
        }
    }

    // SAFETY: all of them live inside `self`.
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        if id == TypeId::of::<Arc<Telemetry>>() {
            return Some(std::ptr::from_ref(&self.telemetry).cast());
        }
        if id == TypeId::of::<Self>() {
            return Some(std::ptr::from_ref(self).cast());
        }
        (id == TypeId::of::<ContextOf>()).then(|| std::ptr::from_ref(&self.context_of).cast())
    }
}

impl<S> Bridge<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn key(&self, id: &Id) -> (usize, Id) {
        (Arc::as_ptr(&self.telemetry).addr(), id.clone())
    }

    fn start(&self, attributes: &Attributes<'_>, layers: &LayerContext<'_, S>) -> Context {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let parent = match attributes.parent() {
            Some(parent) => with_layer_context(parent, layers, Context::clone).unwrap_or_default(),
            None if attributes.is_contextual() => Context::current(),
            None => Context::new(),
        };
        let Some(tracer) = &self.telemetry.tracer else {
            return parent;
        };
        let name = fields
            .name
            .unwrap_or(Cow::Borrowed(attributes.metadata().name()));
        let mut span = tracer
            .span_builder(name)
            .with_kind(fields.kind)
            .with_attributes(fields.attributes)
            .start_with_context(tracer, &parent);
        span.set_status(fields.status);
        parent.with_span(span)
    }
}

fn with_layer_context<S, R>(
    id: &Id,
    layers: &LayerContext<'_, S>,
    f: impl FnOnce(&Context) -> R,
) -> Option<R>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let span = layers.span(id)?;
    let extensions = span.extensions();
    extensions.get::<Context>().map(f)
}

/// Collects a `tracing` span's fields. Those that start with `otel.` say what else the span is, with the names that
/// `tracing-opentelemetry` made known.
struct Fields {
    name: Option<Cow<'static, str>>,
    kind: SpanKind,
    status: Status,
    attributes: Vec<KeyValue>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            name: None,
            kind: SpanKind::Internal,
            status: Status::Unset,
            attributes: Vec::new(),
        }
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = Some(Cow::Owned(value.to_owned())),
            "otel.kind" => {
                self.kind = match value {
                    "server" => SpanKind::Server,
                    "client" => SpanKind::Client,
                    "producer" => SpanKind::Producer,
                    "consumer" => SpanKind::Consumer,
                    _ => SpanKind::Internal,
                };
            }
            // A description may come before or after the code.
            "otel.status_code" if value.eq_ignore_ascii_case("error") => {
                if self.status == Status::Unset {
                    self.status = Status::error("");
                }
            }
            "otel.status_code" if value.eq_ignore_ascii_case("ok") => self.status = Status::Ok,
            "otel.status_code" => {}
            "otel.status_description" => self.status = Status::error(value.to_owned()),
            _ => self.put(field, value.to_owned()),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.put(field, value),
            Err(_) => self.put(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}
