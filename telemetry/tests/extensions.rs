//! What a program adds to the SDK's providers works beside ours.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use opentelemetry::logs::{AnyValue, LogRecord};
use opentelemetry::trace::{Link, SpanId, SpanKind, TraceId};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{
    IdGenerator, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};
use signalbox_telemetry::{Extensions, start_extended, testing};
use tracing::subscriber::with_default;
use tracing::{info, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry;

#[derive(Debug, Clone, Default)]
struct Seen {
    spans: Arc<Mutex<Vec<SpanData>>>,
    records: Arc<Mutex<Vec<SdkLogRecord>>>,
}

impl SpanProcessor for Seen {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.spans.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl LogProcessor for Seen {
    fn emit(&self, record: &mut SdkLogRecord, _: &InstrumentationScope) {
        self.records.lock().unwrap().push(record.clone());
        record.add_attribute("added", true);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Loud;

impl ShouldSample for Loud {
    fn should_sample(
        &self,
        _: Option<&Context>,
        _: TraceId,
        name: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        SamplingResult {
            decision: match name {
                "quiet" => SamplingDecision::Drop,
                _ => SamplingDecision::RecordAndSample,
            },
            attributes: vec![KeyValue::new("sampler", "loud")],
            trace_state: Default::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Counting(AtomicU64);

impl IdGenerator for Counting {
    fn new_trace_id(&self) -> TraceId {
        TraceId::from(0xabc)
    }

    fn new_span_id(&self) -> SpanId {
        SpanId::from(self.0.fetch_add(1, Relaxed) + 1)
    }
}

#[test]
fn own_processors_sampler_and_ids_work() {
    let seen = Seen::default();
    let (spans, records) = (seen.clone(), seen.clone());
    let settings = testing::settings(&[
        ("LOG_FORMAT", "off"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
    ]);
    let extensions = Extensions::default()
        .traces(|builder| {
            builder
                .with_span_processor(spans)
                .with_sampler(Loud)
                .with_id_generator(Counting::default())
        })
        .logs(|builder| builder.with_log_processor(records));
    let guard = start_extended(&settings, extensions).unwrap();
    with_default(registry().with(guard.layer()), || {
        let outer = info_span!(
            "outer",
            answer = 42,
            text = "t",
            late = tracing::field::Empty
        );
        let _entered = outer.enter();
        outer.record("late", 2.5);
        drop(info_span!("quiet"));
        info!(item = "a", "told");
    });

    let spans = seen.spans.lock().unwrap();
    assert_eq!(spans.len(), 1, "the quiet one is dropped");
    let outer = &spans[0];
    assert_eq!(outer.span_context.trace_id(), TraceId::from(0xabc));
    assert_eq!(outer.span_context.span_id(), SpanId::from(1));
    let expected = [
        KeyValue::new("answer", 42),
        KeyValue::new("text", "t"),
        KeyValue::new("sampler", "loud"),
        KeyValue::new("late", 2.5),
    ];
    assert_eq!(outer.attributes, expected);

    let records = seen.records.lock().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(testing::message(&records[0]), "told");
    let item = records[0]
        .attributes_iter()
        .find(|(key, _)| key.as_str() == "item");
    assert_eq!(item.unwrap().1, AnyValue::String("a".into()));
    assert_eq!(records[0].trace_context().unwrap().span_id, SpanId::from(1));
}
