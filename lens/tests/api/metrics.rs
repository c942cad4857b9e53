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

pub fn metric(name: &str, unit: &str, data: Data) -> Metric {
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

pub fn counter(name: &str, temporality: i32, data_points: Vec<NumberDataPoint>) -> Metric {
    metric(
        name,
        "{request}",
        Data::Sum(Sum {
            data_points,
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
    )
}

/// One of each kind, with an exemplar.
fn one_of_each() -> ExportMetricsServiceRequest {
    let (start, time) = (now_ns() - 60_000_000_000, now_ns());
    let attributes = vec![
        string("http.route", "/demo/work"),
        int("http.response.status_code", 200),
    ];
    let mut attributes = attributes;
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    let exemplar = Exemplar {
        filtered_attributes: vec![string("client", "11111")],
        time_unix_nano: time - 5,
        span_id: vec![2; 8],
        trace_id: vec![1; 16],
        value: Some(ExemplarValue::AsDouble(0.3)),
    };
    let histogram = HistogramDataPoint {
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
    let exponential = ExponentialHistogramDataPoint {
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
    request_of(
        "shop",
        vec![
            metric(
                "memory",
                "By",
                Data::Gauge(Gauge {
                    data_points: vec![number(0, time, -5, vec![])],
                }),
            ),
            counter(
                "requests",
                CUMULATIVE,
                vec![
                    number(start, time, 7, attributes.clone()),
                    number(start, time, 8, vec![]),
                ],
            ),
            counter(
                "requests.delta",
                DELTA,
                vec![number(start, time, 7, attributes)],
            ),
            metric(
                "duration",
                "s",
                Data::Histogram(Histogram {
                    data_points: vec![histogram],
                    aggregation_temporality: CUMULATIVE,
                }),
            ),
            metric(
                "size",
                "By",
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points: vec![exponential],
                    aggregation_temporality: DELTA,
                }),
            ),
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
        let point = number(
            start,
            start + seconds * 1_000_000_000,
            value,
            vec![string("a", "b")],
        );
        export(
            &lens,
            "shop",
            vec![counter("requests", CUMULATIVE, vec![point])],
        )
        .await;
    }
    let values = async |query: &str| -> Vec<i64> {
        let metrics = by_name(&lens.json(query).await);
        let [
            Metric {
                data: Some(Data::Sum(sum)),
                ..
            },
        ] = metrics.as_slice()
        else {
            panic!("{metrics:?}")
        };
        sum.data_points
            .iter()
            .map(|point| {
                if let Some(Value::AsInt(value)) = point.value {
                    value
                } else {
                    -1
                }
            })
            .collect()
    };
    assert_eq!(values("/api/metrics").await, [30]);
    assert_eq!(values("/api/metrics?points=2").await, [20, 30]);
    assert_eq!(lens.status("/api/metrics?points=0").await, 400);
}

#[tokio::test]
async fn the_oldest_points_go_and_series_without_points_too() {
    let lens = Lens::start_with(|settings| settings.bounds.points.rows = 3).await;
    for number_of in 1..=5 {
        let point = number(1, now_ns(), number_of, vec![]);
        export(
            &lens,
            "shop",
            vec![counter(
                &format!("metric{number_of}"),
                CUMULATIVE,
                vec![point],
            )],
        )
        .await;
    }
    let names: Vec<String> = by_name(&lens.json("/api/metrics").await)
        .into_iter()
        .map(|metric| metric.name)
        .collect();
    assert_eq!(names, ["metric3", "metric4", "metric5"]);
    let point = number(1, now_ns(), 6, vec![]);
    export(
        &lens,
        "shop",
        vec![counter("metric1", CUMULATIVE, vec![point])],
    )
    .await;
    let names: Vec<String> = by_name(&lens.json("/api/metrics").await)
        .into_iter()
        .map(|metric| metric.name)
        .collect();
    assert_eq!(
        names,
        ["metric1", "metric4", "metric5"],
        "a series that comes back is stored again"
    );
}
