//! What a program installs that has other layers too is the whole telemetry: also what other libraries make, and what the
//! settings are warned of. A process of its own, because all of that is the process'.
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{Span as _, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use signalbox_telemetry::{Extensions, start_extended, testing};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, info_span};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::{Layer, registry};

#[derive(Debug, Clone, Default)]
struct Ended(Arc<Mutex<Vec<String>>>);

impl SpanProcessor for Ended {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span.name.into_owned());
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Another layer of the program: it keeps the texts of warnings.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl Visit for Messages {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

impl<S: Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        if *event.metadata().level() == Level::WARN {
            event.record(&mut self.clone());
        }
    }
}

#[test]
fn beside_other_layers_nothing_is_missing() {
    let settings = testing::settings(&[
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_LOGS_EXPORTER", "none"),
        ("LOG_FORMAT", "off"),
    ]);
    let (ended, messages) = (Ended::default(), Messages::default());
    let processor = ended.clone();
    let extensions = Extensions::default().traces(|builder| builder.with_span_processor(processor));
    let guard = start_extended(&settings, extensions).unwrap();
    let subscriber = registry().with(guard.layer()).with(messages.clone());
    guard.install(subscriber).unwrap();

    let warning = "OTEL_SDK_DISABLED=perhaps is not allowed; allowed: true, false; taken as false";
    assert_eq!(*messages.0.lock().unwrap(), [warning]);

    info_span!("made by the program").in_scope(|| {
        global::tracer("library").start("made by a library").end();
    });
    let names = ["made by a library", "made by the program"];
    assert_eq!(*ended.0.lock().unwrap(), names);

    let counter = global::meter("library")
        .u64_counter("library.calls")
        .build();
    counter.add(7, &[KeyValue::new("library.kind", "a")]);
    let page = guard.pull().openmetrics().unwrap();
    let line = "library_calls_total{library_kind=\"a\"} 7";
    assert!(page.contains(line), "{page}");

    let hidden = guard.install(registry());
    let error = hidden.unwrap_err().to_string();
    assert!(error.contains("does not show Guard::layer"), "{error}");
    let again = guard.install(registry().with(guard.layer()));
    let error = again.unwrap_err().to_string();
    assert!(error.starts_with("telemetry cannot start: "), "{error}");
}
