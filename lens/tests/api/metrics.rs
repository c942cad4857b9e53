use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exemplar::Value as ExemplarValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
};

use crate::support::{Lens, int, now_ns, resource, scope, string};

pub const DELTA: i32 = 1;
pub const CUMULATIVE: i32 = 2;

pub fn request_of(service: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource(service)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

pub async fn export(lens: &Lens, service: &str, metrics: Vec<Metric>) {
    lens.export("/v1/metrics", &request_of(service, metrics))
        .await;
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric {
        name: name.to_owned(),
        unit: unit.to_owned(),
        description: "what it counts".to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

pub fn number(start: u64, time: u64, value: i64, attributes: Vec<KeyValue>) -> NumberDataPoint {
    NumberDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: time,
        attributes,
        value: Some(Value::AsInt(value)),
        ..NumberDataPoint::default()
    }
}

/// A sum that only rises, in `{request}`.
pub fn counter(name: &str, temporality: i32, data_points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum {
        data_points,
        aggregation_temporality: temporality,
        is_monotonic: true,
    };
    metric(name, "{request}", Data::Sum(sum))
}

pub fn gauge(name: &str, unit: &str, point: NumberDataPoint) -> Metric {
    let data_points = vec![point];
    metric(name, unit, Data::Gauge(Gauge { data_points }))
}

/// A cumulative histogram in seconds.
pub fn histogram(name: &str, point: HistogramDataPoint) -> Metric {
    let histogram = Histogram {
        data_points: vec![point],
        aggregation_temporality: CUMULATIVE,
    };
    metric(name, "s", Data::Histogram(histogram))
}

/// An exponential histogram in bytes.
pub fn exponential(
    name: &str,
    temporality: i32,
    data_points: Vec<ExponentialHistogramDataPoint>,
) -> Metric {
    let histogram = ExponentialHistogram {
        data_points,
        aggregation_temporality: temporality,
    };
    metric(name, "By", Data::ExponentialHistogram(histogram))
}

/// One of each kind, with an exemplar.
fn one_of_each() -> ExportMetricsServiceRequest {
    let (start, time) = (now_ns() - 60_000_000_000, now_ns());
    // In the order in which they are given back.
    let attributes = vec![
        int("http.response.status_code", 200),
        string("http.route", "/demo/work"),
    ];
    let exemplar = Exemplar {
        filtered_attributes: vec![string("client", "11111")],
        time_unix_nano: time - 5,
        span_id: vec![2; 8],
        trace_id: vec![1; 16],
        value: Some(ExemplarValue::AsDouble(0.3)),
    };
    let durations = HistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: start,
        time_unix_nano: time,
        count: 6,
        sum: Some(1.25),
        bucket_counts: vec![1, 3, 2],
        explicit_bounds: vec![0.1, 0.5],
        exemplars: vec![exemplar],
        min: Some(0.01),
        max: Some(0.9),
        ..HistogramDataPoint::default()
    };
    let sizes = ExponentialHistogramDataPoint {
        attributes: attributes.clone(),
        start_time_unix_nano: start,
        time_unix_nano: time,
        count: 4,
        sum: Some(9.0),
        scale: 1,
        zero_count: 1,
        positive: Some(Buckets {
            offset: -2,
            bucket_counts: vec![1, 0, 2],
        }),
        ..ExponentialHistogramDataPoint::default()
    };
    let requests = vec![
        number(start, time, 7, attributes.clone()),
        number(start, time, 8, vec![]),
    ];
    let added = vec![number(start, time, 7, attributes)];
    request_of(
        "shop",
        vec![
            gauge("memory", "By", number(0, time, -5, vec![])),
            counter("requests", CUMULATIVE, requests),
            counter("requests.delta", DELTA, added),
            histogram("duration", durations),
            exponential("size", DELTA, vec![sizes]),
        ],
    )
}

fn by_name(request: &ExportMetricsServiceRequest) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = request
        .resource_metrics
        .iter()
        .flat_map(|of| &of.scope_metrics)
        .flat_map(|of| of.metrics.clone())
        .collect();
    metrics.sort_by(|a, b| a.name.cmp(&b.name));
    metrics
}

#[tokio::test]
async fn what_comes_in_goes_out_equal() {
    let lens = Lens::start().await;
    let request = one_of_each();
    lens.export("/v1/metrics", &request).await;
    let got: ExportMetricsServiceRequest = lens.json("/api/metrics").await;
    assert_eq!(by_name(&got), by_name(&request));
    assert_eq!(
        got.resource_metrics[0].resource,
        request.resource_metrics[0].resource
    );
    let one: ExportMetricsServiceRequest =
        lens.json("/api/metrics?name=duration&service=shop").await;
    assert_eq!(by_name(&one), by_name(&request)[..1]);
    assert!(by_name(&lens.json("/api/metrics?service=nobody").await).is_empty());
}

#[tokio::test]
async fn the_newest_points_of_a_series_are_given() {
    let lens = Lens::start().await;
    let start = now_ns();
    for (seconds, value) in [(1, 10), (2, 20), (3, 30)] {
        let time = start + seconds * 1_000_000_000;
        let point = number(start, time, value, vec![string("a", "b")]);
        let requests = counter("requests", CUMULATIVE, vec![point]);
        export(&lens, "shop", vec![requests]).await;
    }
    for (query, expected) in [("", &[30][..]), ("?points=2", &[20, 30])] {
        let metrics = by_name(&lens.json(&format!("/api/metrics{query}")).await);
        let [Some(Data::Sum(sum))] = &metrics.iter().map(|of| &of.data).collect::<Vec<_>>()[..]
        else {
            panic!("{metrics:?}")
        };
        let values = sum.data_points.iter().map(|point| point.value);
        let expected = expected.iter().map(|value| Some(Value::AsInt(*value)));
        assert!(values.eq(expected), "{sum:?}");
    }
    assert_eq!(lens.status("/api/metrics?points=0").await, 400);
}

#[tokio::test]
async fn the_oldest_points_go_and_series_without_points_too() {
    let lens = Lens::start_with(|settings| settings.bounds.points.rows = 3).await;
    let send = async |name: &str| {
        let point = number(1, now_ns(), 1, vec![]);
        export(&lens, "shop", vec![counter(name, CUMULATIVE, vec![point])]).await;
    };
    let names = async || -> Vec<String> {
        let metrics = by_name(&lens.json("/api/metrics").await).into_iter();
        metrics.map(|metric| metric.name).collect()
    };
    for name in ["metric1", "metric2", "metric3", "metric4", "metric5"] {
        send(name).await;
    }
    assert_eq!(names().await, ["metric3", "metric4", "metric5"]);
    send("metric1").await;
    assert_eq!(
        names().await,
        ["metric1", "metric4", "metric5"],
        "a series that comes back is stored again"
    );
}
