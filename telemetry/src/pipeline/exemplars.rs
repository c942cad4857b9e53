//! Exemplars: histograms that remember trace ids of some of their values.
//!
//! The SDK makes none. So each histogram keeps, beside the SDK's aggregate and for each of its series, the largest
//! sampled value of each bucket since the last push: recent ones, and the slow ones among them, which are those that one
//! looks for. They are put into the OTLP request on its way out (`export`) and into the OpenMetrics page (`openmetrics`).
use std::collections::HashMap;
use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::read::GzDecoder;
use opentelemetry::trace::SpanContext;
use opentelemetry::{KeyValue, SpanId, TraceId, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as ProtoKeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Exemplar as ProtoExemplar, exemplar, metric::Data};
use prost::Message;

use crate::base::{gzip as compressed, locked};

/// Series of one histogram that keep exemplars; the SDK's own limit of series is the same.
const MAX_SERIES: usize = 2000;

/// How long a value keeps its place from smaller ones where nothing is pushed: 10 s, in nanoseconds.
const RECENT: u64 = 10_000_000_000;

/// Why a request could not be read again.
pub(crate) type Unreadable = Box<dyn Error + Send + Sync>;

/// One remembered value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Exemplar {
    value: f64,
    /// Nanoseconds since 1970.
    time: u64,
    trace_id: TraceId,
    span_id: SpanId,
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
pub(crate) struct Reservoirs {
    store: Arc<Store>,
    boundaries: &'static [f64],
    series: Mutex<Index>,
}

/// The series of a histogram: found by the hash of attributes in the order in which they are recorded, and, when metrics
/// are collected, by a text of them that does not depend on their order.
#[derive(Debug, Default)]
struct Index {
    by_hash: HashMap<u64, Buckets>,
    by_text: HashMap<String, Buckets>,
}

/// Exemplars of one series: one of each bucket.
type Buckets = Arc<Mutex<Box<[Option<Exemplar>]>>>;

impl Store {
    /// A store that keeps what it is offered only if `enabled`.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled: enabled.into(),
            ..Self::default()
        }
    }

    /// Where the exemplars of the histogram `metric` are kept.
    pub(crate) fn reservoirs(
        self: &Arc<Self>,
        metric: &str,
        boundaries: &'static [f64],
    ) -> Arc<Reservoirs> {
        let mut metrics = locked(&self.metrics);
        let reservoirs = metrics.entry(metric.to_owned()).or_insert_with(|| {
            Arc::new(Reservoirs {
                store: Arc::clone(self),
                boundaries,
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

    /// As [`Store::add_new_to`], to a request that is encoded, and compressed if `gzip`: decodes it and encodes it again,
    /// once per export interval and not per request served.
    pub(crate) fn add_new_to_encoded(
        &self,
        body: &[u8],
        gzip: bool,
    ) -> Result<Option<(Vec<u8>, u64)>, Unreadable> {
        let mut plain = Vec::new();
        if gzip {
            GzDecoder::new(body).read_to_end(&mut plain)?;
        } else {
            plain.extend_from_slice(body);
        }
        let mut metrics = ExportMetricsServiceRequest::decode(plain.as_slice())?;
        let Some(newest) = self.add_new_to(&mut metrics) else {
            return Ok(None);
        };
        let mut body = metrics.encode_to_vec();
        if gzip {
            body = compressed(&body);
        }
        Ok(Some((body, newest)))
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
    /// The series with these attributes; `None` beyond the limit.
    pub(crate) fn series(self: &Arc<Self>, attributes: &[KeyValue]) -> Option<Series> {
        let hash = hash(attributes);
        let mut index = locked(&self.series);
        let buckets = match index.by_hash.get(&hash) {
            Some(buckets) => Arc::clone(buckets),
            None if index.by_hash.len() >= MAX_SERIES => return None,
            None => {
                let empty = || Arc::new(Mutex::new(vec![None; self.boundaries.len() + 1].into()));
                let text = canonical(attributes);
                let buckets = Arc::clone(index.by_text.entry(text).or_insert_with(empty));
                index.by_hash.insert(hash, Arc::clone(&buckets));
                buckets
            }
        };
        Some(Series {
            reservoirs: Arc::clone(self),
            buckets,
        })
    }

    pub(crate) fn enabled(&self) -> bool {
        self.store.enabled.load(Relaxed)
    }

    /// Keeps `exemplar` unless its bucket has a larger one that is recent and, since `pushed`, still to be sent.
    fn offer(&self, buckets: &Buckets, exemplar: Exemplar, pushed: u64) {
        // A bucket includes its upper bound.
        let bucket = self
            .boundaries
            .partition_point(|bound| *bound < exemplar.value);
        let held = &mut locked(buckets)[bucket];
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
        let buckets = locked(&self.series).by_text.get(attributes).cloned();
        let Some(buckets) = buckets else {
            return Vec::new();
        };
        let held = locked(&buckets).clone();
        let mut found: Vec<_> = held.iter().flatten().copied().collect();
        found.retain(|exemplar| exemplar.time > after);
        found.sort_by_key(|exemplar| exemplar.time);
        found
    }
}

/// Exemplars of one series, for those who record it again and again.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    reservoirs: Arc<Reservoirs>,
    buckets: Buckets,
}

impl Series {
    /// Offers a value that was recorded in the span `ids`.
    pub(crate) fn offer(&self, value: f64, ids: &SpanContext) {
        if !ids.is_sampled() || !self.reservoirs.enabled() {
            return;
        }
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let exemplar = Exemplar {
            value,
            time: since.as_nanos() as u64,
            trace_id: ids.trace_id(),
            span_id: ids.span_id(),
        };
        let pushed = self.reservoirs.store.pushed.load(Relaxed);
        self.reservoirs.offer(&self.buckets, exemplar, pushed);
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

#[cfg(all(test, feature = "scrape"))]
mod tests {
    use super::*;
    use opentelemetry::Context;
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
    use opentelemetry_sdk::metrics::data::ResourceMetrics;
    use opentelemetry_sdk::metrics::reader::MetricReader;
    use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};

    use crate::signals::metrics::{Histogram, view};
    use crate::signals::scrape::shared;

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
            let store = Arc::new(Store::new(true));
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
        let reservoirs = Arc::new(Store::new(true)).reservoirs("x", &[1.0]);
        let series = reservoirs.series(&[]).unwrap();
        let kept_after = |value, time, pushed| {
            let exemplar = Exemplar {
                value,
                time,
                trace_id: 1.into(),
                span_id: 1.into(),
            };
            reservoirs.offer(&series.buckets, exemplar, pushed);
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
        let store = Arc::new(Store::new(false));
        let provider = SdkMeterProvider::builder().build();
        let histogram = Histogram::within(&store, &provider.meter("t"), "x", "s", "");
        in_span(1, true, || histogram.record(1.0, &[]));
        let reservoirs = store.reservoirs("x", &[]);
        assert_eq!(locked(&reservoirs.series).by_hash.len(), 0);
    }

    #[test]
    fn series_are_bounded() {
        let store = Arc::new(Store::new(true));
        let provider = SdkMeterProvider::builder().build();
        let histogram = Histogram::within(&store, &provider.meter("t"), "x", "s", "");
        in_span(1, true, || {
            for n in 0..MAX_SERIES as i64 + 10 {
                histogram.record(1.0, &[KeyValue::new("n", n)]);
            }
        });
        let reservoirs = store.reservoirs("x", &[]);
        assert_eq!(locked(&reservoirs.series).by_hash.len(), MAX_SERIES);
    }

    #[test]
    fn every_series_at_the_limit_gets_its_own_exemplar_and_no_other() {
        let (reader, handle) = shared(ManualReader::default());
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let store = Arc::new(Store::new(true));
        let histogram = Histogram::within(&store, &provider.meter("t"), "x", "s", "");
        // The SDK keeps one series of its limit for what is beyond.
        let series = MAX_SERIES as i64 - 1;
        for n in 0..series {
            in_span(n as u128 + 1, true, || {
                histogram.record(n as f64, &[KeyValue::new("n", n)]);
            });
        }
        let mut request = collect(&handle);
        store.add_new_to(&mut request).unwrap();
        let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
        let Some(Data::Histogram(histogram)) = &metric.data else {
            panic!("no histogram");
        };
        let mut seen = 0;
        for point in &histogram.data_points {
            let exemplars: Vec<_> = point.exemplars.iter().collect();
            assert_eq!(exemplars.len(), 1, "{:?}", point.attributes);
            let n = point.sum.unwrap();
            assert_eq!(exemplars[0].value, Some(exemplar::Value::AsDouble(n)));
            assert_eq!(exemplars[0].trace_id, trace(n as u128 + 1));
            seen += 1;
        }
        assert_eq!(seen, series);
        // Found by name and attributes, so that a collection costs a look-up a series.
        let reservoirs = store.reservoirs("x", &[]);
        let index = locked(&reservoirs.series);
        assert_eq!(
            (index.by_text.len(), index.by_hash.len()),
            (series as usize, series as usize)
        );
    }

    #[test]
    fn the_order_of_attributes_makes_no_other_series() {
        let store = Arc::new(Store::new(true));
        let reservoirs = store.reservoirs("x", &[1.0]);
        let (a, b) = (KeyValue::new("a", 1), KeyValue::new("b", 2));
        let ids = SpanContext::new(
            9.into(),
            7.into(),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        reservoirs
            .series(&[a.clone(), b.clone()])
            .unwrap()
            .offer(0.5, &ids);
        reservoirs
            .series(&[b.clone(), a.clone()])
            .unwrap()
            .offer(2.0, &ids);
        let values = reservoirs.newer(&canonical(&[b, a]), 0);
        let mut values: Vec<f64> = values.iter().map(|exemplar| exemplar.value).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!(values, [0.5, 2.0]);
    }
}
