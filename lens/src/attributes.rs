//! Reading OTLP attribute values.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::{Map, json};

/// The attribute's value as text, `None` if it is absent.
pub fn find(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)
        .map(|attribute| text(attribute.value.as_ref()))
}

/// A value as a person would write it; lists and maps as JSON.
pub fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(value) => match json_value(value) {
            serde_json::Value::String(text) => text,
            value => value.to_string(),
        },
    }
}

/// The attributes as one flat JSON object of strings, for `json_extract`.
pub fn flat_json(attributes: &[KeyValue]) -> String {
    let flat: Map<_, _> = attributes
        .iter()
        .map(|attribute| (attribute.key.clone(), text(attribute.value.as_ref()).into()))
        .collect();
    serde_json::Value::Object(flat).to_string()
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
    let mut lines = String::from("\n");
    for attribute in attributes {
        let value = text(attribute.value.as_ref());
        let renamed = RENAMED.iter().find(|(before, _)| *before == attribute.key);
        for key in [Some(attribute.key.as_str()), renamed.map(|(_, now)| *now)] {
            lines.extend(key.map(|key| line(&format!("{key}={value}"))));
        }
    }
    lines.extend(texts.iter().map(|text| line(text)));
    lines.truncate(lines.floor_char_boundary(SEARCHED_BYTES));
    lines
}

/// A text as it stands in what is searched.
fn line(text: &str) -> String {
    format!("{}\n", text.replace(['\n', '\0'], " ").to_lowercase())
}

/// The line of an attribute with this value, for `instr`.
pub fn searched_line(key: &str, value: &str) -> String {
    format!("\n{}", line(&format!("{}={value}", key.replace('\0', ""))))
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
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether `text` is an id of that many bytes in hexadecimal.
pub fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn json_value(value: &Value) -> serde_json::Value {
    let inner = |value: &AnyValue| {
        value
            .value
            .as_ref()
            .map_or(serde_json::Value::Null, json_value)
    };
    match value {
        Value::StringValue(text) => json!(text),
        Value::BoolValue(truth) => json!(truth),
        Value::IntValue(number) => json!(number),
        Value::DoubleValue(number) => json!(number),
        Value::BytesValue(bytes) => json!(hex(bytes)),
        Value::ArrayValue(list) => list.values.iter().map(inner).collect(),
        Value::KvlistValue(map) => serde_json::Value::Object(
            map.values
                .iter()
                .map(|entry| {
                    (
                        entry.key.clone(),
                        entry.value.as_ref().map_or(serde_json::Value::Null, inner),
                    )
                })
                .collect(),
        ),
        // An index into a table that only OTLP profiles carry.
        Value::StringValueStrindex(index) => json!(index),
    }
}
