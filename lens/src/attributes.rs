//! Reading OTLP attribute values.

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::json;

/// The attribute's value as text, `None` if it is absent.
pub fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| text(attribute.value.as_ref()))
}

/// A value as a person would write it; lists and maps as JSON.
pub fn text(value: Option<&AnyValue>) -> String {
    borrowed(value).into_owned()
}

fn borrowed(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        None => "".into(),
        Some(Value::StringValue(text)) => text.into(),
        Some(Value::IntValue(number)) => number.to_string().into(),
        Some(value) => match json_value(value) {
            serde_json::Value::String(text) => text.into(),
            value => value.to_string().into(),
        },
    }
}

/// Names of HTTP and database attributes before the conventions became stable, and what they are called since.
const RENAMED: [(&str, &str); 8] = [
    ("http.method", "http.request.method"),
    ("http.status_code", "http.response.status_code"),
    ("http.url", "url.full"),
    ("http.target", "url.path"),
    ("http.scheme", "url.scheme"),
    ("net.peer.name", "server.address"),
    ("db.system", "db.system.name"),
    ("db.statement", "db.query.text"),
];

/// The attribute's value as text under its stable name, or the one it had before; empty if it has neither.
pub fn find_renamed(attributes: &[KeyValue], key: &str) -> String {
    let before = RENAMED.iter().find(|(_, now)| *now == key);
    find(attributes, key)
        .filter(|value| !value.is_empty())
        .or_else(|| find(attributes, before?.0))
        .unwrap_or_default()
}

/// Text of one row that can be searched; the record itself is kept whole.
const SEARCHED_BYTES: usize = 16 * 1024;

/// What a search looks at: a line `name=value` for each attribute, those with an old name under both, and a line for each of `texts`.
pub fn searchable(attributes: &[KeyValue], texts: &[&str]) -> String {
    let mut lines = String::with_capacity(512);
    lines.push('\n');
    for attribute in attributes {
        let value = borrowed(attribute.value.as_ref());
        let renamed = RENAMED.iter().find(|(before, _)| *before == attribute.key);
        let keys = [Some(attribute.key.as_str()), renamed.map(|(_, now)| *now)];
        for key in keys.into_iter().flatten() {
            line(&[key, "=", &value], &mut lines);
        }
    }
    texts.iter().for_each(|text| line(&[text], &mut lines));
    lines.truncate(lines.floor_char_boundary(SEARCHED_BYTES));
    lines
}

/// Adds a line of these parts as it stands in what is searched.
fn line(parts: &[&str], lines: &mut String) {
    for part in parts {
        // In one go over all bytes, which the processor does many at a time.
        let odd = |odd: bool, byte: u8| odd | !byte.is_ascii() | (byte == b'\n') | (byte == 0);
        if !part.bytes().fold(false, odd) {
            let begin = lines.len();
            lines.push_str(part);
            lines[begin..].make_ascii_lowercase();
        } else {
            lines.push_str(&part.replace(['\n', '\0'], " ").to_lowercase());
        }
    }
    lines.push('\n');
}

/// The line of an attribute with this value, for `instr`.
pub fn searched_line(key: &str, value: &str) -> String {
    let mut searched = String::from("\n");
    line(&[&key.replace('\0', ""), "=", value], &mut searched);
    searched
}

/// Longest text of a column that is searched, listed or repeated in every row.
const COLUMN_BYTES: usize = 1024;

/// Text for a column; what is longer ends there, and is whole in the record.
pub fn column(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(COLUMN_BYTES));
    text
}

/// Whether an id has its length and is not all zeros.
pub fn valid_id(id: &[u8], length: usize) -> bool {
    id.len() == length && id.iter().any(|byte| *byte != 0)
}

/// Lower-case hexadecimal of an id, empty if it is none.
pub fn hex_id(id: &[u8], length: usize) -> String {
    if valid_id(id, length) {
        hex(id)
    } else {
        String::new()
    }
}

/// Lower-case hexadecimal of an id.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.extend([byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]));
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// Whether `text` is an id of that many bytes in hexadecimal.
pub fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn json_value(value: &Value) -> serde_json::Value {
    let inner = |value: &AnyValue| value.value.as_ref().map(json_value).unwrap_or_default();
    match value {
        Value::StringValue(text) => json!(text),
        Value::BoolValue(truth) => json!(truth),
        Value::IntValue(number) => json!(number),
        Value::DoubleValue(number) => json!(number),
        Value::BytesValue(bytes) => json!(hex(bytes)),
        Value::ArrayValue(list) => list.values.iter().map(inner).collect(),
        Value::KvlistValue(map) => {
            let value = |entry: &KeyValue| entry.value.as_ref().map(inner).unwrap_or_default();
            let entries = map.values.iter();
            let entries = entries.map(|entry| (entry.key.clone(), value(entry)));
            serde_json::Value::Object(entries.collect())
        }
        // An index into a table that only OTLP profiles carry.
        Value::StringValueStrindex(index) => json!(index),
    }
}
