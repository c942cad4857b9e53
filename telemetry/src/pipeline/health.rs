//! Telemetry about the telemetry: what waits, what left, what was dropped or refused.
//!
//! The SDK counts none of this in its stable form, so the processor and the exporter of each signal are wrapped: the
//! outer wrapper admits items to the bounded queue, the inner one sees each batch leave. Names are those of
//! <https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/>.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry::metrics::{AsyncInstrument, Meter};
use opentelemetry::{Array, Context, InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use tracing::Level;
use tracing::field::Value;

use crate::base::locked;
use crate::base::named_event::named_event;
use crate::base::names::Names;
use crate::pipeline::own_records::is_exporter;

/// Why an export failed: the closed set of `error.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection, or it broke.
    Connection,
    /// No answer in time.
    Timeout,
    /// The answer was a 4xx: the request is wrong or not allowed.
    Refused,
    /// The answer was a 5xx or 429: the other side is in trouble.
    Unavailable,
    /// The request was accepted, some items were not.
    Rejected,
    /// Anything else, such as a profile that could not be taken.
    Other,
}

const CAUSES: [(Cause, &str); 6] = [
    (Cause::Connection, "connection_error"),
    (Cause::Timeout, "timeout"),
    (Cause::Refused, "http_4xx"),
    (Cause::Unavailable, "http_5xx"),
    (Cause::Rejected, "rejected"),
    (Cause::Other, "_OTHER"),
];

/// Counts of one signal.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// What it is called in logs and errors: `traces`, for example.
    name: &'static str,
    /// Names of what is logged; nothing is without.
    names: Option<Names>,
    /// When something of each cause and fate was last logged.
    logged: Mutex<[[Option<Instant>; 2]; CAUSES.len()]>,
    /// Items admitted to the queue and not yet on their way out.
    queued: AtomicUsize,
    /// Items that left the queue towards the exporter.
    processed: AtomicU64,
    /// Items turned away because the queue was full.
    dropped: AtomicU64,
    exported: AtomicU64,
    failed: [AtomicU64; CAUSES.len()],
    /// How the last attempt ended, as the transport saw it: the exporter above it only learns that it failed.
    last: Mutex<Option<(Cause, String)>>,
    /// Items of the current batch that the other side accepted the request of but not the items.
    rejected: AtomicU64,
}

/// Counts of all signals.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) spans: Arc<Signal>,
    pub(crate) logs: Arc<Signal>,
    pub(crate) points: Arc<Signal>,
    pub(crate) profiles: Arc<Signal>,
    /// Lines for stdout: only what waits and what is dropped.
    pub(crate) stdout: Arc<Signal>,
}

impl Health {
    pub(crate) fn new(names: Names) -> Self {
        let signal = |name| {
            Arc::new(Signal {
                name,
                names: Some(names),
                ..Signal::default()
            })
        };
        Self {
            spans: signal("traces"),
            logs: signal("logs"),
            points: signal("metrics"),
            profiles: signal("profiles"),
            stdout: signal("stdout"),
        }
    }

    /// Items of each signal that will never arrive.
    pub(crate) fn lost(&self) -> [(&'static str, u64); 4] {
        let signals = [&self.spans, &self.logs, &self.points, &self.profiles];
        signals.map(|signal| (signal.name, signal.lost()))
    }
}

impl Signal {
    /// Takes a place in the queue, or counts the item as dropped.
    pub(crate) fn admit(&self, capacity: usize) -> bool {
        let admitted = self
            .queued
            .fetch_update(Relaxed, Relaxed, |queued| {
                (queued < capacity).then_some(queued + 1)
            })
            .is_ok();
        if !admitted {
            self.turn_away(1);
        }
        admitted
    }

    /// Counts items that no queue took.
    pub(crate) fn turn_away(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    /// Counts items that begin to wait in a queue that bounds itself.
    pub(crate) fn enter(&self, count: usize) {
        self.queued.fetch_add(count, Relaxed);
    }

    /// Counts items that waited and made room for newer ones.
    pub(crate) fn drop_queued(&self, count: usize) {
        self.queued.fetch_sub(count, Relaxed);
        self.turn_away(count);
    }

    pub(crate) fn leave(&self, count: usize) {
        self.queued.fetch_sub(count, Relaxed);
        self.processed.fetch_add(count as u64, Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn exported(&self) -> u64 {
        self.exported.load(Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Relaxed)
    }

    /// Items that will never arrive.
    pub(crate) fn lost(&self) -> u64 {
        let failed: u64 = self.failed.iter().map(|count| count.load(Relaxed)).sum();
        failed + self.dropped.load(Relaxed)
    }

    /// Notes how an attempt ended; `None` for success.
    pub(crate) fn attempt(&self, failure: Option<(Cause, String)>) {
        *locked(&self.last) = failure;
    }

    /// Notes that of an accepted request `count` items were not accepted.
    pub(crate) fn reject(&self, count: u64, message: String) {
        self.rejected.store(count, Relaxed);
        self.attempt(Some((Cause::Rejected, message)));
    }

    /// Counts a finished export of `count` items; how it ended has been noted.
    pub(crate) fn settle(&self, count: u64, success: bool) {
        let failure = locked(&self.last).take();
        let rejected = self.rejected.swap(0, Relaxed).min(count);
        let lost = if success { rejected } else { count };
        let gave_up = || (Cause::Other, "the exporter gave up".to_owned());
        let failed = lost > 0 || !success;
        self.count(count, lost, failed.then(|| failure.unwrap_or_else(gave_up)));
    }

    /// Counts a finished export of `count` items, `lost` of which did not arrive, and logs why.
    pub(crate) fn count(&self, count: u64, lost: u64, failure: Option<(Cause, String)>) {
        self.tally(count, lost, failure.as_ref().map(|(cause, _)| *cause));
        self.tell(lost, failure);
    }

    /// The counting half of [`Signal::count`].
    pub(crate) fn tally(&self, count: u64, lost: u64, cause: Option<Cause>) {
        self.exported.fetch_add(count - lost, Relaxed);
        if let Some(cause) = cause {
            self.failed[cause as usize].fetch_add(lost, Relaxed);
        }
    }

    /// The telling half of [`Signal::count`]. It makes a record: not for those who hold the lock of a queue.
    pub(crate) fn tell(&self, lost: u64, failure: Option<(Cause, String)>) {
        if let Some((cause, message)) = failure {
            self.log(lost, cause, Fate::Lost, &message);
        }
    }

    /// Logs that `count` items could not be sent and are kept.
    pub(crate) fn postponed(&self, count: u64, cause: Cause, message: &str) {
        self.log(count, cause, Fate::Kept, message);
    }

    /// Logs what became of `count` items, at most once per 30 s, cause and fate.
    fn log(&self, count: u64, cause: Cause, fate: Fate, message: &str) {
        let Some(names) = &self.names else {
            return;
        };
        if !self.may_log(cause, fate) {
            return;
        }
        // The exporter's thread suppresses what its client says; this is to be heard.
        let _aloud = Context::new().attach();
        let fields = vec!["message", names.signal, names.lost, "error.type"];
        let event = named_event("event of an export", "telemetry", Level::WARN, fields);
        if event.enabled() {
            let (what, lost) = match fate {
                Fate::Lost => ("were not exported", Some(count as i64)),
                Fate::Kept => ("could not be exported and will be sent again", None),
            };
            let message = format!("{count} items of {} {what}: {message}", self.name);
            event.emit(&[
                Some(&message.as_str()),
                Some(&self.name),
                lost.as_ref().map(|lost| lost as &dyn Value),
                Some(&CAUSES[cause as usize].1),
            ]);
        }
    }

    fn may_log(&self, cause: Cause, fate: Fate) -> bool {
        const PAUSE: Duration = Duration::from_secs(30);
        let last = &mut locked(&self.logged)[cause as usize][fate as usize];
        let may = last.is_none_or(|at| at.elapsed() >= PAUSE);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}

/// What became of items that could not be exported.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Kept,
}

/// A processor behind a counted, bounded queue.
#[derive(Debug)]
pub(crate) struct Admission<P> {
    pub(crate) inner: P,
    pub(crate) signal: Arc<Signal>,
    /// The queue of `inner` holds at least as many, so that it never drops by itself.
    pub(crate) capacity: usize,
}

impl<P: SpanProcessor> SpanProcessor for Admission<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.signal.admit(self.capacity) {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Admission<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        let target = record.target().map_or("", |target| target);
        if !is_exporter(target) && self.signal.admit(self.capacity) {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// An exporter whose batches are counted.
#[derive(Debug)]
pub(crate) struct Counted<E> {
    pub(crate) inner: E,
    pub(crate) signal: Arc<Signal>,
    /// Longest string an attribute of a span may hold, in characters.
    pub(crate) attribute_length: Option<usize>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.signal.leave(count);
        if let Some(limit) = self.attribute_length {
            batch.iter_mut().for_each(|span| shorten(span, limit));
        }
        let result = self.inner.export(batch).await;
        self.signal.settle(count as u64, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Counted<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let count = batch.iter().count();
        self.signal.leave(count);
        let result = self.inner.export(batch).await;
        self.signal.settle(count as u64, result.is_ok());
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Counted<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.inner.export(metrics).await;
        self.signal.settle(data_points(metrics), result.is_ok());
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}

fn data_points(metrics: &ResourceMetrics) -> u64 {
    fn count<T>(data: &MetricData<T>) -> usize {
        match data {
            MetricData::Gauge(gauge) => gauge.data_points().count(),
            MetricData::Sum(sum) => sum.data_points().count(),
            MetricData::Histogram(histogram) => histogram.data_points().count(),
            MetricData::ExponentialHistogram(histogram) => histogram.data_points().count(),
        }
    }
    let metrics = metrics.scope_metrics().flat_map(|scope| scope.metrics());
    metrics
        .map(|metric| match metric.data() {
            AggregatedMetrics::F64(data) => count(data),
            AggregatedMetrics::U64(data) => count(data),
            AggregatedMetrics::I64(data) => count(data),
        })
        .sum::<usize>() as u64
}

/// Cuts every text among the attributes of `span`, its events and links to `limit` characters.
pub(crate) fn shorten(span: &mut SpanData, limit: usize) {
    let events = span
        .events
        .events
        .iter_mut()
        .flat_map(|event| &mut event.attributes);
    let links = span
        .links
        .links
        .iter_mut()
        .flat_map(|link| &mut link.attributes);
    let cut = |text: &mut StringValue| {
        if let Some((end, _)) = text.as_str().char_indices().nth(limit) {
            *text = text.as_str()[..end].to_owned().into();
        }
    };
    for attribute in span.attributes.iter_mut().chain(events).chain(links) {
        match &mut attribute.value {
            opentelemetry::Value::String(text) => cut(text),
            opentelemetry::Value::Array(Array::String(texts)) => texts.iter_mut().for_each(cut),
            _ => {}
        }
    }
}

/// Declares the metrics over `health`. Every series exists from the start, so that its first rise is seen as one.
pub(crate) fn observe(meter: &Meter, prefix: &str, health: &Health, queues: [usize; 2]) {
    let signals = [
        (&health.spans, "span", "{span}", queues[0]),
        (&health.logs, "log", "{log_record}", queues[1]),
    ];
    for (signal, word, unit, capacity) in signals {
        let processor = component(&format!("batching_{word}_processor"));
        let gauge = |name, help: &'static str, read: Box<dyn Fn() -> usize + Send + Sync>| {
            let attributes = processor.clone();
            let name = format!("otel.sdk.processor.{word}.queue.{name}");
            let gauge = meter.i64_observable_up_down_counter(name);
            let read = move |observer: &dyn AsyncInstrument<i64>| {
                observer.observe(read() as i64, &attributes);
            };
            let gauge = gauge.with_unit(unit).with_description(help);
            gauge.with_callback(read).build();
        };
        let counts = Arc::clone(signal);
        let help = "Items that wait in the queue of the batch processor.";
        gauge("size", help, Box::new(move || counts.queued.load(Relaxed)));
        // Absent where bytes alone bound the queue.
        if capacity != usize::MAX {
            let help = "Items that may wait at most.";
            gauge("capacity", help, Box::new(move || capacity));
        }

        let counts = Arc::clone(signal);
        let full = with_error(&processor, "queue_full");
        // Lines of stdout that were written are the same records once more: only what was dropped is counted.
        let lines = with_error(&component("stdout_log_processor"), "queue_full");
        let stdout = (word == "log").then(|| Arc::clone(&health.stdout));
        let help =
            "Items handed to the exporter, and those dropped before (error.type queue_full).";
        let name = format!("otel.sdk.processor.{word}.processed");
        counter(meter, name, unit, help, move |observer| {
            observer.observe(counts.processed.load(Relaxed), &processor);
            observer.observe(counts.dropped.load(Relaxed), &full);
            if let Some(stdout) = &stdout {
                observer.observe(stdout.dropped.load(Relaxed), &lines);
            }
        });
    }

    let exporter = |name: &str| {
        let exported = format!("otel.sdk.exporter.{name}.exported");
        let kind = name.strip_suffix("_data_point").unwrap_or(name);
        (exported, component(&format!("otlp_http_{kind}_exporter")))
    };
    let profiles = (format!("{prefix}.profile.exported"), Vec::new());
    for (signal, unit, (name, attributes)) in [
        (&health.spans, "{span}", exporter("span")),
        (&health.logs, "{log_record}", exporter("log")),
        (
            &health.points,
            "{data_point}",
            exporter("metric_data_point"),
        ),
        (&health.profiles, "{profile}", profiles),
    ] {
        let counts = Arc::clone(signal);
        let failed = CAUSES.map(|(_, cause)| with_error(&attributes, cause));
        let help = "Items exported, and those that were not (with error.type).";
        counter(meter, name, unit, help, move |observer| {
            observer.observe(counts.exported.load(Relaxed), &attributes);
            for (count, attributes) in counts.failed.iter().zip(&failed) {
                observer.observe(count.load(Relaxed), attributes);
            }
        });
    }
}

fn counter(
    meter: &Meter,
    name: String,
    unit: &'static str,
    help: &'static str,
    read: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    let counter = meter.u64_observable_counter(name).with_unit(unit);
    counter.with_description(help).with_callback(read).build();
}

fn component(kind: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("otel.component.type", kind.to_owned()),
        KeyValue::new("otel.component.name", format!("{kind}/0")),
    ]
}

fn with_error(attributes: &[KeyValue], error: &'static str) -> Vec<KeyValue> {
    [attributes, &[KeyValue::new("error.type", error)]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{self, SubscriberExt};

    /// Keeps the message of each event.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<String>>>);

    impl Visit for Said {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                locked(&self.0).push(format!("{value:?}"));
            }
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Said {
        fn on_event(&self, event: &tracing::Event<'_>, _: layer::Context<'_, S>) {
            event.record(&mut self.clone());
        }
    }

    #[test]
    fn each_cause_is_counted_and_logged_once_a_while_by_each_start() {
        let said = Said::default();
        let health = || Health::new(Names::of(&crate::testing::IDENTITY));
        let subscriber = tracing_subscriber::registry().with(said.clone());
        tracing::subscriber::with_default(subscriber, || {
            let signal = health().profiles;
            signal.count(1, 1, Some((Cause::Refused, "status 400".to_owned())));
            signal.count(2, 2, Some((Cause::Refused, "status 401".to_owned())));
            signal.count(1, 0, None);
            signal.postponed(3, Cause::Refused, "status 402");
            let failed = signal.failed.each_ref().map(|count| count.load(Relaxed));
            assert_eq!(failed, [0, 0, 3, 0, 0, 0]);
            assert_eq!((signal.exported.load(Relaxed), signal.lost()), (1, 3));
            let failure = Some((Cause::Refused, "status 403".to_owned()));
            health().profiles.count(4, 4, failure);
        });
        let expected = [
            "\"1 items of profiles were not exported: status 400\"",
            "\"3 items of profiles could not be exported and will be sent again: status 402\"",
            "\"4 items of profiles were not exported: status 403\"",
        ];
        assert_eq!(*locked(&said.0), expected);
    }
}
