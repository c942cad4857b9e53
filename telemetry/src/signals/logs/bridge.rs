//! From `tracing` events to the SDK's log records.
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::Key;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use crate::base::debugged;
use crate::base::names::Names;
use crate::base::settings::Logs;
use crate::pipeline::encoding::cut;
use crate::signals::layer;

/// Makes log records of events.
///
/// Not `opentelemetry-appender-tracing`: it names every record after its source line, and knows neither the request's
/// id nor the limits.
pub(crate) struct Bridge {
    logger: SdkLogger,
    request_id: Key,
    attribute_length: Option<usize>,
    attribute_count: usize,
}

thread_local! {
    /// Body and attributes of the event that is being emitted, where the emitter had them ready: see [`with_ready`].
    static READY: RefCell<Option<Ready>> = const { RefCell::new(None) };
}

/// Body and attributes of a record.
pub(super) struct Ready {
    pub(super) body: AnyValue,
    /// Attributes that others have too.
    pub(super) common: Arc<[(Key, AnyValue)]>,
    pub(super) own: [Option<(Key, AnyValue)>; 2],
}

/// Emits an event whose record is `ready`. The event itself carries the same values as fields, for other layers; reading
/// them from there would copy every text, which is a tenth of what a request costs.
pub(super) fn with_ready(ready: Ready, emit: impl FnOnce()) {
    READY.set(Some(ready));
    emit();
    READY.take(); // still there if nobody makes records
}

impl Bridge {
    pub(crate) fn new(provider: &SdkLoggerProvider, settings: &Logs, names: &Names) -> Self {
        Self {
            // No scope name: exporters take the record's target for it.
            logger: provider.logger(""),
            request_id: Key::from_static_str(names.request_id),
            attribute_length: settings.attribute_length,
            attribute_count: settings.attribute_count,
        }
    }

    pub(crate) fn write(&self, event: &Event<'_>, origin: Origin) {
        let metadata = event.metadata();
        let severity = severity(*metadata.level());
        let Origin {
            target,
            name,
            of_log,
        } = origin;
        if !self.logger.event_enabled(severity, &target, name) {
            return;
        }
        let mut record = self.logger.create_log_record();
        let now = SystemTime::now();
        record.set_timestamp(now);
        record.set_observed_timestamp(now);
        record.set_target(target);
        record.set_severity_number(severity);
        record.set_severity_text(metadata.level().as_str());
        if let Some(name) = name {
            record.set_event_name(name);
        }
        let mut visitor = RecordVisitor {
            record: &mut record,
            length: self.attribute_length,
            left: self.attribute_count,
            of_log,
        };
        // First, so that no limit takes it.
        if let Some(id) = layer::request_id() {
            visitor.put(self.request_id.clone(), AnyValue::String(id.into()));
        }
        match READY.try_with(RefCell::take).ok().flatten() {
            Some(ready) => visitor.take(ready),
            None => event.record(&mut visitor),
        }
        // `emit` adds the trace and span ids of the current context.
        self.logger.emit(record);
    }
}

/// Where an event comes from.
pub(crate) struct Origin {
    pub(crate) target: Cow<'static, str>,
    /// Absent where it is the default, the source line ("event src/…"), which names nothing.
    name: Option<&'static str>,
    /// Whether it is a record of the `log` crate: `tracing_log::LogTracer` passes it on as an event of the target `log`,
    /// whose fields that begin with `log.` say where it comes from.
    of_log: bool,
}

impl Origin {
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let (target, name) = (metadata.target(), metadata.name());
        if target == "log" && name == "log event" {
            let mut found = LogTarget("log".to_owned());
            event.record(&mut found);
            return Self {
                target: found.0.into(),
                name: None,
                of_log: true,
            };
        }
        Self {
            target: target.into(),
            name: (!name.starts_with("event ")).then_some(name),
            of_log: false,
        }
    }
}

struct LogTarget(String);

impl Visit for LogTarget {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.0);
        }
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

/// Libraries that log by `tracing`, as sqlx does, call what went wrong `error`: the semantic conventions have another name
/// for it.
fn conventional(field: &'static str) -> &'static str {
    match field {
        "error" => "exception.message",
        name => name,
    }
}

struct RecordVisitor<'a> {
    record: &'a mut SdkLogRecord,
    length: Option<usize>,
    left: usize,
    of_log: bool,
}

impl RecordVisitor<'_> {
    fn put(&mut self, key: Key, value: AnyValue) {
        if self.left > 0 {
            self.left -= 1;
            self.record.add_attribute(key, value);
        }
    }

    fn take(&mut self, ready: Ready) {
        self.record.set_body(ready.body);
        let common = ready.common.iter().cloned();
        for (key, value) in common.chain(ready.own.into_iter().flatten()) {
            let value = match value {
                AnyValue::String(text) if self.length.is_some() => {
                    let cut = cut(text.as_str(), self.length);
                    AnyValue::String(cut.to_owned().into())
                }
                value => value,
            };
            self.put(key, value);
        }
    }

    fn field(&mut self, field: &Field, value: AnyValue) {
        if field.name() == "message" {
            self.record.set_body(value);
            return;
        }
        if self.of_log && field.name().starts_with("log.") {
            return;
        }
        self.put(Key::from_static_str(conventional(field.name())), value);
    }

    /// A text of exactly its length: shrinking one that has grown costs more than copying it.
    fn text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            let body = text.to_owned();
            self.record.set_body(AnyValue::String(body.into()));
        } else {
            let text = cut(text, self.length).to_owned();
            self.field(field, AnyValue::String(text.into()));
        }
    }
}

impl Visit for RecordVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, &debugged(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
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
            Err(_) => self.text(field, &value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.field(field, AnyValue::Double(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field, &value.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_for_every_attribute_of_a_record() {
        let provider = SdkLoggerProvider::builder().build();
        let mut record = provider.logger("").create_log_record();
        let mut visitor = RecordVisitor {
            record: &mut record,
            length: Some(3),
            left: 2,
            of_log: false,
        };
        visitor.put("id".into(), AnyValue::Int(1));
        visitor.take(Ready {
            body: AnyValue::String("the body is no attribute".into()),
            common: Arc::new([("path".into(), AnyValue::String("/äöü".into()))]),
            own: [None, Some(("one.too.many".into(), AnyValue::Int(1)))],
        });
        let attributes: Vec<_> = record.attributes_iter().cloned().collect();
        let expected = [
            (Key::new("id"), AnyValue::Int(1)),
            (Key::new("path"), AnyValue::String("/äö".into())),
        ];
        assert_eq!(attributes, expected);
        let body = AnyValue::String("the body is no attribute".into());
        assert_eq!(record.body(), Some(&body));
    }
}
