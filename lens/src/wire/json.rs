//! ProtoJSON as OTLP has it: <https://protobuf.dev/programming-guides/json/>, but ids are hexadecimal.
//!
//! JSON is turned into the bytes that a binary exporter would have sent, so that everything behind has one form to deal with, and back. A span,
//! record or point that cannot be read is left out and counted; its neighbours stay.

use std::collections::HashMap;
use std::fmt::{Display, Write};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use prost::encoding::{decode_varint, encode_varint};
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::schema::{Field, Kind, Message};
use crate::attributes::hex;

/// Bytes may be written in the standard alphabet or that of URLs, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What could not be taken of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    /// Spans, records or points.
    pub items: i64,
    /// Why the first of them was not taken.
    pub reason: Option<String>,
}

impl Rejected {
    /// Counts so many; the first reason is kept.
    pub fn add(&mut self, items: i64, reason: impl FnOnce() -> String) {
        self.items = self.items.saturating_add(items);
        if self.reason.is_none() {
            self.reason = Some(reason());
        }
    }
}

/// Reads JSON as a message of this type; gives its protobuf encoding and what was left out.
///
/// # Errors
/// When the text is no JSON object.
pub fn read(
    message: &'static Message,
    json: &str,
) -> Result<(Vec<u8>, Rejected), serde_json::Error> {
    // Some editors and shells of Windows begin a file with a byte order mark.
    let json = json.strip_prefix('\u{feff}').unwrap_or(json);
    // Nearly always all of it can be read, in one go. Only otherwise is each element looked at by itself.
    one_by_one(message, json, false).or_else(|_| one_by_one(message, json, true))
}

fn one_by_one(
    message: &'static Message,
    json: &str,
    one_by_one: bool,
) -> Result<(Vec<u8>, Rejected), serde_json::Error> {
    let mut rejected = Rejected::default();
    let mut out = Vec::with_capacity(json.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_str(json);
    deserializer.deserialize_any(Value {
        message,
        out: &mut out,
        rejected: one_by_one.then_some(&mut rejected),
    })?;
    deserializer.end()?;
    Ok((out, rejected))
}

fn key(field: &Field, wire_type: u32, out: &mut Vec<u8>) {
    encode_varint(u64::from(field.number << 3 | wire_type), out);
}

/// Writes what `inside` writes as a length-delimited field.
fn delimited<E>(
    field: &Field,
    out: &mut Vec<u8>,
    inside: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    key(field, 2, out);
    out.push(0); // the length, if it fits into one byte
    let begin = out.len();
    inside(out)?;
    let length = out.len() - begin;
    if length < 0x80 {
        out[begin - 1] = length as u8;
    } else {
        let mut encoded = Vec::with_capacity(5);
        encode_varint(length as u64, &mut encoded);
        out.splice(begin - 1..begin, encoded);
    }
    Ok(())
}

/// Reads a message's object.
struct Value<'a> {
    message: &'static Message,
    out: &'a mut Vec<u8>,
    /// Where elements that cannot be read are counted; without it one of them is an error.
    rejected: Option<&'a mut Rejected>,
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "an object ({})", self.message.name)
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key_seed(Name(self.message))? {
            match field {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(field) => map.next_value_seed(Content {
                    field,
                    listed: false,
                    out: self.out,
                    rejected: self.rejected.as_deref_mut(),
                })?,
            }
        }
        Ok(())
    }
}

/// Finds the field that a name stands for.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.named(name))
    }
}

/// Reads a field's value, or one element of its list.
struct Content<'a> {
    field: &'static Field,
    listed: bool,
    out: &'a mut Vec<u8>,
    rejected: Option<&'a mut Rejected>,
}

impl Content<'_> {
    fn wrong<E: de::Error>(&self, found: impl Display) -> E {
        E::custom(format_args!("{} cannot be {found}", self.field.name))
    }

    /// A list's value stands in brackets, also when it is the only one.
    fn in_list<E: de::Error>(&self, found: impl Display) -> Result<(), E> {
        if self.field.repeated && !self.listed {
            return Err(self.wrong(format_args!("{found}: it is a list")));
        }
        Ok(())
    }

    /// A whole number within what the field's type holds.
    fn whole<E: de::Error>(self, number: i128) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            return self.double(number as f64);
        }
        self.in_list(number)?;
        let (field, wrong) = (self.field, self.wrong(number));
        let fits = match field.kind {
            Kind::Fixed64 | Kind::Uint64 => u64::try_from(number).is_ok(),
            Kind::Sfixed64 | Kind::Int64 => i64::try_from(number).is_ok(),
            Kind::Fixed32 | Kind::Uint32 => u32::try_from(number).is_ok(),
            Kind::Sint32 | Kind::Enum(_) => i32::try_from(number).is_ok(),
            _ => false,
        };
        if !fits {
            return Err(wrong);
        }
        match field.kind {
            Kind::Fixed64 | Kind::Sfixed64 => {
                key(field, 1, self.out);
                self.out.extend((number as u64).to_le_bytes());
            }
            Kind::Fixed32 => {
                key(field, 5, self.out);
                self.out.extend((number as u32).to_le_bytes());
            }
            Kind::Sint32 => {
                let number = number as i32;
                key(field, 0, self.out);
                encode_varint(u64::from((number << 1 ^ number >> 31) as u32), self.out);
            }
            _ => {
                key(field, 0, self.out);
                encode_varint(number as i64 as u64, self.out);
            }
        }
        Ok(())
    }

    fn double<E: de::Error>(self, number: f64) -> Result<(), E> {
        self.in_list(number)?;
        key(self.field, 1, self.out);
        self.out.extend(number.to_le_bytes());
        Ok(())
    }

    fn bytes<E>(self, bytes: &[u8]) -> Result<(), E> {
        delimited(self.field, self.out, |out| {
            out.extend(bytes);
            Ok(())
        })
    }
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "what {} holds", self.field.name)
    }

    /// `null` means absent. As an element it is an empty value, so that those after it keep their places; other lists have no use for it.
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        let is_value = self
            .field
            .kind
            .message()
            .is_some_and(|of| of.name == "AnyValue");
        if self.listed && is_value {
            return self.bytes(&[]);
        }
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(self.wrong(value));
        }
        key(self.field, 0, self.out);
        self.out.push(u8::from(value));
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.whole(i128::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.whole(i128::from(value))
    }

    /// `1e3` and `5.0` are whole numbers.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Kind::Double => self.double(value),
            _ if value.fract() == 0.0 && value.abs() < 1e20 => self.whole(value as i128),
            _ => Err(self.wrong(value)),
        }
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        let shown = || format!("{:?}", value.chars().take(40).collect::<String>());
        // An empty text is an absent value wherever a text is none.
        if !matches!(self.field.kind, Kind::String | Kind::Bytes) && value.is_empty() {
            return Ok(());
        }
        self.in_list(shown())?;
        let finite = |content: Self| match value.parse::<f64>() {
            Ok(number) if number.is_finite() => content.visit_f64(number),
            _ => Err(content.wrong(shown())),
        };
        match self.field.kind {
            Kind::String => self.bytes(value.as_bytes()),
            Kind::Bytes => {
                let standard = value.replace('-', "+").replace('_', "/");
                match BASE64.decode(standard) {
                    Ok(bytes) => self.bytes(&bytes),
                    Err(_) => Err(self.wrong(shown())),
                }
            }
            Kind::Id => {
                let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
                let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
                let pairs = value.as_bytes().chunks_exact(2);
                let whole = pairs.remainder().is_empty();
                match pairs.map(byte).collect::<Option<Vec<u8>>>() {
                    Some(bytes) if whole => self.bytes(&bytes),
                    _ => Err(self.wrong(shown())),
                }
            }
            Kind::Bool => match value {
                "true" => self.visit_bool(true),
                "false" => self.visit_bool(false),
                _ => Err(self.wrong(shown())),
            },
            Kind::Message(_) | Kind::Elements(_) => Err(self.wrong(shown())),
            Kind::Enum(names) if names.contains(&value) => {
                let number = names.iter().position(|name| *name == value);
                self.whole(number.unwrap_or_default() as i128)
            }
            Kind::Double => match value {
                "NaN" => self.double(f64::NAN),
                "Infinity" => self.double(f64::INFINITY),
                "-Infinity" => self.double(f64::NEG_INFINITY),
                // Rust reads more than JSON writes: "inf", "+1", "nan".
                _ if value.contains(|letter: char| !"0123456789+-.eE".contains(letter)) => {
                    Err(self.wrong(shown()))
                }
                _ => finite(self),
            },
            _ => match value.parse::<i128>() {
                Ok(number) => self.whole(number),
                Err(_) => finite(self),
            },
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let message = match self.field.kind {
            Kind::Message(message) => message,
            Kind::Elements(message) if self.listed => message,
            _ => return Err(self.wrong("an object")),
        };
        self.in_list("an object")?;
        delimited(self.field, self.out, |out| {
            let rejected = self.rejected;
            let value = Value {
                message,
                out,
                rejected,
            };
            value.visit_map(map)
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        if !self.field.repeated || self.listed {
            return Err(self.wrong("a list"));
        }
        if let (Kind::Elements(message), Some(_)) = (self.field.kind, &self.rejected) {
            while let Some(element) = list.next_element::<&RawValue>()? {
                self.element(message, element);
            }
            return Ok(());
        }
        while list
            .next_element_seed(Content {
                field: self.field,
                listed: true,
                out: &mut *self.out,
                rejected: self.rejected.as_deref_mut(),
            })?
            .is_some()
        {}
        Ok(())
    }
}

impl Content<'_> {
    /// Reads an element that stands for itself, or counts what is in it as rejected.
    fn element(&mut self, message: &'static Message, element: &RawValue) {
        if element.get() == "null" {
            return;
        }
        let Some(rejected) = self.rejected.as_deref_mut() else {
            return;
        };
        let (begin, before) = (self.out.len(), rejected.items);
        let outcome = delimited(self.field, self.out, |out| {
            let value = Value {
                message,
                out,
                rejected: Some(&mut *rejected),
            };
            serde_json::Deserializer::from_str(element.get()).deserialize_any(value)
        });
        if let Err(error) = outcome {
            self.out.truncate(begin);
            rejected.items = before;
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default();
            rejected.add(items(message, element.get()), || {
                format!("{}: {reason}", message.name)
            });
        }
    }
}

/// How many spans, records or points stand in an element.
fn items(message: &'static Message, element: &str) -> i64 {
    if message.item {
        return 1;
    }
    // What cannot be read any further counts no more.
    let inside: HashMap<String, &RawValue> = serde_json::from_str(element).unwrap_or_default();
    let of_field = |(name, value): (String, &RawValue)| -> Option<i64> {
        let message = message.named(&name)?.kind.message()?;
        let list: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or(vec![value]);
        let objects = list.iter().filter(|inside| inside.get().starts_with('{'));
        Some(objects.map(|inside| items(message, inside.get())).sum())
    };
    inside.into_iter().filter_map(of_field).sum()
}

/// Writes a message's protobuf encoding, as prost makes it, as JSON on one line.
pub fn write(message: &'static Message, mut bytes: &[u8], out: &mut String) {
    out.push('{');
    let mut open: Option<&Field> = None;
    let mut first = true;
    while let Ok(tag) = decode_varint(&mut bytes) {
        let Some(field) = message.field((tag >> 3) as u32) else {
            skip(tag & 7, &mut bytes);
            continue;
        };
        // The elements of a list follow each other.
        if open.is_some_and(|open| open.number == field.number) {
            out.push(',');
        } else {
            out.push_str(if open.take().is_some() { "]" } else { "" });
            out.push_str(if first { "" } else { "," });
            let _ = write!(out, "\"{}\":", field.name);
            if field.repeated {
                out.push('[');
                open = Some(field);
            }
        }
        first = false;
        let text = matches!(
            field.kind,
            Kind::String | Kind::Bytes | Kind::Id | Kind::Message(_) | Kind::Elements(_)
        );
        if tag & 7 != 2 {
            number(field.kind, &mut bytes, out);
            continue;
        }
        let length = decode_varint(&mut bytes).map_or(0, |length| length as usize);
        let (mut content, rest) = bytes.split_at(length.min(bytes.len()));
        bytes = rest;
        if !text {
            // Packed numbers.
            let mut separator = "";
            while !content.is_empty() {
                out.push_str(separator);
                number(field.kind, &mut content, out);
                separator = ",";
            }
            continue;
        }
        match field.kind {
            Kind::Message(message) | Kind::Elements(message) => write(message, content, out),
            Kind::Id => {
                let _ = write!(out, "\"{}\"", hex(content));
            }
            Kind::Bytes => {
                let _ = write!(out, "\"{}\"", BASE64.encode(content));
            }
            _ => out.push_str(
                &serde_json::to_string(&String::from_utf8_lossy(content)).unwrap_or_default(),
            ),
        }
    }
    // Some readers insist on an empty list.
    if first && ["ArrayValue", "KeyValueList"].contains(&message.name) {
        out.push_str("\"values\":[]");
    }
    out.push_str(if open.is_some() { "]}" } else { "}" });
}

fn number(kind: Kind, bytes: &mut &[u8], out: &mut String) {
    let fixed = |bytes: &mut &[u8]| {
        let value = bytes
            .first_chunk()
            .map_or(0, |chunk| u64::from_le_bytes(*chunk));
        *bytes = bytes.get(8..).unwrap_or_default();
        value
    };
    let _ = match kind {
        Kind::Double => match f64::from_bits(fixed(bytes)) {
            number if number.is_nan() => write!(out, "\"NaN\""),
            f64::INFINITY => write!(out, "\"Infinity\""),
            f64::NEG_INFINITY => write!(out, "\"-Infinity\""),
            number => write!(out, "{number:?}"),
        },
        Kind::Fixed64 => write!(out, "\"{}\"", fixed(bytes)),
        Kind::Sfixed64 => write!(out, "\"{}\"", fixed(bytes) as i64),
        Kind::Fixed32 => {
            let value = bytes
                .first_chunk()
                .map_or(0, |chunk| u32::from_le_bytes(*chunk));
            *bytes = bytes.get(4..).unwrap_or_default();
            write!(out, "{value}")
        }
        _ => {
            let value = decode_varint(bytes).unwrap_or_default();
            match kind {
                Kind::Bool => write!(out, "{}", value != 0),
                Kind::Uint64 => write!(out, "\"{value}\""),
                Kind::Int64 => write!(out, "\"{}\"", value as i64),
                Kind::Sint32 => write!(out, "{}", (value >> 1) as i32 ^ -((value & 1) as i32)),
                Kind::Enum(_) => write!(out, "{}", value as i32),
                _ => write!(out, "{value}"),
            }
        }
    };
}

fn skip(wire_type: u64, bytes: &mut &[u8]) {
    let length = match wire_type {
        0 => decode_varint(bytes).map_or(usize::MAX, |_| 0),
        1 => 8,
        5 => 4,
        2 => decode_varint(bytes).map_or(usize::MAX, |length| length as usize),
        _ => usize::MAX,
    };
    *bytes = bytes.get(length..).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::wire::schema::{METRICS, TRACES};

    fn traces(spans: &str) -> (ExportTraceServiceRequest, Rejected) {
        let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        let (bytes, rejected) = read(&TRACES, &json).expect("JSON");
        let request = ExportTraceServiceRequest::decode(bytes.as_slice());
        (request.expect("protobuf"), rejected)
    }

    /// Values of every type, lists and maps of them included.
    fn any_value() -> impl Strategy<Value = Any> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Any::StringValue),
            any::<bool>().prop_map(Any::BoolValue),
            any::<i64>().prop_map(Any::IntValue),
            any::<f64>().prop_map(Any::DoubleValue),
            prop::collection::vec(any::<u8>(), 0..9).prop_map(Any::BytesValue),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let values = || prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                values().prop_map(|values| {
                    let value = |value| AnyValue { value: Some(value) };
                    let values = values.into_iter().map(value).collect();
                    Any::ArrayValue(ArrayValue { values })
                }),
                prop::collection::vec((any::<String>(), inner.clone()), 0..4).prop_map(|pairs| {
                    let pairs = pairs.into_iter();
                    let values = pairs.map(|(key, value)| pair(key, value)).collect();
                    Any::KvlistValue(KeyValueList { values })
                }),
            ]
        })
    }

    fn pair(key: String, value: Any) -> KeyValue {
        KeyValue {
            key,
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        }
    }

    proptest! {
        #[test]
        fn attributes_of_every_type_are_read_as_they_were_written(
            key in any::<String>(),
            value in any_value(),
            start in any::<u64>(),
        ) {
            let span = Span {
                start_time_unix_nano: start,
                attributes: vec![pair(key, value)],
                ..Span::default()
            };
            let bytes = ExportTraceServiceRequest {
                resource_spans: vec![ResourceSpans {
                    scope_spans: vec![ScopeSpans {
                        spans: vec![span],
                        ..ScopeSpans::default()
                    }],
                    ..ResourceSpans::default()
                }],
            }
            .encode_to_vec();
            let mut json = String::new();
            write(&TRACES, &bytes, &mut json);
            let (again, rejected) = read(&TRACES, &json).expect("JSON");
            prop_assert_eq!(rejected, Rejected::default());
            // Bytes, because no NaN equals another.
            prop_assert_eq!(again, bytes, "{}", json);
        }
    }

    #[test]
    fn every_lawful_spelling_of_a_number_is_taken() {
        for (written, read) in [
            ("1000", 1000),
            ("\"1000\"", 1000),
            ("1e3", 1000),
            ("\"1e3\"", 1000),
            ("1000.0", 1000),
            ("18446744073709551615", u64::MAX),
            ("\"18446744073709551615\"", u64::MAX),
            ("null", 0),
            ("\"\"", 0),
        ] {
            let (request, rejected) = traces(&format!(r#"{{"startTimeUnixNano":{written}}}"#));
            let span = &request.resource_spans[0].scope_spans[0].spans[0];
            assert_eq!(span.start_time_unix_nano, read, "{written}");
            assert_eq!(rejected, Rejected::default(), "{written}");
        }
        for written in [
            "-1",
            "1.5",
            "\"abc\"",
            "true",
            "[]",
            "{}",
            "1e30",
            "\"18446744073709551616\"",
        ] {
            let two = format!(r#"{{"startTimeUnixNano":{written}}},{{"name":"ok"}}"#);
            let (request, rejected) = traces(&two);
            let spans = &request.resource_spans[0].scope_spans[0].spans;
            assert_eq!((spans.len(), rejected.items), (1, 1), "{written}");
            let reason = rejected.reason.expect("a reason");
            let begin = "Span: startTimeUnixNano cannot be ";
            assert!(reason.starts_with(begin), "{reason}");
        }
    }

    #[test]
    fn values_of_every_kind_are_taken() {
        let value = |json: &str| {
            let (mut request, rejected) = traces(&format!(
                r#"{{"attributes":[{{"key":"k","value":{json}}}]}}"#
            ));
            assert_eq!(rejected, Rejected::default(), "{json}");
            let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
            span.attributes.remove(0).value?.value
        };
        // Quoted or not, the nearest double: a quick reader of numbers is off by the last bit here.
        let nearest = Any::DoubleValue(0.922_337_203_854_775_9);
        let bytes = Any::BytesValue(vec![0xfb, 0xff]);
        for (json, read) in [
            (r#""stringValue":"""#, Any::StringValue(String::new())),
            (
                r#""string_value":"a","new":[1]"#,
                Any::StringValue("a".to_owned()),
            ),
            (r#""intValue":"-5""#, Any::IntValue(-5)),
            (r#""intValue":-1.2e1"#, Any::IntValue(-12)),
            (r#""boolValue":false"#, Any::BoolValue(false)),
            (
                r#""doubleValue":"-Infinity""#,
                Any::DoubleValue(f64::NEG_INFINITY),
            ),
            (r#""doubleValue":3"#, Any::DoubleValue(3.0)),
            (r#""doubleValue":0.9223372038547759"#, nearest.clone()),
            (r#""doubleValue":"0.9223372038547759""#, nearest),
            (r#""bytesValue":"+/8=""#, bytes.clone()),
            (r#""bytesValue":"-_8=""#, bytes.clone()),
            (r#""bytesValue":"-_8""#, bytes.clone()),
            (r#""bytesValue":"+/8""#, bytes),
        ] {
            assert_eq!(value(&format!("{{{json}}}")), Some(read), "{json}");
        }
        for none in ["null", "{}"] {
            assert_eq!(value(none), None, "{none}");
        }
        let values = |json: &str| match value(&format!(r#"{{"arrayValue":{json}}}"#)) {
            Some(Any::ArrayValue(list)) => list.values.len(),
            None => 0,
            other => panic!("{other:?}"),
        };
        assert_eq!(values(r#"{"values":[null,{"intValue":1}]}"#), 2);
        for empty in ["{}", "null", r#"{"values":null}"#, r#"{"values":[]}"#] {
            assert_eq!(values(empty), 0, "{empty}");
        }
    }

    #[test]
    fn what_is_around_the_items_may_be_absent_and_what_is_wrong_takes_only_itself() {
        let json = r#"{"resource_metrics":[
            {"resource":null,"scopeMetrics":[{"scope":null,"metrics":[
                {"name":"a","sum":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_DELTA","isMonotonic":true,"dataPoints":[{"asInt":"1"},{"asInt":[]},null]}},
                {"name":7,"gauge":{"dataPoints":[{"asInt":"1"},{"asInt":"2"}]}},
                {"name":"b","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"scale":-1,"positive":{"offset":"-3","bucketCounts":["1",2]}}]}},
                {"name":"c","histogram":{"dataPoints":[{"bucketCounts":null,"explicitBounds":["0.5","Infinity"],"sum":"NaN","exemplars":null}]}}
            ]}]},
            {"resource":[],"scopeMetrics":[{"metrics":[{"summary":{"dataPoints":[{},{},{}]}}]}]},
            null]}"#;
        let (bytes, rejected) = read(&METRICS, json).expect("JSON");
        assert_eq!(rejected.items, 1 + 2 + 3);
        let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).expect("protobuf");
        let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
        assert_eq!(request.resource_metrics.len(), 1);
        let Some(Data::Sum(sum)) = &metrics[0].data else {
            panic!("a sum")
        };
        let found = (sum.aggregation_temporality, sum.is_monotonic);
        assert_eq!((found, sum.data_points.len()), ((1, true), 1));
        let Some(Data::ExponentialHistogram(histogram)) = &metrics[1].data else {
            panic!("an exponential histogram")
        };
        let point = &histogram.data_points[0];
        let positive = point.positive.clone().expect("buckets");
        let found = (point.scale, positive.offset, positive.bucket_counts);
        assert_eq!(found, (-1, -3, vec![1, 2]));
        let Some(Data::Histogram(histogram)) = &metrics[2].data else {
            panic!("a histogram")
        };
        let point = &histogram.data_points[0];
        assert_eq!(point.explicit_bounds, [0.5, f64::INFINITY]);
        assert!(point.sum.is_some_and(f64::is_nan));
    }

    #[test]
    fn what_was_written_is_read_as_the_same() {
        let (request, _) = traces(
            r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"00F067AA0BA902B7","kind":"SPAN_KIND_SERVER","name":"a\"b",
                "startTimeUnixNano":"1","status":{"code":2},"flags":3,"droppedLinksCount":1,
                "attributes":[{"key":"d","value":{"doubleValue":"NaN"}},{"key":"b","value":{"bytesValue":"AQI="}},
                              {"key":"m","value":{"kvlistValue":{"values":[{"key":"i","value":{"intValue":-1}}]}}},{"key":"e","value":{}}],
                "events":[{"name":"e"}],"links":[{"traceId":"0af7651916cd43dd8448eb211c80319c"}]},{"name":"second"}"#,
        );
        let bytes = request.encode_to_vec();
        let mut json = String::new();
        write(&TRACES, &bytes, &mut json);
        assert!(
            json.contains(r#""spanId":"00f067aa0ba902b7""#) && !json.contains('\n'),
            "{json}"
        );
        let (again, rejected) = read(&TRACES, &json).expect("JSON");
        assert_eq!(rejected, Rejected::default());
        let again = ExportTraceServiceRequest::decode(again.as_slice()).expect("protobuf");
        assert_eq!(again.encode_to_vec(), bytes);
    }
}
