//! In-memory capture of what is emitted, for assertions: the real pipeline up to the exporter, with the exporter replaced.
use std::sync::OnceLock;

use opentelemetry::logs::AnyValue;
#[cfg(feature = "scrape")]
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::logs::{InMemoryLogExporter, SdkLogRecord};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::base::settings::{Identity, Settings};
use crate::{Extensions, Guard, start_with};

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
    spans: InMemorySpanExporter,
    records: InMemoryLogExporter,
    guard: Guard,
}

/// The process' capture, which takes all that no other subscriber takes. Tests that share it tell their own apart by trace
/// id or attribute.
///
/// # Panics
/// When something else has set the process' telemetry up before.
pub fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let capture = start(&[("RUST_LOG", "debug")]);
        capture.guard.install_alone().expect("no other subscriber");
        capture
    })
}

/// A capture of its own, with settings as if the environment held `vars`: it takes what a subscriber with its
/// [`Capture::layer`] takes.
///
/// # Panics
/// When the settings are wrong.
pub fn start(vars: &[(&str, &str)]) -> Capture {
    let defaults = [
        ("LOG_FORMAT", "off"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
    ];
    let all = [vars, &defaults].concat(); // the first of a name counts
    let (spans, records) = (
        InMemorySpanExporter::default(),
        InMemoryLogExporter::default(),
    );
    let guard = start_with(
        &settings(&all),
        Extensions::default(),
        Some(spans.clone()),
        Some(records.clone()),
    );
    Capture {
        spans,
        records,
        guard: guard.expect("telemetry starts"),
    }
}

impl Capture {
    /// The layer of this capture.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        self.guard.layer()
    }

    /// All finished spans, in the order of their ends.
    ///
    /// # Panics
    /// When a test panicked while spans were exported.
    pub fn all_spans(&self) -> Vec<SpanData> {
        self.guard.flush();
        self.spans.get_finished_spans().expect("spans can be read")
    }

    /// The finished spans of a trace (32 hex digits), in the order of their ends.
    pub fn spans(&self, trace_id: &str) -> Vec<SpanData> {
        let mut spans = self.all_spans();
        spans.retain(|span| span.span_context.trace_id().to_string() == trace_id);
        spans
    }

    /// All log records.
    ///
    /// # Panics
    /// When a test panicked while records were exported.
    pub fn all_records(&self) -> Vec<SdkLogRecord> {
        self.guard.flush();
        let records = self.records.get_emitted_logs();
        let records = records.expect("records can be read").into_iter();
        records.map(|log| log.record).collect()
    }

    /// The log records of a trace (32 hex digits).
    pub fn records(&self, trace_id: &str) -> Vec<SdkLogRecord> {
        let mut records = self.all_records();
        records.retain(|record| {
            let ids = record.trace_context();
            ids.is_some_and(|ids| ids.trace_id.to_string() == trace_id)
        });
        records
    }

    /// All metrics as an OTLP request, with exemplars.
    ///
    /// # Panics
    /// When they cannot be read.
    #[cfg(feature = "scrape")]
    pub fn metrics(&self) -> ExportMetricsServiceRequest {
        self.guard.pull().collect().expect("metrics can be read")
    }

    /// The OpenMetrics page.
    ///
    /// # Panics
    /// When it cannot be made.
    #[cfg(feature = "scrape")]
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
