//! Exemplars: histograms that remember trace ids of some of their values.
//!
//! The SDK makes none. So each histogram keeps, beside the SDK's aggregate and for each of its series, the largest
//! sampled value of each bucket since the last push: recent ones, and the slow ones among them, which are those that one
//! looks for. They are put into the OTLP request on its way out (`export`) and into the OpenMetrics page (`openmetrics`).
use std::collections::HashMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, KeyValue, SpanId, TraceId, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Exemplar as ProtoExemplar, exemplar, metric::Data};

use crate::base::locked;
use crate::signals::metrics::boundaries;

/// Series of one histogram that keep exemplars; the SDK's own limit of series is the same.
const MAX_SERIES: usize = 2000;

/// How long a value keeps its place from smaller ones where nothing is pushed: 10 s, in nanoseconds.
const RECENT: u64 = 10_000_000_000;

/// One remembered value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    /// Nanoseconds since 1970.
    pub(crate) time: u64,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
}

/// All histograms' exemplars.
#[derive(Debug, Default)]
pub(crate) struct Store {
    enabled: AtomicBool,
    metrics: Mutex<HashMap<String, Arc<Reservoirs>>>,
    /// Exemplars up to this time (ns) have been pushed.
    pushed: AtomicU64,
}

/// Exemplars of one histogram, by series.
#[derive(Debug)]
struct Reservoirs {
    boundaries: Vec<f64>,
    series: Mutex<HashMap<u64, Series, Identity>>,
}

/// Exemplars of one series: one of each bucket.
#[derive(Debug)]
struct Series {
    /// The attributes in a form that does not depend on their order.
    attributes: String,
    buckets: Box<[Option<Exemplar>]>,
}

/// Hashes what is a hash already.
#[derive(Debug, Default, Clone)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes
            .iter()
            .for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl BuildHasher for Identity {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self::default()
    }
}

impl Store {
    /// The store of this process, as there is one meter provider.
    pub(crate) fn global() -> &'static Arc<Self> {
        static GLOBAL: OnceLock<Arc<Store>> = OnceLock::new();
        GLOBAL.get_or_init(Arc::default)
    }

    pub(crate) fn enable(&self, enabled: bool) {
        self.enabled.store(enabled, Relaxed);
    }

    fn reservoirs(&self, metric: &str, unit: &str) -> Arc<Reservoirs> {
        let mut metrics = locked(&self.metrics);
        let reservoirs = metrics.entry(metric.to_owned()).or_insert_with(|| {
            Arc::new(Reservoirs {
                boundaries: boundaries(metric, unit).to_vec(),
                series: Mutex::default(),
            })
        });
        Arc::clone(reservoirs)
    }

    /// Adds what was recorded since the last push that arrived. Returns the time up to which that is, for
    /// [`Store::arrived`]; `None` if nothing was added.
    pub(crate) fn add_new_to(&self, request: &mut ExportMetricsServiceRequest) -> Option<u64> {
        self.add_to(request, self.pushed.load(Relaxed))
    }

    /// Adds all that is remembered.
    pub(crate) fn add_all_to(&self, request: &mut ExportMetricsServiceRequest) {
        self.add_to(request, 0);
    }

    /// Notes that the exemplars up to `time` have arrived.
    pub(crate) fn arrived(&self, time: u64) {
        self.pushed.fetch_max(time, Relaxed);
    }

    fn add_to(&self, request: &mut ExportMetricsServiceRequest, after: u64) -> Option<u64> {
        let mut newest = None;
        let metrics = locked(&self.metrics).clone();
        let scopes = request
            .resource_metrics
            .iter_mut()
            .flat_map(|resource| &mut resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &mut scope.metrics) {
            let Some(reservoirs) = metrics.get(&metric.name) else {
                continue;
            };
            let mut fill = |attributes: &[ProtoKeyValue], exemplars: &mut Vec<ProtoExemplar>| {
                let found = reservoirs.newer(&canonical_proto(attributes), after);
                newest = newest.max(found.last().map(|exemplar| exemplar.time));
                exemplars.extend(found.into_iter().map(proto));
            };
            match &mut metric.data {
                Some(Data::Histogram(histogram)) => {
                    for point in &mut histogram.data_points {
                        fill(&point.attributes, &mut point.exemplars);
                    }
                }
                Some(Data::ExponentialHistogram(histogram)) => {
                    for point in &mut histogram.data_points {
                        fill(&point.attributes, &mut point.exemplars);
                    }
                }
                _ => {}
            }
        }
        newest
    }
}

impl Reservoirs {
    /// Keeps `exemplar` unless its bucket has a larger one that is recent and, since `pushed`, still to be sent.
    fn offer(&self, hash: u64, attributes: &[KeyValue], exemplar: Exemplar, pushed: u64) {
        let mut series = locked(&self.series);
        if series.len() >= MAX_SERIES && !series.contains_key(&hash) {
            return;
        }
        let series = series.entry(hash).or_insert_with(|| Series {
            attributes: canonical(attributes),
            buckets: vec![None; self.boundaries.len() + 1].into(),
        });
        // A bucket includes its upper bound.
        let bucket = self
            .boundaries
            .partition_point(|bound| *bound < exemplar.value);
        let held = &mut series.buckets[bucket];
        let stays = held.is_some_and(|held| {
            held.value > exemplar.value
                && held.time > pushed
                && exemplar.time.saturating_sub(held.time) < RECENT
        });
        if !stays {
            *held = Some(exemplar);
        }
    }

    /// The exemplars of the series with these attributes recorded after `after`, oldest first.
    fn newer(&self, attributes: &str, after: u64) -> Vec<Exemplar> {
        let series = locked(&self.series);
        let same = series
            .values()
            .filter(|series| series.attributes == attributes);
        let mut found: Vec<_> = same
            .flat_map(|series| series.buckets.iter().flatten())
            .filter(|exemplar| exemplar.time > after)
            .copied()
            .collect();
        found.sort_by_key(|exemplar| exemplar.time);
        found
    }
}

fn proto(exemplar: Exemplar) -> ProtoExemplar {
    ProtoExemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: exemplar.time,
        span_id: exemplar.span_id.to_bytes().to_vec(),
        trace_id: exemplar.trace_id.to_bytes().to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
    }
}

fn canonical(attributes: &[KeyValue]) -> String {
    join(
        attributes
            .iter()
            .map(|attribute| format!("{}={}", attribute.key, attribute.value)),
    )
}

fn canonical_proto(attributes: &[ProtoKeyValue]) -> String {
    join(attributes.iter().map(|attribute| {
        let value = attribute
            .value
            .as_ref()
            .and_then(|AnyValue { value }| value.as_ref());
        let text = match value {
            Some(any_value::Value::StringValue(text)) => text.clone(),
            Some(any_value::Value::BoolValue(value)) => value.to_string(),
            Some(any_value::Value::IntValue(value)) => value.to_string(),
            Some(any_value::Value::DoubleValue(value)) => value.to_string(),
            _ => String::new(),
        };
        format!("{}={text}", attribute.key)
    }))
}

fn join(parts: impl Iterator<Item = String>) -> String {
    let mut parts: Vec<_> = parts.collect();
    parts.sort();
    parts.join("\u{0}")
}

/// A set of attributes with its hash, for those who record the same set again and again.
#[derive(Debug, Clone)]
pub(crate) struct AttributeSet {
    pub(crate) attributes: Arc<[KeyValue]>,
    hash: u64,
}

impl AttributeSet {
    pub(crate) fn new(attributes: &[KeyValue]) -> Self {
        Self {
            hash: hash(attributes),
            attributes: attributes.into(),
        }
    }
}

fn hash(attributes: &[KeyValue]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for attribute in attributes {
        attribute.key.hash(&mut hasher);
        match &attribute.value {
            Value::String(text) => text.as_str().hash(&mut hasher),
            Value::I64(value) => value.hash(&mut hasher),
            Value::Bool(value) => value.hash(&mut hasher),
            Value::F64(value) => value.to_bits().hash(&mut hasher),
            _ => {} // no attribute of a metric is a list
        }
    }
    hasher.finish()
}

/// A histogram of `f64` values whose sampled values leave their trace id behind.
#[derive(Debug, Clone)]
pub struct Histogram {
    inner: opentelemetry::metrics::Histogram<f64>,
    store: Arc<Store>,
    reservoirs: Arc<Reservoirs>,
}

impl Histogram {
    /// Declares the histogram `name`. `meter` is one of `opentelemetry::global::meter`, after `telemetry::init`.
    pub fn new(
        meter: &opentelemetry::metrics::Meter,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self::within(Store::global(), meter, name, unit, description)
    }

    fn within(
        store: &Arc<Store>,
        meter: &opentelemetry::metrics::Meter,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
    ) -> Self {
        Self {
            inner: meter
                .f64_histogram(name)
                .with_unit(unit)
                .with_description(description)
                .build(),
            store: Arc::clone(store),
            reservoirs: store.reservoirs(name, unit),
        }
    }

    /// Records `value`, with the current span as its exemplar if that span is sampled.
    pub fn record(&self, value: f64, attributes: &[KeyValue]) {
        self.inner.record(value, attributes);
        self.offer(value, || hash(attributes), attributes);
    }

    /// As [`Histogram::record`], without hashing the attributes for the exemplar once more.
    pub(crate) fn record_set(&self, value: f64, set: &AttributeSet) {
        self.inner.record(value, &set.attributes);
        self.offer(value, || set.hash, &set.attributes);
    }

    fn offer(&self, value: f64, hash: impl FnOnce() -> u64, attributes: &[KeyValue]) {
        if !self.store.enabled.load(Relaxed) {
            return;
        }
        let ids = Context::map_current(|context| {
            let span = context.span();
            let ids = span.span_context();
            ids.is_sampled().then(|| (ids.trace_id(), ids.span_id()))
        });
        let Some((trace_id, span_id)) = ids else {
            return;
        };
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let time = since.as_nanos() as u64;
        let exemplar = Exemplar {
            value,
            time,
            trace_id,
            span_id,
        };
        let pushed = self.store.pushed.load(Relaxed);
        self.reservoirs.offer(hash(), attributes, exemplar, pushed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry::trace::{SpanContext, TraceFlags, TraceState};
    use opentelemetry_sdk::metrics::data::ResourceMetrics;
    use opentelemetry_sdk::metrics::reader::MetricReader;
    use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};

    use crate::signals::metrics::{shared, view};

    fn in_span(trace: u128, sampled: bool, f: impl FnOnce()) {
        let flags = if sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let ids = SpanContext::new(trace.into(), 7.into(), flags, false, TraceState::default());
        let _guard = Context::new().with_remote_span_context(ids).attach();
        f();
    }

    fn collect(reader: &impl MetricReader) -> ExportMetricsServiceRequest {
        let mut metrics = ResourceMetrics::default();
        reader.collect(&mut metrics).unwrap();
        (&metrics).into()
    }

    fn exemplars(request: &ExportMetricsServiceRequest) -> Vec<(f64, Vec<u8>)> {
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        let points: Vec<&Vec<ProtoExemplar>> = match metric.data.as_ref().unwrap() {
            Data::Histogram(histogram) => histogram
                .data_points
                .iter()
                .map(|point| &point.exemplars)
                .collect(),
            Data::ExponentialHistogram(histogram) => histogram
                .data_points
                .iter()
                .map(|point| &point.exemplars)
                .collect(),
            _ => panic!("no histogram"),
        };
        let flat = points.into_iter().flatten();
        flat.map(|exemplar| match exemplar.value {
            Some(exemplar::Value::AsDouble(value)) => (value, exemplar.trace_id.clone()),
            _ => panic!("no value"),
        })
        .collect()
    }

    fn trace(id: u128) -> Vec<u8> {
        id.to_be_bytes().to_vec()
    }

    #[test]
    fn sampled_values_are_spread_over_buckets_and_pushed_once() {
        for exponential in [false, true] {
            let (reader, handle) = shared(ManualReader::default());
            let provider = SdkMeterProvider::builder()
                .with_reader(reader)
                .with_view(move |instrument| view(instrument, exponential))
                .build();
            let store = Arc::new(Store::default());
            store.enable(true);
            let histogram = Histogram::within(
                &store,
                &provider.meter("t"),
                "http.server.request.duration",
                "s",
                "",
            );
            let attributes = [
                KeyValue::new("http.route", "/a"),
                KeyValue::new("http.response.status_code", 200),
            ];
            in_span(1, true, || histogram.record(0.003, &attributes));
            in_span(2, true, || histogram.record(0.004, &attributes));
            in_span(3, true, || histogram.record(3.0, &attributes));
            in_span(4, false, || histogram.record(0.3, &attributes));
            histogram.record(0.3, &attributes);

            let mut request = collect(&handle);
            let newest = store.add_new_to(&mut request).unwrap();
            assert_eq!(exemplars(&request), [(0.004, trace(2)), (3.0, trace(3))]);

            // A push that did not arrive is made again; one that did is not.
            let mut again = collect(&handle);
            store.add_new_to(&mut again);
            assert_eq!(exemplars(&again).len(), 2);
            store.arrived(newest);
            let mut later = collect(&handle);
            assert_eq!(store.add_new_to(&mut later), None);
            store.add_all_to(&mut later);
            assert_eq!(exemplars(&later).len(), 2);
        }
    }

    #[test]
    fn a_bucket_keeps_its_largest_value_until_that_is_sent_or_old() {
        let reservoirs = Reservoirs {
            boundaries: vec![1.0],
            series: Mutex::default(),
        };
        let kept_after = |value, time, pushed| {
            let exemplar = Exemplar {
                value,
                time,
                trace_id: 1.into(),
                span_id: 1.into(),
            };
            reservoirs.offer(0, &[], exemplar, pushed);
            reservoirs.newer("", 0)[0].value
        };
        assert_eq!(kept_after(0.5, 1, 0), 0.5);
        assert_eq!(kept_after(0.4, 2, 0), 0.5, "smaller");
        assert_eq!(kept_after(0.6, 3, 0), 0.6, "larger");
        assert_eq!(kept_after(0.3, 4, 3), 0.3, "the larger was sent");
        assert_eq!(kept_after(0.2, 4 + RECENT, 3), 0.2, "the larger is old");
    }

    #[test]
    fn nothing_is_kept_when_switched_off() {
        let store = Arc::new(Store::default());
        let provider = SdkMeterProvider::builder().build();
        let histogram = Histogram::within(&store, &provider.meter("t"), "x", "s", "");
        in_span(1, true, || histogram.record(1.0, &[]));
        assert!(locked(&histogram.reservoirs.series).is_empty());
    }

    #[test]
    fn series_are_bounded() {
        let store = Arc::new(Store::default());
        store.enable(true);
        let provider = SdkMeterProvider::builder().build();
        let histogram = Histogram::within(&store, &provider.meter("t"), "x", "s", "");
        in_span(1, true, || {
            for n in 0..MAX_SERIES as i64 + 10 {
                histogram.record(1.0, &[KeyValue::new("n", n)]);
            }
        });
        assert_eq!(locked(&histogram.reservoirs.series).len(), MAX_SERIES);
    }
}
