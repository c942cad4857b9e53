//! Attributes that the spans of requests have in common.
//!
//! Nearly all that the span of a request says is the same for each request of its route and caller, and is handed on as
//! the very same static or shared text. What a thread has encoded for the last such span is copied instead of encoded
//! again.
use std::borrow::Cow;
use std::cell::RefCell;

use opentelemetry::trace::SpanKind;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;

use super::value::attribute;

/// Field of an attribute in a `Span`.
const ATTRIBUTE: u8 = 9;
/// Kinds of spans that a thread remembers.
const KINDS: usize = 64;
/// Spans of a kind after which it is learnt anew, as the caller may be another one by now.
const LEARN_EVERY: usize = 64;

thread_local! {
    static KNOWN: RefCell<Vec<Known>> = RefCell::new((0..KINDS).map(|_| Known::default()).collect());
}

/// Spans that may have their attributes in common.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Kind {
    /// The name, by its address: names of routes live as long as the program.
    name: (usize, usize),
    attributes: usize,
    /// Longest text of an attribute.
    limit: Option<usize>,
}

/// How the attributes of a span were encoded.
#[derive(Debug, Default)]
struct Known {
    kind: Kind,
    /// Kept, so that no other text can get the address of one that is compared by it.
    attributes: Vec<KeyValue>,
    /// Where each ends in `bytes`.
    ends: Vec<usize>,
    bytes: Vec<u8>,
    used: usize,
}

/// Appends the attributes of `span`. Their texts have at most `limit` characters.
pub(super) fn attributes(out: &mut Vec<u8>, span: &SpanData, limit: Option<usize>) {
    if let (SpanKind::Server, Cow::Borrowed(name)) = (&span.span_kind, &span.name) {
        let kind = Kind {
            name: (name.as_ptr().addr(), name.len()),
            attributes: span.attributes.len(),
            limit,
        };
        let copied = KNOWN.try_with(|known| {
            // Texts that were made while the program runs begin at multiples of 16.
            let slot = (kind.name.0 / 16 + kind.attributes) % KINDS;
            known.borrow_mut()[slot].append(out, kind, &span.attributes);
        });
        if copied.is_ok() {
            return; // else the thread is ending and its locals are gone
        }
    }
    for pair in &span.attributes {
        attribute(out, ATTRIBUTE, pair, limit);
    }
}

impl Known {
    fn append(&mut self, out: &mut Vec<u8>, kind: Kind, attributes: &[KeyValue]) {
        if self.kind != kind || self.used == LEARN_EVERY {
            self.learn(kind, attributes);
        }
        self.used += 1;
        // What is the same and still to be copied.
        let (mut from, mut to) = (0, 0);
        for ((known, end), pair) in self.attributes.iter().zip(&self.ends).zip(attributes) {
            if !is_same(known, pair) {
                out.extend_from_slice(&self.bytes[from..to]);
                attribute(out, ATTRIBUTE, pair, kind.limit);
                from = *end;
            }
            to = *end;
        }
        out.extend_from_slice(&self.bytes[from..to]);
    }

    fn learn(&mut self, kind: Kind, attributes: &[KeyValue]) {
        *self = Self {
            kind,
            attributes: attributes.to_vec(),
            ..Self::default()
        };
        for pair in attributes {
            attribute(&mut self.bytes, ATTRIBUTE, pair, kind.limit);
            self.ends.push(self.bytes.len());
        }
    }
}

/// Whether both are the same, as far as their addresses tell.
fn is_same(a: &KeyValue, b: &KeyValue) -> bool {
    let values = match (&a.value, &b.value) {
        (Value::String(a), Value::String(b)) => std::ptr::eq(a.as_str(), b.as_str()),
        (Value::I64(a), Value::I64(b)) => a == b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        _ => false,
    };
    values && std::ptr::eq(a.key.as_str(), b.key.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_copied_is_what_would_be_encoded() {
        let agent: Arc<str> = "test/1".into();
        let kind = Kind {
            attributes: 4,
            limit: Some(8),
            ..Kind::default()
        };
        let mut known = Known::default();
        for request in 0..200 {
            let path: Arc<str> = format!("/items/{request}").into();
            let attributes = [
                KeyValue::new("url.path", path),
                KeyValue::new("http.request.method", "GET"),
                KeyValue::new("user_agent.original", Arc::clone(&agent)),
                KeyValue::new("http.response.status_code", 200 + request / 50),
            ];
            let (mut copied, mut encoded) = (Vec::new(), Vec::new());
            known.append(&mut copied, kind, &attributes);
            for pair in &attributes {
                attribute(&mut encoded, ATTRIBUTE, pair, kind.limit);
            }
            assert_eq!(copied, encoded, "{request}");
        }
    }
}
