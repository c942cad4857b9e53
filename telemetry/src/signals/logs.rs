//! Log records: from `tracing` events to OTLP and to stdout, both with the ids of the trace they belong to.
use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::sync::{Arc, mpsc};
use std::time::SystemTime;

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, Key, KeyValue, SpanId, StringValue, TraceId, Value};
use opentelemetry_otlp::LogExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{
    BatchConfigBuilder, BatchLogProcessor, SdkLogRecord, SdkLogger, SdkLoggerProvider,
};
use tracing::field::{Empty, Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context as LayerContext;

use crate::Error;
use crate::base::settings::{Exporter, Identity, LogFormat, Logs, Otlp};
use crate::base::time::Timestamp;
use crate::pipeline::buffers::Buffers;
use crate::pipeline::export::{StockTransport, over_http};
use crate::pipeline::exporter;
use crate::pipeline::health::{Admission, Counted, Health, Signal};
use crate::pipeline::queue::Queue;
use crate::pipeline::transport::Transport;
use crate::signals::Telemetry;
use crate::signals::context::RequestIdValue;
use crate::signals::log_processor::EncodingLogProcessor;

/// Exports by OTLP; `None` when the exporter is switched off.
pub(crate) fn provider(
    settings: &Logs,
    resource: &Resource,
    health: &Health,
) -> Result<Option<SdkLoggerProvider>, Error> {
    let Some(otlp) = &settings.otlp else {
        return Ok(None);
    };
    Ok(Some(match settings.exporter {
        Exporter::Direct => SdkLoggerProvider::builder()
            .with_resource(resource.clone())
            .with_log_processor(direct(settings, otlp, resource, health)?)
            .build(),
        // What most programs have: the SDK's batch processor and the exporter of `opentelemetry-otlp`.
        Exporter::Stock => provider_with(settings, resource, health, exporter(otlp, health)?),
    }))
}

/// The processor that encodes records as they are emitted, with the thread that sends them.
fn direct(
    settings: &Logs,
    otlp: &Otlp,
    resource: &Resource,
    health: &Health,
) -> Result<EncodingLogProcessor, Error> {
    let queue = Queue::new(settings.batch, |_| true, &health.logs);
    let buffers = Arc::new(Buffers::new(vec![Arc::clone(&queue)]));
    let transport = Transport::new(otlp)?;
    exporter::start("logs", &buffers, &queue, transport, resource)?;
    Ok(EncodingLogProcessor {
        buffers,
        otlp: Some(queue),
    })
}

/// A provider that exports to `exporter`.
pub(crate) fn provider_with(
    settings: &Logs,
    resource: &Resource,
    health: &Health,
    exporter: impl opentelemetry_sdk::logs::LogExporter + 'static,
) -> SdkLoggerProvider {
    let batch = settings.batch;
    let exporter = Counted {
        inner: exporter,
        signal: Arc::clone(&health.logs),
        attribute_length: None, // cut when the record is made
    };
    let inner = BatchLogProcessor::builder(exporter)
        .with_batch_config(
            BatchConfigBuilder::default()
                .with_max_queue_size(batch.stock_queue())
                .with_max_export_batch_size(batch.size)
                .with_scheduled_delay(batch.delay)
                .build(),
        )
        .build();
    SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_log_processor(Admission {
            inner,
            signal: Arc::clone(&health.logs),
            capacity: batch.stock_queue(),
        })
        .build()
}

fn exporter(otlp: &Otlp, health: &Health) -> Result<LogExporter, Error> {
    let transport = StockTransport::new(otlp, &health.logs, None)?;
    over_http(LogExporter::builder().with_http(), otlp, transport)
        .build()
        .map_err(|error| Error(format!("log exporter: {error}")))
}

/// Whether `filter`, if there is one, lets an event pass.
fn lets(filter: &Option<Filter>, metadata: &Metadata<'_>) -> bool {
    filter.as_ref().is_none_or(|filter| filter.lets(metadata))
}

/// Decides which events and spans exist at all. `RUST_LOG` rules events; spans of level INFO and above always exist,
/// because a quieter log must not tear traces.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Targets);

impl Filter {
    pub(crate) fn new(targets: &Targets) -> Self {
        // The SDK reports each failed export as an error without any limit; `health` does so once per 30 s and cause.
        let named = targets
            .iter()
            .any(|(target, _)| target.starts_with("opentelemetry"));
        let targets = targets.clone();
        Self(if named {
            targets
        } else {
            targets.with_target("opentelemetry", LevelFilter::OFF)
        })
    }

    pub(crate) fn lets(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() <= Level::INFO
            || self.0.would_enable(metadata.target(), metadata.level())
    }
}

impl<S: Subscriber> Layer<S> for Filter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.lets(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        self.lets(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let events = Layer::<S>::max_level_hint(&self.0).unwrap_or(LevelFilter::TRACE);
        Some(events.max(LevelFilter::INFO))
    }
}

/// What the record being made has beyond the fields of its event: a text that need not be copied, and attributes whose
/// names are not known to the compiler.
struct More {
    message: Option<StringValue>,
    attributes: Vec<KeyValue>,
}

thread_local! {
    static MORE: RefCell<More> = const {
        RefCell::new(More {
            message: None,
            attributes: Vec::new(),
        })
    };
}

impl More {
    /// Adds what `add` does to the record that `log` makes.
    fn with(add: impl FnOnce(&mut Self), log: impl FnOnce()) {
        MORE.with_borrow_mut(add);
        log();
        MORE.with_borrow_mut(|more| {
            more.message = None;
            more.attributes.clear();
        });
    }
}

/// Names that are ours, with the prefix that is the program's.
#[derive(Debug)]
pub(crate) struct OwnNames {
    /// Event name of an access-log record.
    request: &'static str,
    /// Its duration in milliseconds.
    duration_ms: Key,
    /// Which signal was not exported, and how many items of it.
    signal: Key,
    lost: Key,
    /// Attribute of the request's id.
    request_id: &'static str,
}

impl OwnNames {
    pub(crate) fn of(identity: &Identity) -> Self {
        let name = |rest| format!("{}.{rest}", identity.metric_prefix);
        Self {
            request: name("request").leak(), // `tracing` wants static names; one of each `start`
            duration_ms: name("request.duration_ms").into(),
            signal: name("telemetry.signal").into(),
            lost: name("telemetry.lost").into(),
            request_id: identity.request_id_attribute,
        }
    }
}

/// The target of access-log records.
const ACCESS: &str = "access";

/// Writes the access-log record of a request. It has few attributes: the SDK's record holds five without an allocation.
pub(crate) fn access(
    telemetry: &Telemetry,
    message: StringValue,
    attributes: &[KeyValue],
    path: &Arc<str>,
    seconds: f64,
    failed: bool,
) {
    let Some(own) = &telemetry.own else {
        return;
    };
    let add = |more: &mut More| {
        more.message = Some(message);
        more.attributes.extend_from_slice(attributes);
        let path = StringValue::from(Arc::clone(path));
        more.attributes.push(KeyValue::new("url.path", path));
        let millis = (seconds * 1e6).round() / 1e3;
        more.attributes
            .push(KeyValue::new(own.duration_ms.clone(), millis));
    };
    // The error itself is logged where it is turned into an answer; here it is one request among others.
    if failed {
        More::with(add, || tracing::warn!(target: ACCESS, message = Empty));
    } else {
        More::with(add, || tracing::info!(target: ACCESS, message = Empty));
    }
}

/// Says that `lost` items of `signal` were not exported.
pub(crate) fn not_exported(signal: &'static str, lost: u64, cause: &'static str, message: &str) {
    let telemetry = Telemetry::current();
    let Some(own) = &telemetry.own else {
        return;
    };
    let add = |more: &mut More| {
        more.attributes
            .push(KeyValue::new(own.signal.clone(), signal));
        more.attributes
            .push(KeyValue::new(own.lost.clone(), lost as i64));
        more.attributes.push(KeyValue::new("error.type", cause));
    };
    More::with(
        add,
        || tracing::warn!(target: "telemetry", "{lost} items of {signal} were not exported: {message}"),
    );
}

/// Crates whose records the export of a record would itself cause, and the target of our own about exports.
const EXPORTERS: [&str; 6] = [
    "hyper",
    "hyper_util",
    "reqwest",
    "h2",
    "rustls",
    "telemetry",
];

fn is_exporter(target: &str) -> bool {
    let name = target.split("::").next().unwrap_or(target);
    name.starts_with("opentelemetry") || EXPORTERS.contains(&name)
}

/// Makes OTLP log records of events.
pub(crate) struct Bridge {
    logger: SdkLogger,
    telemetry: Arc<Telemetry>,
    /// Absent where another layer has filtered already.
    filter: Option<Filter>,
    attribute_length: Option<usize>,
    attribute_count: usize,
}

/// The layer that makes OTLP log records of events.
///
/// Not `opentelemetry-appender-tracing`: it names every record after its source line, and knows neither the request's
/// id nor the limits.
pub(crate) fn otlp_layer(
    provider: &SdkLoggerProvider,
    settings: &Logs,
    telemetry: &Arc<Telemetry>,
    filter: Option<Filter>,
) -> Bridge {
    Bridge {
        // No scope name: the exporter takes the record's target for it.
        logger: provider.logger(""),
        telemetry: Arc::clone(telemetry),
        filter,
        attribute_length: settings.attribute_length,
        attribute_count: settings.attribute_count,
    }
}

/// Where records go, as one layer. An `Option` of a layer in a layer of layers hides all spans and events when it is
/// `None`, where the subscriber is a bare registry.
pub(crate) struct Outputs {
    pub(crate) otlp: Option<Bridge>,
    pub(crate) stdout: Option<Stdout>,
}

impl<S: Subscriber> Layer<S> for Outputs {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if let Some(otlp) = &self.otlp {
            otlp.write(event);
        }
        if let Some(stdout) = &self.stdout {
            stdout.write(event);
        }
    }
}

impl Bridge {
    fn write(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let target = metadata.target();
        if is_exporter(target) || !lets(&self.filter, metadata) {
            return;
        }
        let severity = severity(*metadata.level());
        if !self.logger.event_enabled(severity, target, None) {
            return;
        }
        let mut record = self.logger.create_log_record();
        let now = SystemTime::now();
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_target(target);
        record.set_severity_number(severity);
        record.set_severity_text(metadata.level().as_str());
        // The default name is the source line ("event src/…"), which names nothing; one given on purpose does.
        if !metadata.name().starts_with("event ") {
            record.set_event_name(metadata.name());
        } else if target == ACCESS {
            let own = self.telemetry.own.as_ref();
            record.set_event_name(own.map_or(ACCESS, |own| own.request));
        }
        let mut visitor = RecordVisitor {
            record: &mut record,
            length: self.attribute_length,
            left: self.attribute_count,
        };
        // First, so that no limit takes it.
        Context::map_current(|context| {
            if let Some(RequestIdValue(id)) = context.get::<RequestIdValue>() {
                let id = AnyValue::String(Arc::clone(id).into());
                if let Some(own) = &self.telemetry.own {
                    visitor.put(Key::from_static_str(own.request_id), id);
                }
            }
        });
        MORE.with_borrow(|more| {
            if let Some(message) = &more.message {
                visitor.record.set_body(AnyValue::String(message.clone()));
            }
            for attribute in &more.attributes {
                visitor.add(attribute);
            }
        });
        event.record(&mut visitor);
        // `emit` adds the trace and span ids of the current context.
        self.logger.emit(record);
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::TRACE => Severity::Trace,
        Level::DEBUG => Severity::Debug,
        Level::INFO => Severity::Info,
        Level::WARN => Severity::Warn,
        Level::ERROR => Severity::Error,
    }
}

/// Libraries that log by `tracing`, as sqlx does, call what went wrong `error`: the semantic conventions have another name for it.
fn conventional(field: &str) -> &str {
    match field {
        "error" => "exception.message",
        name => name,
    }
}

struct RecordVisitor<'a> {
    record: &'a mut SdkLogRecord,
    length: Option<usize>,
    left: usize,
}

impl RecordVisitor<'_> {
    fn put(&mut self, key: Key, value: AnyValue) {
        if self.left > 0 {
            self.left -= 1;
            self.record.add_attribute(key, value);
        }
    }

    fn field(&mut self, field: &Field, value: AnyValue) {
        self.put(Key::from_static_str(conventional(field.name())), value);
    }

    fn add(&mut self, attribute: &KeyValue) {
        let value = match &attribute.value {
            Value::Bool(value) => AnyValue::Boolean(*value),
            Value::I64(value) => AnyValue::Int(*value),
            Value::F64(value) => AnyValue::Double(*value),
            Value::String(text) => self.cut(text.clone()),
            other => self.cut(other.to_string().into()),
        };
        self.put(attribute.key.clone(), value);
    }

    fn text(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.record.set_body(AnyValue::String(text.into()));
            return;
        }
        let text = self.cut(text.into());
        self.field(field, text);
    }

    /// `text`, or as much of it as the limit lets through.
    fn cut(&self, text: StringValue) -> AnyValue {
        let limit = self.length;
        let end = limit.and_then(|limit| text.as_str().char_indices().nth(limit));
        AnyValue::String(match end {
            Some((end, _)) => text.as_str()[..end].to_owned().into(),
            None => text,
        })
    }
}

impl Visit for RecordVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, AnyValue::Boolean(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, AnyValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.field(field, AnyValue::Int(value)),
            Err(_) => self.text(field, value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, AnyValue::Double(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, value.to_string());
    }
}

/// Lines that wait for stdout at most; more are dropped and counted.
const WAITING_LINES: usize = 10_000;

/// Writes records to stdout, one line each, on a thread of its own: a reader that stalls must not stop the service.
#[derive(Clone)]
pub(crate) struct Stdout {
    human: bool,
    /// Absent where another layer has filtered already.
    pub(crate) filter: Option<Filter>,
    request_id: &'static str,
    lines: mpsc::Sender<String>,
    counts: Arc<Signal>,
}

/// The layer that writes records to stdout; `None` when that is switched off.
pub(crate) fn stdout_layer(
    format: LogFormat,
    request_id: &'static str,
    health: &Health,
) -> Result<Option<Stdout>, Error> {
    let human = match format {
        LogFormat::Json => false,
        LogFormat::Human => true,
        LogFormat::Off => return Ok(None),
    };
    let (lines, waiting) = mpsc::channel::<String>();
    let counts = Arc::clone(&health.stdout);
    std::thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(move || {
            for line in waiting {
                // A closed stdout must not stop the service, and there is nowhere else to say so.
                let _ = std::io::stdout().lock().write_all(line.as_bytes());
                counts.leave(1);
            }
        })
        .map_err(|error| Error(format!("no thread for stdout: {error}")))?;
    Ok(Some(Stdout {
        human,
        filter: None,
        request_id,
        lines,
        counts: Arc::clone(&health.stdout),
    }))
}

impl Stdout {
    fn write(&self, event: &Event<'_>) {
        if lets(&self.filter, event.metadata()) && self.counts.admit(WAITING_LINES) {
            let _ = self.lines.send(self.line(event, SystemTime::now())); // the thread never ends
        }
    }

    fn line(&self, event: &Event<'_>, now: SystemTime) -> String {
        let mut line = String::with_capacity(512);
        let metadata = event.metadata();
        let mut fields = LineVisitor {
            human: self.human,
            message: String::new(),
            rest: String::new(),
        };
        event.record(&mut fields);
        MORE.with_borrow(|more| {
            if let Some(message) = &more.message {
                fields.message.push_str(message.as_str());
            }
            more.attributes
                .iter()
                .for_each(|attribute| fields.attribute(attribute));
        });
        let (trace, request_id) = Context::map_current(|context| {
            let span = context.span();
            let ids = span.span_context();
            let trace = ids.is_valid().then(|| (ids.trace_id(), ids.span_id()));
            (trace, context.get::<RequestIdValue>().cloned())
        });
        let _ = if self.human {
            write!(
                line,
                "{} {:5} {}: {}",
                Timestamp(now),
                metadata.level(),
                metadata.target(),
                fields.message
            )
        } else {
            write!(
                line,
                "{{\"timestamp\":\"{}\",\"severity\":\"{}\",\"target\":\"{}\",\"message\":{}",
                Timestamp(now),
                metadata.level(),
                metadata.target(),
                Quoted(&fields.message)
            )
        };
        line.push_str(&fields.rest);
        self.ids(&mut line, trace, request_id);
        line.push_str(if self.human { "\n" } else { "}\n" });
        line
    }

    fn ids(
        &self,
        line: &mut String,
        trace: Option<(TraceId, SpanId)>,
        request: Option<RequestIdValue>,
    ) {
        let _ = match (trace, self.human) {
            (Some((trace, span)), true) => {
                write!(line, " trace_id={trace:032x} span_id={span:016x}")
            }
            (Some((trace, span)), false) => {
                write!(
                    line,
                    ",\"trace_id\":\"{trace:032x}\",\"span_id\":\"{span:016x}\""
                )
            }
            (None, _) => Ok(()),
        };
        let _ = match (request, self.human) {
            (Some(RequestIdValue(id)), true) => write!(line, " {}={id}", self.request_id),
            (Some(RequestIdValue(id)), false) => {
                write!(line, ",\"{}\":{}", self.request_id, Quoted(&id))
            }
            (None, _) => Ok(()),
        };
    }
}

/// Writes the fields behind the message: ` name=value` for people, `,"name":value` for machines.
struct LineVisitor {
    human: bool,
    message: String,
    rest: String,
}

impl LineVisitor {
    fn attribute(&mut self, attribute: &KeyValue) {
        let name = attribute.key.as_str();
        match &attribute.value {
            Value::String(text) => self.text(name, text.as_str()),
            Value::Bool(value) => self.plain(name, value),
            Value::I64(value) => self.plain(name, value),
            Value::F64(value) => self.plain(name, value),
            other => self.text(name, &other.to_string()),
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        if self.human && !value.contains([' ', '"', '=', '\n']) {
            self.plain(name, value);
        } else {
            self.plain(name, Quoted(value));
        }
    }

    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        let name = conventional(name);
        let _ = if self.human {
            write!(self.rest, " {name}={value}")
        } else {
            write!(self.rest, ",\"{name}\":{value}")
        };
    }
}

impl Visit for LineVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.record_str(field, &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.text(name, value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field.name(), value);
        } else {
            self.plain(field.name(), Quoted(&value.to_string())); // JSON knows no infinity
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }
}

/// A JSON string.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_char('"')?;
        let mut plain = 0;
        for (at, byte) in self.0.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            f.write_str(&self.0[plain..at])?;
            plain = at + 1;
            match byte {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\n' => f.write_str("\\n")?,
                _ => write!(f, "\\u{byte:04x}")?,
            }
        }
        f.write_str(&self.0[plain..])?;
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_is_json() {
        let text = "a \"b\" \\ \n\t\u{1} é";
        assert_eq!(
            serde_json::from_str::<String>(&Quoted(text).to_string()).unwrap(),
            text
        );
    }

    #[test]
    fn what_exports_is_told_by_its_whole_name() {
        for target in ["hyper", "h2::codec", "opentelemetry-otlp", "telemetry"] {
            assert!(is_exporter(target), "{target}");
        }
        for target in ["hyperloop", "telemetry_viewer::page", "access"] {
            assert!(!is_exporter(target), "{target}");
        }
    }

    #[test]
    fn limits_hold_for_every_attribute_of_a_record() {
        let provider = SdkLoggerProvider::builder().build();
        let mut record = provider.logger("").create_log_record();
        let mut visitor = RecordVisitor {
            record: &mut record,
            length: Some(3),
            left: 2,
        };
        visitor.put("id".into(), AnyValue::Int(1));
        visitor.add(&KeyValue::new("path", "/äöü"));
        visitor.add(&KeyValue::new("one.too.many", 1));
        let attributes: Vec<_> = record.attributes_iter().cloned().collect();
        let expected = [
            (Key::new("id"), AnyValue::Int(1)),
            (Key::new("path"), AnyValue::String("/äö".into())),
        ];
        assert_eq!(attributes, expected);
    }

    #[test]
    fn the_filter_keeps_spans_and_silences_the_sdk() {
        let filter = Filter::new(&"warn,noisy=off".parse().unwrap());
        assert!(!filter.0.would_enable("service", &Level::INFO));
        assert!(filter.0.would_enable("service", &Level::WARN));
        assert!(!filter.0.would_enable("noisy", &Level::ERROR));
        assert!(!filter.0.would_enable("opentelemetry_sdk", &Level::ERROR));
        assert_eq!(
            Layer::<tracing_subscriber::Registry>::max_level_hint(&filter),
            Some(LevelFilter::INFO)
        );
        let asked = Filter::new(&"warn,opentelemetry_sdk=debug".parse().unwrap());
        assert!(asked.0.would_enable("opentelemetry_sdk", &Level::DEBUG));
    }
}
