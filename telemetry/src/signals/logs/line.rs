//! A record as a line of text: JSON for machines, or words for people. It is read from the bytes that the collector gets;
//! decoding them into a tree of messages first would cost three times as much as the line.
use std::fmt::Display;
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use crate::base::hex;
use crate::base::time::rfc_3339;
use crate::pipeline::encoding::{Field, Fields};

/// Appends the line of `record`, an encoded `LogRecord`, whose attribute `request_id` comes last, as the ids of its trace
/// do.
pub(super) fn write(
    lines: &mut Vec<u8>,
    clock: &mut Clock,
    human: bool,
    request_id: &str,
    target: &str,
    record: &[u8],
) {
    let (mut time, mut severity, mut body) = (0, &[][..], None);
    let (mut trace_id, mut span_id) = (&[][..], &[][..]);
    for field in fields(record) {
        match field {
            (1, Field::Fixed64(nanos)) => time = nanos,
            (3, Field::Bytes(text)) => severity = text,
            (5, Field::Bytes(value)) => body = fields(value).next(),
            (9, Field::Bytes(id)) => trace_id = id,
            (10, Field::Bytes(id)) => span_id = id,
            _ => {}
        }
    }
    let mut line = Line { human, text: lines };
    if human {
        clock.write(line.text, time);
        line.put(b" ");
        line.put(severity);
        line.put(&b"     "[severity.len().min(5)..]);
        line.put(b" ");
        line.put(target.as_bytes());
        line.put(b": ");
    } else {
        line.put(b"{\"timestamp\":\"");
        clock.write(line.text, time);
        line.put(b"\",\"severity\":");
        line.quote(severity);
        line.put(b",\"target\":");
        line.quote(target.as_bytes());
        line.put(b",\"message\":");
    }
    line.body(body);
    let mut request = None;
    for field in fields(record) {
        if let (6, Field::Bytes(pair)) = field {
            let (key, value) = attribute(pair);
            if key == request_id.as_bytes() {
                request = Some(value);
            } else {
                line.attribute(key, value);
            }
        }
    }
    if !trace_id.is_empty() {
        line.name(b"trace_id");
        line.hex(trace_id);
        line.name(b"span_id");
        line.hex(span_id);
    }
    if let Some(value) = request {
        line.attribute(request_id.as_bytes(), value);
    }
    line.put(if human { b"\n" } else { b"}\n" });
}

/// A value: the field of an `AnyValue` that is set, if any.
type Value<'a> = Option<(u64, Field<'a>)>;

/// The fields of a message. It was encoded here, so all of it can be read.
fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    Fields(message).map_while(|field| field)
}

/// Key and value of an encoded `KeyValue`.
fn attribute(pair: &[u8]) -> (&[u8], Value<'_>) {
    let (mut key, mut value) = (&[][..], None);
    for field in fields(pair) {
        match field {
            (1, Field::Bytes(text)) => key = text,
            (2, Field::Bytes(any)) => value = fields(any).next(),
            _ => {}
        }
    }
    (key, value)
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
    fn write(&mut self, out: &mut Vec<u8>, nanos: u64) {
        let (second, micros) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / 1000);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = rfc_3339(UNIX_EPOCH + Duration::from_secs(second));
            // What follows the seconds differs from record to record.
            self.text.pop();
            self.text.push('.');
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = *b"000000Z";
        let mut rest = micros;
        for digit in digits[..6].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

struct Line<'a> {
    human: bool,
    text: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn put(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    fn body(&mut self, body: Value<'_>) {
        match body {
            Some((1, Field::Bytes(text))) if self.human => self.readable(text),
            Some(_) => self.value(body),
            None if self.human => {}
            None => self.put(b"\"\""),
        }
    }

    /// Appends `text` for a terminal, which would obey the control characters in it. Lines and tabs stay.
    fn readable(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'\n' | b'\t' => self.text.push(*byte),
                0..0x20 | 0x7f => self.display(format_args!("\\u{byte:04x}")),
                byte => self.text.push(*byte),
            }
        }
    }

    /// ` name=` for people, `,"name":` for machines.
    fn name(&mut self, name: &[u8]) {
        if self.human {
            self.put(b" ");
            self.put(name);
            self.put(b"=");
        } else {
            self.put(b",");
            self.quote(name);
            self.put(b":");
        }
    }

    fn attribute(&mut self, key: &[u8], value: Value<'_>) {
        self.name(key);
        let needs_quotes = |byte: &u8| matches!(byte, 0..=b' ' | b'"' | b'=' | 0x7f);
        match value {
            Some((1, Field::Bytes(text))) if self.human && !text.iter().any(needs_quotes) => {
                self.put(text);
            }
            value => self.value(value),
        }
    }

    /// `value` as JSON.
    fn value(&mut self, value: Value<'_>) {
        match value {
            Some((1, Field::Bytes(text))) => self.quote(text),
            Some((2, Field::Varint(value))) => self.display(value != 0),
            Some((3, Field::Varint(value))) => self.display(value as i64),
            Some((4, Field::Fixed64(bits))) => {
                let value = f64::from_bits(bits);
                match value.is_finite() {
                    true => self.display(value),
                    false => self.quote(value.to_string().as_bytes()), // JSON knows no infinity
                }
            }
            Some((5, Field::Bytes(list))) => {
                self.put(b"[");
                for (n, (_, element)) in fields(list).enumerate() {
                    self.put(if n > 0 { b"," } else { b"" });
                    self.any(element);
                }
                self.put(b"]");
            }
            Some((6, Field::Bytes(list))) => {
                self.put(b"{");
                for (n, (_, pair)) in fields(list).enumerate() {
                    self.put(if n > 0 { b"," } else { b"" });
                    if let Field::Bytes(pair) = pair {
                        let (key, value) = attribute(pair);
                        self.quote(key);
                        self.put(b":");
                        self.value(value);
                    }
                }
                self.put(b"}");
            }
            Some((7, Field::Bytes(bytes))) => self.hex(bytes),
            _ => self.put(b"null"), // also what OTLP may add and records here never hold
        }
    }

    /// An `AnyValue` as JSON.
    fn any(&mut self, any: Field<'_>) {
        match any {
            Field::Bytes(any) => self.value(fields(any).next()),
            _ => self.put(b"null"),
        }
    }

    fn display(&mut self, value: impl Display) {
        let _ = write!(self.text, "{value}"); // memory takes everything
    }

    fn hex(&mut self, bytes: &[u8]) {
        let quote: &[u8] = if self.human { b"" } else { b"\"" };
        self.put(quote);
        let start = self.text.len();
        self.text.resize(start + 2 * bytes.len(), 0);
        hex(bytes, &mut self.text[start..]);
        self.put(quote);
    }

    /// Appends `text` as a JSON string.
    fn quote(&mut self, text: &[u8]) {
        self.put(b"\"");
        // Nearly every text is plain. Without an early end the loop takes many bytes at once.
        let special = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
        if text.iter().fold(false, |any, byte| any | special(*byte)) {
            self.escape(text);
        } else {
            self.put(text);
        }
        self.put(b"\"");
    }

    fn escape(&mut self, text: &[u8]) {
        for byte in text {
            match byte {
                b'"' => self.put(b"\\\""),
                b'\\' => self.put(b"\\\\"),
                b'\n' => self.put(b"\\n"),
                0..0x20 => self.display(format_args!("\\u{byte:04x}")),
                byte => self.text.push(*byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::logs::v1::LogRecord;
    use prost::Message;

    #[test]
    fn quoted_text_is_json() {
        let text = "a \"b\" \\ \n\t\u{1} é";
        let mut quoted = Vec::new();
        let mut line = Line {
            human: false,
            text: &mut quoted,
        };
        line.quote(text.as_bytes());
        assert_eq!(serde_json::from_slice::<String>(&quoted).unwrap(), text);
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
        let mut lines = Vec::new();
        write(
            &mut lines,
            &mut Clock::default(),
            human,
            "test.request.id",
            "shop::cart",
            &record().encode_to_vec(),
        );
        String::from_utf8(lines).unwrap()
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
    fn a_terminal_is_told_nothing_by_control_characters() {
        let mut lines = Vec::new();
        let text = Value::StringValue("\u{1b}[2J".to_owned());
        let record = LogRecord {
            body: Some(AnyValue {
                value: Some(Value::StringValue("red \u{1b}[31m\tend".to_owned())),
            }),
            attributes: vec![pair("a", text)],
            ..LogRecord::default()
        };
        let (clock, record) = (&mut Clock::default(), record.encode_to_vec());
        write(&mut lines, clock, true, "id", "shop", &record);
        let expected =
            "1970-01-01T00:00:00.000000Z       shop: red \\u001b[31m\tend a=\"\\u001b[2J\"\n";
        assert_eq!(str::from_utf8(&lines), Ok(expected));
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
            let mut text = Vec::new();
            clock.write(&mut text, nanos);
            assert_eq!(str::from_utf8(&text), Ok(expected));
        }
    }

    #[test]
    fn a_record_without_anything_is_a_line() {
        let mut lines = Vec::new();
        write(&mut lines, &mut Clock::default(), false, "id", "", &[]);
        let expected = "{\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\"severity\":\"\",\"target\":\"\",\"message\":\"\"}\n";
        assert_eq!(str::from_utf8(&lines), Ok(expected));
    }
}
