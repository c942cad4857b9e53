//! The access log: one record a request.
use std::sync::Arc;

use opentelemetry::logs::AnyValue;
use opentelemetry::{Key, KeyValue, StringValue, Value};
use tracing::Level;
use tracing::field::Value as FieldValue;

use super::bridge::{Ready, with_ready};
use crate::base::interned;
use crate::base::named_event::{NamedEvent, named_event};
use crate::base::names::Names;

/// The target of access-log records.
const TARGET: &str = "access";
/// Attributes of a record at most that other layers see as fields.
const MOST_FIELDS: usize = 24;

/// Requests with the same attributes are one kind of event: what one is made of, once.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    event: &'static NamedEvent,
    /// Attributes as a record has them: all that requests of the kind have in common.
    attributes: Arc<[(Key, AnyValue)]>,
    duration_ms: Key,
}

impl Access {
    /// The access log of requests with these attributes. `failed` makes it a warning: the error itself is logged where it
    /// is turned into an answer, here it is one request among others.
    pub(crate) fn new(names: &Names, attributes: &[KeyValue], failed: bool) -> Self {
        // Names of attributes come from the source: they are few.
        let keys = attributes
            .iter()
            .filter_map(|pair| interned(pair.key.as_str(), usize::MAX));
        let mut fields: Vec<_> = ["message", names.request_id]
            .into_iter()
            .chain(keys)
            .collect();
        fields.truncate(MOST_FIELDS - 2);
        fields.extend(["url.path", names.duration_ms]);
        let level = if failed { Level::WARN } else { Level::INFO };
        Self {
            event: named_event(names.request, TARGET, level, fields),
            attributes: attributes.iter().map(record_attribute).collect(),
            duration_ms: Key::from_static_str(names.duration_ms),
        }
    }

    /// Writes the record of one request.
    pub(crate) fn write(
        &self,
        message: StringValue,
        id: &str,
        attributes: &[KeyValue],
        path: &Arc<str>,
        seconds: f64,
    ) {
        if !self.event.enabled() {
            return;
        }
        let millis = (seconds * 1e6).round() / 1e3;
        let url_path = &**path;
        let url_path_pair = (!path.is_empty()).then(|| {
            let path = AnyValue::String(Arc::clone(path).into());
            (Key::from_static_str("url.path"), path)
        });
        let ready = Ready {
            body: AnyValue::String(message.clone()),
            common: Arc::clone(&self.attributes),
            own: [
                url_path_pair,
                Some((self.duration_ms.clone(), AnyValue::Double(millis))),
            ],
        };
        with_ready(ready, || {
            let text = message.as_str();
            let texts: [&str; MOST_FIELDS] = texts_of(attributes);
            let mut values: [Option<&dyn FieldValue>; MOST_FIELDS] = [None; MOST_FIELDS];
            values[0] = Some(&text);
            values[1] = Some(&id);
            let count = self.event.fields();
            for (n, pair) in attributes.iter().take(count - 4).enumerate() {
                values[n + 2] = match &pair.value {
                    Value::Bool(value) => Some(value),
                    Value::I64(value) => Some(value),
                    Value::F64(value) => Some(value),
                    _ => Some(&texts[n]),
                };
            }
            values[count - 2] = (!path.is_empty()).then_some(&url_path as &dyn FieldValue);
            values[count - 1] = Some(&millis);
            self.event.emit(&values[..count]);
        });
    }
}

fn texts_of(attributes: &[KeyValue]) -> [&str; MOST_FIELDS] {
    let mut texts = [""; MOST_FIELDS];
    for (text, pair) in texts.iter_mut().zip(attributes) {
        if let Value::String(value) = &pair.value {
            *text = value.as_str();
        }
    }
    texts
}

fn record_attribute(pair: &KeyValue) -> (Key, AnyValue) {
    let value = match &pair.value {
        Value::Bool(value) => AnyValue::Boolean(*value),
        Value::I64(value) => AnyValue::Int(*value),
        Value::F64(value) => AnyValue::Double(*value),
        Value::String(text) => AnyValue::String(text.clone()),
        other => AnyValue::String(other.to_string().into()),
    };
    (pair.key.clone(), value)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::sync::Mutex;

    use tracing::field::{Field, Visit};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::base::locked;
    use crate::testing;

    /// Keeps the fields of each event as any other layer sees them.
    #[derive(Clone, Default)]
    struct Other(Arc<Mutex<Vec<(String, String)>>>);

    impl Visit for Other {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            let value = format!("{value:?}");
            locked(&self.0).push((field.name().to_owned(), value));
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Other {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    #[test]
    fn the_record_and_the_event_say_the_same() {
        let capture = testing::start(&[]);
        let other = Other::default();
        let subscriber = tracing_subscriber::registry()
            .with(capture.layer())
            .with(other.clone());
        let attributes = [
            KeyValue::new("http.response.status_code", 200),
            KeyValue::new("http.route", "/items/{id}"),
            KeyValue::new("shop.vip", true),
        ];
        let names = Names::of(&testing::IDENTITY);
        tracing::subscriber::with_default(subscriber, || {
            let access = Access::new(&names, &attributes, false);
            let message = StringValue::from("GET /items/{id} 200");
            access.write(
                message,
                "r-1",
                &attributes,
                &Arc::from("/items/7"),
                0.001_234_5,
            );
        });

        let expected = [
            ("message", "\"GET /items/{id} 200\""),
            ("test.request.id", "\"r-1\""),
            ("http.response.status_code", "200"),
            ("http.route", "\"/items/{id}\""),
            ("shop.vip", "true"),
            ("url.path", "\"/items/7\""),
            ("test.request.duration_ms", "1.235"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(*locked(&other.0), expected);

        let records = capture.all_records();
        assert_eq!(records.len(), 1);
        assert_eq!(testing::message(&records[0]), "GET /items/{id} 200");
        assert_eq!(records[0].event_name(), Some("test.request"));
        assert_eq!(records[0].severity_text(), Some("INFO"));
        // But for the message and the request's id, which the record of a request has from its span.
        for (name, value) in &expected[2..] {
            let found = testing::record_attribute(&records[0], name);
            assert_eq!(found.as_deref(), Some(value.trim_matches('"')), "{name}");
        }
    }
}
