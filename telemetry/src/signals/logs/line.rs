//! A record as a line of text: JSON for machines, or words for people.
use std::fmt::{Display, Write as _};
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;

use crate::base::time::rfc_3339;

/// Appends the line of `record`, whose attribute `request_id` comes last, as the ids of its trace do.
pub(super) fn write(
    lines: &mut String,
    clock: &mut Clock,
    human: bool,
    request_id: &str,
    target: &str,
    record: &LogRecord,
) {
    let severity = record.severity_text.as_str();
    let body = record.body.as_ref().and_then(|body| body.value.as_ref());
    let mut line = Line { human, text: lines };
    if human {
        clock.write(line.text, record.time_unix_nano);
        let _ = write!(line.text, " {severity:5} {target}: ");
    } else {
        line.text.push_str("{\"timestamp\":\"");
        clock.write(line.text, record.time_unix_nano);
        line.text.push_str("\",\"severity\":");
        quote(line.text, severity);
        line.text.push_str(",\"target\":");
        quote(line.text, target);
        line.text.push_str(",\"message\":");
    }
    line.body(body);
    let is_request = |attribute: &&KeyValue| attribute.key == request_id;
    let others = record
        .attributes
        .iter()
        .filter(|attribute| !is_request(attribute));
    others.for_each(|attribute| line.attribute(attribute));
    if !record.trace_id.is_empty() {
        line.name("trace_id");
        line.hex(&record.trace_id);
        line.name("span_id");
        line.hex(&record.span_id);
    }
    let request = record.attributes.iter().filter(is_request);
    request.for_each(|attribute| line.attribute(attribute));
    lines.push_str(if human { "\n" } else { "}\n" });
}

/// Writes points in time. Most records are of the same second as the one before, whose text is kept: making one from
/// the calendar costs more than the rest of a line.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: u64,
    /// Up to the seconds; empty before the first.
    text: String,
}

impl Clock {
    fn write(&mut self, out: &mut String, nanos: u64) {
        let (second, micros) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = rfc_3339(UNIX_EPOCH + Duration::from_secs(second));
            // What follows the seconds differs from record to record.
            self.text.pop();
            self.text.push('.');
        }
        out.push_str(&self.text);
        let mut digits = *b"000000Z";
        let mut rest = micros;
        for digit in digits[..6].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        digits.iter().for_each(|digit| out.push(char::from(*digit)));
    }
}

struct Line<'a> {
    human: bool,
    text: &'a mut String,
}

impl Line<'_> {
    fn body(&mut self, body: Option<&Value>) {
        match body {
            Some(Value::StringValue(text)) if self.human => self.text.push_str(text),
            Some(value) => self.value(value),
            None if self.human => {}
            None => self.text.push_str("\"\""),
        }
    }

    /// ` name=` for people, `,"name":` for machines.
    fn name(&mut self, name: &str) {
        if self.human {
            self.text.push(' ');
            self.text.push_str(name);
            self.text.push('=');
        } else {
            self.text.push(',');
            quote(self.text, name);
            self.text.push(':');
        }
    }

    fn attribute(&mut self, attribute: &KeyValue) {
        self.name(&attribute.key);
        match attribute
            .value
            .as_ref()
            .and_then(|value| value.value.as_ref())
        {
            Some(Value::StringValue(text))
                if self.human && !text.contains([' ', '"', '=', '\n']) =>
            {
                self.text.push_str(text);
            }
            Some(value) => self.value(value),
            None => self.text.push_str("null"),
        }
    }

    /// `value` as JSON.
    fn value(&mut self, value: &Value) {
        match value {
            Value::StringValue(text) => quote(self.text, text),
            Value::BoolValue(value) => self.put(value),
            Value::IntValue(value) => self.put(value),
            Value::DoubleValue(value) if value.is_finite() => self.put(value),
            Value::DoubleValue(value) => quote(self.text, &value.to_string()), // JSON knows no infinity
            Value::BytesValue(bytes) => self.hex(bytes),
            Value::ArrayValue(list) => {
                self.text.push('[');
                for (n, value) in list.values.iter().enumerate() {
                    self.text.push_str(if n > 0 { "," } else { "" });
                    self.any(value);
                }
                self.text.push(']');
            }
            Value::KvlistValue(list) => {
                self.text.push('{');
                for (n, pair) in list.values.iter().enumerate() {
                    self.text.push_str(if n > 0 { "," } else { "" });
                    quote(self.text, &pair.key);
                    self.text.push(':');
                    match &pair.value {
                        Some(value) => self.any(value),
                        None => self.text.push_str("null"),
                    }
                }
                self.text.push('}');
            }
            _ => self.text.push_str("null"), // what OTLP may add and records here never hold
        }
    }

    fn any(&mut self, value: &AnyValue) {
        match &value.value {
            Some(value) => self.value(value),
            None => self.text.push_str("null"),
        }
    }

    fn put(&mut self, value: impl Display) {
        let _ = write!(self.text, "{value}");
    }

    fn hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let quote = if self.human { "" } else { "\"" };
        self.text.push_str(quote);
        for byte in bytes {
            self.text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            self.text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        self.text.push_str(quote);
    }
}

/// Appends `text` as a JSON string.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

    #[test]
    fn quoted_text_is_json() {
        let text = "a \"b\" \\ \n\t\u{1} é";
        let mut quoted = String::new();
        quote(&mut quoted, text);
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
    }

    fn pair(key: &str, value: Value) -> KeyValue {
        KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    fn record() -> LogRecord {
        let nested = KeyValueList {
            values: vec![pair("in\"ner", Value::IntValue(-1))],
        };
        let list = ArrayValue {
            values: vec![
                AnyValue {
                    value: Some(Value::BoolValue(true)),
                },
                AnyValue { value: None },
            ],
        };
        LogRecord {
            time_unix_nano: 1_795_235_299_999_999_000,
            severity_text: "WARN".to_owned(),
            body: Some(AnyValue {
                value: Some(Value::StringValue("two\nlines".to_owned())),
            }),
            attributes: vec![
                pair("test.request.id", Value::StringValue("r-1".to_owned())),
                pair("text", Value::StringValue("a b".to_owned())),
                pair("word", Value::StringValue("ab".to_owned())),
                pair("share", Value::DoubleValue(0.5)),
                pair("nan", Value::DoubleValue(f64::NAN)),
                pair("list", Value::ArrayValue(list)),
                pair("map", Value::KvlistValue(nested)),
                pair("bytes", Value::BytesValue(vec![0, 255])),
            ],
            trace_id: vec![0xab; 16],
            span_id: vec![1; 8],
            ..LogRecord::default()
        }
    }

    fn line(human: bool) -> String {
        let mut lines = String::new();
        write(
            &mut lines,
            &mut Clock::default(),
            human,
            "test.request.id",
            "shop::cart",
            &record(),
        );
        lines
    }

    #[test]
    fn a_json_line_is_one_object() {
        let line = line(false);
        assert_eq!(line.matches('\n').count(), 1);
        let expected = serde_json::json!({
            "timestamp": "2026-11-21T04:28:19.999999Z",
            "severity": "WARN",
            "target": "shop::cart",
            "message": "two\nlines",
            "text": "a b",
            "word": "ab",
            "share": 0.5,
            "nan": "NaN",
            "list": [true, null],
            "map": {"in\"ner": -1},
            "bytes": "00ff",
            "trace_id": "ab".repeat(16),
            "span_id": "01".repeat(8),
            "test.request.id": "r-1",
        });
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&line).unwrap(),
            expected
        );
    }

    #[test]
    fn a_line_for_people_ends_with_the_ids() {
        let expected = format!(
            "2026-11-21T04:28:19.999999Z WARN  shop::cart: two\nlines text=\"a b\" word=ab share=0.5 nan=\"NaN\" \
             list=[true,null] map={{\"in\\\"ner\":-1}} bytes=00ff trace_id={} span_id={} test.request.id=r-1\n",
            "ab".repeat(16),
            "01".repeat(8),
        );
        assert_eq!(line(true), expected);
    }

    #[test]
    fn a_clock_tells_each_time_as_it_is() {
        let mut clock = Clock::default();
        for (nanos, expected) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (999, "1970-01-01T00:00:00.000000Z"),
            (951_827_696_000_005_000, "2000-02-29T12:34:56.000005Z"),
            (951_827_696_123_456_789, "2000-02-29T12:34:56.123456Z"),
            (951_827_697_000_000_000, "2000-02-29T12:34:57.000000Z"),
            (951_827_696_999_999_999, "2000-02-29T12:34:56.999999Z"),
        ] {
            let mut text = String::new();
            clock.write(&mut text, nanos);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_record_without_anything_is_a_line() {
        let mut lines = String::new();
        write(
            &mut lines,
            &mut Clock::default(),
            false,
            "id",
            "",
            &LogRecord::default(),
        );
        let expected = "{\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\"severity\":\"\",\"target\":\"\",\"message\":\"\"}\n";
        assert_eq!(lines, expected);
    }
}
