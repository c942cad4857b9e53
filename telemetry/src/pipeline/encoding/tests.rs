//! The payload by value: what is encoded here, and what `opentelemetry-otlp` sends for the same spans and records.
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Array, InstrumentationScope, Key, KeyValue, Value};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogProcessor, SdkLogRecord, SdkLoggerProvider};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use prost::Message;

use super::{ITEM, Run, frame, long_message, record, resource, span};

/// One for all: each resource has its attributes in an order of its own.
fn some_resource() -> &'static Resource {
    static RESOURCE: OnceLock<Resource> = OnceLock::new();
    RESOURCE.get_or_init(|| {
        let attributes = [
            KeyValue::new("service.name", "a"),
            KeyValue::new("n", 1),
            list(),
        ];
        Resource::builder_empty()
            .with_schema_url(attributes, "https://opentelemetry.io/schemas/1.40.0")
            .build()
    })
}

fn list() -> KeyValue {
    let texts = vec!["".into(), "äöü".into(), "x".repeat(300).into()];
    KeyValue::new("list.text", Value::Array(Array::String(texts)))
}

/// Attributes of every kind, and those whose lengths need one byte, just one, and more.
fn attributes() -> Vec<KeyValue> {
    let text = |length: usize| KeyValue::new("text", "t".repeat(length));
    let mut attributes = vec![
        KeyValue::new("bool", true),
        KeyValue::new("bool", false),
        KeyValue::new("zero", 0),
        KeyValue::new("negative", -1),
        KeyValue::new("least", i64::MIN),
        KeyValue::new("most", i64::MAX),
        KeyValue::new("double", 1.5),
        KeyValue::new("zero", 0.0),
        KeyValue::new("infinite", f64::NEG_INFINITY),
        KeyValue::new("list.bool", Value::Array(Array::Bool(vec![true, false]))),
        KeyValue::new("list.int", Value::Array(Array::I64(vec![0, -5, i64::MAX]))),
        KeyValue::new("list.double", Value::Array(Array::F64(vec![0.0, f64::MAX]))),
        KeyValue::new("list.empty", Value::Array(Array::I64(Vec::new()))),
        KeyValue::new("", ""),
        KeyValue::new("日本語", "äöü 🦀"),
        list(),
    ];
    attributes.extend([0, 1, 116, 117, 118, 119, 127, 128, 16_383, 16_384, 100_000].map(text));
    attributes.push(KeyValue::new("k".repeat(200), "v"));
    attributes
}

fn ids(span: u64, remote: bool, state: &str) -> SpanContext {
    let state = state.parse::<TraceState>().unwrap();
    SpanContext::new(
        TraceId::from(0xa1b2),
        SpanId::from(span),
        TraceFlags::SAMPLED,
        remote,
        state,
    )
}

/// A span that has nothing but what every span has.
pub(crate) fn plain(id: u64) -> SpanData {
    SpanData {
        span_context: ids(id, false, ""),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "plain".into(),
        start_time: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
        end_time: UNIX_EPOCH + Duration::new(1_700_000_001, 1),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

fn full(id: u64) -> SpanData {
    let mut full = SpanData {
        span_context: ids(id, false, "vendor=1,other=2"),
        parent_span_id: SpanId::from(7),
        parent_span_is_remote: true,
        attributes: attributes(),
        dropped_attributes_count: 3,
        status: Status::error("no disk"),
        ..plain(id)
    };
    let time = UNIX_EPOCH + Duration::from_nanos(5);
    full.events.events = vec![
        Event::new("", time, Vec::new(), 0),
        Event::new("exception", time, attributes(), u32::MAX),
    ];
    full.events.dropped_count = 200;
    full.links.links = vec![
        Link::new(ids(9, true, "far=1"), attributes(), 5),
        Link::new(SpanContext::NONE, Vec::new(), 0),
    ];
    full.links.dropped_count = 6;
    full
}

/// Spans of every kind and status, of several scopes, some of which come again.
fn spans() -> Vec<SpanData> {
    let kinds = [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
    ];
    let mut spans: Vec<_> = kinds
        .into_iter()
        .enumerate()
        .map(|(n, span_kind)| SpanData {
            span_kind,
            ..plain(n as u64 + 1)
        })
        .collect();
    let statuses = [
        Status::Ok,
        Status::error(""),
        Status::error("e".repeat(500)),
    ];
    spans.extend(statuses.map(|status| SpanData {
        status,
        ..plain(20)
    }));
    spans.push(SpanData {
        name: String::new().into(),
        ..plain(30)
    });
    spans.push(SpanData {
        // Before 1970, and an end before the start: clocks do that.
        start_time: UNIX_EPOCH - Duration::from_secs(1),
        end_time: UNIX_EPOCH,
        ..plain(31)
    });
    let unsampled = SpanContext::new(
        32.into(),
        32.into(),
        TraceFlags::default(),
        true,
        TraceState::NONE,
    );
    spans.push(SpanData {
        span_context: unsampled,
        ..plain(32)
    });
    spans.push(full(40));
    let scope = |version: &'static str| {
        InstrumentationScope::builder("library")
            .with_version(version)
            .with_schema_url("https://example.com/1")
            .with_attributes(attributes())
            .build()
    };
    for (n, version) in ["1", "2", "2", "1"].into_iter().enumerate() {
        spans.push(SpanData {
            instrumentation_scope: scope(version),
            ..plain(50 + n as u64)
        });
    }
    spans
}

/// What is sent for `spans`, as the queue frames it.
fn encoded(spans: &[SpanData], limit: Option<usize>) -> ExportTraceServiceRequest {
    let runs: Vec<_> = spans
        .iter()
        .map(|data| {
            let mut items = Vec::new();
            long_message(&mut items, ITEM, |out| span(out, data, limit));
            (Run::new(&data.instrumentation_scope, None, 0).scope, items)
        })
        .collect();
    let runs = runs
        .iter()
        .map(|(scope, items)| (&**scope, items.as_slice()));
    let resource = resource(some_resource());
    let body = frame(&resource, runs).joined();
    ExportTraceServiceRequest::decode(body.as_slice()).unwrap()
}

/// The same from the stock exporter.
fn stock(spans: Vec<SpanData>) -> ExportTraceServiceRequest {
    let resource = ResourceAttributesWithSchema::from(some_resource());
    ExportTraceServiceRequest {
        resource_spans: group_spans_by_resource_and_scope(spans, &resource),
    }
}

/// Unites what is of one scope, as the stock exporter does; neither order nor number of groups has a meaning.
fn united(mut request: ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    for resource in &mut request.resource_spans {
        let mut scopes: Vec<opentelemetry_proto::tonic::trace::v1::ScopeSpans> = Vec::new();
        for mut group in resource.scope_spans.drain(..) {
            let same = |known: &&mut opentelemetry_proto::tonic::trace::v1::ScopeSpans| {
                known.scope == group.scope && known.schema_url == group.schema_url
            };
            match scopes.iter_mut().find(same) {
                Some(known) => known.spans.append(&mut group.spans),
                None => scopes.push(group),
            }
        }
        resource.scope_spans = scopes;
    }
    request
}

#[test]
fn spans_are_the_stock_exporter_s_by_value() {
    let spans = spans();
    let (ours, theirs) = (united(encoded(&spans, None)), united(stock(spans.clone())));
    assert_eq!(ours, theirs);
    let sent = ours.resource_spans[0]
        .scope_spans
        .iter()
        .map(|scope| scope.spans.len());
    assert_eq!(sent.sum::<usize>(), spans.len());
    // All spans of a scope are one group, also where those of another stand between them.
    let groups = &encoded(&spans, None).resource_spans[0].scope_spans;
    assert_eq!(groups.len(), ours.resource_spans[0].scope_spans.len());
}

#[test]
fn each_span_alone_is_the_stock_exporter_s_too() {
    // Lengths of messages differ then: a frame of one span needs fewer bytes for its own.
    for span in spans() {
        assert_eq!(
            encoded(std::slice::from_ref(&span), None),
            stock(vec![span])
        );
    }
    assert_eq!(encoded(&[], None).resource_spans[0].scope_spans, []);
}

#[test]
fn a_limit_of_lengths_cuts_characters_and_not_bytes() {
    for limit in [0, 1, 3, 117, 1000] {
        let mut cut = full(1);
        crate::pipeline::health::shorten(&mut cut, limit);
        assert_eq!(
            encoded(&[full(1)], Some(limit)),
            stock(vec![cut]),
            "{limit}"
        );
    }
    let request = encoded(&[full(1)], Some(2));
    let attributes = &request.resource_spans[0].scope_spans[0].spans[0].attributes;
    let of = |key: &str| {
        attributes
            .iter()
            .find(|pair| pair.key == key)
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(of("日本語"), Some(Value::from("äö").into()));
    let texts = vec!["".into(), "äö".into(), "xx".into()];
    assert_eq!(
        of("list.text"),
        Some(Value::Array(Array::String(texts)).into())
    );
}

/// Keeps the records that a provider makes: only the SDK can make one.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<(SdkLogRecord, InstrumentationScope)>>>);

impl LogProcessor for Kept {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.lock().unwrap().push((record.clone(), scope.clone()));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }
}

/// Values of every kind that a record may hold, nested.
fn any_values() -> Vec<AnyValue> {
    let mut map = HashMap::new();
    map.insert(
        Key::new("inner"),
        AnyValue::ListAny(Box::new(vec![AnyValue::Int(1), AnyValue::Boolean(true)])),
    );
    let mut values = vec![
        AnyValue::String("äöü".into()),
        AnyValue::String("".into()),
        AnyValue::String("x".repeat(70_000).into()),
        AnyValue::Int(0),
        AnyValue::Int(-1),
        AnyValue::Double(0.0),
        AnyValue::Double(f64::INFINITY),
        AnyValue::Boolean(false),
        AnyValue::Bytes(Box::new(vec![0, 255, 128])),
        AnyValue::Bytes(Box::default()),
        AnyValue::ListAny(Box::default()),
        AnyValue::Map(Box::default()),
        AnyValue::Map(Box::new(map)),
    ];
    values.push(AnyValue::ListAny(Box::new(values.clone())));
    values
}

const SEVERITIES: [Severity; 24] = [
    Severity::Trace,
    Severity::Trace2,
    Severity::Trace3,
    Severity::Trace4,
    Severity::Debug,
    Severity::Debug2,
    Severity::Debug3,
    Severity::Debug4,
    Severity::Info,
    Severity::Info2,
    Severity::Info3,
    Severity::Info4,
    Severity::Warn,
    Severity::Warn2,
    Severity::Warn3,
    Severity::Warn4,
    Severity::Error,
    Severity::Error2,
    Severity::Error3,
    Severity::Error4,
    Severity::Fatal,
    Severity::Fatal2,
    Severity::Fatal3,
    Severity::Fatal4,
];

fn records() -> Vec<(SdkLogRecord, InstrumentationScope)> {
    let kept = Kept::default();
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(kept.clone())
        .build();
    let library = InstrumentationScope::builder("library")
        .with_version("1")
        .with_attributes(attributes())
        .build();
    let (bare, versioned) = (provider.logger("bare"), provider.logger_with_scope(library));
    for severity in SEVERITIES {
        let mut record = bare.create_log_record();
        record.set_severity_number(severity);
        record.set_severity_text(severity.name());
        bare.emit(record);
    }
    for value in any_values() {
        let mut record = versioned.create_log_record();
        record.set_body(value.clone());
        record.add_attribute("key", value);
        versioned.emit(record);
    }
    let mut record = bare.create_log_record();
    record.set_timestamp(UNIX_EPOCH + Duration::new(1_700_000_000, 1));
    record.set_observed_timestamp(UNIX_EPOCH);
    record.set_event_name("test.event");
    record.set_target(Cow::Borrowed("some::target"));
    record.set_trace_context(TraceId::from(5), SpanId::from(6), Some(TraceFlags::SAMPLED));
    for n in 0..200 {
        record.add_attribute(format!("key{n}"), n);
    }
    bare.emit(record);
    let mut record = versioned.create_log_record();
    record.set_target(String::from("another"));
    record.set_trace_context(TraceId::INVALID, SpanId::INVALID, None);
    versioned.emit(record);
    std::mem::take(&mut *kept.0.lock().unwrap())
}

#[test]
fn records_are_the_stock_exporter_s_by_value() {
    let records = records();
    assert_eq!(records.len(), SEVERITIES.len() + any_values().len() + 2);
    for (data, scope) in &records {
        let mut items = Vec::new();
        long_message(&mut items, ITEM, |out| record(out, data));
        let run = Run::new(scope, data.target(), 0);
        let resource = resource(some_resource());
        let runs = std::iter::once((&*run.scope, items.as_slice()));
        let body = frame(&resource, runs).joined();
        let ours = ExportLogsServiceRequest::decode(body.as_slice()).unwrap();
        let batch = [(data, scope)];
        let theirs = ExportLogsServiceRequest {
            resource_logs: group_logs_by_resource_and_scope(
                &LogBatch::new(&batch),
                &ResourceAttributesWithSchema::from(some_resource()),
            ),
        };
        assert_eq!(ours, theirs, "{data:?}");
    }
}

#[test]
fn a_run_goes_on_with_its_own_scope_alone() {
    let scope = |version: &'static str| {
        InstrumentationScope::builder("library")
            .with_version(version)
            .build()
    };
    let (target, other) = (Cow::Borrowed("target"), Cow::Borrowed("other"));
    let run = Run::new(&scope("1"), None, 0);
    assert!(run.continues(&scope("1"), None));
    assert!(!run.continues(&scope("2"), None));
    assert!(!run.continues(&scope("1"), Some(&target)));
    assert!(!run.continues(&InstrumentationScope::builder("library").build(), None));
    let run = Run::new(&scope("1"), Some(&target), 0);
    assert_eq!(
        (run.scope.name(), run.scope.version()),
        ("target", Some("1"))
    );
    assert!(run.continues(&scope("1"), Some(&target)));
    assert!(!run.continues(&scope("1"), Some(&other)));
    assert!(!run.continues(&scope("1"), None));
}
