//! `tracing` events whose field names are known only while the program runs: `tracing`'s macros take literals alone, but
//! the program chooses the prefix of our names, and which attributes a request is annotated with.
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use tracing::callsite::{Callsite, Identifier};
use tracing::field::{FieldSet, Value};
use tracing::metadata::{Kind, LevelFilter, Metadata};
use tracing::subscriber::Interest;
use tracing::{Event, Level};

use super::locked;

/// One kind of event: what a macro makes of each place in the source.
#[derive(Debug)]
pub(crate) struct NamedEvent {
    metadata: OnceLock<Metadata<'static>>,
    /// Whether any subscriber wants it: one of the constants below.
    interest: AtomicU8,
}

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

type Kinds = HashMap<(&'static str, &'static str, Level, Vec<&'static str>), &'static NamedEvent>;

/// The event `name` of `target` and `level` with these `fields`. Made once and kept, so all of them must come from sets that
/// do not grow.
pub(crate) fn named_event(
    name: &'static str,
    target: &'static str,
    level: Level,
    fields: Vec<&'static str>,
) -> &'static NamedEvent {
    static KINDS: OnceLock<Mutex<Kinds>> = OnceLock::new();
    let mut kinds = locked(KINDS.get_or_init(Mutex::default));
    kinds
        .entry((name, target, level, fields.clone()))
        .or_insert_with(|| {
            let event: &'static NamedEvent = Box::leak(Box::new(NamedEvent {
                metadata: OnceLock::new(),
                interest: AtomicU8::new(SOMETIMES),
            }));
            let fields = FieldSet::new(fields.leak(), Identifier(event));
            let metadata =
                Metadata::new(name, target, level, None, None, None, fields, Kind::EVENT);
            event.metadata.get_or_init(|| metadata);
            tracing::callsite::register(event);
            event
        })
}

impl NamedEvent {
    /// Whether anybody listens.
    pub(crate) fn enabled(&'static self) -> bool {
        let metadata = self.metadata();
        if *metadata.level() > LevelFilter::current() {
            return false;
        }
        match self.interest.load(Relaxed) {
            NEVER => false,
            ALWAYS => true,
            _ => tracing::dispatcher::get_default(|dispatch| dispatch.enabled(metadata)),
        }
    }

    /// How many fields it has.
    pub(crate) fn fields(&self) -> usize {
        self.metadata().fields().len()
    }

    /// Emits it with the values of its fields, in their order.
    pub(crate) fn emit(&'static self, values: &[Option<&dyn Value>]) {
        let metadata = self.metadata();
        Event::dispatch(metadata, &metadata.fields().value_set_all(values));
    }
}

impl Callsite for NamedEvent {
    fn set_interest(&self, interest: Interest) {
        let interest = if interest.is_always() {
            ALWAYS
        } else if interest.is_never() {
            NEVER
        } else {
            SOMETIMES
        };
        self.interest.store(interest, Relaxed);
    }

    fn metadata(&self) -> &Metadata<'static> {
        self.metadata.get().unwrap_or(&NOT_SET)
    }
}

/// Stands in until an event has its own metadata, which it gets before anybody else knows it.
static NOT_SET: Metadata<'static> = Metadata::new(
    "not set",
    "telemetry",
    Level::TRACE,
    None,
    None,
    None,
    FieldSet::new(&[], Identifier(&NotSet)),
    Kind::EVENT,
);

struct NotSet;

impl Callsite for NotSet {
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'static> {
        &NOT_SET
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            locked(&self.0).push(format!("{event:?}"));
        }
    }

    #[test]
    fn any_layer_sees_the_fields_under_their_names() {
        let seen = Seen::default();
        let subscriber = tracing_subscriber::registry().with(seen.clone());
        tracing::subscriber::with_default(subscriber, || {
            let fields = || vec!["message", "shop.tier", "http.response.status_code"];
            let event = named_event("shop.request", "access", Level::INFO, fields());
            assert!(event.enabled());
            event.emit(&[Some(&"GET / 200"), None, Some(&200_i64)]);
            let again = named_event("shop.request", "access", Level::INFO, fields());
            assert!(std::ptr::eq(event, again));
        });
        let seen = locked(&seen.0);
        assert_eq!(seen.len(), 1);
        for part in [
            "shop.request",
            "access",
            "GET / 200",
            "http.response.status_code: 200",
        ] {
            assert!(seen[0].contains(part), "{part} in {}", seen[0]);
        }
        assert!(
            !seen[0].contains("shop.tier:"),
            "a field without value is absent: {}",
            seen[0]
        );
    }
}
