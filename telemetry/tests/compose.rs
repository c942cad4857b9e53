//! The layer stands beside other layers, other subscribers and what other libraries make.
use std::fmt::Debug;
use std::io::Write;
use std::sync::{Arc, Mutex};

use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::logs::SdkLogRecord;
use signalbox_telemetry::{context, testing};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::subscriber::with_default;
use tracing::{Event, Subscriber, debug, info, info_span};
use tracing_log::{LogTracer, log};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, registry};

/// Stands for a console's layer: it sees all spans and events with their fields.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Console {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: LayerContext<'_, S>) {
        let mut line = Line(format!("span {}", attributes.metadata().name()));
        attributes.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn on_event(&self, event: &Event<'_>, _: LayerContext<'_, S>) {
        let mut line = Line("event".to_owned());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn other_layers_see_everything_and_are_not_ruled_by_our_filter() {
    let capture = testing::start(&[("RUST_LOG", "info")]);
    let (console, written) = (Console::default(), Written::default());
    let writer = written.clone();
    let subscriber = registry().with(capture.layer()).with(console.clone()).with(
        fmt::layer()
            .with_ansi(false)
            .with_writer(move || writer.clone()),
    );
    with_default(subscriber, || {
        let _outer = info_span!("outer", answer = 42).entered();
        let _hidden = tracing::debug_span!("hidden").entered();
        let _inner = info_span!("inner").entered();
        info!(item = "a", "told");
        debug!("whispered");
    });

    let seen = console.0.lock().unwrap().clone();
    let expected = [
        "span outer answer=42",
        "span hidden",
        "span inner",
        "event message=told item=\"a\"",
        "event message=whispered",
    ];
    assert_eq!(seen, expected);
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        written.contains("told item=\"a\"") && written.contains("whispered"),
        "{written}"
    );

    let spans = capture.all_spans();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["inner", "outer"]);
    let parent = spans[0].parent_span_id;
    assert_eq!(
        parent,
        spans[1].span_context.span_id(),
        "what is hidden breaks no trace"
    );
    let records = capture.all_records();
    assert_eq!(records.len(), 1);
    assert_eq!(testing::message(&records[0]), "told");
    let ids = records[0].trace_context().unwrap();
    assert_eq!(ids.span_id, spans[0].span_context.span_id());
}

#[test]
fn each_start_has_state_of_its_own() {
    let captures = [(); 2].map(|()| testing::start(&[]));
    let subscribers = captures
        .each_ref()
        .map(|capture| registry().with(capture.layer()));
    for (subscriber, name) in subscribers.into_iter().zip(["first", "second"]) {
        with_default(subscriber, || {
            let span = info_span!("work", otel.name = name);
            let _entered = span.enter();
            info!("{name}");
            let carrier = context::inject();
            let ids = context::current().unwrap();
            let header = format!("00-{}-{}-01", ids.trace_id, ids.span_id);
            assert_eq!(carrier["traceparent"], header);
        });
    }
    for (capture, name) in captures.iter().zip(["first", "second"]) {
        let spans = capture.all_spans();
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].name, name);
        let records = capture.all_records();
        assert_eq!(
            records.iter().map(testing::message).collect::<Vec<_>>(),
            [name]
        );
    }
    assert_eq!(context::current(), None);
}

#[test]
fn what_other_libraries_make_leaves_the_same_way() {
    let capture = testing::capture();
    let outer = context::new_trace(|| info_span!("outer"));
    let trace = outer.in_scope(|| {
        let mut span = global::tracer("library").start("made by a library");
        span.set_attribute(KeyValue::new("library.answer", 42));
        let within = Context::current().with_span(span);
        let _attached = within.attach();
        info!("within");
        context::current().unwrap().trace_id
    });
    drop(outer);
    let spans = capture.spans(&trace);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["made by a library", "outer"]);
    assert_eq!(spans[0].parent_span_id, spans[1].span_context.span_id());
    assert_eq!(
        testing::span_attribute(&spans[0], "library.answer").as_deref(),
        Some("42")
    );
    let records = capture.records(&trace);
    assert_eq!(
        records[0].trace_context().unwrap().span_id,
        spans[0].span_context.span_id()
    );

    let counter = global::meter("library")
        .u64_counter("library.calls")
        .build();
    counter.add(7, &[KeyValue::new("library.kind", "a")]);
    let page = capture.openmetrics();
    assert!(
        page.contains("library_calls_total{library_kind=\"a\"} 7"),
        "{page}"
    );
}

#[test]
fn records_of_the_log_crate_are_those_of_their_target() {
    LogTracer::init().unwrap();
    let with_layers = testing::start(&[("RUST_LOG", "info,chatty=debug,quiet=off")]);
    let subscriber = registry()
        .with(with_layers.layer())
        .with(Console::default());
    let tell = || {
        log::info!(target: "shop::cart", "paid {}", 7);
        log::debug!(target: "chatty::inside", "details");
        log::debug!(target: "shop::cart", "too much");
        log::error!(target: "quiet", "nobody asked");
    };
    let trace = with_default(subscriber, || {
        let _span = info_span!("work").entered();
        tell();
        context::current().unwrap().trace_id
    });
    let told = |records: Vec<SdkLogRecord>| {
        let told = records.iter().map(|record| {
            assert_eq!(record.event_name(), None);
            assert_eq!(record.attributes_iter().count(), 0);
            let target = record.target().unwrap().to_string();
            (target, testing::message(record))
        });
        told.collect::<Vec<_>>()
    };
    let own = |(target, message): (&str, &str)| (target.to_owned(), message.to_owned());
    let expected = [("shop::cart", "paid 7"), ("chatty::inside", "details")].map(own);
    assert_eq!(told(with_layers.records(&trace)), expected);

    // The process' own subscriber takes all from DEBUG on.
    let process = testing::capture();
    let trace = info_span!("work").in_scope(|| {
        tell();
        context::current().unwrap().trace_id
    });
    let expected = [
        ("shop::cart", "paid 7"),
        ("chatty::inside", "details"),
        ("shop::cart", "too much"),
        ("quiet", "nobody asked"),
    ];
    assert_eq!(told(process.records(&trace)), expected.map(own));
}

#[test]
fn a_filtered_layer_behind_a_box_is_found() {
    let capture = testing::start(&[]);
    let layer = capture.layer().with_filter(LevelFilter::INFO).boxed();
    let subscriber = registry().with(layer).with(Console::default());
    let (header, ids) = with_default(subscriber, || {
        let _outer = info_span!("outer").entered();
        let _hidden = tracing::debug_span!("hidden").entered();
        let _inner = info_span!("inner").entered();
        info!("told");
        (context::inject()["traceparent"].clone(), context::current())
    });
    let ids = ids.unwrap();
    assert_eq!(header, format!("00-{}-{}-01", ids.trace_id, ids.span_id));
    let spans = capture.spans(&ids.trace_id);
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["inner", "outer"]);
    assert_eq!(
        spans[0].parent_span_id,
        spans[1].span_context.span_id(),
        "what is filtered breaks no trace"
    );
    assert_eq!(capture.records(&ids.trace_id).len(), 1);
}

/// Refuses to be written.
struct Unwritten;

impl std::fmt::Display for Unwritten {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Err(std::fmt::Error)
    }
}

#[test]
fn spans_and_events_are_what_their_fields_and_parents_say() {
    let capture = testing::start(&[]);
    let subscriber = registry().with(capture.layer());
    with_default(subscriber, || {
        let elsewhere = info_span!(parent: None, "elsewhere", otel.kind = "CLIENT");
        let _here = info_span!(
            "here",
            otel.kind = ?opentelemetry::trace::SpanKind::Consumer,
            otel.status_code = "ok",
            otel.status_description = "fine"
        )
        .entered();
        info!(parent: &elsewhere, "told elsewhere");
        info!(parent: None, "told nowhere");
        info!(value = %Unwritten, "told here");
        info!(message = 5);
    });
    let spans = capture.all_spans();
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (here, elsewhere) = (span("here"), span("elsewhere"));
    assert_eq!(here.span_kind, SpanKind::Consumer);
    assert_eq!(here.status, Status::Ok);
    assert_eq!(elsewhere.span_kind, SpanKind::Client);
    let records = capture.all_records();
    let told = records.iter().map(|record| {
        let span = record.trace_context().map(|ids| ids.span_id);
        (testing::message(record), span)
    });
    let expected = [
        ("told elsewhere", Some(elsewhere.span_context.span_id())),
        ("told nowhere", None),
        ("told here", Some(here.span_context.span_id())),
        ("5", Some(here.span_context.span_id())),
    ];
    let expected = expected.map(|(message, span)| (message.to_owned(), span));
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[test]
fn a_span_with_the_number_of_one_that_ended_is_itself() {
    let capture = testing::start(&[]);
    let subscriber = tracing::Dispatch::new(registry().with(capture.layer()));
    let _default = tracing::dispatcher::set_default(&subscriber);
    let first = info_span!("first");
    let number = first.id();
    let (spans, to_thread) = std::sync::mpsc::channel::<tracing::Span>();
    let (left, is_left) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _default = tracing::dispatcher::set_default(&subscriber);
        for span in to_thread {
            span.in_scope(|| info!("inside"));
            drop(span);
            left.send(()).unwrap();
        }
    });
    spans.send(first.clone()).unwrap();
    is_left.recv().unwrap();
    drop(first); // the thread remembers it
    // The registry gives a number again after some thousand others.
    let mut others = (0..1_000_000).map(|_| info_span!("second"));
    let second = others.find(|span| span.id() == number).unwrap();
    spans.send(second).unwrap();
    is_left.recv().unwrap();
    drop(spans);
    thread.join().unwrap();
    let spans = capture.all_spans();
    let named = |name| spans.iter().rfind(|span| span.name == name).unwrap();
    let records = capture.all_records();
    let within = |record: &SdkLogRecord| record.trace_context().unwrap().span_id;
    assert_eq!(within(&records[0]), named("first").span_context.span_id());
    assert_eq!(within(&records[1]), named("second").span_context.span_id());
}
