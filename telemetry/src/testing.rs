//! In-memory capture of what is emitted, for assertions: the real pipeline up to the exporter, with the exporter
//! replaced. One capture serves all tests of a process, because `tracing` and OpenTelemetry have one global each; tests
//! tell their own apart by trace id or attribute.
use std::sync::{Arc, Mutex, OnceLock};

use opentelemetry::logs::AnyValue;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, SdkLogRecord};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};

use crate::base::locked;
use crate::base::settings::{Identity, Settings};
use crate::{Guard, start};

/// An identity for tests.
pub const IDENTITY: Identity = Identity {
    service_name: "test-service",
    service_namespace: "test",
    service_version: "0.0.0",
    metric_prefix: "test",
    request_id_attribute: "test.request.id",
};

/// Settings as if the environment held `vars` and nothing else.
///
/// # Panics
/// When they are wrong.
pub fn settings(vars: &[(&str, &str)]) -> Settings {
    let lookup = |name: &str| {
        let (_, value) = vars.iter().find(|(key, _)| *key == name)?;
        Some((*value).to_owned())
    };
    Settings::from_lookup(IDENTITY, lookup).expect("settings of a test")
}

/// What has been emitted so far.
pub struct Capture {
    spans: Arc<Mutex<Vec<SpanData>>>,
    records: Arc<Mutex<Vec<SdkLogRecord>>>,
    guard: Guard,
}

/// Starts capturing, the first time it is called.
///
/// # Panics
/// When something else has set the process' telemetry up before.
pub fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let settings = settings(&[
            ("LOG_FORMAT", "off"),
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("RUST_LOG", "debug"),
        ]);
        let (spans, records) = (Spans::default(), Records::default());
        let kept = (Arc::clone(&spans.0), Arc::clone(&records.0));
        let guard = start(&settings, Some(spans), Some(records)).expect("telemetry starts");
        Capture {
            spans: kept.0,
            records: kept.1,
            guard,
        }
    })
}

impl Capture {
    /// The finished spans of a trace (32 hex digits), in the order of their ends.
    pub fn spans(&self, trace_id: &str) -> Vec<SpanData> {
        self.guard.flush();
        let spans = locked(&self.spans);
        let of_trace = |span: &&SpanData| span.span_context.trace_id().to_string() == trace_id;
        spans.iter().filter(of_trace).cloned().collect()
    }

    /// The log records of a trace (32 hex digits).
    pub fn records(&self, trace_id: &str) -> Vec<SdkLogRecord> {
        self.guard.flush();
        let records = locked(&self.records);
        let of_trace = |record: &&SdkLogRecord| {
            record
                .trace_context()
                .is_some_and(|ids| ids.trace_id.to_string() == trace_id)
        };
        records.iter().filter(of_trace).cloned().collect()
    }

    /// All metrics as an OTLP request, with exemplars.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn metrics(&self) -> ExportMetricsServiceRequest {
        self.guard.pull().collect().expect("metrics can be read")
    }

    /// The OpenMetrics page.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn openmetrics(&self) -> String {
        self.guard
            .pull()
            .openmetrics()
            .expect("metrics can be read")
    }
}

/// A span's attribute as text.
pub fn span_attribute(span: &SpanData, key: &str) -> Option<String> {
    let attribute = span
        .attributes
        .iter()
        .find(|attribute| attribute.key.as_str() == key)?;
    Some(attribute.value.to_string())
}

/// A record's attribute as text.
pub fn record_attribute(record: &SdkLogRecord, key: &str) -> Option<String> {
    let (_, value) = record
        .attributes_iter()
        .find(|(name, _)| name.as_str() == key)?;
    Some(any_text(value))
}

/// A record's message.
pub fn message(record: &SdkLogRecord) -> String {
    record.body().map(any_text).unwrap_or_default()
}

fn any_text(value: &AnyValue) -> String {
    match value {
        AnyValue::String(text) => text.as_str().to_owned(),
        AnyValue::Int(value) => value.to_string(),
        AnyValue::Double(value) => value.to_string(),
        AnyValue::Boolean(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

#[derive(Debug, Default)]
pub(crate) struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        locked(&self.0).extend(batch);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(crate) struct Records(Arc<Mutex<Vec<SdkLogRecord>>>);

impl LogExporter for Records {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().map(|(record, _)| record.clone());
        locked(&self.0).extend(records);
        Ok(())
    }
}
