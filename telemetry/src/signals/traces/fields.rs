//! What the fields of a `tracing` span say of the OpenTelemetry span that it stands for.
use std::borrow::Cow;
use std::fmt::Debug;

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use tracing::field::{Field, Visit};

use crate::base::debugged;

/// Collects a span's fields. Those that start with `otel.` say what else the span is, with the names that
/// `tracing-opentelemetry` made known.
pub(super) struct Fields {
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) kind: SpanKind,
    pub(super) status: Status,
    pub(super) attributes: Vec<KeyValue>,
}

impl Fields {
    /// Room for `count` attributes.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self {
            name: None,
            kind: SpanKind::Internal,
            status: Status::Unset,
            attributes: Vec::with_capacity(count),
        }
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    /// A field that is no attribute. Returns whether `name` is one.
    fn special(&mut self, name: &str, value: &str) -> bool {
        let Some(name) = name.strip_prefix("otel.") else {
            return false;
        };
        match name {
            "name" => self.name = Some(Cow::Owned(value.to_owned())),
            "kind" => {
                self.kind = match value {
                    _ if value.eq_ignore_ascii_case("server") => SpanKind::Server,
                    _ if value.eq_ignore_ascii_case("client") => SpanKind::Client,
                    _ if value.eq_ignore_ascii_case("producer") => SpanKind::Producer,
                    _ if value.eq_ignore_ascii_case("consumer") => SpanKind::Consumer,
                    _ => SpanKind::Internal,
                };
            }
            // A description may come before or after the code.
            "status_code" if value.eq_ignore_ascii_case("error") => {
                if self.status == Status::Unset {
                    self.status = Status::error("");
                }
            }
            "status_code" if value.eq_ignore_ascii_case("ok") => self.status = Status::Ok,
            "status_code" => {}
            // Only an error has one.
            "status_description" if self.status == Status::Ok => {}
            "status_description" => self.status = Status::error(value.to_owned()),
            _ => return false,
        }
        true
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let name = field.name();
        if !self.special(name, value) {
            self.put(name, value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let (name, value) = (field.name(), debugged(value));
        if !self.special(name, &value) {
            self.put(name, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(value) => self.put(field.name(), value),
            Err(_) => self.put(field.name(), value.to_string()),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field.name(), value.to_string());
    }
}
